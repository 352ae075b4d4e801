#include "api/neuroapi/face.hpp"

#include <algorithm>
#include <charconv>

#include "api/answer.hpp"
#include "api/embedded.hpp"
#include "api/neuroapi/functions.hpp"
#include "api/neuroapi/parts.hpp"
#include "base/log.hpp"
#include "http/text.hpp"

namespace myelin::api::neuroapi {
namespace {

using Kind = Route::Kind;

constexpr std::uint64_t small_body = 64 * 1024;     // of names and passwords
constexpr std::uint64_t public_body = 256 * 1024;   // of a call without a token
constexpr std::uint64_t member_body = 16ull << 20;

Route route_of(std::string_view path) {
  if (path == "/auth/login") return {Kind::login};
  if (path == "/auth/refresh") return {Kind::refresh};
  if (path == "/auth/revoke_access") return {Kind::revoke_access};
  if (path == "/auth/revoke_refresh") return {Kind::revoke_refresh};
  if (path == "/api/v1/users") return {Kind::users};
  if (path == "/api/v1/function") return {Kind::function};
  if (path == "/swagger.json") return {Kind::swagger_json};
  if (path == "/swagger-ui") return {Kind::swagger_ui};
  constexpr std::string_view users = "/api/v1/users/";
  if (!path.starts_with(users)) return {};
  path.remove_prefix(users.size());
  if (path.empty() || path.find_first_not_of("0123456789") != std::string_view::npos) return {};
  Route route{Kind::user};
  if (std::from_chars(path.data(), path.data() + path.size(), route.number).ec != std::errc()) route.number = -1;
  return route;
}

std::string_view methods_of(Kind kind) {
  switch (kind) {
    case Kind::login:
    case Kind::refresh: return "OPTIONS, POST";
    case Kind::revoke_access:
    case Kind::revoke_refresh: return "DELETE, OPTIONS";
    case Kind::users:
    case Kind::function: return "GET, HEAD, OPTIONS, POST";
    case Kind::user: return "DELETE, GET, HEAD, OPTIONS, PUT";
    default: return "GET, HEAD, OPTIONS";
  }
}

bool takes(Kind kind, std::string_view method) {
  std::string_view all = methods_of(kind);
  for (;;) {
    const auto comma = all.find(", ");
    if (all.substr(0, comma) == method) return true;
    if (comma == std::string_view::npos) return false;
    all.remove_prefix(comma + 2);
  }
}

http::Response finished(http::Response response) {
  response.headers.set("X-Content-Type-Options", "nosniff");
  return response;
}

Task<http::Response> function(Context& context, Caller caller, http::Request request) {
  auto asked = http::query_value(request.query, "function");
  const bool params_are_text = http::query_value(request.query, "params").has_value();
  std::string_view type = request.headers.get("Content-Type");
  type = http::trim(type.substr(0, type.find(';')));
  // Fields of a form are texts, and params is none; a body that is a form has no JSON in it.
  const bool is_form = http::iequals(type, "application/x-www-form-urlencoded") || http::iequals(type, "multipart/form-data");
  Value body;
  if ((!asked || !params_are_text) && !is_form && !request.body.empty()) {
    auto read = read_json(request.body, context.settings.json_depth);
    if (!read) co_return restful_reply(context, 400, Value::Object{{"messages", Value::Object{{"json", Value::Array{Value("Invalid JSON body.")}}}}});
    body = std::move(*read);
  }
  if (const Value* name = body.find("function"); !asked && name && name->text()) asked = *name->text();
  const Value* params = body.find("params");
  if (!asked || params_are_text || !params || !params->object())
    co_return page(422, "The request was well-formed but was unable to be followed due to semantic errors.");
  std::string arguments = write_json(*params, Layout::restful_compact);
  std::string name = *asked;
  accounts::Identity who = caller.who;
  auto result = co_await call_function(context, std::move(who), std::move(name), std::move(arguments));
  if (result) {
    auto value = read_json(*result, context.settings.json_depth + 8);
    if (value) co_return restful_reply(context, 200, Value::Object{{"result", std::move(*value)}});
    log::error("a function's result is no JSON: " + value.error().message);
    co_return restful_reply(context, 500, Value::Object{{"message", "Internal Server Error"}});
  }
  const Error& error = result.error();
  const int status = error.code == Code::not_found ? 404 : error.code == Code::forbidden ? 403 : error.code == Code::too_many ? 429 : error.code == Code::unavailable ? 503 : 400;
  auto response = restful_reply(context, status, Value::Object{{"error", error.message}});
  if (status == 429 || status == 503) response.headers.set("Retry-After", "3");
  co_return response;
}

http::Response swagger_json(const Context& context) {
  static const Value document = read_json(embedded_swagger_json, 64).value();
  return flask_reply(context, 200, document);
}

http::Response swagger_ui() {
  auto response = http::reply(200, "text/html; charset=utf-8", std::string(embedded_swagger_html));
  response.headers.set("Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'");
  return response;
}

Task<http::Response> answer(Context& context, http::Request request) {
  Route route = route_of(request.path);
  Caller caller;
  if (auto* known = std::any_cast<Caller>(&request.context)) caller = std::move(*known);
  switch (route.kind) {
    case Kind::login: co_return co_await login(context, std::move(request));
    case Kind::refresh: co_return co_await refresh(context, std::move(caller));
    case Kind::revoke_access:
    case Kind::revoke_refresh: co_return co_await revoke(context, std::move(caller));
    case Kind::users:
    case Kind::user: co_return co_await users(context, route, std::move(caller), std::move(request));
    case Kind::function: co_return co_await function(context, std::move(caller), std::move(request));
    case Kind::swagger_json: co_return swagger_json(context);
    case Kind::swagger_ui: co_return swagger_ui();
    case Kind::none: break;
  }
  co_return page(404, not_found_sentence);
}

// What a head alone decides.
std::optional<http::Response> look(Context& context, http::Request& request) {
  const Route route = route_of(request.path);
  if (route.kind == Kind::none) return page(404, not_found_sentence);
  if (request.method == "OPTIONS" || !takes(route.kind, request.method)) {
    constexpr std::string_view sentence = "The method is not allowed for the requested URL.";
    const bool is_api = route.kind == Kind::users || route.kind == Kind::user || route.kind == Kind::function;
    http::Response response;
    if (request.method == "OPTIONS") response = http::reply(200, "text/html; charset=utf-8", "");
    else if (is_api) response = restful_reply(context, 405, Value::Object{{"message", std::string(sentence)}});
    else response = page(405, sentence);
    response.headers.set("Allow", std::string(methods_of(route.kind)));
    return response;
  }
  request.body_limit = std::min(request.body_limit, small_body);
  Caller caller;
  switch (route.kind) {
    case Kind::login:
    case Kind::swagger_json:
    case Kind::swagger_ui: return std::nullopt;
    case Kind::function: {
      auto refused = context.accounts ? recognise(context, request, TokenKind::access, caller) : std::nullopt;
      if (!context.accounts) caller.who = accounts::local_identity();
      if (refused || caller.who.must_change) {
        if (!context.settings.public_functions) {
          if (!refused) refused = say(context, 403, "change your password first");
          return refused;
        }
        caller.who = accounts::anonymous_identity();  // a token, valid or not, is not asked for
      }
      request.body_limit = caller.who.role == accounts::Role::anonymous ? public_body : member_body;
      request.context = std::move(caller);
      return std::nullopt;
    }
    default: break;
  }
  const bool refreshing = route.kind == Kind::refresh || route.kind == Kind::revoke_refresh;
  if (auto refused = recognise(context, request, refreshing ? TokenKind::refresh : TokenKind::access, caller)) return refused;
  if (caller.who.must_change && route.kind != Kind::revoke_access && route.kind != Kind::revoke_refresh) {
    const auto* user = context.accounts->who().user(caller.who.user_id);
    const bool own_password = route.kind == Kind::user && request.method == "PUT" && user && user->number == route.number;
    if (!own_password)
      return say(context, 403, "change your password first: PUT {\"password\": \"…\"} to /api/v1/users/" + std::to_string(user ? user->number : 0));
  }
  request.context = std::move(caller);
  return std::nullopt;
}

}  // namespace

http::Response flask_reply(const Context& context, int status, const Value& value) {
  return http::reply(status, "application/json", write_json(value, context.settings.neuroapi_compact ? Layout::flask_compact : Layout::flask));
}

http::Response restful_reply(const Context& context, int status, const Value& value) {
  return http::reply(status, "application/json", write_json(value, context.settings.neuroapi_compact ? Layout::restful_compact : Layout::restful));
}

http::Response say(const Context& context, int status, std::string_view message) {
  return flask_reply(context, status, Value::Object{{"msg", std::string(message)}});
}

http::Response page(int status, std::string_view sentence) {
  const std::string title(status == 422 ? "Unprocessable Entity" : http::reason_phrase(status));  // its name of 2019
  return http::reply(status, "text/html",
                     "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 3.2 Final//EN\">\n<title>" + std::to_string(status) + " " + title + "</title>\n<h1>" + title +
                         "</h1>\n<p>" + std::string(sentence) + "</p>\n");
}

http::Response no_such_user(const Context& context) {
  return restful_reply(context, 404, Value::Object{{"message", std::string(not_found_sentence)}});
}

http::Response account_failure(const Context& context, const Error& error) {
  switch (error.code) {
    case Code::not_found: return no_such_user(context);
    case Code::conflict: return restful_reply(context, 409, Value::Object{{"message", error.message}});
    case Code::bad_request: {
      const std::string field = error.detail.empty() ? "_schema" : error.detail;
      return restful_reply(context, 422, Value::Object{{field, Value::Array{Value(error.message)}}});
    }
    case Code::forbidden: return say(context, 403, error.message);
    case Code::too_many:
    case Code::unavailable: {
      auto response = say(context, error.code == Code::too_many ? 429 : 503, error.message);
      response.headers.set("Retry-After", error.code == Code::too_many && !error.detail.empty() ? error.detail : "3");
      return response;
    }
    default:
      log::error("accounts: " + error.message);
      return restful_reply(context, 500, Value::Object{{"message", "Internal Server Error"}});
  }
}

std::optional<http::Response> admit(Context& context, http::Request& request) {
  auto refused = look(context, request);
  if (refused) refused = finished(std::move(*refused));
  return refused;
}

Task<http::Response> handle(Context& context, http::Request request) {
  auto response = co_await answer(context, std::move(request));
  co_return finished(std::move(response));
}

}  // namespace myelin::api::neuroapi
