// Long-lived tokens: one's own, and the operator's or an admin's way to make them for others.

#include "api/v1/accounts.hpp"
#include "base/time.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {
namespace {

constexpr std::int64_t longest_lifetime_s = 10ll * 365 * 86400;

bool manages(const accounts::Identity& who) { return who.is_operator; }

Task<http::Response> list(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  // The server's own token has no user behind it: it sees all.
  const bool all = asked.who.user_id == "operator" || (manages(asked.who) && http::query_value(asked.request.query, "all"));
  std::string user = all ? "" : asked.who.user_id;
  auto work = [user](accounts::Book& book) { return book.records().tokens_of(user); };
  auto tokens = co_await context.accounts->with_book(std::move(work));
  if (!tokens) co_return account_problem(tokens.error());
  json::array out;
  for (auto& token : *tokens) {
    const auto* owner = context.accounts->who().user(token.user_id);
    json::object o{{"id", token.id}, {"name", token.name}, {"user", owner ? owner->username : ""}, {"created_at", iso_time(token.created)},
                   {"last_used_at", nullptr}, {"expires_at", nullptr}, {"scopes", nullptr}};
    if (token.last_used) o["last_used_at"] = iso_time(*token.last_used);
    if (token.expires) o["expires_at"] = iso_time(*token.expires);
    if (auto scopes = accounts::scopes_of(token.scopes)) {
      json::array texts;
      for (auto& scope : *scopes) texts.push_back(json::string(scope.text()));
      o["scopes"] = std::move(texts);
    }
    out.push_back(std::move(o));
  }
  co_return json_reply(200, json::object{{"tokens", std::move(out)}});
}

Task<http::Response> create(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "name,user", "scopes,expires_in_s");
  if (!body) co_return http::problem(body.error());
  auto name = body->get_string("name");
  if (!name) co_return http::problem(400, "bad_request", "give it a name: {\"name\": \"notebook\"}");
  auto scopes = read_scopes(*body);
  if (!scopes) co_return http::problem(scopes.error());
  std::optional<std::chrono::seconds> lifetime;
  if (body->has("expires_in_s") && !body->is_null("expires_in_s")) {
    auto seconds = body->get_int("expires_in_s");
    if (!seconds || *seconds < 1 || *seconds > longest_lifetime_s)
      co_return http::problem(400, "bad_request", "expires_in_s is a number of seconds, at most ten years");
    lifetime = std::chrono::seconds(*seconds);
  }
  // Nobody hands out more than they have.
  if (asked.who.scopes) {
    if (!scopes->has_value()) co_return http::problem(403, "forbidden", "this token has bounds: name scopes within them");
    for (const auto& scope : **scopes)
      if (!accounts::allows(asked.who, scope.action, scope.kind, scope.object, asked.who.user_id))
        co_return http::problem(403, "forbidden", "this token does not have " + scope.text());
  }
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  auto user = body->get_string("user");
  if ((user || asked.who.user_id == "operator") && !manages(asked.who))
    co_return http::problem(403, "forbidden", "only an admin makes tokens for others");
  std::string token_name = *name, for_user = user.value_or(asked.who.user_id == "operator" ? *name : "");
  std::string own = asked.who.user_id;
  std::optional<accounts::Grants> bounds = std::move(*scopes);
  auto work = [actor, token_name, for_user, own, bounds, lifetime](accounts::Book& book) -> Result<accounts::NewToken> {
    if (for_user.empty()) return book.add_token(actor, own, token_name, bounds, lifetime);
    auto known = book.records().user_by_name(for_user);
    if (!known) return known.take_error();
    if (*known) return book.add_token(actor, (*known)->id, token_name, bounds, lifetime);
    accounts::NewUser fresh;
    fresh.username = for_user;
    auto made = book.add_user(actor, fresh);
    if (!made) return made.take_error();
    return book.add_token(actor, made->id, token_name, bounds, lifetime);
  };
  auto added = co_await context.accounts->with_book(std::move(work));
  if (!added) co_return account_problem(added.error());
  auto response = json_reply(201, json::object{{"id", added->id}, {"name", *name}, {"token", added->token}});
  response.headers.set("Cache-Control", "no-store");
  co_return response;
}

Task<http::Response> remove(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string which = asked.places[0], own = asked.who.user_id;
  const bool any = manages(asked.who);
  auto work = [actor, which, own, any](accounts::Book& book) -> Result<void> {
    if (!any) return book.revoke_token(actor, own, which);
    auto all = book.records().tokens_of("");
    if (!all) return all.take_error();
    // Its id; else a name of one's own, else a user's who has that name.
    for (auto& token : *all)
      if (token.id == which) return book.revoke_token(actor, token.user_id, which);
    for (auto& token : *all)
      if (token.user_id == own && token.name == which) return book.revoke_token(actor, own, which);
    return book.revoke_tokens_of_name(actor, which);
  };
  auto revoked = co_await context.accounts->with_book(std::move(work));
  if (!revoked) co_return account_problem(revoked.error());
  http::Response response;
  response.status = 204;
  co_return response;
}

}  // namespace

std::vector<Route> token_routes() {
  return {
      {.method = "GET", .pattern = "/v1/tokens", .handler = list, .needs = "view:token:*", .tag = "tokens", .summary = "Your tokens; ?all for an admin: everybody's",
       .query = "all",
       .answer = R"({"tokens":[{"id":"t_0123","name":"notebook","user":"anna","created_at":"2026-01-01T12:00:00.000Z","last_used_at":null,"expires_at":null,"scopes":["use:session:*"]}]})"},
      {.method = "POST", .pattern = "/v1/tokens", .handler = create, .needs = "edit:token:*", .tag = "tokens",
       .summary = "A new token, shown once; with scopes it can do no more than these (for an admin: user names whose)",
       .body = R"({"name":"notebook","user":"anna","scopes":["use:session:*"],"expires_in_s":86400})", .required = "name", .status = 201,
       .answer = R"({"id":"t_0123","name":"notebook","token":"48 hex digits"})"},
      {.method = "DELETE", .pattern = "/v1/tokens/{id}", .handler = remove, .needs = "edit:token:*", .tag = "tokens", .summary = "Revoke a token, at once; by its id or name", .status = 204},
  };
}

}  // namespace myelin::api::v1
