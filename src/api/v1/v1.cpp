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

const std::vector<Route>& routes() {
  static const std::vector<Route> all = [] {
    std::vector<Route> out;
    for (auto& part : {server_routes(), session_routes(), branch_routes(), stream_routes(), function_routes(), package_routes(), sweep_routes(), job_routes(), run_routes(), file_routes(), token_routes()}) out.insert(out.end(), part.begin(), part.end());
    return out;
  }();
  return all;
}

bool is_open(std::string_view path) { return path == "/v1/health" || path == "/v1/openapi.json" || path == "/v1/docs"; }

Task<http::Response> handle(Context& context, http::Request request) {
  std::string path = request.path;
  if (path.size() > 1 && path.back() == '/' && path.find("/files/") == std::string::npos) path.pop_back();
  std::string_view method = request.method == "HEAD" ? std::string_view("GET") : std::string_view(request.method);
  std::string allowed;
  for (const Route& route : routes()) {
    auto places = match(route.pattern, path);
    if (!places) continue;
    if (route.method != method) {
      allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
      continue;
    }
    Asked asked;
    asked.user = user_of(request);
    asked.request = std::move(request);
    asked.places = std::move(*places);
    co_return co_await route.handler(context, std::move(asked));
  }
  if (allowed.empty()) co_return http::problem(404, "not_found", "no such route: " + request.method + " " + request.path + "; /v1/docs lists them");
  auto response = http::problem(405, "method_not_allowed", "this route takes " + allowed);
  response.headers.set("Allow", allowed);
  co_return response;
}

}  // namespace myelin::api::v1
