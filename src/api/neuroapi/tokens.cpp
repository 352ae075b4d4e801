// Signing in, and who asks by which token.

#include <algorithm>
#include <vector>

#include "api/answer.hpp"
#include "api/neuroapi/parts.hpp"

namespace myelin::api::neuroapi {
namespace {

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const auto begin = text.find_first_not_of(" \t");
    if (begin == std::string_view::npos) break;
    const auto end = std::min(text.find_first_of(" \t", begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    text.remove_prefix(end);
  }
  return words;
}

http::Response no_accounts(const Context& context) {
  return say(context, 409, "this server has no accounts (auth = \"none\")");
}

// Nothing that holds a token is kept by a cache.
http::Response with_tokens(http::Response response) {
  response.headers.set("Cache-Control", "no-store");
  return response;
}

}  // namespace

std::optional<http::Response> recognise(Context& context, const http::Request& request, TokenKind kind, Caller& caller) {
  if (!context.accounts) return no_accounts(context);
  const auto words = words_of(request.headers.get("Authorization"));
  if (words.empty()) {
    if (request.remote_address == "unix" && kind == TokenKind::access) {  // the socket's file is the operator's alone
      caller.who = accounts::operator_identity();
      return std::nullopt;
    }
    return say(context, 401, "Missing Authorization Header");
  }
  if (words[0] != "Bearer" || words.size() != 2) return say(context, 422, "Bad Authorization header. Expected value 'Bearer <JWT>'");
  auto& known = context.accounts->who();
  known.refresh();  // what was revoked a moment ago is
  caller.token = words[1];
  if (kind == TokenKind::access)
    if (auto identity = known.identify(caller.token)) {
      caller.who = std::move(*identity);
      if (!caller.who.family.empty()) caller.jti = caller.who.credential;
      return std::nullopt;
    }

  if (known.blind()) {
    auto response = say(context, 503, "The accounts cannot be read at the moment");
    response.headers.set("Retry-After", "3");
    return response;
  }
  using accounts::JwtFault;
  const auto jwt = accounts::verify_jwt(caller.token, known.secret(), std::chrono::system_clock::now());
  switch (jwt.fault) {
    case JwtFault::none: break;
    case JwtFault::segments: return say(context, 422, "Not enough segments");
    case JwtFault::algorithm: return say(context, 422, "The specified alg value is not allowed");
    case JwtFault::malformed: return say(context, 422, "Invalid header padding");
    case JwtFault::signature: return say(context, 422, "Signature verification failed");
    case JwtFault::not_yet: return say(context, 422, "The token is not yet valid (nbf)");
    case JwtFault::expired: return say(context, 401, "Token has expired");
  }
  const std::string_view wanted = kind == TokenKind::access ? "access" : "refresh";
  if (jwt.claims.get_string("type").value_or("access") != wanted) return say(context, 422, "Only " + std::string(wanted) + " tokens are allowed");
  const auto number = jwt.claims.get_int("identity");
  // A refresh token of /v1 can be exchanged once, there; it must not become one that lasts.
  if (kind == TokenKind::refresh && !number) return say(context, 422, "Missing claim: identity");
  const std::string jti = jwt.claims.get_string("jti").value_or("");
  const auto* issued = known.issued(jti);
  if (!issued || issued->kind != wanted) return say(context, 401, "Token has been revoked");
  const auto* user = known.user(issued->user_id);
  if (!user && number) return say(context, 401, "Error loading the user " + std::to_string(*number));
  if (!user || issued->revoked || !user->active || kind == TokenKind::access) return say(context, 401, "Token has been revoked");
  caller.who = known.identity_of(*user);
  caller.who.family = issued->family;
  caller.jti = jti;
  return std::nullopt;
}

Task<http::Response> login(Context& context, http::Request request) {
  if (!context.accounts) co_return no_accounts(context);
  if (!is_json(request)) co_return say(context, 400, "Missing JSON in request");
  auto body = read_json(request.body, context.settings.json_depth);
  if (!body) co_return page(400, "The browser (or proxy) sent a request that this server could not understand.");
  const Value* username = body->find("username");
  const Value* password = body->find("password");
  if (!username || !password || username->falsy() || password->falsy() || !username->text() || !password->text())
    co_return say(context, 400, "Missing username or password");
  accounts::Accounts::SignInRequest asked;
  asked.username = *username->text();
  asked.password = *password->text();
  asked.address = request.remote_address;
  asked.client = "NeuroAPI";
  asked.style = accounts::Style::neuroapi;
  auto done = co_await context.accounts->sign_in(std::move(asked));
  if (!done) {
    if (done.error().code == Code::unauthorized) co_return say(context, 400, "Bad credentials");
    co_return account_failure(context, done.error());
  }
  Value::Object tokens{{"access_token", done->access_token}, {"refresh_token", done->refresh_token}};
  co_return with_tokens(flask_reply(context, 200, std::move(tokens)));
}

Task<http::Response> refresh(Context& context, Caller caller) {
  std::string token = caller.token;
  auto done = co_await context.accounts->refresh(std::move(token), accounts::Style::neuroapi);
  if (!done) {
    if (done.error().code == Code::unauthorized) co_return say(context, 401, "Token has been revoked");
    co_return account_failure(context, done.error());
  }
  Value::Object tokens{{"access_token", done->access_token}};
  co_return with_tokens(flask_reply(context, 200, std::move(tokens)));
}

Task<http::Response> revoke(Context& context, Caller caller) {
  if (caller.jti.empty()) co_return say(context, 422, "Only access tokens are allowed");  // a token of /v1/tokens is revoked there
  std::string jti = caller.jti;
  auto done = co_await context.accounts->revoke(std::move(jti));
  if (!done) co_return account_failure(context, done.error());
  Value::Object said{{"message", "token revoked"}};
  co_return flask_reply(context, 200, std::move(said));
}

}  // namespace myelin::api::neuroapi
