#include "api/v1/v1.hpp"

#include "api/answer.hpp"
#include "api/v1/route.hpp"

namespace myelin::api::v1 {
namespace {

// The places of `path` in `pattern`; nothing where it does not fit.
std::optional<std::vector<std::string>> match(std::string_view pattern, std::string_view path) {
  std::vector<std::string> places;
  while (!pattern.empty() && !path.empty()) {
    if (pattern == "/{path}") {
      places.emplace_back(path.substr(1));
      return places;
    }
    auto pattern_end = pattern.find('/', 1), path_end = path.find('/', 1);
    auto part = pattern.substr(1, pattern_end - 1), given = path.substr(1, path_end - 1);
    if (part.size() > 2 && part.front() == '{') {
      if (given.empty()) return std::nullopt;
      places.emplace_back(given);
    } else if (part != given) {
      return std::nullopt;
    }
    pattern = pattern_end == std::string_view::npos ? std::string_view{} : pattern.substr(pattern_end);
    path = path_end == std::string_view::npos ? std::string_view{} : path.substr(path_end);
  }
  if (pattern == "/{path}" && path.empty()) {  // the top of a tree, without a slash
    places.emplace_back();
    return places;
  }
  if (!pattern.empty() || !path.empty()) return std::nullopt;
  return places;
}

}  // namespace

http::Response sign_in_first() {
  auto response = http::problem(401, "unauthorized", "sign in, or send a valid token: Authorization: Bearer <token>");
  response.headers.set("WWW-Authenticate", "Bearer");
  return response;
}

const std::vector<Route>& routes() {
  static const std::vector<Route> all = [] {
    std::vector<Route> out;
    for (auto& part : {server_routes(), session_routes(), branch_routes(), stream_routes(), function_routes(), package_routes(), sweep_routes(), job_routes(), run_routes(), file_routes(), token_routes(), auth_routes(), oidc_routes(), user_routes(), group_routes()}) out.insert(out.end(), part.begin(), part.end());
    return out;
  }();
  return all;
}

namespace {

std::string tidy(std::string path) {
  if (path.size() > 1 && path.back() == '/' && path.find("/files/") == std::string::npos) path.pop_back();
  return path;
}

std::string_view effective(std::string_view method) { return method == "HEAD" ? std::string_view("GET") : method; }

// Whose it is, of the kinds that have owners. Nothing: unknown, or nobody's.
Task<std::optional<session::User>> owner_of(Context& context, std::string_view kind, std::string id) {
  session::User all{"operator", "operator", true};
  if (kind == "session") {
    auto status = co_await context.sessions.status(std::move(all), std::move(id));
    if (status) co_return session::User{status->owner, status->owner_name, false};
  } else if (kind == "run") {
    run::Asker asker{all.id, true};
    auto record = co_await context.runs.get(std::move(asker), std::move(id));
    if (record) co_return session::User{record->owner, record->owner_name, false};
  }
  co_return std::nullopt;
}

http::Response not_allowed(const accounts::Identity& who, const accounts::Grant& needed) {
  if (who.role == accounts::Role::anonymous) return sign_in_first();
  const std::string why = who.scopes ? "this token" : "your account (" + std::string(name_of(who.role)) + ")";
  return http::problem(403, "forbidden", why + " does not have " + needed.text() + "; an admin can grant it");
}

// What a route needs of who asks; decides on whose behalf it runs.
Task<std::optional<http::Response>> permit(Context& context, std::string_view needs, Asked* asked) {
  const auto& who = asked->who;
  asked->user = session::user_of(who);
  if (needs == "open" || (needs == "self" && who.role != accounts::Role::anonymous)) co_return std::nullopt;
  if (who.must_change)
    co_return http::problem(403, "password_change_required", "choose a password of your own first: POST /v1/auth/password {\"old\", \"new\"}");
  if (needs == "public" && (who.role != accounts::Role::anonymous || context.settings.public_functions)) co_return std::nullopt;
  if (needs == "signed_in" || needs == "self" || needs == "public") {
    if (who.role == accounts::Role::anonymous) co_return not_allowed(who, {"view", "server", "*"});
    co_return std::nullopt;
  }
  auto needed = accounts::Grant::parse(needs);
  if (!needed) co_return http::problem(500, "internal", "this route does not say what it needs");
  const bool owned = needed->kind == "session" || needed->kind == "run" || needed->kind == "function" || needed->kind == "file" || needed->kind == "token";
  if (needed->kind == "server") {  // everybody's who signed in, but not of a token with other bounds
    if (who.role == accounts::Role::anonymous || !accounts::within_scopes(who, needed->action, needed->kind, needed->object)) co_return not_allowed(who, *needed);
    co_return std::nullopt;
  }
  if (needed->object == "*") {
    if (!accounts::allows(who, needed->action, needed->kind, "*", owned ? std::string_view(who.user_id) : std::string_view())) co_return not_allowed(who, *needed);
    co_return std::nullopt;
  }
  const std::string object = asked->places.empty() ? "" : asked->places[0];
  needed->object = object;
  // What was granted is done in its owner's name, as the owner would.
  if (accounts::allows(who, needed->action, needed->kind, object, "")) {
    if (who.is_operator || !owned) co_return std::nullopt;
    std::string id = object;
    auto owner = co_await owner_of(context, needed->kind, std::move(id));
    if (owner) asked->user = std::move(*owner);
    co_return std::nullopt;
  }
  // Else only what is their own, of what users own: the route finds nothing else.
  if (!owned || !accounts::allows(who, needed->action, needed->kind, object, who.user_id)) co_return not_allowed(who, *needed);
  co_return std::nullopt;
}

}  // namespace

bool is_open(std::string_view method, std::string_view path) {
  const std::string tidied = tidy(std::string(path));
  for (const Route& route : routes())
    if ((route.needs == "open" || route.needs == "public") && route.method == effective(method) && match(route.pattern, tidied)) return true;
  return false;
}

Task<http::Response> handle(Context& context, http::Request request) {
  const std::string path = tidy(request.path);
  const std::string method(effective(request.method));
  std::string allowed;
  for (const Route& route : routes()) {
    auto places = match(route.pattern, path);
    if (!places) continue;
    if (route.method != method) {
      allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
      continue;
    }
    Asked asked;
    asked.who = identity_of(request);
    asked.request = std::move(request);
    asked.places = std::move(*places);
    auto refused = co_await permit(context, route.needs, &asked);
    if (refused) co_return std::move(*refused);
    co_return co_await route.handler(context, std::move(asked));
  }
  if (allowed.empty()) co_return http::problem(404, "not_found", "no such route: " + request.method + " " + request.path + "; /v1/docs lists them");
  auto response = http::problem(405, "method_not_allowed", "this route takes " + allowed);
  response.headers.set("Allow", allowed);
  co_return response;
}

}  // namespace myelin::api::v1
