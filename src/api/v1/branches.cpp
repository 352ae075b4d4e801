// Branches and checkpoints of a session.

#include "api/v1/describe.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

constexpr std::int64_t most_branches = 64;  // in one request

json::array describe_all(const std::vector<session::CheckpointStatus>& all) {
  json::array out;
  for (auto& one : all) out.push_back(describe(one));
  return out;
}

Task<http::Response> branch(Context& context, Asked asked) {
  auto body = read_body(asked.request, "", "count,names");
  if (!body) co_return http::problem(body.error());
  std::vector<std::string> names;
  if (body->has("names")) {
    auto given = body->get_strings("names");
    if (!given) co_return http::problem(400, "bad_request", "names is an array of texts");
    names = *given;
    for (const auto& name : names)
      if (!name.empty())
        if (auto refused = refuse_name(name)) co_return std::move(*refused);
  }
  if (body->has("count") && !body->get_int("count")) co_return http::problem(400, "bad_request", "count is a whole number");
  auto count = body->get_int("count").value_or(names.empty() ? 1 : static_cast<std::int64_t>(names.size()));
  if (count < 1 || count > most_branches)
    co_return http::problem(400, "bad_request", "count is from 1 to " + std::to_string(most_branches));
  if (!names.empty() && names.size() != static_cast<std::size_t>(count))
    co_return http::problem(400, "bad_request", "give as many names as branches, or none");
  names.resize(static_cast<std::size_t>(count));
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  auto made = co_await context.sessions.branch(*found.session, std::move(names));
  if (!made) co_return call_problem(made.error());
  json::array sessions;
  for (auto& session : *made) sessions.push_back(describe(session.status()));
  co_return json_reply(201, json::object{{"sessions", std::move(sessions)}, {"evicted", json::array()}});
}

Task<http::Response> list(Context& context, Asked asked) {
  if (auto left = context.sessions.left_checkpoints(asked.user, asked.places[0]))
    co_return json_reply(200, json::object{{"checkpoints", describe_all(*left)}});
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  co_return json_reply(200, json::object{{"checkpoints", describe_all(found.session->checkpoints())}});
}

Task<http::Response> create(Context& context, Asked asked) {
  auto body = read_body(asked.request, "name");
  if (!body) co_return http::problem(body.error());
  std::string name = body->get_string("name").value_or("");
  if (!name.empty())
    if (auto refused = refuse_name(name)) co_return std::move(*refused);
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  auto made = co_await context.sessions.checkpoint(*found.session, std::move(name));
  if (!made) co_return call_problem(made.error());
  auto answer = describe(made->checkpoint);
  answer["evicted"] = describe_all(made->evicted);
  auto response = json_reply(201, answer);
  response.headers.set("Location", "/v1/sessions/" + asked.places[0] + "/checkpoints/" + made->checkpoint.id);
  co_return response;
}

Task<http::Response> remove(Context& context, Asked asked) {
  Result<void> removed;
  if (context.sessions.left_checkpoints(asked.user, asked.places[0])) {
    removed = context.sessions.remove_left_checkpoint(asked.user, asked.places[0], asked.places[1]);
  } else {
    auto found = co_await find_session(context, asked.user, asked.places[0]);
    if (!found.session) co_return std::move(found.otherwise);
    removed = found.session->remove_checkpoint(asked.places[1]);
  }
  if (!removed) co_return call_problem(removed.error());
  http::Response response;
  response.status = 204;
  co_return response;
}

Task<http::Response> rewind(Context& context, Asked asked) {
  auto body = read_body(asked.request, "checkpoint");
  if (!body) co_return http::problem(body.error());
  auto checkpoint = body->get_string("checkpoint");
  if (!checkpoint) co_return http::problem(400, "bad_request", "say which: {\"checkpoint\": \"c_…\"}");
  std::string id = *checkpoint;
  if (context.sessions.left_checkpoints(asked.user, asked.places[0])) {
    std::string session = asked.places[0];
    auto revived = co_await context.sessions.revive(asked.user, std::move(session), std::move(id));
    if (!revived) co_return call_problem(revived.error());
    auto response = json_reply(201, describe(revived->status()));
    response.headers.set("Location", "/v1/sessions/" + revived->id());
    co_return response;
  }
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  auto done = co_await found.session->rewind(std::move(id));
  if (!done) co_return call_problem(done.error());
  co_return json_reply(200, describe(found.session->status()));
}

constexpr std::string_view checkpoint_example =
    R"({"id":"c_1","name":"settled","session":"s_1","created_at":"2026-01-01T12:00:00.000Z","memory_bytes":6291456,"kind":"copy","evicted":[]})";

}  // namespace

std::vector<Route> branch_routes() {
  return {
      {.method = "POST", .pattern = "/v1/sessions/{id}/branch", .handler = branch, .needs = "use:session:{}", .tag = "branches",
       .summary = "New sessions that go on from the exact state of this one, of a running simulation too",
       .body = R"({"count":2,"names":["a","b"]})", .status = 201,
       .answer = R"({"sessions":[{"id":"s_2","name":"a","engine":"nest","parent":"s_1"}],"evicted":[]})"},
      {.method = "GET", .pattern = "/v1/sessions/{id}/checkpoints", .handler = list, .needs = "view:session:{}", .tag = "branches", .summary = "The session's checkpoints",
       .answer = R"({"checkpoints":[{"id":"c_1","name":"settled","session":"s_1","memory_bytes":6291456}]})"},
      {.method = "POST", .pattern = "/v1/sessions/{id}/checkpoints", .handler = create, .needs = "use:session:{}", .tag = "branches",
       .summary = "Keep the present state to come back to; the oldest unnamed ones give way when memory is short",
       .body = R"({"name":"settled"})", .status = 201, .answer = checkpoint_example},
      {.method = "DELETE", .pattern = "/v1/sessions/{id}/checkpoints/{checkpoint}", .handler = remove, .needs = "edit:session:{}", .tag = "branches",
       .summary = "Forget a checkpoint", .status = 204},
      {.method = "POST", .pattern = "/v1/sessions/{id}/rewind", .handler = rewind, .needs = "use:session:{}", .tag = "branches",
       .summary = "Go back to a checkpoint: same id and address, the checkpoint's state; of a session that died, a new one (201)", .body = R"({"checkpoint":"c_1"})",
       .required = "checkpoint", .answer = R"({"id":"s_1","name":"mine","engine":"nest","state":"idle"})"},
  };
}

}  // namespace myelin::api::v1
