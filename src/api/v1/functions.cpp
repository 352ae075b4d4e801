// Functions: what there is, and calls.

#include "api/v1/functions.hpp"

#include <charconv>

#include "api/v1/describe.hpp"
#include "function/drafts.hpp"
#include "http/text.hpp"
#include "os/memfd.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;

constexpr milliseconds public_time{10'000};          // of a call without a token
constexpr std::uint64_t public_memory = 512ull << 20;
constexpr std::uint64_t public_bytes = 128ull << 20;  // of answers to such calls that have not left yet;
constexpr std::uint64_t public_small = 64 << 10;      // so small ones always go
constexpr std::chrono::hours job_kept{24};
constexpr std::chrono::minutes export_kept{10};  // of a call whose answer is a file

}  // namespace

json::object describe(const function::Function& f) {
  auto o = function::describe(f.declaration);
  json::object out{{"id", f.id}, {"package", f.package}};
  for (auto& [key, value] : o) out[key] = value;
  out["version"] = f.version;
  out["owner"] = f.owner_name;
  out["visibility"] = function::name_of(f.visibility, f.groups);
  return out;
}

namespace {

json::object problem_of_package(const function::Published& package) {
  json::object o{{"package", package.name}, {"text", package.problem->text}};
  o["file"] = package.problem->file.empty() ? json::value(nullptr) : json::value(package.problem->file);
  o["line"] = package.problem->line ? json::value(package.problem->line) : json::value(nullptr);
  return o;
}

Task<http::Response> list(Context& context, Asked asked) {
  auto catalog = context.functions.catalog();
  co_await catalog->completed();
  co_await function::Catalog::refresh(catalog);
  auto who = asked.who;
  json::array functions, errors;
  for (auto& one : catalog->list(who)) functions.push_back(describe(*one));
  for (auto* package : catalog->broken(who)) errors.push_back(problem_of_package(*package));
  co_return json_reply(200, json::object{{"functions", std::move(functions)}, {"errors", std::move(errors)}});
}

// The function that the path names, in the version that the query may name.
Task<Result<function::FunctionPtr>> find(Context& context, accounts::Identity caller, std::string name, std::string query) {
  auto who = caller;
  auto catalog = context.functions.catalog();
  auto version = http::query_value(query, "version");
  auto dot = name.find('.');
  std::string package = name.substr(0, dot);
  if (!version || dot == std::string::npos) {
    auto found = co_await function::Catalog::find(catalog, std::move(who), std::move(name));
    if (!found || !version || (*found)->version == *version) co_return found;
    package = (*found)->package;
    name = (*found)->id;
    dot = package.size();
    who = caller;
  }
  Error none{Code::not_found, package + " has no version " + version->substr(0, 64), ""};
  auto* published = catalog->package(who, package);
  if (!published) co_return none;
  if (published->version == *version) co_return co_await function::Catalog::find(catalog, std::move(who), std::move(name));
  std::int64_t number = 0;
  auto [end, failed] = std::from_chars(version->data(), version->data() + version->size(), number);
  if (failed != std::errc() || end != version->data() + version->size()) co_return none;
  function::Published current = *published;
  std::string callable = name.substr(dot + 1);
  co_return co_await context.drafts.version(std::move(caller), std::move(current), std::move(callable), number);
}

// Who has not signed in is told to, whether or not there is such a function.
http::Response not_found(const accounts::Identity& who, const Error& error) {
  return who.role == accounts::Role::anonymous && error.code == Code::not_found ? sign_in_first() : call_problem(error);
}

Task<http::Response> show(Context& context, Asked asked) {
  auto found = co_await find(context, asked.who, asked.places[0], asked.request.query);
  if (!found) co_return not_found(asked.who, found.error());
  auto object = describe(**found);
  object["schema"] = function::schema_of((*found)->declaration);
  co_return json_reply(200, object);
}

// What the answer is to be, by the first type in Accept that a function can give.
struct Form {
  std::string picture;                           // or:
  std::optional<run::ExportFormat> file;         // or:
  bool csv = false;                              // or a value
};

Form form_of(const http::Request& request) {
  Form form;
  std::string_view accept = request.headers.get("Accept");
  while (!accept.empty()) {
    auto comma = accept.find(',');
    auto type = http::trim(accept.substr(0, comma));
    type = http::trim(type.substr(0, type.find(';')));
    accept = comma == std::string_view::npos ? std::string_view{} : accept.substr(comma + 1);
    if (http::iequals(type, "application/json") || http::iequals(type, "application/cbor") || type == "*/*") break;
    if (http::iequals(type, "image/png") || http::iequals(type, "image/svg+xml")) form.picture = std::string(type);
    else if (http::iequals(type, "application/x-npz")) form.file = run::ExportFormat::npz;
    else if (http::iequals(type, "application/zip")) form.file = run::ExportFormat::csv;
    else if (http::iequals(type, "text/csv")) form.csv = true;
    else continue;
    break;
  }
  return form;
}

// The bytes of {"bytes": …}.
Result<std::string> picture_of(const session::Answer& answer) {
  for (auto& piece : answer.rope.pieces()) {
    if (piece.kind != codec::PieceKind::array || piece.dtype != codec::Dtype::u8) continue;
    if (piece.where == codec::Where::inline_data) return std::string(answer.rope.inline_data(piece));
    if (piece.bytes > (64u << 20)) return Error{Code::too_large, "the picture has more than 64 MiB", ""};
    std::string bytes(piece.bytes, '\0');
    if (!answer.memfd || !os::read_exactly_at(answer.memfd->get(), bytes.data(), bytes.size(), piece.offset))
      return Error{Code::worker_lost, "the picture is incomplete", ""};
    return bytes;
  }
  // At most 64 values are text.
  auto text = answer.rope.single_text();
  auto value = codec::parse_object(text ? *text : std::string_view("{}"));
  std::string bytes;
  if (value)
    if (auto* list = value->if_contains("bytes"); list && list->is_array())
      for (auto& one : list->get_array())
        if (one.is_int64()) bytes += static_cast<char>(one.get_int64());
  return bytes;
}

// Room for an answer until it has left: who reads slowly without a token must not fill the memory. Null: there is none.
std::shared_ptr<void> hold(const std::shared_ptr<std::uint64_t>& sum, std::uint64_t bytes) {
  if (bytes > public_small && *sum + bytes > public_bytes) return nullptr;
  *sum += bytes;
  return std::shared_ptr<std::uint64_t>(sum.get(), [sum, bytes](std::uint64_t* of) { *of -= bytes; });
}

Task<void> cancel_when_gone(std::shared_ptr<async::Event> gone, std::shared_ptr<function::Handle> handle, milliseconds grace) {
  bool left = co_await gone->wait();
  if (left) handle->cancel(grace);
}

class DownloadSource : public http::BodySource {
 public:
  explicit DownloadSource(std::unique_ptr<run::Source> source) : source_(std::move(source)) {}
  Task<Result<bool>> next(std::string& chunk) override { return source_->next(chunk); }
  [[nodiscard]] std::optional<std::uint64_t> length() const override { return source_->length(); }

 private:
  std::unique_ptr<run::Source> source_;
};

// The result of a run as a file: the export, or the only dataset as CSV.
Task<http::Response> file_answer(Context& context, session::User user, std::string id, Form form) {
  run::Asker asker{user.id, user.is_operator};
  Result<run::Download> made = Error{Code::internal, "", ""};
  if (form.file) {
    made = co_await context.runs.export_as(asker, id, *form.file);
  } else {
    auto record = co_await context.runs.get(asker, id);
    if (!record) co_return call_problem(record.error());
    if (record->state != run::State::done) co_return co_await stored_answer(context, user, id, Wanted{});
    auto names = json::parse(record->datasets);
    if (!names.is_array() || names.get_array().size() != 1)
      co_return http::problem(406, "not_acceptable", "the result has " + std::to_string(names.is_array() ? names.get_array().size() : 0) +
                                                         " datasets: Accept: application/zip gives each of them as a CSV, application/x-npz all as arrays");
    std::string name(names.get_array()[0].at("name").as_string());
    made = co_await context.runs.dataset(asker, id, std::move(name), run::DatasetFormat::csv);
  }
  if (!made) {
    if (made.error().code == Code::call_failed || made.error().code == Code::gone) co_return co_await stored_answer(context, user, id, Wanted{});
    co_return call_problem(made.error());
  }
  auto response = http::reply(200, made->content_type, "");
  response.headers.set("Content-Disposition", "attachment; filename=\"" + made->filename + "\"");
  response.headers.set("Content-Security-Policy", "sandbox");
  response.stream = std::make_unique<DownloadSource>(std::move(made->source));
  co_return response;
}

}  // namespace

Task<http::Response> invoke(Context& context, Asked asked, function::FunctionPtr of) {
  if (!asked.request.body.empty() && !is_json(asked.request)) co_return http::problem(415, "unsupported_media_type", "send JSON, with Content-Type: application/json");
  if (!context.settings.exec && !of->native) co_return http::problem(403, "forbidden", "running scripts is turned off on this server");
  if (!asked.request.body.empty()) {
    auto checked = co_await check_body(context, asked.request.body);
    if (!checked) co_return http::problem(checked.error());
  }
  const std::string* text = &asked.request.body;  // this waits for it
  Result<function::Terms> terms = function::Terms{};
  if (text->size() < 64 * 1024) {
    terms = function::read_terms(*text);
  } else {
    auto read = [text] { return function::read_terms(*text); };
    terms = co_await async::on_pool(context.pool, std::move(read));
  }
  if (!terms) co_return call_problem(terms.error());
  Wanted wanted = negotiate(context, asked.request);
  Form form = form_of(asked.request);
  const bool later = asked.request.headers.lists("Prefer", "respond-async");
  function::Asked call;
  call.user = asked.user;
  call.function = of;
  call.body = std::move(asked.request.body);
  call.given = std::move(terms->given);
  call.exact = terms->exact;
  call.nonfinite = wanted.nonfinite();
  call.timeout = terms->timeout;
  call.seed = terms->seed;
  const bool as_file = form.file || form.csv;
  Gate::Place place;
  if (asked.who.role == accounts::Role::anonymous) {
    if (later || terms->keep || as_file) co_return sign_in_first();  // runs belong to somebody
    auto entered = co_await Gate::enter(&context.public_calls);
    if (!entered) co_return call_problem(Error{Code::too_many, "too many calls without a token at once; try again in a few seconds, or sign in", ""});
    place = std::move(entered);
    call.timeout = call.timeout.count() > 0 ? std::min(call.timeout, public_time) : public_time;
    call.memory_bytes = public_memory;
    call.in_public = true;
  }
  if (!later && !terms->keep && !as_file) {
    call.picture = form.picture;
    auto handle = std::make_shared<function::Handle>();
    if (asked.request.gone) async::spawn(context.loop, cancel_when_gone(asked.request.gone, handle, context.settings.interrupt_grace), "hang-up");
    auto answered = co_await context.functions.call(std::move(call), handle);
    if (asked.request.gone) asked.request.gone->set();
    if (!answered) co_return call_problem(answered.error());
    http::Response response;
    std::shared_ptr<void> held;
    if (asked.who.role == accounts::Role::anonymous) {
      held = hold(context.public_bytes, answered->answer.rope.data_bytes());
      if (!held) co_return call_problem(Error{Code::too_many, "too many large answers without a token are on their way; try again in a few seconds, or sign in", ""});
    }
    if (!form.picture.empty()) {
      auto bytes = picture_of(answered->answer);
      if (!bytes) co_return call_problem(bytes.error());
      response = http::reply(200, form.picture, std::move(*bytes));
      response.headers.set("Content-Security-Policy", "sandbox");
    } else {
      response = respond(context, std::move(answered->answer), wanted, true);
    }
    response.held = std::move(held);
    if (answered->cacheable) response.headers.set("Myelin-Cache", answered->hit ? "hit" : "miss");
    response.headers.set("Myelin-Function", of->id + "@" + of->version);
    co_return response;
  }
  run::NewRun what;
  what.title = terms->title;
  if (!terms->keep) what.kept_for = later ? std::chrono::duration_cast<milliseconds>(job_kept) : std::chrono::duration_cast<milliseconds>(export_kept);
  auto record = co_await context.functions.start(std::move(call), std::move(what));
  if (!record) co_return call_problem(record.error());
  std::string id = record->id;
  if (later) {
    auto response = json_reply(202, run::describe(*record, run::Detail::full));
    response.headers.set("Location", "/v1/jobs/" + id);
    response.headers.set("Preference-Applied", "respond-async");
    response.headers.set("Myelin-Run", id);
    co_return response;
  }
  co_await context.jobs.wait(id);
  http::Response response;
  if (as_file) response = co_await file_answer(context, asked.user, id, form);
  else response = co_await stored_answer(context, asked.user, id, wanted);
  response.headers.set("Myelin-Run", id);
  response.headers.set("Myelin-Function", of->id + "@" + of->version);
  co_return response;
}

namespace {

Task<http::Response> call(Context& context, Asked asked) {
  auto found = co_await find(context, asked.who, asked.places[0], asked.request.query);
  if (!found) co_return not_found(asked.who, found.error());
  co_return co_await invoke(context, std::move(asked), std::move(*found));
}

constexpr std::string_view function_example =
    R"~({"id":"cells.spikes","package":"cells","name":"spikes","title":"Spikes of a cell","description":"…","engine":"neuron","signature":"spikes(amp=0.1)",)~"
    R"~("deterministic":true,"public":false,"typed":true,"variadic":false,"parameters":[{"name":"amp","required":false,"kind":"number","minimum":-1,"maximum":1,)~"
    R"~("default":0.1,"unit":"nA","help":"injected current"}],"results":{"v":{"unit":"mV","dims":["t"],"help":""}},)~"
    R"~("plots":[{"kind":"line","x":"t","y":["v"],"title":""}],"limits":{"seconds":10},"version":"3f0c5a7e91d2","owner":"operator","visibility":"all"})~";

}  // namespace

std::vector<Route> function_routes() {
  return {
      {.method = "GET", .pattern = "/v1/functions", .handler = list, .needs = "public", .tag = "functions", .summary = "Functions that you may call, and packages that are broken",
       .answer = R"({"functions":[{"id":"cells.spikes","title":"Spikes of a cell"}],"errors":[{"package":"other","text":"SyntaxError: invalid syntax","file":"other.py","line":3}]})"},
      {.method = "GET", .pattern = "/v1/functions/{name}", .handler = show, .needs = "public", .tag = "functions",
       .summary = "One of them, with the JSON schema of its parameters. The name is package.function, or the function's alone where it is unique", .query = "version", .answer = function_example},
      {.method = "POST", .pattern = "/v1/functions/{name}", .handler = call, .needs = "public", .tag = "functions",
       .summary = "Call it. Accept: application/cbor, text/csv, application/zip (CSVs), application/x-npz, image/png and image/svg+xml give other forms. "
                  "Prefer: respond-async makes it a job", .query = "version",
       .body = R"({"parameters":{"amp":0.1},"keep":false,"title":"at rest","timeout_s":60,"seed":1})", .answer = R"({"data":{"v":[0.0,0.5,1.0]},"stdout":""})"},
  };
}

}  // namespace myelin::api::v1
