// Sessions: make, list, end; exec and call, interrupt, output.

#include <algorithm>

#include "api/answer.hpp"
#include "api/v1/describe.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

using std::chrono::milliseconds;

constexpr std::size_t most_kept = 1 << 20;     // bytes of a call that is kept with its run
constexpr std::size_t small_body = 64 * 1024;  // what is searched on the loop

constexpr std::string_view session_example =
    R"({"id":"s_1","name":"mine","engine":"nest","user":"anna","state":"idle","queued":0,"memory_bytes":4194304,)"
    R"("created_at":"2026-01-01T12:00:00.000Z","last_used_at":"2026-01-01T12:00:00.000Z","parent":null})";

Task<http::Response> list(Context& context, Asked asked) {
  json::array sessions;
  // One's own; where a token has bounds, what is within them; and what was granted, one by one.
  session::User all{"operator", "operator", true};
  const bool some = asked.who.scopes || asked.who.grants;
  for (auto& status : context.sessions.list(some ? all : asked.user))
    if (!some || accounts::allows(asked.who, "view", "session", status.id, status.owner)) sessions.push_back(describe(status));
  co_return json_reply(200, json::object{{"sessions", std::move(sessions)}});
}

Task<http::Response> create(Context& context, Asked asked) {
  auto body = read_body(asked.request, "engine,name");
  if (!body) co_return http::problem(body.error());
  auto engine = body->get_string("engine");
  if (!engine) co_return http::problem(400, "bad_request", "say which engine: {\"engine\": \"nest\"}");
  std::string name = body->get_string("name").value_or("");
  if (name.empty()) name = context.sessions.free_name(asked.user, *engine);
  else if (auto refused = refuse_name(name)) co_return std::move(*refused);
  auto made = co_await context.sessions.create(asked.user, *engine, std::move(name));
  if (!made) co_return call_problem(made.error());
  auto response = json_reply(201, describe(made->status()));
  response.headers.set("Location", "/v1/sessions/" + made->id());
  co_return response;
}

Task<http::Response> show(Context& context, Asked asked) {
  auto status = co_await context.sessions.status(asked.user, asked.places[0]);
  if (!status) co_return call_problem(status.error());
  co_return json_reply(200, describe(*status));
}

Task<http::Response> end(Context& context, Asked asked) {
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  auto session = *found.session;
  session.end("deleted", "the session was deleted by " + asked.user.name);
  co_await session.ended(milliseconds(5000));
  http::Response response;
  response.status = 204;
  co_return response;
}

// Members of the body that are the server's: whether the call is kept and what it was made from, and how long it may take.
struct Terms {
  bool keep = false;
  std::string title;
  std::chrono::milliseconds timeout{0};
  std::optional<std::string> source, function, arguments;
  std::vector<std::string> inputs;  // ids of runs; of a call that is kept
};

Result<Terms> terms_of(const std::string& text, bool all) {
  Terms terms;
  // Most calls have none of these, and their bodies may be large.
  bool any = all;
  for (const char* key : {"\"keep\"", "\"title\"", "\"timeout_s\""}) any = any || text.find(key) != std::string::npos;
  if (!any) return terms;
  if (text.size() > most_kept) return Error{Code::too_large, "a call that is kept, or has a timeout, has at most 1 MiB", ""};
  auto body = codec::Json::parse(text);
  if (!body) return body.take_error();
  if (body->has("keep")) {
    auto keep = body->get_bool("keep");
    if (!keep) return Error{Code::bad_request, "keep is true or false", ""};
    terms.keep = *keep;
  }
  if (body->has("title")) {
    auto title = body->get_string("title");
    if (!title || title->size() > 200) return Error{Code::bad_request, "title is a text of at most 200 bytes", ""};
    terms.title = *title;
  }
  if (body->has("timeout_s")) {
    auto seconds = body->get_double("timeout_s");
    if (!seconds || !(*seconds > 0) || *seconds > 31536000) return Error{Code::bad_request, "timeout_s is a number of seconds, above 0", ""};
    terms.timeout = std::chrono::milliseconds(std::max<std::int64_t>(1, static_cast<std::int64_t>(*seconds * 1000)));  // 0 is none
  }
  if (auto* inputs = body->object().if_contains("inputs")) {
    const Error wrong{Code::bad_request, "inputs is a list of at most 100 ids of runs", ""};
    if (!inputs->is_array() || inputs->get_array().size() > 100) return wrong;
    for (auto& input : inputs->get_array()) {
      if (!input.is_string()) return wrong;
      terms.inputs.emplace_back(input.get_string());
    }
  }
  terms.source = body->get_string("source");
  terms.function = body->get_string("function");
  json::object arguments;
  for (const char* key : {"args", "kwargs"})
    if (auto* value = body->object().if_contains(key)) arguments[key] = *value;
  terms.arguments = json::serialize(arguments);
  return terms;
}

// A large body is searched, and refused or parsed, on the pool.
Task<Result<Terms>> read_terms(Context& context, const std::string& body, bool all) {
  if (body.size() < small_body) co_return terms_of(body, all);
  const std::string* text = &body;  // the caller waits, and a wait for the pool can't be cancelled
  auto work = [text, all] { return terms_of(*text, all); };
  co_return co_await async::on_pool(context.pool, std::move(work));
}

// A client that asked for it and goes away before the answer takes its call along.
Task<void> cancel_when_gone(std::shared_ptr<async::Event> gone, session::Session session, session::Ticket ticket, milliseconds grace) {
  bool left = co_await gone->wait();
  if (left) session.cancel(ticket, grace);
}

Task<void> cancel_job_when_gone(std::shared_ptr<async::Event> gone, session::Jobs* jobs, session::User user, std::string id, milliseconds grace) {
  bool left = co_await gone->wait();
  if (left) (void)co_await jobs->cancel(std::move(user), std::move(id), grace);
}

Task<http::Response> run(Context& context, Asked asked, const char* method) {
  if (!is_json(asked.request)) co_return http::problem(415, "unsupported_media_type", "send JSON, with Content-Type: application/json");
  auto checked = co_await check_body(context, asked.request.body);
  if (!checked) co_return http::problem(checked.error());
  const bool later = asked.request.headers.lists("Prefer", "respond-async");
  auto terms = co_await read_terms(context, asked.request.body, later);
  if (!terms) co_return call_problem(terms.error());
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  auto session = *found.session;
  Wanted wanted = negotiate(context, asked.request);
  const bool recorded = later || terms->keep;
  // A kept result must be able to answer in any form.
  std::string meta = "{\"method\":\"" + std::string(method) + "\",\"envelope\":\"v1\",\"content_type\":\"application/json\"" + scripts_off(context) + ",\"nonfinite\":\"";
  meta += recorded ? "bare" : wanted.nonfinite();
  meta += recorded ? "\",\"facts\":true}" : "\"}";
  if (!recorded) {
    session::Call call{std::move(meta), std::move(asked.request.body), false, terms->timeout};
    auto ticket = session.enqueue(std::move(call));
    if (!ticket) co_return call_problem(ticket.error());
    if (asked.request.gone) async::spawn(context.loop, cancel_when_gone(asked.request.gone, session, *ticket, context.settings.interrupt_grace), "hang-up");
    auto answer = co_await session.wait(*ticket);
    if (asked.request.gone) asked.request.gone->set();  // ends the watch; the call is over
    if (!answer) co_return call_problem(answer.error());
    co_return respond(context, std::move(*answer), wanted, true);
  }
  for (auto& input : terms->inputs) {
    run::Asker asker{asked.user.id, asked.user.is_operator};
    auto known = co_await context.runs.get(std::move(asker), input);
    if (!known && known.error().code != Code::not_found) co_return call_problem(known.error());
    if (!known || !accounts::allows(asked.who, "view", "run", input, known->owner))
      co_return http::problem(400, "bad_request", "inputs: no run " + input.substr(0, 64));
  }
  run::NewRun what;
  what.inputs = std::move(terms->inputs);
  what.title = terms->title;
  what.kind = std::string_view(method) == "exec" ? run::Kind::exec : run::Kind::call;
  if (what.kind == run::Kind::exec) what.source = terms->source.value_or("");
  else {
    what.function = terms->function.value_or("");
    what.arguments = terms->arguments;
  }
  json::object how{{"call", json::object{{"meta", json::parse(meta)}, {"body", asked.request.body}}}};
  what.options = json::serialize(how);
  if (!terms->keep) what.kept_for = std::chrono::hours(24);
  session::Call call{std::move(meta), std::move(asked.request.body), false, terms->timeout};
  auto record = co_await context.jobs.start(asked.user, session, std::move(call), std::move(what));
  if (!record) co_return call_problem(record.error());
  std::string id = record->id;
  if (later) {
    auto response = json_reply(202, run::describe(*record, run::Detail::full));
    response.headers.set("Location", "/v1/jobs/" + id);
    response.headers.set("Preference-Applied", "respond-async");
    response.headers.set("Myelin-Run", id);
    co_return response;
  }
  if (asked.request.gone) async::spawn(context.loop, cancel_job_when_gone(asked.request.gone, &context.jobs, asked.user, id, context.settings.interrupt_grace), "hang-up");
  co_await context.jobs.wait(id);
  if (asked.request.gone) asked.request.gone->set();
  auto response = co_await stored_answer(context, asked.user, id, wanted);
  response.headers.set("Myelin-Run", id);
  co_return response;
}

Task<http::Response> exec(Context& context, Asked asked) {
  if (!context.settings.exec) co_return http::problem(403, "forbidden", "running scripts is turned off on this server");
  co_return co_await run(context, std::move(asked), "exec");
}

Task<http::Response> call(Context& context, Asked asked) { co_return co_await run(context, std::move(asked), "call"); }

Task<http::Response> interrupt(Context& context, Asked asked) {
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  auto done = found.session->interrupt(context.settings.interrupt_grace);
  if (!done) co_return call_problem(done.error());
  co_return json_reply(202, json::object{{"interrupting", true}});
}

Task<http::Response> output(Context& context, Asked asked) {
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  co_return http::reply(200, "text/plain; charset=utf-8", found.session->output_tail(1 << 20));
}

}  // namespace

std::vector<Route> session_routes() {
  return {
      {.method = "GET", .pattern = "/v1/sessions", .handler = list, .needs = "signed_in", .tag = "sessions", .summary = "Your sessions",
       .answer = R"({"sessions":[{"id":"s_1","name":"mine","engine":"nest","state":"idle"}]})"},
      {.method = "POST", .pattern = "/v1/sessions", .handler = create, .needs = "use:session:*", .tag = "sessions", .summary = "A new session of an engine",
       .body = R"({"engine":"nest","name":"mine"})", .required = "engine", .status = 201, .answer = session_example},
      {.method = "GET", .pattern = "/v1/sessions/{id}", .handler = show, .needs = "view:session:{}", .tag = "sessions",
       .summary = "A session; also one that ended, with its cause, for 7 days", .answer = session_example},
      {.method = "DELETE", .pattern = "/v1/sessions/{id}", .handler = end, .needs = "edit:session:{}", .tag = "sessions", .summary = "End a session", .status = 204},
      {.method = "POST", .pattern = "/v1/sessions/{id}/exec", .handler = exec, .needs = "use:session:{}", .tag = "sessions",
       .summary = "Run Python in the session; globals persist unless fresh. Accept: application/cbor gives typed arrays. "
                  "Prefer: respond-async makes it a job",
       .body = R"({"source":"v = [x * 0.5 for x in range(3)]","return":["v"],"fresh":false,"keep":false,"title":"three numbers","inputs":[]})",
       .required = "source", .answer = R"({"data":{"v":[0.0,0.5,1.0]},"stdout":""})"},
      {.method = "POST", .pattern = "/v1/sessions/{id}/call", .handler = call, .needs = "use:session:{}", .tag = "sessions",
       .summary = "Call a function of the engine, or one that the session defined",
       .body = R"({"function":"Create","args":["iaf_psc_alpha",10],"kwargs":{},"keep":false,"title":"ten neurons","inputs":[]})", .required = "function",
       .answer = R"({"data":[1,2,3],"stdout":""})"},
      {.method = "POST", .pattern = "/v1/sessions/{id}/interrupt", .handler = interrupt, .needs = "use:session:{}", .tag = "sessions",
       .summary = "Interrupt the running call; 409 if none runs", .status = 202, .answer = R"({"interrupting":true})"},
      {.method = "GET", .pattern = "/v1/sessions/{id}/output", .handler = output, .needs = "view:session:{}", .tag = "sessions",
       .summary = "The newest 1 MiB of stdout and stderr", .answer = "text/plain"},
  };
}

}  // namespace myelin::api::v1
