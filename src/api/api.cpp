#include "api/api.hpp"

#include <algorithm>
#include <array>

#include "api/nest/face.hpp"
#include "api/neuroapi/face.hpp"
#include "api/pages.hpp"
#include "api/v1/v1.hpp"
#include "http/text.hpp"

namespace myelin::api {
namespace {

constexpr std::uint64_t strangers_body = 256 * 1024;

using async::Task;

enum class Owner { nest, neuroapi, native, app, desktop };

/// One top ends with a slash: what is below it. Another: itself, and what is below.
struct Owned {
  std::string_view top;
  Owner owner;
};
// NEST Server has the rest: its "/api/<name>" has one name only, so that nothing of it lies below "/api/v1/".
constexpr std::array<Owned, 7> owned = {{
    {"/v1", Owner::native},
    {"/app", Owner::app},
    {"/desktop", Owner::desktop},
    {"/auth/", Owner::neuroapi},
    {"/api/v1/", Owner::neuroapi},
    {"/swagger.json", Owner::neuroapi},
    {"/swagger-ui", Owner::neuroapi},
}};

Owner owner_of(const http::Request& request) {
  if (request.listener == static_cast<unsigned>(Face::nest)) return Owner::nest;
  if (request.listener == static_cast<unsigned>(Face::neuroapi)) return Owner::neuroapi;
  const std::string_view path = request.path;
  for (const auto& [top, owner] : owned)
    if (path.starts_with(top) && (top.back() == '/' || path.size() == top.size() || path[top.size()] == '/')) return owner;
  return Owner::nest;
}

bool on_own_port(const http::Request& request) { return request.listener != static_cast<unsigned>(Face::all); }

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

// A page's WebSocket can't set headers: its token is one of the subprotocols that it offers.
std::optional<std::string_view> offered_token(const http::Request& request) {
  std::string_view offered = request.headers.get("Sec-WebSocket-Protocol");
  constexpr std::string_view mark = "token.";
  if (!request.wants_web_socket()) return std::nullopt;
  for (auto one = http::next_item(offered); !one.empty(); one = http::next_item(offered))
    if (one.starts_with(mark)) return one.substr(mark.size());
  return std::nullopt;
}

std::string_view token_of(const http::Request& request) {
  if (auto* own = request.headers.find("NESTServerAuth")) return *own;
  std::string_view authorization = request.headers.get("Authorization");
  if (authorization.size() > 7 && http::iequals(authorization.substr(0, 7), "Bearer ")) return http::trim(authorization.substr(7));
  return offered_token(request).value_or(std::string_view());
}

// Any credentials, right or wrong.
bool has_token(const http::Request& request) {
  return request.headers.has("NESTServerAuth") || request.headers.has("Authorization") || offered_token(request);
}

bool wants_page(const http::Request& request) {
  std::string_view accept = request.headers.get("Accept");
  auto html = accept.find("text/html");
  auto json = accept.find("application/json");
  return html != std::string_view::npos && html < json;
}

// Whoever opens the server's address in a browser is sent to the page, which signs in. NEST Server has none.
bool goes_to_page(const http::Request& request) {
  return request.path == "/" && (request.method == "GET" || request.method == "HEAD") && wants_page(request) && !on_own_port(request);
}

http::Response to_page() {
  auto response = http::reply(302, "text/plain; charset=utf-8", "See /app/\n");
  response.headers.set("Location", "/app/");
  response.headers.set("Vary", "Accept");
  return response;
}

// Who a request is really from, where a proxy that is listed speaks for others: the last address that no listed proxy has.
std::string client_address(const Settings& settings, const http::Request& request) {
  auto listed = [&](std::string_view address) {
    return std::find(settings.proxies.begin(), settings.proxies.end(), address) != settings.proxies.end();
  };
  if (!listed(request.remote_address)) return request.remote_address;
  std::string_view chain = request.headers.get("X-Forwarded-For");
  while (!chain.empty()) {
    auto comma = chain.rfind(',');
    std::string one(http::trim(comma == std::string_view::npos ? chain : chain.substr(comma + 1)));
    if (!numeric(one)) break;
    if (!listed(one)) return one;
    chain = comma == std::string_view::npos ? std::string_view{} : chain.substr(0, comma);
  }
  return request.remote_address;
}

// As the client sees it: a listed proxy may have ended its TLS.
bool came_by_tls(const Settings& settings, const http::Request& request) {
  return std::find(settings.proxies.begin(), settings.proxies.end(), request.remote_address) != settings.proxies.end() &&
         http::iequals(request.headers.get("X-Forwarded-Proto"), "https");
}

// The secret of a sign-in by a browser. The cookie's prefix has it sent to this host only, over TLS or on this machine.
std::string cookie_of(const http::Request& request) {
  for (std::string_view header : request.headers.all("Cookie"))
    if (auto value = http::cookie_value(header, v1::cookie_name)) return *value;
  return {};
}

bool same_origin(const http::Request& request, std::string_view origin) {
  auto scheme_end = origin.find("://");
  return scheme_end != std::string_view::npos && http::iequals(origin.substr(scheme_end + 3), request.headers.get("Host"));
}

// What a browser says of requests without an Origin, such as those of an <img> or a link: a page of another site or port made this one.
bool of_another_site(const http::Request& request) {
  std::string_view site = request.headers.get("Sec-Fetch-Site");
  return site == "cross-site" || site == "same-site";
}

// A link is followed to what anybody may read, which does nothing.
bool opens_page(const http::Request& request, Owner owner) {
  if (request.method != "GET" || request.headers.get("Sec-Fetch-Mode") != "navigate") return false;
  switch (owner) {
    case Owner::native: return v1::is_open(request.method, request.path);
    case Owner::neuroapi: return request.path == "/swagger-ui";
    case Owner::nest: return request.path == "/";
    default: return true;
  }
}

// A browser sends its cookies with whatever page asks: only this server's own pages may call by them.
bool from_own_page(const http::Request& request, Owner owner) {
  if (auto* origin = request.headers.find("Origin")) return same_origin(request, *origin);
  const bool reads = (request.method == "GET" || request.method == "HEAD") && !request.wants_web_socket();
  if (reads) return !of_another_site(request) || opens_page(request, owner);
  return request.headers.get("Sec-Fetch-Site") == "same-origin";
}

}  // namespace

// What holds for every request. Also finds out who asks: request.context.
std::optional<http::Response> Api::check(http::Request& request) const {
  const Settings& settings = context_.settings;
  if (request.remote_address != "unix") {
    std::string host = http::host_name(request.headers.get("Host"));
    bool known = host.empty() || loopback(host) || (settings.any_host && numeric(host)) ||
                 std::find(settings.hosts.begin(), settings.hosts.end(), host) != settings.hosts.end();
    if (!known)
      return http::problem(421, "misdirected", "this server does not answer for the host '" + host +
                                                   "'; add it to allowed_hosts in the configuration if it should");
  }
  Owner owner = owner_of(request);
  const bool by_socket = request.remote_address == "unix";
  if (!by_socket) {
    request.secure = request.secure || came_by_tls(settings, request);
    request.remote_address = client_address(settings, request);
  }
  if (owner == Owner::app || owner == Owner::desktop) return std::nullopt;
  if (owner == Owner::nest && request.method == "OPTIONS") return std::nullopt;

  if (!settings.auth) {
    // Without a token any page could call: only pages of known origins may.
    const std::string* origin = request.headers.find("Origin");
    const bool known = origin ? same_origin(request, *origin) || context_.origins.match(*origin) : !of_another_site(request) || opens_page(request, owner);
    if (!known) {
      if (owner == Owner::native) return http::problem(403, "forbidden", origin ? "this origin may not call: add it to cors_origins" : "a page of another site may not call");
      return http::reply(403, "text/html; charset=utf-8", "Forbidden origin");
    }
    request.context = accounts::local_identity();
    return owner == Owner::neuroapi ? neuroapi::admit(context_, request) : std::nullopt;
  }
  if (owner == Owner::neuroapi) return neuroapi::admit(context_, request);  // its tokens and refusals are its own
  // The socket's file is the operator's alone (0600): who can open it needs no token, but a wrong one stays wrong.
  std::optional<accounts::Identity> identity;
  if (by_socket && !has_token(request)) {
    identity = accounts::operator_identity();
  } else {
    identity = context_.accounts->who().identify(token_of(request));
    // A cookie is for the pages' own calls; a token that was sent, right or wrong, is what counts.
    if (!identity && owner == Owner::native && !has_token(request)) identity = context_.accounts->who().identify_cookie(cookie_of(request));
  }
  if (identity && identity->by_cookie && !from_own_page(request, owner))
    return http::problem(403, "foreign_origin", "a sign-in by cookie is for this server's own pages; programs send a token");
  if (!identity && context_.accounts->who().blind() && (has_token(request) || !cookie_of(request).empty())) {
    auto response = http::problem(503, "unavailable", "the accounts cannot be read at the moment; try again in a few seconds");
    if (owner == Owner::nest) nest::add_cors(context_, request, response, false);
    return response;
  }
  if (owner == Owner::native && v1::is_open(request.method, request.path)) {
    // Strangers send little: what many of them send at once is in memory together.
    if (!identity) request.body_limit = std::min(request.body_limit, strangers_body);
    request.context = identity ? std::move(*identity) : accounts::anonymous_identity();
    return std::nullopt;
  }
  const bool must_change = identity && identity->must_change;
  if (identity && owner == Owner::nest) {
    if (must_change) identity.reset();
    else if (request.path != "/" && !accounts::allows(*identity, "use", "session", "*", identity->user_id)) identity.reset();
  }
  if (identity) {
    request.context = std::move(*identity);
    return std::nullopt;
  }
  if (owner == Owner::native) {
    auto response = http::problem(401, "unauthorized", "sign in, or send a valid token: Authorization: Bearer <token>");
    response.headers.set("WWW-Authenticate", "Bearer");
    return response;
  }
  if (goes_to_page(request)) return std::nullopt;
  http::Response response = http::reply(
      403, "text/html; charset=utf-8",
      must_change ? "Unauthorized: choose a password of your own first, on the page at /app/ or by POST /v1/auth/password" : "Unauthorized");
  nest::add_cors(context_, request, response, false);
  return response;
}

bool Api::handle_now(http::Request& request, http::Response& response) {
  if (request.path != "/" || request.method != "GET" || owner_of(request) != Owner::nest) return false;
  if (auto refused = check(request)) {
    response = std::move(*refused);
    return true;
  }
  if (goes_to_page(request)) {
    response = to_page();
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
  auto refused = check(request);
  if (auto* who = std::any_cast<accounts::Identity>(&request.context)) request.account = who->user_id;
  co_return refused;
}

Task<http::Response> Api::handle(http::Request request) {
  switch (owner_of(request)) {
    case Owner::app: co_return co_await pages::app(context_, std::move(request));
    case Owner::desktop: co_return co_await pages::desktop(context_, std::move(request));
    case Owner::native: {
      std::string holder;
      if (auto* identity = std::any_cast<accounts::Identity>(&request.context)) holder = identity->user_id + " " + identity->credential;
      auto answer = co_await v1::handle(context_, std::move(request));
      answer.holder = std::move(holder);
      answer.headers.set("X-Content-Type-Options", "nosniff");  // what a script printed is no page
      co_return answer;
    }
    case Owner::neuroapi: co_return co_await neuroapi::handle(context_, std::move(request));
    case Owner::nest: break;
  }
  if (goes_to_page(request)) co_return to_page();
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
