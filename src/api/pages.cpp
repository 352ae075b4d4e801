#include "api/pages.hpp"

#include "api/embedded.hpp"
#include "codec/json_value.hpp"

namespace myelin::api::pages {
namespace {

using async::Task;

// Pages load nothing from other hosts and run no script but their own files.
constexpr const char* app_policy =
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'self'; base-uri 'none'; form-action 'self'";
// NEST Desktop needs inline styles, workers from blobs, and code made at run time (its own templates).
constexpr const char* desktop_policy =
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "frame-ancestors 'self'; base-uri 'none'";

void harden(http::Response& response, const char* policy) {
  response.headers.set("Content-Security-Policy", policy);
  response.headers.set("X-Content-Type-Options", "nosniff");
  response.headers.set("Referrer-Policy", "no-referrer");
}

http::Response embedded(std::string_view type, std::string_view text) {
  http::Response response = http::reply(200, std::string(type), std::string(text));
  response.headers.set("Cache-Control", "no-cache");
  return response;
}

// Where the page was not built: what to do, instead of nothing.
constexpr std::string_view not_built =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"
    "<title>Myelin</title><h1>Myelin</h1><p>The server runs, but its page has not been built: run <code>make web</code> where the "
    "sources are (or give the setting <code>web</code> the folder that holds it), then start the server again.</p>"
    "<p>The API answers at <a href=\"../v1/health\">/v1/health</a>; <a href=\"../desktop/\">NEST Desktop</a> is there if it is "
    "installed.</p></html>";

http::Response redirect(const char* to) {
  http::Response response = http::reply(302, "text/plain; charset=utf-8", std::string("See ") + to + "\n");
  response.headers.set("Location", to);
  return response;
}

bool reads(const http::Request& request) { return request.method == "GET" || request.method == "HEAD"; }

http::Response only_get() {
  auto response = http::problem(405, "method_not_allowed", "pages are only read");
  response.headers.set("Allow", "GET, HEAD");
  return response;
}

}  // namespace

Task<http::Response> app(Context& context, http::Request request) {
  if (!reads(request)) co_return only_get();
  http::Response response;
  if (request.path == "/app") {
    response = redirect("/app/");
  } else if (!context.app) {
    if (request.path == "/app/") response = embedded("text/html; charset=utf-8", not_built);
    else response = http::problem(404, "not_found", "the page has not been built: run `make web`, then restart the server");
  } else {
    std::string path = request.path.substr(4);
    response = co_await context.app->serve(request.method, path, request.headers);
    // The names of the files in assets/ hold a hash of their content; all others are asked for again.
    bool hashed = path.starts_with("/assets/") && (response.status == 200 || response.status == 304);
    response.headers.set("Cache-Control", hashed ? "public, max-age=31536000, immutable" : "no-cache");
  }
  harden(response, app_policy);
  co_return response;
}

Task<http::Response> desktop(Context& context, http::Request request) {
  if (!reads(request)) co_return only_get();
  http::Response response;
  if (request.path == "/desktop") {
    response = redirect("/desktop/");
  } else if (!context.desktop) {
    response = http::problem(404, "not_found", "NEST Desktop is not installed: `pip install nest-desktop` in the engine's environment, then restart");
  } else if (request.path == "/desktop/" || request.path == "/desktop/index.html") {
    response = embedded("text/html; charset=utf-8", context.desktop_index);
  } else if (request.path == "/desktop/myelin-init.js") {
    response = embedded("text/javascript; charset=utf-8", embedded_desktop_init_js);
  } else if (request.path == "/desktop/registerSW.js") {
    // The package's own would cache an index.html that points at a former server.
    response = embedded("text/javascript; charset=utf-8", "");
  } else if (request.path == "/desktop/assets/workspaces/nest/config/backends.json") {
    // The page's own origin, in the form that NEST Desktop reads at its first visit.
    std::string url = (request.secure ? "https://" : "http://") + std::string(request.headers.get("Host"));
    std::string body = "{\"insite\":{\"enabled\":false},\"nest\":{\"enabled\":true,\"url\":";
    codec::append_quoted(body, url);
    body += "},\"nestml\":{\"enabled\":false,\"url\":\"http://localhost:52426\"}}";
    response = embedded("application/json", body);
  } else {
    std::string path = request.path.substr(8);
    response = co_await context.desktop->serve(request.method, path, request.headers);
  }
  harden(response, desktop_policy);
  co_return response;
}

std::string pointed_here(const std::string& index_html) {
  std::string out = index_html;
  auto head = out.find("<head>");
  std::size_t at = head == std::string::npos ? 0 : head + 6;
  out.insert(at, "\n    <script src=\"./myelin-init.js\"></script>");
  return out;
}

}  // namespace myelin::api::pages
