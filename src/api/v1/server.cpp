// The server itself: health, status, engines, metrics, the description of the API.

#include "api/v1/describe.hpp"
#include "api/v1/functions.hpp"
#include "api/v1/openapi.hpp"
#include "http/server.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

Task<http::Response> health(Context& context, Asked) {
  json::object engines;
  for (auto& name : context.sessions.engine_names()) {
    const auto* info = context.sessions.engine_info(name);
    json::object o{{"ready", info != nullptr}};
    if (info) o["version"] = info->version;
    engines[name] = std::move(o);
  }
  co_return json_reply(200, json::object{{"status", "ok"}, {"version", MYELIN_VERSION},
                                         {"isolation", context.settings.isolation}, {"engines", std::move(engines)}});
}

json::object versions_of(const worker::EngineInfo& info) {
  json::object versions;
  for (auto& [part, version] : info.versions) versions[part] = version;
  return versions;
}

Task<http::Response> status(Context& context, Asked asked) {
  json::object engines;
  for (auto& name : context.sessions.engine_names()) {
    json::object o;
    if (const auto* info = context.sessions.engine_info(name)) {
      o["version"] = info->version;
      o["import_ms"] = info->import_ms;
      o["versions"] = versions_of(*info);
    }
    engines[name] = std::move(o);
  }
  auto uptime = std::chrono::duration<double>(std::chrono::steady_clock::now() - context.started).count();
  co_return json_reply(200, json::object{{"version", MYELIN_VERSION}, {"user", asked.user.name}, {"operator", asked.user.is_operator},
                                         {"auth", context.settings.auth ? "token" : "none"},
                                         {"isolation", context.settings.isolation}, {"uptime_s", uptime},
                                         {"exec", context.settings.exec}, {"desktop", context.desktop.has_value()},
                                         {"sessions", context.sessions.list(asked.user).size()}, {"engines", std::move(engines)}});
}

Task<http::Response> engines(Context& context, Asked asked) {
  json::array out;
  for (auto& name : context.sessions.engine_names()) {
    const auto* info = context.sessions.engine_info(name);
    auto options = context.sessions.engine_options(name);
    json::array preload;
    for (auto& module : options.preload) preload.push_back(json::string(module));
    json::object o{{"name", name}, {"ready", info != nullptr}, {"version", info ? json::value(info->version) : json::value(nullptr)},
                   {"versions", info ? versions_of(*info) : json::object()},
                   {"import_ms", info ? json::value(info->import_ms) : json::value(nullptr)},
                   {"python", asked.who.scopes ? std::string() : options.python}, {"preload", std::move(preload)}, {"added", options.added}};
    std::string why = info ? info->why_no_branches : "";
    o["branches"] = info ? json::value(why.empty()) : json::value(nullptr);  // not known before it was started once
    o["saves"] = info && info->saves;
    o["why_not"] = why.empty() ? json::value(nullptr) : json::value(why);
    out.push_back(std::move(o));
  }
  co_return json_reply(200, json::object{{"engines", std::move(out)}});
}

// The exposition format of Prometheus, version 0.0.4.
Task<http::Response> metrics(Context& context, Asked asked) {
  std::string out;
  auto metric = [&out](std::string_view name, std::string_view kind, std::string_view help) {
    out += "# HELP myelin_" + std::string(name) + " " + std::string(help) + "\n# TYPE myelin_" + std::string(name) + " " + std::string(kind) + "\n";
  };
  auto value = [&out](std::string_view name, std::string labels, double number) {
    char text[40];
    std::snprintf(text, sizeof text, " %.17g\n", number);
    out += "myelin_" + std::string(name) + (labels.empty() ? "" : "{" + labels + "}") + text;
  };
  metric("uptime_seconds", "gauge", "Seconds since the server started");
  value("uptime_seconds", "", std::chrono::duration<double>(std::chrono::steady_clock::now() - context.started).count());
  std::map<std::pair<std::string, std::string>, std::pair<double, double>> groups;
  double queued = 0;
  for (auto& s : context.sessions.list(asked.user)) {
    auto& group = groups[{s.engine, session::name_of(s.state)}];
    group.first += 1;
    group.second += static_cast<double>(s.memory_bytes);
    queued += static_cast<double>(s.queued);
  }
  metric("sessions", "gauge", "Sessions that the caller may see");
  for (auto& [key, group] : groups) value("sessions", "engine=\"" + key.first + "\",state=\"" + key.second + "\"", group.first);
  metric("session_memory_bytes", "gauge", "Memory of these sessions");
  for (auto& [key, group] : groups) value("session_memory_bytes", "engine=\"" + key.first + "\",state=\"" + key.second + "\"", group.second);
  metric("calls_queued", "gauge", "Calls that wait in the queues of these sessions");
  value("calls_queued", "", queued);
  if (context.http) {
    const auto& m = context.http->metrics();
    const std::pair<const char*, std::pair<const char*, std::uint64_t>> counters[] = {
        {"http_connections_total", {"Connections accepted", m.accepted}},
        {"http_refused_total", {"Connections refused", m.refused}},
        {"http_requests_total", {"Requests", m.requests}},
        {"http_errors_total", {"Requests that the server itself refused as malformed, too large or too slow", m.errors}},
        {"http_timeouts_total", {"Timeouts", m.timeouts}},
        {"http_received_bytes_total", {"Bytes received", m.bytes_in}},
        {"http_sent_bytes_total", {"Bytes sent", m.bytes_out}}};
    for (auto& [name, rest] : counters) {
      metric(name, "counter", rest.first);
      value(name, "", static_cast<double>(rest.second));
    }
    metric("http_open_connections", "gauge", "Connections that are open");
    value("http_open_connections", "", static_cast<double>(m.open));
    metric("http_active_requests", "gauge", "Requests being answered");
    value("http_active_requests", "", static_cast<double>(m.active));
  }
  co_return http::reply(200, "text/plain; version=0.0.4; charset=utf-8", std::move(out));
}

Task<http::Response> description(Context& context, Asked asked) {
  auto functions = context.functions.catalog()->list(asked.who);
  if (functions.empty()) co_return http::reply(200, "application/json", openapi());
  co_return http::reply(200, "application/json", openapi_with(functions));
}

Task<http::Response> docs(Context&, Asked) {
  auto response = http::reply(200, "text/html; charset=utf-8", reference_page());
  response.headers.set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; base-uri 'none'");
  co_return response;
}

}  // namespace

std::vector<Route> server_routes() {
  return {
      {.method = "GET", .pattern = "/v1/health", .handler = health, .needs = "open", .tag = "server", .summary = "Whether the server can work; needs no token",
       .answer = R"({"status":"ok","version":"0.1.0","isolation":"full","engines":{"nest":{"ready":true,"version":"3.10.0"}}})"},
      {.method = "GET", .pattern = "/v1/status", .handler = status, .needs = "signed_in", .tag = "server", .summary = "Who you are and what the server offers",
       .answer = R"({"version":"0.1.0","user":"anna","operator":false,"auth":"token","isolation":"full","uptime_s":12.5,"exec":true,"desktop":true,"sessions":1,"engines":{}})"},
      {.method = "GET", .pattern = "/v1/engines", .handler = engines, .needs = "signed_in", .tag = "server", .summary = "The engines, and whether their sessions can branch",
       .answer = R"({"engines":[{"name":"nest","ready":true,"version":"3.10.0","versions":{"nest":"3.10.0"},"import_ms":1100.0,"python":"/opt/lab/bin/python","preload":[],"added":false,"branches":true,"saves":false,"why_not":null}]})"},
      {.method = "GET", .pattern = "/v1/metrics", .handler = metrics, .needs = "view:server:*", .tag = "server", .summary = "Counters for Prometheus", .answer = "text/plain"},
      {.method = "GET", .pattern = "/v1/openapi.json", .handler = description, .needs = "open", .tag = "server", .summary = "This description; needs no token",
       .answer = R"({"openapi":"3.1.0"})"},
      {.method = "GET", .pattern = "/v1/docs", .handler = docs, .needs = "open", .tag = "server", .summary = "This description as a page; needs no token", .answer = "text/html"},
  };
}

}  // namespace myelin::api::v1
