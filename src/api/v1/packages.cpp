// Users' own packages of functions: their files, checks, trials and versions.

#include "api/v1/accounts.hpp"
#include "api/v1/functions.hpp"
#include "base/time.hpp"
#include "function/drafts.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {
namespace {

http::Response no_content(int status = 204) {
  http::Response response;
  response.status = status;
  return response;
}

// Of ids or names, deleted users' too; none of those that nobody has.
Task<Result<std::vector<session::User>>> users_named(Context& context, std::vector<std::string> names) {
  auto find = [names](accounts::Book& book) -> Result<std::vector<session::User>> {
    std::vector<session::User> found;
    for (const auto& name : names) {
      auto known = book.records().known_by(name);
      if (!known) return known.take_error();
      if (*known) found.push_back({(*known)->first, (*known)->second});
      else if (name == "operator" || name == "local") found.push_back({name, name});  // the server's own token, and everybody without accounts
    }
    return found;
  };
  co_return co_await context.accounts->with_book(std::move(find));
}

Task<Result<session::User>> user_named(Context& context, std::string name) {
  std::vector<std::string> one{std::move(name)};
  auto found = co_await users_named(context, std::move(one));
  if (!found) co_return found.take_error();
  if (found->empty()) co_return Error{Code::not_found, "there is no such user", ""};
  co_return std::move(found->front());
}

// With ?owner= an admin does it with another's package, as its owner would.
Task<Result<void>> take_owner(Context& context, Asked* asked) {
  auto name = http::query_value(asked->request.query, "owner");
  if (!name) co_return Result<void>{};
  if (!asked->who.is_operator) co_return Error{Code::forbidden, "only an admin reaches packages of others", ""};
  if (!context.accounts) co_return Error{Code::not_found, "this server has no accounts", ""};
  auto owner = co_await user_named(context, std::move(*name));
  if (!owner) co_return owner.take_error();
  asked->user = std::move(*owner);
  co_return Result<void>{};
}

json::object shown(const session::User& owner, const function::DraftInfo& info) {
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
  return {{"name", info.name}, {"owner", owner.name}, {"owner_id", owner.id}, {"files", std::move(files)}, {"versions", std::move(versions)}, {"published", std::move(published)}};
}

Task<http::Response> list(Context& context, Asked asked) {
  std::vector<session::User> owners;
  if (asked.who.is_operator && context.accounts && http::query_value(asked.request.query, "owner") == "*") {
    auto ids = co_await context.drafts.owners();
    if (!ids) co_return call_problem(ids.error());
    std::vector<std::string> all(ids->begin(), ids->end());
    auto known = co_await users_named(context, std::move(all));
    if (!known) co_return call_problem(known.error());
    owners = std::move(*known);
  } else {
    auto taken = co_await take_owner(context, &asked);
    if (!taken) co_return call_problem(taken.error());
    owners.push_back(asked.user);
  }
  json::array packages;
  for (auto& owner : owners) {
    auto all = co_await context.drafts.list(owner);
    if (!all) co_return call_problem(all.error());
    for (auto& one : *all) packages.push_back(shown(owner, one));
  }
  co_return json_reply(200, json::object{{"packages", std::move(packages)}});
}

Task<http::Response> show(Context& context, Asked asked) {
  auto taken = co_await take_owner(context, &asked);
  if (!taken) co_return call_problem(taken.error());
  auto info = co_await context.drafts.info(asked.user, asked.places[0]);
  if (!info) co_return call_problem(info.error());
  co_return json_reply(200, shown(asked.user, *info));
}

Task<http::Response> get_file(Context& context, Asked asked) {
  if (asked.places[1].empty()) co_return co_await show(context, std::move(asked));
  auto taken = co_await take_owner(context, &asked);
  if (!taken) co_return call_problem(taken.error());
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
  auto taken = co_await take_owner(context, &asked);
  if (!taken) co_return call_problem(taken.error());
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

Task<http::Response> pass_on(Context& context, Asked asked) {
  auto body = read_body(asked.request, "owner");
  if (!body) co_return call_problem(body.error());
  auto name = body->get_string("owner");
  if (!name) co_return http::problem(400, "bad_request", "say whose it is to be: {\"owner\": \"anna\"}");
  if (!asked.who.is_operator) co_return http::problem(403, "forbidden", "only an admin passes a package on");
  if (auto refused = no_accounts(context)) co_return std::move(*refused);
  auto taken = co_await take_owner(context, &asked);
  if (!taken) co_return call_problem(taken.error());
  auto heir = co_await user_named(context, std::move(*name));
  if (!heir) co_return call_problem(heir.error());
  if (!context.accounts->who().user(heir->id)) co_return http::problem(404, "not_found", "there is no such user");
  auto passed = co_await context.drafts.pass_on(asked.user, *heir, asked.places[0]);
  if (!passed) co_return call_problem(passed.error());
  co_return no_content();
}

constexpr std::string_view package_example =
    R"({"name":"cells","owner":"anna","owner_id":"u_0123","files":[{"path":"cells.py","bytes":412,"modified_at":"2026-01-01T12:00:00.000Z"}],)"
    R"("versions":[{"version":1,"to":"all","created_at":"2026-01-01T12:00:00.000Z","withdrawn_at":null}],"published":{"version":1,"to":"all"}})";

}  // namespace

std::vector<Route> package_routes() {
  return {
      {.method = "GET", .pattern = "/v1/packages", .handler = list, .needs = "view:function:*", .tag = "packages", .summary = "Your packages of functions; with ?owner= another's, with ?owner=* all (for admins)",
       .query = "owner", .answer = R"({"packages":[{"name":"cells","published":{"version":1,"to":"all"}}]})"},
      {.method = "GET", .pattern = "/v1/packages/{package}", .handler = show, .needs = "view:function:*", .tag = "packages", .summary = "One of them: its files and versions", .query = "owner", .answer = package_example},
      {.method = "DELETE", .pattern = "/v1/packages/{package}", .handler = withdraw, .needs = "edit:function:*", .tag = "packages",
       .summary = "Withdraw all its versions; with ?files its draft goes too; with ?owner= another's (for admins)", .query = "files,owner", .status = 204},
      {.method = "PATCH", .pattern = "/v1/packages/{package}", .handler = pass_on, .needs = "edit:function:*", .tag = "packages",
       .summary = "Pass it on, draft and versions, to the user `owner` (for admins)", .query = "owner", .body = R"({"owner":"ben"})", .required = "owner", .status = 204},
      {.method = "GET", .pattern = "/v1/packages/{package}/files/{path}", .handler = get_file, .needs = "view:function:*", .tag = "packages", .summary = "A file of the draft", .query = "owner", .answer = "text/plain"},
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
