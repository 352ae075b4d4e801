// /api/v1/users. Whoever may view or edit users may do so here; everybody may see their own account, change its email and password,
// and delete it.

#include <algorithm>
#include <charconv>

#include "accounts/passwords.hpp"
#include "api/answer.hpp"
#include "api/neuroapi/parts.hpp"
#include "base/log.hpp"
#include "http/text.hpp"

namespace myelin::api::neuroapi {
namespace {

constexpr std::int64_t usual_page = 50, largest_page = 500;
constexpr std::size_t longest_name = 80;  // characters, also of an email

Value describe(const store::UserRecord& user) {
  return Value::Object{{"username", user.username}, {"active", user.active}, {"email", user.email.value_or("")}, {"id", user.number}};
}

http::Response with_user(const Context& context, int status, const char* message, const store::UserRecord& user) {
  return restful_reply(context, status, Value::Object{{"msg", message}, {"user", describe(user)}});
}

bool signed_in_as(const accounts::Identity& who, const store::UserRecord& user) { return who.user_id == user.id && !who.scopes; }

// ---- what was sent

/// The fields of a user that a body has. What is wrong with it is in `wrong`, by field.
struct Fields {
  std::optional<std::string> username, email, password;
  std::optional<bool> active;
  Value::Object wrong;

  void blame(const char* field, std::string message) {
    for (auto& [name, messages] : wrong)
      if (name == field) return;
    wrong.emplace_back(field, Value::Array{Value(std::move(message))});
  }
};

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

void take_text(Fields& fields, const Value& body, const char* name, bool required, bool bounded, std::optional<std::string>& to) {
  const Value* given = body.find(name);
  if (!given) {
    if (required) fields.blame(name, "Missing data for required field.");
  } else if (given->is_null()) {
    fields.blame(name, "Field may not be null.");
  } else if (!given->text() || has_surrogates(*given->text())) {
    fields.blame(name, "Not a valid string.");
  } else if (bounded && characters(*given->text()) > longest_name) {
    fields.blame(name, "Longer than maximum length 80.");
  } else {
    to = *given->text();
  }
}

// Of marshmallow 2: these texts and numbers are booleans too.
std::optional<bool> boolean_of(const Value& value) {
  if (const auto* text = value.text()) {
    for (std::string_view yes : {"t", "T", "true", "True", "TRUE", "1"})
      if (*text == yes) return true;
    for (std::string_view no : {"f", "F", "false", "False", "FALSE", "0"})
      if (*text == no) return false;
    return std::nullopt;
  }
  const auto number = value.number();
  if (number == 1.0) return true;
  if (number == 0.0) return false;
  return std::nullopt;
}

// Outer: the answer to a text that is no JSON.
Result<Fields> read_fields(const Context& context, const http::Request& request, bool all_required) {
  Fields fields;
  Value body;
  if (is_json(request)) {
    auto read = read_json(request.body, context.settings.json_depth);
    if (!read) return read.take_error();
    body = std::move(*read);
  }
  if (!body.object()) {
    fields.blame("_schema", "Invalid input type.");
    return fields;
  }
  take_text(fields, body, "username", all_required, true, fields.username);
  if (const Value* active = body.find("active"); active && !active->is_null()) {
    fields.active = boolean_of(*active);
    if (!fields.active) fields.blame("active", "Not a valid boolean.");
  }
  take_text(fields, body, "email", all_required, true, fields.email);
  take_text(fields, body, "password", all_required, false, fields.password);
  // This server's own rules, in the same form.
  if (fields.username)
    if (auto fits = accounts::check_username(*fields.username); !fits) fields.blame("username", fits.error().message);
  if (fields.email && std::any_of(fields.email->begin(), fields.email->end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    fields.blame("email", "an email has no control characters");
  return fields;
}

http::Response malformed(const Context& context, const Error& error) {
  return restful_reply(context, 400, Value::Object{{"message", "Failed to decode JSON object: " + error.message}});
}

void judge_password(Fields& fields, std::string_view username, std::string_view email) {
  if (!fields.password) return;
  if (auto why = accounts::weakness(*fields.password, username, email)) fields.blame("password", *why);
}

// ---- the routes

// A page's number, or its size: nothing if it is not given, -1 if it is none.
std::optional<std::int64_t> asked_number(const http::Request& request, std::string_view name) {
  auto text = http::query_value(request.query, name);
  if (!text) return std::nullopt;
  std::int64_t number = 0;
  auto read = std::from_chars(text->data(), text->data() + text->size(), number);
  return read.ec == std::errc() && read.ptr == text->data() + text->size() && number >= 1 ? number : -1;
}

Task<http::Response> list(Context& context, Caller caller, http::Request request) {
  if (!accounts::allows(caller.who, "view", "user", "*", "")) co_return say(context, 403, "only an admin sees the list of users");
  const std::int64_t number = asked_number(request, "page").value_or(1);
  auto size = asked_number(request, "page_size");
  if (!size) size = asked_number(request, "per_page");
  const std::int64_t most = std::min(size.value_or(usual_page), largest_page);
  if (number < 1 || most < 1 || number > INT64_MAX / largest_page) co_return no_such_user(context);
  struct Page {
    std::vector<store::UserRecord> users;
    std::int64_t total = 0;
  };
  auto work = [number, most](accounts::Book& book) -> Result<Page> {
    Page page;
    auto users = book.records().users((number - 1) * most, most);
    if (!users) return users.take_error();
    page.users = std::move(*users);
    auto total = book.records().count_users();
    if (!total) return total.take_error();
    page.total = *total;
    return page;
  };
  auto page = co_await context.accounts->with_book(std::move(work));
  if (!page) co_return account_failure(context, page.error());
  if (page->users.empty() && number > 1) co_return no_such_user(context);
  const std::int64_t pages = (page->total + most - 1) / most;
  auto link = [most](std::int64_t to) { return "/api/v1/users?page=" + std::to_string(to) + "&per_page=" + std::to_string(most); };
  Value::Array results;
  for (const auto& user : page->users) results.push_back(describe(user));
  co_return restful_reply(context, 200, Value::Object{{"total", page->total}, {"pages", pages}, {"next", link(std::min(number + 1, std::max(number, pages)))},
                                                      {"prev", link(std::max<std::int64_t>(number - 1, 1))}, {"results", std::move(results)}});
}

Task<http::Response> create(Context& context, Caller caller, http::Request request) {
  if (!accounts::allows(caller.who, "edit", "user", "*", "")) co_return say(context, 403, "only an admin makes users");
  auto fields = read_fields(context, request, true);
  if (!fields) co_return malformed(context, fields.error());
  judge_password(*fields, fields->username.value_or(""), fields->email.value_or(""));
  if (!fields->wrong.empty()) co_return restful_reply(context, 422, fields->wrong);
  std::string password = *fields->password, name = *fields->username, email = *fields->email;
  auto hash = co_await context.accounts->make_hash(std::move(password), std::move(name), std::move(email));
  if (!hash) co_return account_failure(context, hash.error());
  accounts::NewUser user;
  user.username = *fields->username;
  user.email = *fields->email;
  user.active = fields->active.value_or(true);
  user.password_hash = std::move(*hash);
  const accounts::Actor actor = accounts::actor_of(caller.who, request.remote_address);
  auto work = [actor, user](accounts::Book& book) { return book.add_user(actor, user); };
  auto made = co_await context.accounts->with_book(std::move(work));
  if (!made) co_return account_failure(context, made.error());
  co_return with_user(context, 201, "user created", *made);
}

Task<http::Response> change(Context& context, Caller caller, store::UserRecord user, http::Request request) {
  const accounts::Identity& who = caller.who;
  const bool self = signed_in_as(who, user), may_edit = accounts::allows(who, "edit", "user", user.id, "");
  if (!self && (!may_edit || (user.role == "admin" && !who.is_operator))) co_return say(context, 403, "only an admin changes other users");
  auto fields = read_fields(context, request, false);
  if (!fields) co_return malformed(context, fields.error());
  judge_password(*fields, fields->username.value_or(user.username), fields->email.value_or(user.email.value_or("")));
  if (!fields->wrong.empty()) co_return restful_reply(context, 422, fields->wrong);
  if (who.must_change && !fields->password) co_return say(context, 403, "change your password first: PUT {\"password\": …} here");
  // A name decides by which limits and folders of the configuration somebody is served.
  if (!may_edit && ((fields->username && *fields->username != user.username) || (fields->active && *fields->active != user.active)))
    co_return say(context, 403, "only an admin changes a user's name, or whether it is active");

  std::optional<std::string> hash;
  if (fields->password) {
    if (who.must_change) {
      const std::string old = user.password, fresh = *fields->password;
      auto same = co_await context.accounts->verify(old, fresh);
      if (!same) co_return account_failure(context, same.error());
      if (same->right) co_return restful_reply(context, 422, Value::Object{{"password", Value::Array{Value("the new password is the old one")}}});
    }
    std::string password = *fields->password, name = fields->username.value_or(user.username), email = fields->email.value_or(user.email.value_or(""));
    auto made = co_await context.accounts->make_hash(std::move(password), std::move(name), std::move(email));
    if (!made) co_return account_failure(context, made.error());
    hash = std::move(*made);
  }
  accounts::UserChange wanted;
  wanted.username = fields->username;
  wanted.email = fields->email;
  wanted.active = fields->active;
  const accounts::Actor actor = accounts::actor_of(who, request.remote_address);
  wanted.password_hash = hash;
  wanted.except_family = self ? who.family : "";
  const std::string id = user.id;
  auto work = [actor, id, wanted](accounts::Book& book) { return book.change_user(actor, id, wanted); };
  auto changed = co_await context.accounts->with_book(std::move(work));
  if (!changed) co_return account_failure(context, changed.error());
  co_return with_user(context, 200, "user updated", *changed);
}

Task<http::Response> remove(Context& context, Caller caller, store::UserRecord user, http::Request request) {
  const accounts::Identity& who = caller.who;
  const bool may_edit = accounts::allows(who, "edit", "user", user.id, "");
  if (!signed_in_as(who, user) && (!may_edit || (user.role == "admin" && !who.is_operator))) co_return say(context, 403, "only an admin deletes other users");
  const accounts::Actor actor = accounts::actor_of(who, request.remote_address);
  const std::string id = user.id;
  auto work = [actor, id](accounts::Book& book) { return book.remove_user(actor, id); };
  auto removed = co_await context.accounts->with_book(std::move(work));
  if (!removed) co_return account_failure(context, removed.error());
  co_return restful_reply(context, 200, Value::Object{{"msg", "user deleted"}});
}

}  // namespace

Task<http::Response> users(Context& context, Route route, Caller caller, http::Request request) {
  if (route.kind == Route::Kind::users) {
    if (request.method == "POST") co_return co_await create(context, std::move(caller), std::move(request));
    co_return co_await list(context, std::move(caller), std::move(request));
  }
  const auto* known = context.accounts->who().user_by_number(route.number);
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (!known) {
    // Who may not look at users learns not even which there are.
    if (!accounts::allows(caller.who, "view", "user", "*", ""))
      co_return say(context, 403, reads ? "only an admin sees other users" : request.method == "PUT" ? "only an admin changes other users" : "only an admin deletes other users");
    co_return no_such_user(context);
  }
  store::UserRecord user = *known;
  if (reads) {
    if (!signed_in_as(caller.who, user) && !accounts::allows(caller.who, "view", "user", user.id, "")) co_return say(context, 403, "only an admin sees other users");
    co_return restful_reply(context, 200, Value::Object{{"user", describe(user)}});
  }
  if (request.method == "PUT") co_return co_await change(context, std::move(caller), std::move(user), std::move(request));
  co_return co_await remove(context, std::move(caller), std::move(user), std::move(request));
}

}  // namespace myelin::api::neuroapi
