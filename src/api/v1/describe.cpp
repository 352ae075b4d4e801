#include "api/v1/describe.hpp"

#include "api/answer.hpp"
#include "base/time.hpp"
#include "codec/json_check.hpp"
#include "codec/json_value.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {

namespace json = boost::json;

constexpr std::size_t small_body = 64 * 1024;  // what is read on the loop, where 20 MB of numbers take seconds and 400 MB

http::Response json_reply(int status, const json::value& value) {
  std::string body = codec::json_text(value);
  body += '\n';
  return http::reply(status, "application/json", std::move(body));
}

json::object describe(const session::Progress& p) {
  json::object o;
  if (p.done) o["done"] = *p.done;
  if (p.time_ms) o["time_ms"] = *p.time_ms;
  if (p.of_ms) o["of_ms"] = *p.of_ms;
  o["interruptible"] = p.interruptible;
  if (!p.interruptible) o["note"] = "not interruptible, kill only";
  return o;
}

json::object describe(const session::Status& s) {
  json::object o{{"id", s.id}, {"name", s.name}, {"engine", s.engine}, {"user", s.owner_name.empty() ? s.owner : s.owner_name},
                 {"state", session::name_of(s.state)}, {"queued", s.queued}, {"memory_bytes", s.memory_bytes},
                 {"created_at", iso_time(s.created)}, {"last_used_at", iso_time(s.last_used)},
                 {"parent", s.parent.empty() ? json::value(nullptr) : json::value(s.parent)}};
  if (s.state == session::State::busy) {
    o["call_s"] = s.call_s;
    o["progress"] = s.progress ? describe(*s.progress) : json::object();
  }
  if (s.cause)
    o["cause"] = json::object{{"code", s.cause->code}, {"text", s.cause->text}, {"output", s.cause->tail}, {"at", iso_time(s.cause->at)}};
  return o;
}

json::object describe(const session::CheckpointStatus& c) {
  json::object o{{"id", c.id}, {"name", c.name.empty() ? json::value(nullptr) : json::value(c.name)}, {"session", c.session},
                 {"created_at", iso_time(c.created)}, {"memory_bytes", c.memory_bytes}, {"kind", c.saved ? "arrays" : "copy"}};
  if (c.saved) o["left_out"] = json::parse(c.left_out);
  return o;
}

json::object problem_of(const Error& error) {
  auto info = myelin::describe(error.code);
  json::object o{{"type", "about:blank"}, {"title", std::string(http::reason_phrase(info.http_status))},
                 {"status", info.http_status}, {"code", std::string(info.name)}, {"detail", error.message}};
  if (error.code == Code::gone) {
    o["output"] = error.detail;
  } else if (!error.detail.empty()) {
    json::error_code failed;
    auto detail = json::parse(error.detail, failed);
    if (!failed && detail.is_object())
      for (const char* key : {"class", "text", "file", "line", "stdout", "traceback", "kernel", "errors", "package"})
        if (auto* value = detail.get_object().if_contains(key)) o[key] = *value;
  }
  return o;
}

http::Response call_problem(const Error& error) {
  auto info = myelin::describe(error.code);
  http::Response response = json_reply(info.http_status, problem_of(error));
  response.headers.set("Content-Type", "application/problem+json");
  if (info.retryable) response.headers.set("Retry-After", error.code == Code::too_many ? "1" : "5");
  return response;
}

std::optional<http::Response> refuse_name(std::string_view name) {
  std::size_t characters = 0;
  bool controls = false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto c = static_cast<unsigned char>(name[i]);
    if ((c & 0xc0) != 0x80) ++characters;
    // U+0080 to U+009F are C2 80 to C2 9F.
    controls = controls || c < 0x20 || c == 0x7f || (c == 0xc2 && i + 1 < name.size() && static_cast<unsigned char>(name[i + 1]) < 0xa0);
  }
  if (characters >= 1 && characters <= 64 && !controls) return std::nullopt;
  return http::problem(400, "bad_request", "a name has 1 to 64 characters, and no control characters");
}

Result<codec::Json> read_body(const http::Request& request, std::string_view texts, std::string_view others) {
  if (!request.body.empty() && !is_json(request))
    return Error{Code::bad_request, "send JSON, with Content-Type: application/json", ""};
  if (request.body.size() > small_body) return Error{Code::too_large, "the body is too large for this route", ""};
  auto body = codec::Json::parse(request.body.empty() ? std::string_view("{}") : std::string_view(request.body));
  if (!body) return body;
  auto is_among = [](std::string_view key, std::string_view names) {
    for (std::string_view name = http::next_item(names); !name.empty(); name = http::next_item(names))
      if (name == key) return true;
    return false;
  };
  for (auto& key : body->keys()) {
    if (is_among(key, others)) continue;
    if (!is_among(key, texts)) {
      const std::string known = std::string(texts) + (texts.empty() || others.empty() ? "" : ",") + std::string(others);
      return Error{Code::bad_request, "unknown member '" + key + "'" + (known.empty() ? "; this route takes none" : "; known: " + known), ""};
    }
    if (!body->is_null(key) && !body->get_string(key)) return Error{Code::bad_request, key + " is a text", ""};
  }
  return body;
}

std::string scripts_off(const Context& context) { return context.settings.exec ? "" : ",\"scripts\":false"; }

Task<Found> find_session(Context& context, session::User user, std::string id) {
  Found found;
  found.session = context.sessions.find(user, id);
  if (found.session) co_return found;
  auto status = co_await context.sessions.status(user, id);
  if (!status) {
    found.otherwise = call_problem(status.error());
  } else {
    found.otherwise = call_problem(Error{Code::gone, status->cause ? status->cause->text : "the session has ended",
                                         status->cause ? status->cause->tail : ""});
  }
  co_return found;
}

Task<http::Response> stored_answer(Context& context, session::User user, std::string id, Wanted wanted) {
  run::Asker asker{user.id, user.is_operator};
  auto nonfinite = wanted.bare || wanted.format == codec::Format::cbor ? codec::Nonfinite::bare : codec::Nonfinite::null;
  auto stored = co_await context.runs.result(std::move(asker), id, nonfinite);
  if (stored) co_return respond(context, std::move(stored->rope), std::move(stored->reader), wanted, true);
  const Error& error = stored.error();
  // A run that failed keeps the problem that the call was answered with.
  json::error_code failed;
  auto problem = json::parse(error.detail.empty() ? "null" : error.detail, failed);
  if (failed || !problem.is_object()) co_return call_problem(error);
  int status = 400;
  if (auto* given = problem.get_object().if_contains("status"); given && given->is_int64()) status = static_cast<int>(given->get_int64());
  auto response = json_reply(status, problem);
  response.headers.set("Content-Type", "application/problem+json");
  if (status == 503 || status == 429) response.headers.set("Retry-After", "5");
  co_return response;
}

}  // namespace myelin::api::v1
