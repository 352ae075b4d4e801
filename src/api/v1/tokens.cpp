// Tokens, for the operator.

#include "api/v1/describe.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

std::optional<http::Response> refuse(const Context& context, const Asked& asked) {
  if (!context.tokens) return http::problem(409, "conflict", "this server asks for no tokens (auth = \"none\")");
  if (!asked.user.is_operator) return http::problem(403, "forbidden", "only the operator manages tokens: use the server's own token, or `myelin token` on its machine");
  return std::nullopt;
}

Task<http::Response> list(Context& context, Asked asked) {
  if (auto refused = refuse(context, asked)) co_return std::move(*refused);
  auto tokens = context.tokens->list();
  if (!tokens) co_return call_problem(tokens.error());
  json::array out;
  for (auto& token : *tokens) {
    if (token.revoked) continue;
    json::object o{{"name", token.name}, {"created_at", iso_time(token.created)}, {"last_used_at", nullptr}};
    if (token.last_used) o["last_used_at"] = iso_time(*token.last_used);
    out.push_back(std::move(o));
  }
  co_return json_reply(200, json::object{{"tokens", std::move(out)}});
}

Task<http::Response> create(Context& context, Asked asked) {
  if (auto refused = refuse(context, asked)) co_return std::move(*refused);
  auto body = read_body(asked.request, "name");
  if (!body) co_return http::problem(body.error());
  auto name = body->get_string("name");
  if (!name) co_return http::problem(400, "bad_request", "say whose: {\"name\": \"anna\"}");
  auto added = context.tokens->add(*name);
  if (!added) co_return call_problem(added.error());
  co_return json_reply(201, json::object{{"name", *name}, {"token", added->token}});
}

Task<http::Response> remove(Context& context, Asked asked) {
  if (auto refused = refuse(context, asked)) co_return std::move(*refused);
  auto revoked = context.tokens->revoke(asked.places[0]);
  if (!revoked) co_return call_problem(revoked.error());
  http::Response response;
  response.status = 204;
  co_return response;
}

}  // namespace

std::vector<Route> token_routes() {
  return {
      {.method = "GET", .pattern = "/v1/tokens", .handler = list, .tag = "tokens", .summary = "All tokens by name (operator)",
       .answer = R"({"tokens":[{"name":"anna","created_at":"2026-01-01T12:00:00.000Z","last_used_at":null}]})"},
      {.method = "POST", .pattern = "/v1/tokens", .handler = create, .tag = "tokens", .summary = "A new token, shown once (operator)",
       .body = R"({"name":"anna"})", .required = "name", .status = 201, .answer = R"({"name":"anna","token":"48 hex digits"})"},
      {.method = "DELETE", .pattern = "/v1/tokens/{name}", .handler = remove, .tag = "tokens", .summary = "Revoke a token, at once (operator)", .status = 204},
  };
}

}  // namespace myelin::api::v1
