// Users' own packages of functions: their files, checks, trials and versions.

#include "api/v1/describe.hpp"
#include "api/v1/functions.hpp"
#include "base/time.hpp"
#include "function/drafts.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

http::Response no_content(int status = 204) {
  http::Response response;
  response.status = status;
  return response;
}

json::object shown(const function::DraftInfo& info) {
  json::array files, versions;
  for (auto& file : info.files)
    files.push_back(json::object{{"path", file.path}, {"bytes", file.bytes}, {"modified_at", iso_time(std::chrono::system_clock::from_time_t(file.modified_s))}});
  json::value published = nullptr;
  for (auto& version : info.versions) {
    json::object o{{"version", version.version}, {"to", version.audience}, {"created_at", iso_time(version.created)},
                   {"withdrawn_at", version.withdrawn ? json::value(iso_time(*version.withdrawn)) : json::value(nullptr)}};
    if (!version.withdrawn) published = json::object{{"version", version.version}, {"to", version.audience}};
    versions.push_back(std::move(o));
  }
  return {{"name", info.name}, {"files", std::move(files)}, {"versions", std::move(versions)}, {"published", std::move(published)}};
}

Task<http::Response> list(Context& context, Asked asked) {
  auto all = co_await context.drafts.list(asked.user);
  if (!all) co_return call_problem(all.error());
  json::array packages;
  for (auto& one : *all) packages.push_back(shown(one));
  co_return json_reply(200, json::object{{"packages", std::move(packages)}});
}

Task<http::Response> show(Context& context, Asked asked) {
  auto info = co_await context.drafts.info(asked.user, asked.places[0]);
  if (!info) co_return call_problem(info.error());
  co_return json_reply(200, shown(*info));
}

Task<http::Response> get_file(Context& context, Asked asked) {
  if (asked.places[1].empty()) co_return co_await show(context, std::move(asked));
  auto bytes = co_await context.drafts.read(asked.user, asked.places[0], asked.places[1]);
  if (!bytes) co_return call_problem(bytes.error());
  auto response = http::reply(200, "text/plain; charset=utf-8", std::move(*bytes));
  response.headers.set("Content-Security-Policy", "sandbox");
  co_return response;
}

Task<http::Response> put_file(Context& context, Asked asked) {
  auto written = co_await context.drafts.write(asked.user, asked.places[0], asked.places[1], std::move(asked.request.body));
  if (!written) co_return call_problem(written.error());
  co_return no_content(201);
}

Task<http::Response> delete_file(Context& context, Asked asked) {
  if (asked.places[1].empty()) co_return http::problem(400, "bad_request", "say which file; DELETE /v1/packages/NAME?files removes them all");
  auto removed = co_await context.drafts.remove(asked.user, asked.places[0], asked.places[1]);
  if (!removed) co_return call_problem(removed.error());
  co_return no_content();
}

Task<http::Response> check(Context& context, Asked asked) {
  if (!context.settings.exec) co_return http::problem(403, "forbidden", "running scripts is turned off on this server");
  auto package = co_await context.drafts.check(asked.user, asked.places[0]);
  if (!package) co_return call_problem(package.error());
  json::array functions, errors;
  for (auto& declaration : package->functions) {
    auto o = function::describe(declaration);
    o["schema"] = function::schema_of(declaration);
    o["line"] = declaration.line;
    functions.push_back(std::move(o));
  }
  if (package->problem)
    errors.push_back(json::object{{"file", package->problem->file.empty() ? json::value(nullptr) : json::value(package->problem->file)},
                                  {"line", package->problem->line ? json::value(package->problem->line) : json::value(nullptr)},
                                  {"text", package->problem->text}});
  co_return json_reply(200, json::object{{"package", package->name}, {"ok", !package->problem}, {"engine", package->engine}, {"hash", package->hash},
                                         {"functions", std::move(functions)}, {"errors", std::move(errors)}});
}

Task<http::Response> try_function(Context& context, Asked asked) {
  if (!context.settings.exec) co_return http::problem(403, "forbidden", "running scripts is turned off on this server");
  auto of = co_await context.drafts.try_function(asked.user, asked.places[0], asked.places[1]);
  if (!of) co_return call_problem(of.error());
  co_return co_await invoke(context, std::move(asked), std::move(*of));
}

Task<http::Response> publish(Context& context, Asked asked) {
  if (!context.settings.exec) co_return http::problem(403, "forbidden", "running scripts is turned off on this server");
  auto body = read_body(asked.request, "to");
  if (!body) co_return call_problem(body.error());
  std::string to = body->get_string("to").value_or("");
  auto done = co_await context.drafts.publish(asked.user, asked.places[0], to);
  if (!done) co_return call_problem(done.error());
  json::array functions;
  for (auto& one : done->functions) functions.push_back(json::string(one->id));
  co_return json_reply(201, json::object{{"package", done->name}, {"version", std::stoll(done->version)}, {"to", to}, {"hash", done->hash}, {"functions", std::move(functions)}});
}

Task<http::Response> restore(Context& context, Asked asked) {
  auto body = read_body(asked.request, "", "version");
  if (!body) co_return call_problem(body.error());
  auto number = body->get_int("version");
  if (!number) co_return http::problem(400, "bad_request", "say which version: {\"version\": 1}");
  auto done = co_await context.drafts.restore(asked.user, asked.places[0], *number);
  if (!done) co_return call_problem(done.error());
  co_return co_await show(context, std::move(asked));
}

Task<http::Response> withdraw(Context& context, Asked asked) {
  const bool files = http::query_value(asked.request.query, "files").has_value();
  auto done = co_await context.drafts.withdraw(asked.user, asked.places[0]);
  if (!done && !(files && done.error().code == Code::not_found)) co_return call_problem(done.error());
  if (files) {
    std::string all;
    auto removed = co_await context.drafts.remove(asked.user, asked.places[0], std::move(all));
    if (!removed) co_return call_problem(removed.error());
  }
  co_return no_content();
}

constexpr std::string_view package_example =
    R"({"name":"cells","files":[{"path":"cells.py","bytes":412,"modified_at":"2026-01-01T12:00:00.000Z"}],)"
    R"("versions":[{"version":1,"to":"all","created_at":"2026-01-01T12:00:00.000Z","withdrawn_at":null}],"published":{"version":1,"to":"all"}})";

}  // namespace

std::vector<Route> package_routes() {
  return {
      {.method = "GET", .pattern = "/v1/packages", .handler = list, .needs = "view:function:*", .tag = "packages", .summary = "Your packages of functions",
       .answer = R"({"packages":[{"name":"cells","published":{"version":1,"to":"all"}}]})"},
      {.method = "GET", .pattern = "/v1/packages/{package}", .handler = show, .needs = "view:function:*", .tag = "packages", .summary = "One of them: its files and versions", .answer = package_example},
      {.method = "DELETE", .pattern = "/v1/packages/{package}", .handler = withdraw, .needs = "edit:function:*", .tag = "packages",
       .summary = "Withdraw all its versions; with ?files its draft goes too", .query = "files", .status = 204},
      {.method = "GET", .pattern = "/v1/packages/{package}/files/{path}", .handler = get_file, .needs = "view:function:*", .tag = "packages", .summary = "A file of the draft", .answer = "text/plain"},
      {.method = "PUT", .pattern = "/v1/packages/{package}/files/{path}", .handler = put_file, .needs = "edit:function:*", .tag = "packages",
       .summary = "Write a file of the draft: NAME.py or __init__.py, further modules, MOD files", .body = "application/octet-stream", .status = 201},
      {.method = "DELETE", .pattern = "/v1/packages/{package}/files/{path}", .handler = delete_file, .needs = "edit:function:*", .tag = "packages", .summary = "Remove a file of the draft", .status = 204},
      {.method = "POST", .pattern = "/v1/packages/{package}/check", .handler = check, .needs = "edit:function:*", .tag = "packages",
       .summary = "Compile the draft's MOD files and read its declarations",
       .answer = R"({"package":"cells","ok":false,"engine":"neuron","hash":"…","functions":[],"errors":[{"file":"na.mod","line":7,"text":"MOD: …"}]})"},
      {.method = "POST", .pattern = "/v1/packages/{package}/try/{callable}", .handler = try_function, .needs = "edit:function:*", .tag = "packages", .summary = "Call a function of the draft",
       .body = R"({"parameters":{"amp":0.1}})", .answer = R"({"data":{"v":[0.0,0.5,1.0]},"stdout":""})"},
      {.method = "POST", .pattern = "/v1/packages/{package}/publish", .handler = publish, .needs = "edit:function:*", .tag = "packages",
       .summary = "Make the draft a version that can be called: for me, group:NAME, all or public", .body = R"({"to":"all"})", .required = "to", .status = 201,
       .answer = R"({"package":"cells","version":2,"to":"all","hash":"…","functions":["cells.spikes"]})"},
      {.method = "POST", .pattern = "/v1/packages/{package}/restore", .handler = restore, .needs = "edit:function:*", .tag = "packages",
       .summary = "Put the files of a version in the place of the draft's, to look at them or to publish them again", .body = R"({"version":1})", .required = "version", .answer = package_example},
  };
}

}  // namespace myelin::api::v1
