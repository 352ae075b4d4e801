#include "api/v1/accounts.hpp"

#include <charconv>

#include "api/v1/v1.hpp"
#include "base/time.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {

std::optional<http::Response> no_accounts(const Context& context) {
  if (context.accounts) return std::nullopt;
  return http::problem(409, "conflict", "this server has no accounts (auth = \"none\")");
}

http::Response account_problem(const Error& error) {
  if (error.code == Code::too_many) {
    auto response = http::problem(429, "too_many", error.message);
    response.headers.set("Retry-After", error.detail);
    return response;
  }
  if (error.code == Code::unauthorized && error.detail == "token_reused") return http::problem(401, "token_reused", error.message);
  if (error.code == Code::unavailable) {
    auto response = http::problem(error);
    response.headers.set("Retry-After", "3");
    return response;
  }
  return http::problem(error);
}

json::object describe_me(Context& context, const accounts::Identity& who) {
  json::object out{{"id", who.user_id}, {"username", who.name}, {"email", nullptr}, {"role", name_of(who.role)}};
  json::array groups, grants;
  json::value scopes = nullptr;
  bool has_password = false;
  if (context.accounts) {
    auto& known = context.accounts->who();
    for (auto& name : known.groups_of(who.user_id)) groups.push_back(json::string(name));
    for (auto& grant : known.grants_of(who.user_id)) grants.push_back(json::string(grant.text()));
    if (const auto* user = known.user(who.user_id)) {
      if (user->email) out["email"] = *user->email;
      has_password = !user->password.empty();
    }
  }
  if (who.scopes) {
    json::array list;
    for (const auto& scope : *who.scopes) list.push_back(json::string(scope.text()));
    scopes = std::move(list);
  }
  out["groups"] = std::move(groups);
  out["grants"] = std::move(grants);
  out["scopes"] = std::move(scopes);
  out["must_change_password"] = who.must_change;
  out["has_password"] = has_password;
  out["sign_in"] = who.by_cookie ? "cookie" : who.family.empty() ? "token" : "access_token";
  return out;
}

json::object describe(Context& context, const store::UserRecord& user) {
  json::object out{{"id", user.id}, {"number", user.number}, {"username", user.username}, {"email", nullptr}, {"role", user.role},
                   {"active", user.active}, {"created_at", iso_time(user.created)}, {"last_sign_in_at", nullptr},
                   {"must_change_password", user.must_change}, {"has_password", !user.password.empty()},
                   {"issuer", user.issuer}, {"subject", user.subject}};
  if (user.email) out["email"] = *user.email;
  if (user.last_sign_in) out["last_sign_in_at"] = iso_time(*user.last_sign_in);
  json::array groups;
  if (context.accounts)
    for (auto& name : context.accounts->who().groups_of(user.id)) groups.push_back(json::string(name));
  out["groups"] = std::move(groups);
  return out;
}

http::Response set_cookie(http::Response response, const std::string& secret, std::chrono::seconds lifetime) {
  response.headers.add("Set-Cookie", std::string(cookie_name) + "=" + secret + "; Path=/; Max-Age=" + std::to_string(lifetime.count()) +
                                         "; Secure; HttpOnly; SameSite=Strict");
  response.headers.set("Cache-Control", "no-store");
  return response;
}

bool cookie_works(const http::Request& request) {
  std::string_view host = request.headers.get("Host");
  host = host.starts_with('[') ? host.substr(0, host.find(']') + 1) : host.substr(0, host.find(':'));
  return request.secure || host == "localhost" || host == "[::1]" || host.starts_with("127.") || host.ends_with(".localhost");
}

bool own_origin(const http::Request& request) {
  std::string_view origin = request.headers.get("Origin");
  auto scheme_end = origin.find("://");
  return scheme_end != std::string_view::npos && http::iequals(origin.substr(scheme_end + 3), request.headers.get("Host"));
}

std::optional<std::optional<std::int64_t>> number_of(const std::optional<std::string>& text, std::int64_t low, std::int64_t high) {
  if (!text) return std::optional<std::int64_t>();
  std::int64_t number = 0;
  auto read = std::from_chars(text->data(), text->data() + text->size(), number);
  if (read.ec != std::errc() || read.ptr != text->data() + text->size() || number < low || number > high) return std::nullopt;
  return std::optional(number);
}

Result<std::optional<accounts::Grants>> read_scopes(const codec::Json& body) {
  if (!body.has("scopes") || body.is_null("scopes")) return std::optional<accounts::Grants>();
  auto texts = body.get_strings("scopes");
  if (!texts || texts->empty() || texts->size() > 50) return Error{Code::bad_request, "scopes is a list of 1 to 50 texts like \"use:session:*\"", ""};
  accounts::Grants scopes;
  for (const auto& text : *texts) {
    auto grant = accounts::Grant::parse(text);
    if (!grant) return grant.take_error();
    scopes.push_back(std::move(*grant));
  }
  return std::optional(std::move(scopes));
}

}  // namespace myelin::api::v1
