// Users, groups and grants, for admins.

#include "api/v1/accounts.hpp"
#include "base/time.hpp"
#include "function/drafts.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {
namespace {

http::Response no_content() {
  http::Response response;
  response.status = 204;
  return response;
}

// Whoever was granted users, without being an admin, can make or touch no admin.
std::optional<http::Response> only_admins(const Asked& asked, std::string_view role_now, std::string_view role_then) {
  if (asked.who.is_operator || (role_now != "admin" && role_then != "admin")) return std::nullopt;
  return http::problem(403, "forbidden", "only an admin makes or changes admins");
}

Task<http::Response> list(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto after = number_of(http::query_value(asked.request.query, "offset"), 0, INT64_MAX);
  auto limit = number_of(http::query_value(asked.request.query, "limit"), 1, 500);
  if (!after || !limit) co_return http::problem(400, "bad_request", "offset is a number, limit one from 1 to 500");
  const std::int64_t from = after->value_or(0), most = limit->value_or(100);
  const std::string containing = http::query_value(asked.request.query, "containing").value_or("");
  struct Page {
    std::vector<store::UserRecord> users;
    std::int64_t total = 0;
  };
  auto work = [from, most, containing](accounts::Book& book) -> Result<Page> {
    Page page;
    auto users = book.records().users(from, most, containing);
    if (!users) return users.take_error();
    page.users = std::move(*users);
    auto total = book.records().count_users(containing);
    if (!total) return total.take_error();
    page.total = *total;
    return page;
  };
  auto page = co_await context.accounts->with_book(std::move(work));
  if (!page) co_return account_problem(page.error());
  json::array out;
  for (auto& user : page->users) out.push_back(describe(context, user));
  co_return json_reply(200, json::object{{"users", std::move(out)}, {"total", page->total}});
}

Task<http::Response> create(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "username,email,role,password", "active");
  if (!body) co_return http::problem(body.error());
  auto username = body->get_string("username");
  if (!username) co_return http::problem(400, "bad_request", "give a name: {\"username\": \"anna\"}");
  accounts::NewUser user;
  user.username = *username;
  user.email = body->get_string("email");
  user.role = body->get_string("role").value_or("member");
  if (body->has("active") && !body->get_bool("active")) co_return http::problem(400, "bad_request", "active is true or false");
  user.active = body->get_bool("active").value_or(true);
  if (auto refused = only_admins(asked, "", user.role)) co_return std::move(*refused);
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::optional<std::string> password = body->get_string("password");
  if (password) {
    std::string name = *username, email = user.email.value_or("");
    auto hash = co_await context.accounts->make_hash(std::move(*password), std::move(name), std::move(email));
    if (!hash) co_return account_problem(hash.error());
    user.password_hash = std::move(*hash);
    user.must_change = true;  // the admin knows it
  }
  auto work = [actor, user](accounts::Book& book) { return book.add_user(actor, user); };
  auto made = co_await context.accounts->with_book(std::move(work));
  if (!made) co_return account_problem(made.error());
  auto response = json_reply(201, describe(context, *made));
  response.headers.set("Location", "/v1/users/" + made->id);
  co_return response;
}

Task<Result<store::UserRecord>> find(Context& context, std::string id) {
  auto work = [id](accounts::Book& book) -> Result<store::UserRecord> {
    auto user = book.records().user_by_id(id);
    if (!user) return user.take_error();
    if (!*user) user = book.records().user_by_name(id);
    if (!user) return user.take_error();
    if (!*user) return Error{Code::not_found, "there is no such user", ""};
    return std::move(**user);
  };
  co_return co_await context.accounts->with_book(std::move(work));
}

Task<http::Response> show(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto user = co_await find(context, asked.places[0]);
  if (!user) co_return account_problem(user.error());
  co_return json_reply(200, describe(context, *user));
}

Task<http::Response> change(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "username,email,role,issuer,subject", "active");
  if (!body) co_return http::problem(body.error());
  auto user = co_await find(context, asked.places[0]);
  if (!user) co_return account_problem(user.error());
  if (auto refused = only_admins(asked, user->role, body->get_string("role").value_or(""))) co_return std::move(*refused);
  accounts::UserChange wanted;
  if (body->has("username")) wanted.username = body->get_string("username").value_or("");
  if (body->has("email")) wanted.email = body->get_string("email").value_or("");
  if (body->has("role")) wanted.role = body->get_string("role").value_or("");
  if (body->has("active")) {
    wanted.active = body->get_bool("active");
    if (!wanted.active) co_return http::problem(400, "bad_request", "active is true or false");
  }
  if (body->has("issuer") || body->has("subject")) {
    wanted.issuer = body->get_string("issuer").value_or("");
    wanted.subject = body->get_string("subject").value_or("");
  }
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string id = user->id;
  auto work = [actor, id, wanted](accounts::Book& book) { return book.change_user(actor, id, wanted); };
  auto changed = co_await context.accounts->with_book(std::move(work));
  if (!changed) co_return account_problem(changed.error());
  co_return json_reply(200, describe(context, *changed));
}

Task<Result<void>> pass_on(Context& context, store::UserRecord from, store::UserRecord to) {
  std::string old_id = from.id, new_id = to.id, new_name = to.username;
  auto passed = co_await context.runs.pass_on(old_id, new_id, new_name);
  if (!passed) co_return passed;
  co_return co_await context.drafts.pass_on(std::move(old_id), std::move(new_id), std::move(new_name));
}

Task<http::Response> remove(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto user = co_await find(context, asked.places[0]);
  if (!user) co_return account_problem(user.error());
  if (auto refused = only_admins(asked, user->role, "")) co_return std::move(*refused);
  std::optional<store::UserRecord> heir;
  if (auto to = http::query_value(asked.request.query, "to")) {
    auto found = co_await find(context, *to);
    if (!found) co_return account_problem(found.error());
    if (found->id == user->id) co_return http::problem(400, "bad_request", "to names another user");
    heir = std::move(*found);
  }
  // First what they leave, so that a failure leaves a user who can be deleted again; runs once more for what came meanwhile.
  if (heir) {
    auto passed = co_await pass_on(context, *user, *heir);
    if (!passed) co_return account_problem(passed.error());
  }
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string id = user->id;
  auto work = [actor, id](accounts::Book& book) { return book.remove_user(actor, id); };
  auto removed = co_await context.accounts->with_book(std::move(work));
  if (!removed) co_return account_problem(removed.error());
  if (heir) {
    auto passed = co_await pass_on(context, *user, *heir);
    if (!passed) co_return account_problem(passed.error());
  }
  co_return no_content();
}

Task<http::Response> reset(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto user = co_await find(context, asked.places[0]);
  if (!user) co_return account_problem(user.error());
  if (auto refused = only_admins(asked, user->role, "")) co_return std::move(*refused);
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string id = user->id;
  auto work = [actor, id](accounts::Book& book) { return book.make_reset(actor, id); };
  auto secret = co_await context.accounts->with_book(std::move(work));
  if (!secret) co_return account_problem(secret.error());
  const std::string origin = context.settings.public_url.empty()
                                 ? (asked.request.secure ? "https://" : "http://") + std::string(asked.request.headers.get("Host"))
                                 : context.settings.public_url;
  auto response = json_reply(201, json::object{{"link", origin + "/app/#reset=" + *secret}, {"expires_in", 86400}});
  response.headers.set("Cache-Control", "no-store");
  co_return response;
}

// ---- groups and grants

json::object describe_group(Context& context, const store::GroupRecord& group) {
  json::array members;
  for (const auto& id : group.members) {
    const auto* user = context.accounts->who().user(id);
    members.push_back(json::object{{"id", id}, {"username", user ? user->username : ""}});
  }
  return {{"id", group.id}, {"name", group.name}, {"members", std::move(members)}};
}

Task<http::Response> list_groups(Context& context, Asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto work = [](accounts::Book& book) { return book.records().groups(); };
  auto groups = co_await context.accounts->with_book(std::move(work));
  if (!groups) co_return account_problem(groups.error());
  json::array out;
  for (const auto& group : *groups) out.push_back(describe_group(context, group));
  co_return json_reply(200, json::object{{"groups", std::move(out)}});
}

Task<http::Response> create_group(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "name");
  if (!body) co_return http::problem(body.error());
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string name = body->get_string("name").value_or("");
  auto work = [actor, name](accounts::Book& book) { return book.add_group(actor, name); };
  auto made = co_await context.accounts->with_book(std::move(work));
  if (!made) co_return account_problem(made.error());
  co_return json_reply(201, describe_group(context, *made));
}

Result<std::string> group_id(Context& context, const std::string& id_or_name) {
  for (const auto& group : context.accounts->who().groups())
    if (group.id == id_or_name || group.name == id_or_name) return group.id;
  return Error{Code::not_found, "there is no such group", ""};
}

Task<http::Response> remove_group(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto id = group_id(context, asked.places[0]);
  if (!id) co_return account_problem(id.error());
  for (const auto& group : context.accounts->who().groups()) {
    if (group.id != *id) continue;
    std::string name = group.name;
    auto forgotten = co_await context.drafts.forget_group(std::move(name));
    if (!forgotten) co_return account_problem(forgotten.error());
    break;
  }
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string which = *id;
  auto work = [actor, which](accounts::Book& book) { return book.remove_group(actor, which); };
  auto done = co_await context.accounts->with_book(std::move(work));
  if (!done) co_return account_problem(done.error());
  co_return no_content();
}

Task<http::Response> set_member(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto id = group_id(context, asked.places[0]);
  if (!id) co_return account_problem(id.error());
  auto user = co_await find(context, asked.places[1]);
  if (!user) co_return account_problem(user.error());
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string group = *id, member = user->id;
  const bool in = asked.request.method == "PUT";
  const bool grants_too = asked.who.is_operator;
  auto work = [actor, group, member, in, grants_too](accounts::Book& book) -> Result<void> {
    if (in && !grants_too) {
      auto grants = book.records().grants();
      if (!grants) return grants.take_error();
      for (const auto& grant : *grants)
        if (grant.holder == group) return Error{Code::forbidden, "something is granted to this group, and only an admin grants", ""};
    }
    return book.set_member(actor, group, member, in);
  };
  auto done = co_await context.accounts->with_book(std::move(work));
  if (!done) co_return account_problem(done.error());
  co_return no_content();
}

Task<http::Response> list_grants(Context& context, Asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto work = [](accounts::Book& book) { return book.records().grants(); };
  auto grants = co_await context.accounts->with_book(std::move(work));
  if (!grants) co_return account_problem(grants.error());
  json::array out;
  for (const auto& g : *grants) {
    json::object o{{"id", g.id}, {"grant", g.action + ":" + g.kind + ":" + g.object}, {"created_at", iso_time(g.created)}};
    if (const auto* user = context.accounts->who().user(g.holder)) o["user"] = user->username;
    else
      for (const auto& group : context.accounts->who().groups())
        if (group.id == g.holder) o["group"] = group.name;
    out.push_back(std::move(o));
  }
  co_return json_reply(200, json::object{{"grants", std::move(out)}});
}

Task<http::Response> create_grant(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "user,group,grant");
  if (!body) co_return http::problem(body.error());
  auto user = body->get_string("user"), group = body->get_string("group"), text = body->get_string("grant");
  if (user.has_value() == group.has_value() || !text)
    co_return http::problem(400, "bad_request", "say what to whom: {\"grant\": \"view:session:s_12\", \"user\": \"anna\"}, or \"group\" instead of \"user\"");
  if (!asked.who.is_operator) co_return http::problem(403, "forbidden", "only an admin grants");
  auto grant = accounts::Grant::parse(*text);
  if (!grant) co_return account_problem(grant.error());
  std::string holder;
  if (user) {
    auto found = co_await find(context, *user);
    if (!found) co_return account_problem(found.error());
    holder = found->id;
  } else {
    auto found = group_id(context, *group);
    if (!found) co_return account_problem(found.error());
    holder = *found;
  }
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  accounts::Grant what = *grant;
  auto work = [actor, holder, what](accounts::Book& book) { return book.add_grant(actor, holder, what); };
  auto made = co_await context.accounts->with_book(std::move(work));
  if (!made) co_return account_problem(made.error());
  co_return json_reply(201, json::object{{"id", made->id}, {"grant", what.text()}});
}

Task<http::Response> remove_grant(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string id = asked.places[0];
  const bool may = asked.who.is_operator;
  auto work = [actor, id, may](accounts::Book& book) -> Result<void> {
    if (!may) {
      auto grants = book.records().grants();
      if (!grants) return grants.take_error();
      for (const auto& grant : *grants)
        if (grant.id == id) return Error{Code::forbidden, "only an admin takes back what was granted", ""};
    }
    return book.remove_grant(actor, id);
  };
  auto done = co_await context.accounts->with_book(std::move(work));
  if (!done) co_return account_problem(done.error());
  co_return no_content();
}

}  // namespace

std::vector<Route> user_routes() {
  constexpr auto user =
      R"({"id":"u_0123","number":2,"username":"anna","email":"anna@lab.example","role":"member","active":true,"created_at":"2026-01-01T12:00:00.000Z","last_sign_in_at":null,"must_change_password":false,"has_password":true,"issuer":"","subject":"","groups":["teaching"]})";
  return {
      {.method = "GET", .pattern = "/v1/users", .handler = list, .needs = "view:user:*", .tag = "users", .summary = "All users",
       .query = "containing,offset,limit", .answer = R"({"users":[{"id":"u_0123","username":"anna","role":"member","active":true}],"total":1})"},
      {.method = "POST", .pattern = "/v1/users", .handler = create, .needs = "edit:user:*", .tag = "users",
       .summary = "A new user; with a password it must be changed at the first sign-in, without one a reset link sets it",
       .body = R"({"username":"anna","email":"anna@lab.example","role":"member","password":"…"})", .required = "username", .status = 201, .answer = user},
      {.method = "GET", .pattern = "/v1/users/{id}", .handler = show, .needs = "view:user:{}", .tag = "users", .summary = "One user, by id or name", .answer = user},
      {.method = "PATCH", .pattern = "/v1/users/{id}", .handler = change, .needs = "edit:user:{}", .tag = "users",
       .summary = "Name, email, role; inactive ends all that is theirs within a second; issuer and subject link them to whom an OpenID provider knows", .body = R"({"role":"guest","active":false})", .answer = user},
      {.method = "DELETE", .pattern = "/v1/users/{id}", .handler = remove, .needs = "edit:user:{}", .tag = "users",
       .summary = "Delete a user; their runs and functions pass to the user `to`, else they are kept for the admins", .query = "to", .status = 204},
      {.method = "POST", .pattern = "/v1/users/{id}/reset", .handler = reset, .needs = "edit:user:{}", .tag = "users",
       .summary = "A link to set a new password with, once, within a day", .status = 201, .answer = R"({"link":"https://lab.example/app/#reset=…","expires_in":86400})"},
  };
}

std::vector<Route> group_routes() {
  return {
      {.method = "GET", .pattern = "/v1/groups", .handler = list_groups, .needs = "view:group:*", .tag = "groups", .summary = "All groups",
       .answer = R"({"groups":[{"id":"g_0123","name":"teaching","members":[{"id":"u_0123","username":"anna"}]}]})"},
      {.method = "POST", .pattern = "/v1/groups", .handler = create_group, .needs = "edit:group:*", .tag = "groups", .summary = "A new group", .body = R"({"name":"teaching"})",
       .required = "name", .status = 201, .answer = R"({"id":"g_0123","name":"teaching","members":[]})"},
      {.method = "DELETE", .pattern = "/v1/groups/{id}", .handler = remove_group, .needs = "edit:group:{}", .tag = "groups", .summary = "Delete a group, with its grants; what was published for it is for it no more", .status = 204},
      {.method = "PUT", .pattern = "/v1/groups/{id}/members/{user}", .handler = set_member, .needs = "edit:group:{}", .tag = "groups", .summary = "Add a user to a group; to one that holds grants only an admin does", .status = 204},
      {.method = "DELETE", .pattern = "/v1/groups/{id}/members/{user}", .handler = set_member, .needs = "edit:group:{}", .tag = "groups", .summary = "Take a user out of a group", .status = 204},
      {.method = "GET", .pattern = "/v1/grants", .handler = list_grants, .needs = "view:user:*", .tag = "groups", .summary = "What was granted to whom",
       .answer = R"({"grants":[{"id":"gr_0123","grant":"view:session:s_0123","group":"teaching","created_at":"2026-01-01T12:00:00.000Z"}]})"},
      {.method = "POST", .pattern = "/v1/grants", .handler = create_grant, .needs = "edit:user:*", .tag = "groups", .summary = "Grant something to a user or a group",
       .body = R"({"grant":"view:session:s_0123","group":"teaching"})", .required = "grant", .status = 201, .answer = R"({"id":"gr_0123","grant":"view:session:s_0123"})"},
      {.method = "DELETE", .pattern = "/v1/grants/{id}", .handler = remove_grant, .needs = "edit:user:*", .tag = "groups", .summary = "Take it back (an admin)", .status = 204},
  };
}

}  // namespace myelin::api::v1
