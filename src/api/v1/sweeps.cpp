// Sweeps: one function or one script, many parameters, one job.

#include "api/v1/describe.hpp"
#include "function/sweeps.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

Task<http::Response> start(Context& context, Asked asked) {
  if (!is_json(asked.request)) co_return http::problem(415, "unsupported_media_type", "send JSON, with Content-Type: application/json");
  auto checked = co_await check_body(context, asked.request.body);
  if (!checked) co_return http::problem(checked.error());
  auto record = co_await context.sweeps.start(asked.user, std::move(asked.request.body));
  if (!record) co_return call_problem(record.error());
  auto response = json_reply(202, run::describe(*record, run::Detail::full));
  response.headers.set("Location", "/v1/jobs/" + record->id);
  response.headers.set("Myelin-Run", record->id);
  co_return response;
}

Task<http::Response> show(Context& context, Asked asked) {
  run::Asker asker{asked.user.id, asked.user.is_operator};
  auto record = co_await context.runs.get(std::move(asker), asked.places[0]);
  if (!record) co_return call_problem(record.error());
  json::error_code failed;
  auto options = json::parse(record->options, failed);
  if (failed || !options.is_object() || !options.get_object().contains("sweep")) co_return http::problem(404, "not_found", record->id + " is no sweep");
  auto& o = options.get_object();
  json::object out{{"id", record->id}, {"state", std::string(store::name_of(record->state))}, {"points", o.at("points")}};
  if (auto state = context.sweeps.state(record->id)) {
    out["done"] = state->done;
    out["failed"] = state->failed;
    out["errors"] = std::move(state->errors);
  } else if (record->state == run::State::done) {
    out["done"] = o.at("points");
  }
  out["sweep"] = o.at("sweep");
  co_return json_reply(200, out);
}

Task<http::Response> result(Context& context, Asked asked) {
  Wanted wanted = negotiate(context, asked.request);
  run::Asker asker{asked.user.id, asked.user.is_operator};
  auto record = co_await context.runs.get(std::move(asker), asked.places[0]);
  if (!record) co_return call_problem(record.error());
  if (!context.sweeps.state(record->id)) co_return co_await stored_answer(context, asked.user, asked.places[0], wanted);
  auto answer = co_await context.sweeps.partial(record->id, wanted.bare || wanted.format == codec::Format::cbor);
  if (!answer) co_return call_problem(answer.error());
  co_return respond(context, std::move(*answer), wanted, true);
}

}  // namespace

std::vector<Route> sweep_routes() {
  return {
      {.method = "POST", .pattern = "/v1/sweeps", .handler = start, .needs = "use:function:*", .tag = "sweeps",
       .summary = "Call a function, or run a script on branches of a session, for each point of a grid or a list. The job's result has one array for each value",
       .body = R"({"function":"cells.spikes","parameters":{"n":3},"grid":{"amp":[0.1,0.2]},"title":"FI curve","keep":true})", .status = 202,
       .answer = R"({"id":"r_1","title":"FI curve","kind":"sweep","state":"queued"})"},
      {.method = "GET", .pattern = "/v1/sweeps/{id}", .handler = show, .needs = "view:run:{}", .tag = "sweeps", .summary = "How far it is",
       .answer = R"({"id":"r_1","state":"running","points":20,"done":7,"failed":1,"errors":[{"point":3,"parameters":{"amp":5},"code":"call_failed","detail":"…"}],"sweep":{"function":"cells.spikes"}})"},
      {.method = "GET", .pattern = "/v1/sweeps/{id}/result", .handler = result, .needs = "view:run:{}", .tag = "sweeps", .summary = "What its points gave, also while it runs",
       .answer = R"({"data":{"axes":{"amp":[0.1,0.2]},"points":2,"done":2,"failed":0,"results":{"rate":[3.0,5.0]},"errors":[]},"stdout":""})"},
  };
}

}  // namespace myelin::api::v1
