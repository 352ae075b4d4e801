#include "api/nest/face.hpp"

#include <boost/json.hpp>

#include "api/answer.hpp"
#include "api/nest/reset_scan.hpp"
#include "codec/json_value.hpp"
#include "http/text.hpp"

namespace myelin::api::nest {
namespace {

namespace json = boost::json;
using async::Task;

bool valid_kernel_name(std::string_view name) {
  if (name.empty() || name.size() > 64) return false;
  for (char c : name)
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.')) return false;
  return name != "." && name != "..";
}

// {"lineNumber":L,"message":"Class at line L: text"}, keys sorted as the original's.
http::Response failure(std::string_view message, std::optional<std::int64_t> line = {}, std::string_view output = {}) {
  std::string body = "{";
  if (line) body += "\"lineNumber\":" + std::to_string(*line) + ",";
  body += "\"message\":";
  codec::append_quoted(body, message, codec::NonAscii::escape);
  if (!output.empty()) {
    body += ",\"stdout\":";
    codec::append_quoted(body, output, codec::NonAscii::escape);
  }
  body += "}\n";
  return http::reply(400, "application/json", std::move(body));
}

// The end of a session's output, short enough to be read.
std::string_view last_lines(std::string_view output) {
  constexpr std::size_t most = 2048;
  if (output.size() <= most) return output;
  output.remove_prefix(output.size() - most);
  auto line = output.find('\n');
  return line == std::string_view::npos ? output : output.substr(line + 1);
}

http::Response call_failure(const Error& error) {
  auto parsed = codec::Json::parse(error.detail);
  if (!parsed) return failure(error.message);
  std::string name = parsed->get_string("class").value_or("Error");
  if (parsed->get_bool("kernel").value_or(false)) name += " (NESTError)";
  auto line = parsed->get_int("line");
  std::string message = name + (line ? " at line " + std::to_string(*line) : "") + ": " + error.message;
  return failure(message, line, parsed->get_string("stdout").value_or(""));
}

// Clients of NEST Server show the text of a 400 only, so whatever a user must know takes that form.
http::Response call_error(const Error& error) {
  http::Response response;
  switch (error.code) {
    case Code::gone:
      response = failure("KernelLost: " + error.message + ". Call ResetKernel to start a fresh kernel.", {},
                         last_lines(error.detail));
      break;
    case Code::call_failed: response = call_failure(error); break;
    case Code::interrupted: response = failure("Interrupted: " + error.message); break;
    case Code::deadline: response = failure("DeadlineExceeded: " + error.message); break;
    case Code::too_many:
      response = failure("QueueFull: " + error.message);
      response.headers.add("Retry-After", "1");
      break;
    case Code::unavailable:
      response = failure("Unavailable: " + error.message);
      response.headers.add("Retry-After", "5");
      break;
    case Code::forbidden: response = failure("Forbidden: " + error.message); break;
    default: response = error_page(500, "The server encountered an internal error: " + error.message);
  }
  return response;
}

// The script of an /exec request, as the worker will find it.
std::string source_of(const http::Request& request) {
  if (is_json(request)) {
    auto parsed = codec::Json::parse(request.body);
    return parsed ? parsed->get_string("source").value_or("") : "";
  }
  std::string_view type = request.headers.get("Content-Type");
  type = http::trim(type.substr(0, type.find(';')));
  if (http::iequals(type, "application/x-www-form-urlencoded")) {
    for (auto& [key, value] : http::parse_query(request.body))
      if (key == "source") return value;
  }
  if (http::iequals(type, "multipart/form-data")) return request.body;  // the script stands in it as it is
  return http::query_value(request.query, "source").value_or("");
}

// Calls that leave a kernel as it was. Not complete, and need not be: the others count as changes.
bool only_reads(std::string_view name) {
  for (const char* known : {"GetKernelStatus", "GetDefaults", "GetStatus", "GetNodes", "GetConnections", "GetPosition",
                            "ConnectionRules", "node_models", "synapse_models", "network_size", "resolution"})
    if (name == known) return true;
  return false;
}

std::string meta_of(const Route& route, const http::Request& request, const Wanted& wanted) {
  std::string meta = "{\"method\":";
  meta += route.kind == Route::Kind::exec ? "\"exec\"" : route.kind == Route::Kind::list ? "\"list\"" : "\"api\"";
  if (route.kind == Route::Kind::call) {
    meta += ",\"name\":";
    codec::append_quoted(meta, route.name);
  }
  meta += ",\"envelope\":\"nest\",\"nonfinite\":\"";
  meta += wanted.nonfinite();
  meta += "\",\"content_type\":";
  codec::append_quoted(meta, request.headers.get("Content-Type"));
  if (!request.query.empty()) {
    meta += ",\"query\":";
    codec::append_quoted(meta, request.query);
  }
  meta += "}";
  return meta;
}

}  // namespace

Route route_of(std::string_view path) {
  Route route;
  if (path.substr(0, 3) == "/s/") {
    std::string_view rest = path.substr(3);
    auto slash = rest.find('/');
    if (slash == std::string_view::npos || !valid_kernel_name(rest.substr(0, slash))) return route;
    route.kernel = rest.substr(0, slash);
    path = rest.substr(slash);
  }
  if (path == "/") route.kind = Route::Kind::root;
  else if (path == "/api") route.kind = Route::Kind::list;
  else if (path == "/exec") route.kind = Route::Kind::exec;
  else if (path.size() > 5 && path.substr(0, 5) == "/api/" && path.find('/', 5) == std::string_view::npos) {
    route.kind = Route::Kind::call;
    route.name = path.substr(5);
  }
  return route;
}

bool method_fits(const Route& route, std::string_view method) {
  if (method == "GET" || method == "HEAD") return true;
  return method == "POST" && (route.kind == Route::Kind::call || route.kind == Route::Kind::exec);
}

const char* allowed_methods(const Route& route) {
  return route.kind == Route::Kind::call || route.kind == Route::Kind::exec ? "POST, HEAD, GET, OPTIONS"
                                                                            : "GET, OPTIONS, HEAD";
}

http::Response error_page(int status, std::string_view sentence) {
  std::string phrase(http::reason_phrase(status));
  std::string escaped;
  for (char c : sentence) {
    if (c == '<') escaped += "&lt;";
    else if (c == '>') escaped += "&gt;";
    else if (c == '&') escaped += "&amp;";
    else escaped += c;
  }
  return http::reply(status, "text/html; charset=utf-8",
                     "<!doctype html>\n<html lang=en>\n<title>" + std::to_string(status) + " " + phrase + "</title>\n<h1>" +
                         phrase + "</h1>\n<p>" + escaped + "</p>\n");
}

std::optional<http::Response> version_now(const Context& context) {
  const auto* info = context.sessions.engine_info("nest");
  if (!info) return std::nullopt;
  return http::reply(200, "application/json", "{\"mpi\":false,\"nest\":\"" + info->version + "\"}\n");
}

void add_cors(const Context& context, const http::Request& request, http::Response& response, bool preflight) {
  const std::string* origin = request.headers.find("Origin");
  if (!origin) {
    if (context.origins.all()) response.headers.set("Access-Control-Allow-Origin", "*");
    return;
  }
  if (!context.origins.match(*origin)) return;
  response.headers.set("Access-Control-Allow-Origin", *origin);
  response.headers.set("Vary", "Origin");
  if (!preflight || !request.headers.has("Access-Control-Request-Method")) return;
  response.headers.set("Access-Control-Allow-Methods", "GET, POST");
  std::string asked;
  std::string_view list = request.headers.get("Access-Control-Request-Headers");
  for (auto item = http::next_item(list); !item.empty(); item = http::next_item(list))
    if (http::is_token(item)) asked += (asked.empty() ? "" : ", ") + std::string(item);
  if (!asked.empty()) response.headers.set("Access-Control-Allow-Headers", asked);
}

// Arguments of coroutines in co_await expressions are named: g++ 12 destroys some temporaries there twice.
Task<http::Response> handle(Context& context, Route route, http::Request request) {
  std::string engine = "nest";
  if (route.kind == Route::Kind::root) {
    if (auto known = version_now(context)) co_return std::move(*known);
    auto ready = co_await context.sessions.engine_ready(engine);
    if (!ready) co_return call_error(ready.error());
    co_return *version_now(context);
  }
  if (route.kind == Route::Kind::exec && !context.settings.exec)
    co_return error_page(403, "The route `/exec` has been disabled. Please contact the server administrator.");
  if (is_json(request) && route.kind != Route::Kind::list) {  // which has no arguments
    auto checked = co_await check_body(context, request.body);
    if (!checked)
      co_return error_page(400, "The browser (or proxy) sent a request that this server could not understand. (" +
                                    checked.error().message + ")");
  }
  if (const std::string* named = request.headers.find("Myelin-Kernel")) {
    if (!valid_kernel_name(*named)) co_return failure("BadKernelName: a kernel's name has 1 to 64 of A-Z a-z 0-9 . _ -");
    route.kernel = *named;
  }

  Wanted wanted = negotiate(context, request);
  session::User user = user_of(request);
  bool own = route.kernel == "default";
  if (auto who = identity_of(request); own && !who.client.empty()) route.kernel = who.client;  // a user's kernel is one a client
  bool resets = route.kind == Route::Kind::call && route.name == "ResetKernel";
  auto session = co_await context.sessions.kernel(user, engine, route.kernel, own, resets);
  if (!session && session.error().code == Code::gone && route.kind == Route::Kind::exec) {
    auto look = [asked = &request] { return names_reset_kernel(source_of(*asked)); };  // this waits
    const bool reset = co_await async::on_pool(context.pool, std::move(look));
    if (reset) session = co_await context.sessions.kernel(user, engine, route.kernel, own, true);
  }
  if (!session) {
    // Of calls it would be the queue.
    if (session.error().code == Code::too_many) co_return failure("TooManySessions: " + session.error().message);
    co_return call_error(session.error());
  }

  bool reads = route.kind == Route::Kind::list || (route.kind == Route::Kind::call && only_reads(route.name));
  session::Call call{meta_of(route, request, wanted), std::move(request.body), reads};
  auto answer = co_await session->call(std::move(call));
  if (!answer) co_return call_error(answer.error());
  co_return respond(context, std::move(*answer), wanted, true);
}

}  // namespace myelin::api::nest
