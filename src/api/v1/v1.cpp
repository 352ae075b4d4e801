#include "api/v1/v1.hpp"

#include <boost/json.hpp>

#include "api/answer.hpp"
#include "codec/json_value.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;
using async::Task;

std::string iso_time(std::chrono::system_clock::time_point at) {
  auto seconds = std::chrono::floor<std::chrono::seconds>(at);
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(at - seconds).count();
  std::time_t time = std::chrono::system_clock::to_time_t(seconds);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[48];
  auto length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(ms));
  return text;
}

http::Response json_reply(int status, const json::value& value) {
  std::string body = json::serialize(value);
  body += '\n';
  return http::reply(status, "application/json", std::move(body));
}

json::object describe_status(const session::Status& s) {
  json::object o{{"id", s.id}, {"name", s.name}, {"engine", s.engine}, {"user", s.owner_name.empty() ? s.owner : s.owner_name},
                 {"state", session::name_of(s.state)}, {"queued", s.queued}, {"memory_bytes", s.memory_bytes},
                 {"created_at", iso_time(s.created)}, {"last_used_at", iso_time(s.last_used)}};
  if (s.state == session::State::busy) {
    o["call_s"] = s.call_s;
    json::object progress;
    if (s.progress) {
      if (s.progress->done) progress["done"] = *s.progress->done;
      if (s.progress->time_ms) progress["time_ms"] = *s.progress->time_ms;
      if (s.progress->of_ms) progress["of_ms"] = *s.progress->of_ms;
      progress["interruptible"] = s.progress->interruptible;
      if (!s.progress->interruptible) progress["note"] = "not interruptible, kill only";
    }
    o["progress"] = std::move(progress);
  }
  if (s.cause) o["cause"] = json::object{{"code", s.cause->code}, {"text", s.cause->text}, {"output", s.cause->tail}, {"at", iso_time(s.cause->at)}};
  return o;
}

// A call's error with what the worker said of it.
http::Response call_problem(const Error& error) {
  auto info = describe(error.code);
  json::object o{{"type", "about:blank"}, {"title", std::string(http::reason_phrase(info.http_status))},
                 {"status", info.http_status}, {"code", std::string(info.name)}, {"detail", error.message}};
  if (error.code == Code::gone) {
    o["output"] = error.detail;
  } else if (!error.detail.empty()) {
    json::error_code failed;
    auto detail = json::parse(error.detail, failed);
    if (!failed && detail.is_object())
      for (const char* key : {"class", "text", "line", "stdout", "traceback", "kernel"})
        if (auto* value = detail.get_object().if_contains(key)) o[key] = *value;
  }
  http::Response response = json_reply(info.http_status, o);
  response.headers.set("Content-Type", "application/problem+json");
  if (info.retryable) response.headers.set("Retry-After", error.code == Code::too_many ? "1" : "5");
  return response;
}

http::Response method_not_allowed(const char* allow) {
  auto response = http::problem(405, "method_not_allowed", "this route takes " + std::string(allow));
  response.headers.set("Allow", allow);
  return response;
}

// The ended session as an answer to a call: 410 with its cause.
Task<http::Response> gone_or_unknown(Context& context, session::User user, std::string id) {
  auto status = co_await context.sessions.status(user, id);
  if (!status) co_return call_problem(status.error());
  Error error{Code::gone, status->cause ? status->cause->text : "the session has ended", status->cause ? status->cause->tail : ""};
  co_return call_problem(error);
}

constexpr std::size_t small_body = 64 * 1024;  // what is read on the loop, where 20 MB of numbers take seconds and 400 MB

Task<http::Response> create_session(Context& context, session::User user, http::Request request) {
  if (request.body.size() > small_body)
    co_return http::problem(413, "too_large", "this route takes {\"engine\": \"nest\", \"name\": \"…\"}");
  auto body = codec::Json::parse(request.body.empty() ? "{}" : request.body);
  if (!body) co_return http::problem(body.error());
  for (auto& key : body->keys())
    if (key != "engine" && key != "name")
      co_return http::problem(400, "bad_request", "unknown member '" + key + "'; known: engine, name");
  auto engine = body->get_string("engine");
  if (!engine)
    co_return http::problem(400, "bad_request", "say which engine: {\"engine\": \"nest\"}");
  std::string name = body->get_string("name").value_or("");
  if (name.empty()) name = "session-" + std::to_string(context.sessions.count() + 1) + "-" + std::to_string(
      std::chrono::steady_clock::now().time_since_epoch().count() % 100000);
  auto made = co_await context.sessions.create(user, *engine, name);
  if (!made) co_return call_problem(made.error());
  auto response = json_reply(201, describe_status(made->status()));
  response.headers.set("Location", "/v1/sessions/" + made->id());
  co_return response;
}

Task<http::Response> execute(Context& context, session::User user, std::string id, http::Request request) {
  if (!context.settings.exec) co_return http::problem(403, "forbidden", "running scripts is turned off on this server");
  if (!is_json(request))
    co_return http::problem(415, "unsupported_media_type", "send JSON: {\"source\": \"…\", \"return\": [\"…\"]}");
  auto checked = co_await check_body(context, request.body);
  if (!checked) co_return http::problem(checked.error());
  auto session = context.sessions.find(user, id);
  if (!session) co_return co_await gone_or_unknown(context, user, id);
  Wanted wanted = negotiate(context, request);
  std::string meta = "{\"method\":\"exec\",\"envelope\":\"v1\",\"content_type\":\"application/json\",\"nonfinite\":\"";
  meta += wanted.nonfinite();
  meta += "\"}";
  session::Call call{std::move(meta), std::move(request.body), false};
  auto answer = co_await session->call(std::move(call));
  if (!answer) co_return call_problem(answer.error());
  co_return respond(context, std::move(*answer), wanted, true);
}

Task<http::Response> interrupt(Context& context, session::User user, std::string id) {
  auto session = context.sessions.find(user, id);
  if (!session) co_return co_await gone_or_unknown(context, user, id);
  auto done = session->interrupt(context.settings.interrupt_grace);
  if (!done) co_return call_problem(done.error());
  co_return json_reply(202, json::object{{"interrupting", true}});
}

Task<http::Response> one_session(Context& context, session::User user, std::string id, http::Request request) {
  if (request.method == "DELETE") {
    auto session = context.sessions.find(user, id);
    if (!session) co_return co_await gone_or_unknown(context, user, id);
    session->end("deleted", "the session was deleted by " + user.name);
    http::Response response;
    response.status = 204;
    co_return response;
  }
  if (request.method != "GET" && request.method != "HEAD") co_return method_not_allowed("GET, DELETE");
  auto status = co_await context.sessions.status(user, id);
  if (!status) co_return call_problem(status.error());
  co_return json_reply(200, describe_status(*status));
}

http::Response server_status(const Context& context, const session::User& user) {
  json::object engines;
  for (auto& name : context.sessions.engine_names()) {
    json::object o;
    if (const auto* info = context.sessions.engine_info(name)) {
      o["version"] = info->version;
      o["import_ms"] = info->import_ms;
      json::object versions;
      for (auto& [part, version] : info->versions) versions[part] = version;
      o["versions"] = std::move(versions);
    }
    engines[name] = std::move(o);
  }
  auto uptime = std::chrono::duration<double>(std::chrono::steady_clock::now() - context.started).count();
  return json_reply(200, json::object{{"version", MYELIN_VERSION}, {"user", user.name}, {"operator", user.is_operator},
                                      {"auth", context.settings.auth ? "token" : "none"},
                                      {"isolation", context.settings.isolation}, {"uptime_s", uptime},
                                      {"exec", context.settings.exec}, {"desktop", context.desktop.has_value()},
                                      {"sessions", context.sessions.list(user).size()}, {"engines", std::move(engines)}});
}

}  // namespace

http::Response health(const Context& context) {
  json::object engines;
  for (auto& name : context.sessions.engine_names()) {
    json::object o;
    const auto* info = context.sessions.engine_info(name);
    o["ready"] = info != nullptr;
    if (info) o["version"] = info->version;
    engines[name] = std::move(o);
  }
  return json_reply(200, json::object{{"status", "ok"}, {"version", MYELIN_VERSION},
                                      {"isolation", context.settings.isolation}, {"engines", std::move(engines)}});
}

Task<http::Response> handle(Context& context, http::Request request) {
  session::User user = user_of(request);
  std::string path = request.path;
  if (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path == "/v1/status") {
    if (request.method != "GET" && request.method != "HEAD") co_return method_not_allowed("GET");
    co_return server_status(context, user);
  }
  if (path == "/v1/sessions") {
    if (request.method == "POST") co_return co_await create_session(context, user, std::move(request));
    if (request.method != "GET" && request.method != "HEAD") co_return method_not_allowed("GET, POST");
    json::array list;
    for (auto& status : context.sessions.list(user)) list.push_back(describe_status(status));
    co_return json_reply(200, json::object{{"sessions", std::move(list)}});
  }
  constexpr std::string_view prefix = "/v1/sessions/";
  if (path.size() > prefix.size() && path.compare(0, prefix.size(), prefix) == 0) {
    std::string rest = path.substr(prefix.size());
    auto slash = rest.find('/');
    std::string id = rest.substr(0, slash);
    std::string verb = slash == std::string::npos ? "" : rest.substr(slash + 1);
    if (verb.empty()) co_return co_await one_session(context, user, id, std::move(request));
    if (verb == "exec" || verb == "interrupt") {
      if (request.method != "POST") co_return method_not_allowed("POST");
      if (verb == "exec") co_return co_await execute(context, user, id, std::move(request));
      co_return co_await interrupt(context, user, id);
    }
    if (verb == "output") {
      if (request.method != "GET" && request.method != "HEAD") co_return method_not_allowed("GET");
      auto session = context.sessions.find(user, id);
      if (!session) co_return co_await gone_or_unknown(context, user, id);
      co_return http::reply(200, "text/plain; charset=utf-8", session->output_tail(1 << 20));
    }
  }
  co_return http::problem(404, "not_found", "no such route: " + request.method + " " + request.path);
}

}  // namespace myelin::api::v1
