#pragma once
// NEST Server's routes: /, /api, /api/<name>, /exec, and the same below /s/<kernel>/. Statuses, shapes and headers are the
// original's; what differs on purpose is listed in docs/nest-server.md.

#include <optional>
#include <string>
#include <string_view>

#include "api/context.hpp"
#include "http/message.hpp"

namespace myelin::api::nest {

struct Route {
  enum class Kind { root, list, call, exec, none } kind = Kind::none;
  std::string kernel = "default";
  std::string name;  // of a call
};

/// Which route a path is; none for what is not NEST's or does not exist.
[[nodiscard]] Route route_of(std::string_view path);
[[nodiscard]] bool method_fits(const Route& route, std::string_view method);
[[nodiscard]] const char* allowed_methods(const Route& route);

/// {"mpi":false,"nest":"3.10.0"}; nothing while the engine's version is not known yet.
[[nodiscard]] std::optional<http::Response> version_now(const Context& context);

async::Task<http::Response> handle(Context& context, Route route, http::Request request);

/// The original's error page: status, title and sentence in HTML.
[[nodiscard]] http::Response error_page(int status, std::string_view sentence);

/// Adds what the original's CORS does: the echoed origin where a pattern matches, and the preflight's headers.
void add_cors(const Context& context, const http::Request& request, http::Response& response, bool preflight);

}  // namespace myelin::api::nest
