#include "api/api.hpp"

#include <algorithm>

#include "api/nest/face.hpp"
#include "api/pages.hpp"
#include "api/v1/v1.hpp"
#include "http/text.hpp"

namespace myelin::api {
namespace {

using async::Task;

enum class Owner { nest, native, app, desktop };

bool under(std::string_view path, std::string_view top) {
  return path == top || (path.size() > top.size() && path.substr(0, top.size()) == top && path[top.size()] == '/');
}

Owner owner_of(std::string_view path) {
  if (under(path, "/v1")) return Owner::native;
  if (under(path, "/app")) return Owner::app;
  if (under(path, "/desktop")) return Owner::desktop;
  return Owner::nest;
}

// Host without its port, lower-case, without the brackets of an IPv6 address.
std::string host_name(std::string_view host) {
  std::string out;
  if (!host.empty() && host.front() == '[') {
    out = host.substr(1, host.find(']') - 1);
  } else {
    out = host.substr(0, host.find(':'));
  }
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (!out.empty() && out.back() == '.') out.pop_back();
  return out;
}

// By its form only: 127.0.0.1.evil.example and bad.cafe.fa.de are names, which anybody may point anywhere.
bool ipv4(const std::string& name) {
  return name.find_first_not_of("0123456789.") == std::string::npos && std::count(name.begin(), name.end(), '.') == 3;
}

bool loopback(const std::string& name) {
  return name == "localhost" || name == "::1" || (ipv4(name) && name.compare(0, 4, "127.") == 0) ||
         (name.size() > 10 && name.compare(name.size() - 10, 10, ".localhost") == 0);
}

bool numeric(const std::string& name) {
  bool ipv6 = name.find(':') != std::string::npos && name.find_first_not_of("0123456789.:abcdef") == std::string::npos;
  return ipv6 || ipv4(name);
}

std::string_view token_of(const http::Request& request) {
  if (auto* own = request.headers.find("NESTServerAuth")) return *own;
  std::string_view authorization = request.headers.get("Authorization");
  if (authorization.size() > 7 && http::iequals(authorization.substr(0, 7), "Bearer ")) return http::trim(authorization.substr(7));
  // A page's WebSocket can't set headers: its token is one of the subprotocols that it offers.
  std::string_view offered = request.headers.get("Sec-WebSocket-Protocol");
  constexpr std::string_view mark = "token.";
  while (!offered.empty() && request.wants_web_socket()) {
    auto comma = offered.find(',');
    auto one = http::trim(offered.substr(0, comma));
    if (one.starts_with(mark)) return one.substr(mark.size());
    offered = comma == std::string_view::npos ? std::string_view{} : offered.substr(comma + 1);
  }
  return {};
}

// Any credentials, right or wrong.
bool has_token(const http::Request& request) {
  return request.headers.has("NESTServerAuth") || request.headers.has("Authorization");
}

bool wants_page(const http::Request& request) {
  std::string_view accept = request.headers.get("Accept");
  auto html = accept.find("text/html");
  auto json = accept.find("application/json");
  return html != std::string_view::npos && html < json;
}

bool same_origin(const http::Request& request, std::string_view origin) {
  auto scheme_end = origin.find("://");
  return scheme_end != std::string_view::npos && http::iequals(origin.substr(scheme_end + 3), request.headers.get("Host"));
}

}  // namespace

// What holds for every request. Also finds out who asks: request.context.
std::optional<http::Response> Api::check(http::Request& request) const {
  const Settings& settings = context_.settings;
  if (request.remote_address != "unix") {
    std::string host = host_name(request.headers.get("Host"));
    bool known = host.empty() || loopback(host) || (settings.any_host && numeric(host)) ||
                 std::find(settings.hosts.begin(), settings.hosts.end(), host) != settings.hosts.end();
    if (!known)
      return http::problem(421, "misdirected", "this server does not answer for the host '" + host +
                                                   "'; add it to allowed_hosts in the configuration if it should");
  }
  Owner owner = owner_of(request.path);
  if (owner == Owner::app || owner == Owner::desktop) return std::nullopt;
  if (owner == Owner::nest && request.method == "OPTIONS") return std::nullopt;
  if (owner == Owner::native && v1::is_open(request.path)) {
    // Open to all, but who says who they are is told what is theirs.
    if (!settings.auth) request.context = accounts::local_identity();
    else if (auto who = context_.tokens->identify(token_of(request))) request.context = std::move(*who);
    return std::nullopt;
  }

  if (!settings.auth) {
    // Without a token any page could call: only pages of known origins may.
    const std::string* origin = request.headers.find("Origin");
    if (origin && !same_origin(request, *origin) && !context_.origins.match(*origin)) {
      if (owner == Owner::native) return http::problem(403, "forbidden", "this origin may not call: add it to cors_origins");
      return http::reply(403, "text/html; charset=utf-8", "Forbidden origin");
    }
    request.context = accounts::local_identity();
    return std::nullopt;
  }
  // The socket's file is the operator's alone (0600): who can open it needs no token, but a wrong one stays wrong.
  if (request.remote_address == "unix" && !has_token(request)) {
    request.context = accounts::operator_identity();
    return std::nullopt;
  }
  auto identity = context_.tokens->identify(token_of(request));
  if (identity) {
    request.context = std::move(*identity);
    return std::nullopt;
  }
  if (owner == Owner::native) {
    auto response = http::problem(401, "unauthorized", "send a valid token: Authorization: Bearer <token>");
    response.headers.set("WWW-Authenticate", "Bearer");
    return response;
  }
  if (request.path == "/" && wants_page(request)) return std::nullopt;  // redirected to the page, which signs in
  http::Response response = http::reply(403, "text/html; charset=utf-8", "Unauthorized");
  nest::add_cors(context_, request, response, false);
  return response;
}

bool Api::handle_now(http::Request& request, http::Response& response) {
  if (request.path != "/" || request.method != "GET") return false;
  if (auto refused = check(request)) {
    response = std::move(*refused);
    return true;
  }
  if (wants_page(request)) {
    response = http::reply(302, "text/plain; charset=utf-8", "See /app/\n");
    response.headers.set("Location", "/app/");
    response.headers.set("Vary", "Accept");
    return true;
  }
  auto version = nest::version_now(context_);
  if (!version) return false;
  response = std::move(*version);
  nest::add_cors(context_, request, response, false);
  return true;
}

Task<std::optional<http::Response>> Api::admit(http::Request& request) {
  if (request.headers.lists("Prefer", "cancel-on-disconnect")) request.gone = std::make_shared<async::Event>();
  co_return check(request);
}

Task<http::Response> Api::handle(http::Request request) {
  switch (owner_of(request.path)) {
    case Owner::app: co_return co_await pages::app(context_, std::move(request));
    case Owner::desktop: co_return co_await pages::desktop(context_, std::move(request));
    case Owner::native: {
      auto answer = co_await v1::handle(context_, std::move(request));
      answer.headers.set("X-Content-Type-Options", "nosniff");  // what a script printed is no page
      co_return answer;
    }
    case Owner::nest: break;
  }
  nest::Route route = nest::route_of(request.path);
  http::Response response;
  http::Request head;  // what CORS needs, after the request has gone on
  head.headers = request.headers;
  bool preflight = request.method == "OPTIONS";
  if (route.kind == nest::Route::Kind::none) {
    response = nest::error_page(404, "The requested URL was not found on the server. If you entered the URL manually "
                                     "please check your spelling and try again.");
  } else if (preflight) {
    response = http::reply(200, "text/html; charset=utf-8", "");
    response.headers.set("Allow", nest::allowed_methods(route));
  } else if (!nest::method_fits(route, request.method)) {
    response = nest::error_page(405, "The method is not allowed for the requested URL.");
    response.headers.set("Allow", nest::allowed_methods(route));
  } else {
    response = co_await nest::handle(context_, std::move(route), std::move(request));
  }
  nest::add_cors(context_, head, response, preflight);
  co_return response;
}

}  // namespace myelin::api
