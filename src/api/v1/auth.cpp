// Signing in and out, one's own account, and the audit log.

#include "api/oidc.hpp"
#include "api/v1/accounts.hpp"
#include "api/v1/v1.hpp"
#include "base/time.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {
namespace {

constexpr std::chrono::hours desktop_token_lifetime{12};

json::object signed_in(Context& context, const accounts::SignedIn& in) {
  auto identity = in.identity;
  identity.by_cookie = !in.cookie.empty();
  json::object out{{"user", describe_me(context, identity)}};
  if (!in.access_token.empty()) {
    out["access_token"] = in.access_token;
    out["token_type"] = "Bearer";
    out["expires_in"] = in.expires_in.count();
  }
  if (!in.refresh_token.empty()) out["refresh_token"] = in.refresh_token;
  return out;
}

Task<http::Response> methods(Context& context, Asked asked) {
  const bool on = context.accounts != nullptr;
  json::array providers;
  if (on && context.oidc) providers.push_back(json::object{{"name", "oidc"}, {"title", context.oidc->name()}});
  co_return json_reply(200, json::object{{"auth", on ? "token" : "none"}, {"password", on}, {"cookie", on && cookie_works(asked.request)},
                                         {"providers", std::move(providers)}});
}

Task<http::Response> sign_in(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "username,password,client", "cookie");
  if (!body) co_return http::problem(body.error());
  auto username = body->get_string("username"), password = body->get_string("password");
  if (!username || !password || username->empty() || password->empty())
    co_return http::problem(400, "bad_request", "send {\"username\": …, \"password\": …}");
  const bool by_cookie = body->get_bool("cookie").value_or(false);
  if (by_cookie && !cookie_works(asked.request))
    co_return http::problem(400, "insecure", "over plain http a browser's sign-in works on this machine only: use https (tls_cert, tls_key, or a proxy and public_url)");
  if (by_cookie && asked.request.headers.has("Origin") && !own_origin(asked.request))
    co_return http::problem(403, "foreign_origin", "another site can't sign in here");
  accounts::Accounts::SignInRequest request;
  request.username = std::move(*username);
  request.password = std::move(*password);
  request.address = asked.request.remote_address;
  request.client = body->get_string("client").value_or("");
  request.with = by_cookie ? accounts::Accounts::With::cookie : accounts::Accounts::With::tokens;
  auto done = co_await context.accounts->sign_in(std::move(request));
  if (!done) co_return account_problem(done.error());
  auto response = json_reply(200, signed_in(context, *done));
  response.headers.set("Cache-Control", "no-store");
  if (by_cookie) co_return set_cookie(std::move(response), done->cookie, done->expires_in);
  co_return response;
}

Task<http::Response> refresh(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "refresh_token");
  if (!body) co_return http::problem(body.error());
  auto token = body->get_string("refresh_token");
  if (!token) co_return http::problem(400, "bad_request", "send {\"refresh_token\": …}");
  auto done = co_await context.accounts->refresh(std::move(*token), accounts::Style::native);
  if (!done) co_return account_problem(done.error());
  auto response = json_reply(200, signed_in(context, *done));
  response.headers.set("Cache-Control", "no-store");
  co_return response;
}

Task<http::Response> sign_out(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  http::Response response;
  response.status = 204;
  if (!asked.who.family.empty()) {
    std::string family = asked.who.family;
    auto done = co_await context.accounts->sign_out(std::move(family));
    if (!done) co_return account_problem(done.error());
  } else {
    co_return http::problem(409, "conflict", "this is no sign-in but a token: DELETE /v1/tokens/{id} revokes it");
  }
  if (asked.who.by_cookie) co_return set_cookie(std::move(response), "", std::chrono::seconds(0));
  co_return response;
}

Task<http::Response> change_password(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "old,new");
  if (!body) co_return http::problem(body.error());
  auto old_password = body->get_string("old"), new_password = body->get_string("new");
  if (!old_password || !new_password) co_return http::problem(400, "bad_request", "send {\"old\": …, \"new\": …}");
  if (asked.who.scopes) co_return http::problem(403, "forbidden", "a token with bounds can't change the password: sign in");
  auto done = co_await context.accounts->change_password(asked.who, std::move(*old_password), std::move(*new_password), asked.request.remote_address);
  if (!done) co_return account_problem(done.error());
  http::Response response;
  response.status = 204;
  co_return response;
}

Task<http::Response> use_reset(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "reset,new");
  if (!body) co_return http::problem(body.error());
  auto secret = body->get_string("reset"), new_password = body->get_string("new");
  if (!secret || !new_password) co_return http::problem(400, "bad_request", "send {\"reset\": …, \"new\": …}; the first is from the link");
  auto done = co_await context.accounts->use_reset(std::move(*secret), std::move(*new_password), asked.request.remote_address);
  if (!done) co_return account_problem(done.error());
  http::Response response;
  response.status = 204;
  co_return response;
}

Task<http::Response> desktop_token(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  accounts::Grants scopes;
  scopes.push_back({"use", "session", "*"});
  std::string client = "NEST Desktop";
  auto made = co_await context.accounts->narrow_token(asked.who, std::move(scopes), desktop_token_lifetime, std::move(client));
  if (!made) co_return account_problem(made.error());
  auto response = json_reply(200, json::object{{"token", *made}, {"expires_in", std::chrono::seconds(desktop_token_lifetime).count()}});
  response.headers.set("Cache-Control", "no-store");
  co_return response;
}

Task<http::Response> me(Context& context, Asked asked) { co_return json_reply(200, describe_me(context, asked.who)); }

Task<http::Response> change_me(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto body = read_body(asked.request, "email");
  if (!body) co_return http::problem(body.error());
  if (asked.who.scopes) co_return http::problem(403, "forbidden", "a token with bounds can't change the account: sign in");
  accounts::UserChange change;
  if (body->has("email")) change.email = body->get_string("email").value_or("");
  accounts::Actor actor = accounts::actor_of(asked.who, asked.request.remote_address);
  std::string id = asked.who.user_id;
  auto work = [actor, id, change](accounts::Book& book) { return book.change_user(actor, id, change); };
  auto done = co_await context.accounts->with_book(std::move(work));
  if (!done) co_return account_problem(done.error());
  co_return json_reply(200, describe_me(context, asked.who));
}

Task<http::Response> audit(Context& context, Asked asked) {
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  store::AuditFilter filter;
  auto text = [&asked](const char* name) -> std::optional<std::string> {
    auto found = http::query_value(asked.request.query, name);
    return found && !found->empty() ? std::move(found) : std::nullopt;
  };
  filter.actor = text("actor");
  filter.action = text("action");
  filter.object = text("object");
  auto before = number_of(text("before"), 1, INT64_MAX), limit = number_of(text("limit"), 1, 500);
  if (!before || !limit) co_return http::problem(400, "bad_request", "before is an entry's seq, limit a number from 1 to 500");
  if (*before) filter.before = **before;
  if (*limit) filter.limit = **limit;
  auto work = [filter](accounts::Book& book) { return book.records().audit(filter); };
  auto entries = co_await context.accounts->with_book(std::move(work));
  if (!entries) co_return account_problem(entries.error());
  json::array out;
  for (auto& e : *entries)
    out.push_back(json::object{{"seq", e.seq}, {"at", iso_time(e.when)}, {"actor", e.actor}, {"actor_name", e.actor_name}, {"address", e.address},
                               {"action", e.action}, {"object", e.object}, {"detail", e.detail}});
  co_return json_reply(200, json::object{{"entries", std::move(out)}});
}

}  // namespace

std::vector<Route> auth_routes() {
  constexpr auto me_example =
      R"({"id":"u_0123","username":"anna","email":"anna@lab.example","role":"member","groups":["teaching"],"grants":["view:session:s_0123"],"scopes":null,"must_change_password":false,"has_password":true})";
  constexpr auto tokens_example =
      R"({"user":{"id":"u_0123","username":"anna","role":"member"},"access_token":"…","token_type":"Bearer","expires_in":900,"refresh_token":"…"})";
  return {
      {.method = "GET", .pattern = "/v1/auth/methods", .handler = methods, .needs = "open", .tag = "auth", .summary = "How one can sign in here",
       .answer = R"({"auth":"token","password":true,"cookie":true,"providers":[{"name":"oidc","title":"Institute"}]})"},
      {.method = "POST", .pattern = "/v1/auth/sign-in", .handler = sign_in, .needs = "open", .tag = "auth",
       .summary = "Sign in: an access token for 15 minutes and a refresh token, or a browser's cookie",
       .body = R"({"username":"anna","password":"…","cookie":false,"client":"notebook"})", .required = "username,password", .answer = tokens_example},
      {.method = "POST", .pattern = "/v1/auth/refresh", .handler = refresh, .needs = "open", .tag = "auth",
       .summary = "Exchange a refresh token, once, for new tokens", .body = R"({"refresh_token":"…"})", .required = "refresh_token", .answer = tokens_example},
      {.method = "POST", .pattern = "/v1/auth/sign-out", .handler = sign_out, .needs = "self", .tag = "auth", .summary = "End this sign-in, with all of its tokens",
       .status = 204},
      {.method = "POST", .pattern = "/v1/auth/password", .handler = change_password, .needs = "self", .tag = "auth",
       .summary = "A new password; all other sign-ins end", .body = R"({"old":"…","new":"…"})", .required = "old,new", .status = 204},
      {.method = "POST", .pattern = "/v1/auth/reset", .handler = use_reset, .needs = "open", .tag = "auth", .summary = "A new password by the link of an admin",
       .body = R"({"reset":"…","new":"…"})", .required = "reset,new", .status = 204},
      {.method = "POST", .pattern = "/v1/auth/desktop", .handler = desktop_token, .needs = "use:session:*", .tag = "auth",
       .summary = "A token for NEST Desktop: 12 hours, sessions only", .answer = R"({"token":"…","expires_in":43200})"},
      {.method = "GET", .pattern = "/v1/me", .handler = me, .needs = "self", .tag = "auth", .summary = "Who you are, and what you may do", .answer = me_example},
      {.method = "PATCH", .pattern = "/v1/me", .handler = change_me, .needs = "signed_in", .tag = "auth", .summary = "Your email",
       .body = R"({"email":"anna@lab.example"})", .answer = me_example},
      {.method = "GET", .pattern = "/v1/audit", .handler = audit, .needs = "view:audit:*", .tag = "users", .summary = "Who changed what, newest first",
       .query = "actor,action,object,before,limit",
       .answer = R"({"entries":[{"seq":12,"at":"2026-01-01T12:00:00.000Z","actor":"u_0123","actor_name":"admin","address":"192.0.2.7","action":"user.add","object":"u_4567","detail":"bob as member"}]})"},
  };
}

}  // namespace myelin::api::v1
