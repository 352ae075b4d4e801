// Runs, which are kept, and jobs: the runs that are not over, or expire.

#include <boost/json.hpp>
#include <charconv>

#include "api/v1/describe.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

constexpr std::chrono::hours job_kept{24};

run::Asker asker_of(const session::User& user) { return {user.id, user.is_operator}; }

std::optional<run::Time> read_time(std::string_view text) {
  std::tm parts{};
  int year = 0, month = 0, day = 0, hour = 0, minute = 0;
  double second = 0;
  std::string copy(text);
  int got = std::sscanf(copy.c_str(), "%4d-%2d-%2dT%2d:%2d:%lf", &year, &month, &day, &hour, &minute, &second);
  if (got != 3 && got < 5) return std::nullopt;
  if (got >= 5 && copy.back() != 'Z') return std::nullopt;
  if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second >= 61) return std::nullopt;
  parts.tm_year = year - 1900;
  parts.tm_mon = month - 1;
  parts.tm_mday = day;
  parts.tm_hour = hour;
  parts.tm_min = minute;
  auto seconds = ::timegm(&parts);
  return run::Time(std::chrono::milliseconds(seconds * 1000 + static_cast<std::int64_t>(second * 1000)));
}

class DownloadSource : public http::BodySource {
 public:
  explicit DownloadSource(std::unique_ptr<run::Source> source) : source_(std::move(source)) {}
  Task<Result<bool>> next(std::string& chunk) override { return source_->next(chunk); }
  [[nodiscard]] std::optional<std::uint64_t> length() const override { return source_->length(); }

 private:
  std::unique_ptr<run::Source> source_;
};

http::Response download(run::Download what) {
  auto response = http::reply(200, what.content_type, "");
  response.headers.set("Content-Disposition", "attachment; filename=\"" + what.filename + "\"");
  response.headers.set("Content-Security-Policy", "sandbox");
  response.stream = std::make_unique<DownloadSource>(std::move(what.source));
  return response;
}

http::Response no_content() {
  http::Response response;
  response.status = 204;
  return response;
}

// The record, with what only the running session knows, and a rerun's comparison.
Task<json::object> shown(Context& context, session::User user, run::Record record) {
  auto object = run::describe(record, run::Detail::full);
  if (!record.ended_by_now()) {
    if (auto progress = context.jobs.progress(record.id)) object["progress"] = describe(*progress);
    object["stdout"] = context.jobs.output(record.id);
    const bool of_session = record.kind == run::Kind::exec || record.kind == run::Kind::call || record.kind == run::Kind::rerun;
    if (of_session && !record.session.empty()) object["stream"] = "/v1/sessions/" + record.session + "/stream";
  }
  if (record.kind == run::Kind::rerun && record.state == run::State::done && !record.inputs.empty()) {
    auto asker = asker_of(user);
    auto compared = co_await context.runs.compare(std::move(asker), record.inputs[0], record.id);
    if (compared) object["comparison"] = std::move(*compared);
    else object["comparison"] = json::object{{"error", compared.error().message}};
  }
  co_return object;
}

Task<http::Response> list(Context& context, Asked asked, bool jobs) {
  run::Filter filter;
  filter.jobs = jobs;
  filter.all_users = asked.user.is_operator;
  const std::string& query = asked.request.query;
  filter.engine = http::query_value(query, "engine");
  filter.session = http::query_value(query, "session");
  filter.title = http::query_value(query, "title");
  filter.after = http::query_value(query, "after");
  if (auto state = http::query_value(query, "state")) {
    filter.state = store::run_state_of(*state);
    if (!filter.state) co_return http::problem(400, "bad_request", "state is queued, running, done, failed, cancelled or lost");
  }
  for (auto [name, place] : {std::pair{"since", &filter.since}, std::pair{"until", &filter.until}})
    if (auto text = http::query_value(query, name)) {
      *place = read_time(*text);
      if (!*place) co_return http::problem(400, "bad_request", std::string(name) + " is a time like 2026-01-31 or 2026-01-31T12:00:00Z");
    }
  if (auto limit = http::query_value(query, "limit")) {
    auto [end, failed] = std::from_chars(limit->data(), limit->data() + limit->size(), filter.limit);
    if (failed != std::errc() || end != limit->data() + limit->size()) co_return http::problem(400, "bad_request", "limit is a whole number");
  }
  auto asker = asker_of(asked.user);
  auto page = co_await context.runs.list(std::move(asker), std::move(filter));
  if (!page) co_return call_problem(page.error());
  json::array runs;
  for (auto& record : page->runs) {
    auto object = run::describe(record, run::Detail::brief);
    if (auto progress = context.jobs.progress(record.id); progress && progress->done) object["progress"] = json::object{{"done", *progress->done}};
    runs.push_back(std::move(object));
  }
  co_return json_reply(200, json::object{{jobs ? "jobs" : "runs", std::move(runs)}, {"next", page->next ? json::value(*page->next) : json::value(nullptr)}});
}

Task<http::Response> list_runs(Context& context, Asked asked) { return list(context, std::move(asked), false); }
Task<http::Response> list_jobs(Context& context, Asked asked) { return list(context, std::move(asked), true); }

Task<http::Response> show(Context& context, Asked asked) {
  auto asker = asker_of(asked.user);
  auto record = co_await context.runs.get(std::move(asker), asked.places[0]);
  if (!record) co_return call_problem(record.error());
  auto object = co_await shown(context, asked.user, std::move(*record));
  co_return json_reply(200, object);
}

Task<http::Response> change(Context& context, Asked asked) {
  auto body = read_body(asked.request, "title,expires_at");
  if (!body) co_return call_problem(body.error());
  run::Change change;
  if (body->has("title")) {
    change.title = body->get_string("title");
    if (!change.title) co_return http::problem(400, "bad_request", "title is a text");
  }
  if (body->has("expires_at")) {
    if (body->is_null("expires_at")) {
      change.expires_at = std::optional<run::Time>();
    } else {
      auto text = body->get_string("expires_at");
      auto time = text ? read_time(*text) : std::nullopt;
      if (!time) co_return http::problem(400, "bad_request", "expires_at is a time like 2026-01-31T12:00:00Z, or null for never");
      change.expires_at = time;
    }
  }
  auto asker = asker_of(asked.user);
  auto record = co_await context.runs.update(std::move(asker), asked.places[0], std::move(change));
  if (!record) co_return call_problem(record.error());
  co_return json_reply(200, run::describe(*record, run::Detail::full));
}

Task<http::Response> remove(Context& context, Asked asked) {
  auto asker = asker_of(asked.user);
  auto removed = co_await context.runs.remove(std::move(asker), asked.places[0]);
  if (!removed) co_return call_problem(removed.error());
  co_return no_content();
}

Task<http::Response> result(Context& context, Asked asked) {
  co_return co_await stored_answer(context, asked.user, asked.places[0], negotiate(context, asked.request));
}

Task<http::Response> dataset(Context& context, Asked asked) {
  auto format = run::dataset_format_of(http::query_value(asked.request.query, "format").value_or("json"));
  if (!format) co_return http::problem(400, "bad_request", "format is json, csv, cbor or npy");
  auto asker = asker_of(asked.user);
  auto made = co_await context.runs.dataset(std::move(asker), asked.places[0], asked.places[1], *format);
  if (!made) co_return call_problem(made.error());
  co_return download(std::move(*made));
}

Task<http::Response> export_run(Context& context, Asked asked) {
  auto format = run::export_format_of(http::query_value(asked.request.query, "format").value_or("rocrate"));
  if (!format) co_return http::problem(400, "bad_request", "format is npz, csv, cbor or rocrate");
  auto asker = asker_of(asked.user);
  auto made = co_await context.runs.export_as(std::move(asker), asked.places[0], *format);
  if (!made) co_return call_problem(made.error());
  co_return download(std::move(*made));
}

Task<http::Response> compare(Context& context, Asked asked) {
  auto a = http::query_value(asked.request.query, "a"), b = http::query_value(asked.request.query, "b");
  if (!a || !b) co_return http::problem(400, "bad_request", "say which: ?a=r_…&b=r_…");
  auto asker = asker_of(asked.user);
  auto compared = co_await context.runs.compare(std::move(asker), *a, *b);
  if (!compared) co_return call_problem(compared.error());
  co_return json_reply(200, *compared);
}

Task<http::Response> rerun(Context& context, Asked asked) {
  if (!context.settings.exec) co_return http::problem(403, "forbidden", "running scripts is turned off on this server");
  auto body = read_body(asked.request, "", "keep");
  if (!body) co_return call_problem(body.error());
  bool keep = body->get_bool("keep").value_or(false);
  auto record = co_await context.jobs.rerun(asked.user, asked.places[0], keep ? std::chrono::hours(0) : job_kept);
  if (!record) co_return call_problem(record.error());
  auto response = json_reply(202, run::describe(*record, run::Detail::full));
  response.headers.set("Location", "/v1/jobs/" + record->id);
  co_return response;
}

Task<http::Response> cancel(Context& context, Asked asked) {
  auto done = co_await context.jobs.cancel(asked.user, asked.places[0], context.settings.interrupt_grace);
  if (!done) co_return call_problem(done.error());
  co_return json_reply(202, json::object{{"cancelling", true}});
}

Task<http::Response> forget(Context& context, Asked asked) {
  std::string id = asked.places[0];
  auto done = co_await context.jobs.cancel(asked.user, id, context.settings.interrupt_grace);
  if (!done && done.error().code != Code::conflict) co_return call_problem(done.error());
  if (done) co_await context.jobs.wait(id);
  co_return co_await remove(context, std::move(asked));
}

constexpr std::string_view run_example =
    R"({"id":"r_1","title":"three numbers","user":"anna","session":"s_1","engine":"python","kind":"exec","state":"done","source":"v = [0.0, 0.5, 1.0]","history":0,)"
    R"("parent_session":null,"inputs":[],"versions":{"python":"3.11.2"},"machine":{"cpu":"…"},"seeds":{},"created_at":"2026-01-01T12:00:00.000Z",)"
    R"("started_at":"2026-01-01T12:00:00.000Z","ended_at":"2026-01-01T12:00:00.100Z","expires_at":null,"stdout":"","bytes":512,)"
    R"("datasets":[{"name":"v","dtype":"float64","shape":[3],"dims":["dim_0"],"unit":null,"bytes":24,"sha256":"…"}]})";

}  // namespace

std::vector<Route> job_routes() {
  return {
      {.method = "GET", .pattern = "/v1/jobs", .handler = list_jobs, .needs = "view:run:*", .tag = "jobs", .summary = "Jobs that are not over, and those whose result expires",
       .query = "state,session,limit,after", .answer = R"({"jobs":[{"id":"r_1","state":"running","progress":{"done":0.4}}],"next":null})"},
      {.method = "GET", .pattern = "/v1/jobs/{id}", .handler = show, .needs = "view:run:{}", .tag = "jobs", .summary = "A job, with progress and its output so far", .answer = run_example},
      {.method = "GET", .pattern = "/v1/jobs/{id}/result", .handler = result, .needs = "view:run:{}", .tag = "jobs", .summary = "What the call answered; 409 while it runs",
       .answer = R"({"data":{"v":[0.0,0.5,1.0]},"stdout":""})"},
      {.method = "POST", .pattern = "/v1/jobs/{id}/cancel", .handler = cancel, .needs = "use:run:{}", .tag = "jobs", .summary = "Ask it to stop", .status = 202, .answer = R"({"cancelling":true})"},
      {.method = "DELETE", .pattern = "/v1/jobs/{id}", .handler = forget, .needs = "edit:run:{}", .tag = "jobs", .summary = "Stop and forget it", .status = 204},
  };
}

std::vector<Route> run_routes() {
  return {
      {.method = "GET", .pattern = "/v1/runs", .handler = list_runs, .needs = "view:run:*", .tag = "runs", .summary = "What is kept, newest first",
       .query = "engine,state,session,title,since,until,limit,after", .answer = R"({"runs":[{"id":"r_1","title":"three numbers","state":"done"}],"next":null})"},
      {.method = "GET", .pattern = "/v1/runs/compare", .handler = compare, .needs = "view:run:*", .tag = "runs", .summary = "Two runs, dataset by dataset and bit by bit", .query = "a,b",
       .answer = R"({"identical":true,"datasets":[{"name":"v","identical":true}],"differs":[]})"},
      {.method = "GET", .pattern = "/v1/runs/{id}", .handler = show, .needs = "view:run:{}", .tag = "runs", .summary = "A run: code, versions, seeds, state, datasets", .answer = run_example},
      {.method = "PATCH", .pattern = "/v1/runs/{id}", .handler = change, .needs = "edit:run:{}", .tag = "runs", .summary = "Its title, and when it expires (null: never)",
       .body = R"({"title":"settled network","expires_at":"2027-01-01T00:00:00Z"})", .answer = run_example},
      {.method = "DELETE", .pattern = "/v1/runs/{id}", .handler = remove, .needs = "edit:run:{}", .tag = "runs", .summary = "Delete it with its data", .status = 204},
      {.method = "GET", .pattern = "/v1/runs/{id}/result", .handler = result, .needs = "view:run:{}", .tag = "runs", .summary = "What the call answered, as JSON or CBOR",
       .answer = R"({"data":{"v":[0.0,0.5,1.0]},"stdout":""})"},
      {.method = "GET", .pattern = "/v1/runs/{id}/datasets/{name}", .handler = dataset, .needs = "view:run:{}", .tag = "runs", .summary = "One dataset: json, csv, cbor or npy",
       .query = "format", .answer = "application/octet-stream"},
      {.method = "GET", .pattern = "/v1/runs/{id}/export", .handler = export_run, .needs = "view:run:{}", .tag = "runs", .summary = "All of it: npz, csv (a zip), cbor, or an RO-Crate",
       .query = "format", .answer = "application/zip"},
      {.method = "POST", .pattern = "/v1/runs/{id}/rerun", .handler = rerun, .needs = "use:run:{}", .tag = "runs",
       .summary = "Do it again in a session of its own; the job tells whether the data are the same to the bit", .body = R"({"keep":false})", .status = 202, .answer = run_example},
  };
}

}  // namespace myelin::api::v1
