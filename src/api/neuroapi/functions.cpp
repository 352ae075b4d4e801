#include "api/neuroapi/functions.hpp"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <span>

#include "api/answer.hpp"
#include "api/neuroapi/python_json.hpp"
#include "cell/analysis.hpp"
#include "cell/picture.hpp"
#include "cell/simulate.hpp"
#include "function/functions.hpp"
#include "function/run_cell.hpp"

namespace myelin::api::neuroapi {
namespace {

using async::Task;

constexpr std::size_t depth = 512;  // what was read before can be read again
constexpr std::chrono::seconds public_time{10}, member_time{60};

Error refused(std::string message) { return {Code::bad_request, std::move(message), ""}; }

// As Python calls f(**arguments): a name that f has not comes before one that it misses.
std::optional<Error> arguments_fit(std::string_view function, std::span<const std::string_view> names, const Value::Object& arguments) {
  const std::string call = std::string(function) + "()";
  for (const auto& [name, value] : arguments)
    if (std::find(names.begin(), names.end(), name) == names.end()) return refused(call + " got an unexpected keyword argument '" + name + "'");
  std::vector<std::string_view> missing;
  for (auto name : names)
    if (std::none_of(arguments.begin(), arguments.end(), [name](const auto& given) { return given.first == name; })) missing.push_back(name);
  if (missing.empty()) return std::nullopt;
  std::string text = call + " missing " + std::to_string(missing.size()) + " required positional argument" + (missing.size() == 1 ? ": " : "s: ");
  for (std::size_t i = 0; i < missing.size(); ++i) {
    if (i > 0) text += missing.size() == 2 ? " and " : i + 1 == missing.size() ? ", and " : ", ";
    text += "'" + std::string(missing[i]) + "'";
  }
  return refused(std::move(text));
}

Result<std::string> return_params(const Value::Object& arguments) {
  constexpr std::array<std::string_view, 1> names = {"params"};
  if (auto error = arguments_fit("return_params", names, arguments)) return std::move(*error);
  return write_json(arguments.front().second, Layout::restful_compact);
}

// What the original says of an argument that is no number: its own words where they were seen, else plain ones.
Error not_a_number(std::string_view field, const Value& value) {
  const std::string type(value.python_type());
  for (std::string_view factor : {"gl", "gna", "gh", "gk", "cm"})
    if (field == factor) {
      if (value.text() || value.array()) return refused("can't multiply sequence by non-int of type 'float'");
      return refused("unsupported operand type(s) for *: '" + type + "' and 'float'");
    }
  if (field == "diam") return refused("bad value");
  if (field == "amp") return refused("must be real number, not " + type);
  return refused(std::string(field) + " must be a number, not " + type);
}

Result<cell::Parameters> cell_of(const Value::Object& arguments, bool is_public) {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all;
    for (const auto& field : cell::fields()) all.push_back(field.name);
    return all;
  }();
  if (auto error = arguments_fit("run_cell", names, arguments)) return std::move(*error);
  cell::Parameters cell;
  for (const auto& field : cell::fields()) {
    const Value& value = std::find_if(arguments.begin(), arguments.end(), [&](const auto& given) { return given.first == field.name; })->second;
    if (!field.second) {
      auto number = value.number();
      if (!number) return not_a_number(field.name, value);
      cell.*field.member = *number;
      continue;
    }
    const auto* pair = value.array();
    if (!pair) {
      if (value.text() || value.object()) return refused(std::string(field.name) + " must be a list of two numbers, not " + std::string(value.python_type()));
      return refused("'" + std::string(value.python_type()) + "' object is not subscriptable");
    }
    if (pair->size() < 2) return refused("list index out of range");
    auto start = (*pair)[0].number(), end = (*pair)[1].number();
    if (!start || !end) return refused(std::string(field.name) + " must be a list of two numbers");
    cell.*field.member = *start;
    cell.*field.second = *end;
  }
  if (cell.diam == 0) return refused("hocobj_call error: hoc_execerror: soma diameter diam = 0. Setting to 1e-6");
  const cell::Limits limits;
  if (is_public && cell.tstop > function::public_tstop_ms && std::isfinite(cell.tstop))
    return refused("tstop is at most " + std::to_string(static_cast<int>(function::public_tstop_ms)) + " ms without a token; with one, " +
                   std::to_string(static_cast<int>(limits.tstop_ms)) + " ms");
  if (auto fits = cell::check(cell, limits); !fits) return fits.take_error();
  return cell;
}

std::string base64(std::string_view bytes) {
  std::string out(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), sodium_base64_VARIANT_ORIGINAL);
  out.pop_back();  // the zero byte
  return out;
}

// On the pool. The picture, as Python shows bytes.
Result<std::string> run_cell(const cell::Parameters& parameters, std::chrono::seconds time) {
  auto runs = cell::runs_of(parameters);
  if (runs.empty()) return refused("amp is too large for steps of 0.1 nA");
  const auto until = std::chrono::steady_clock::now() + time;
  auto go_on = [until](double) { return std::chrono::steady_clock::now() < until; };
  auto outcomes = cell::simulate(runs, {}, go_on);
  if (!outcomes) {
    if (outcomes.error().code == Code::interrupted)
      return Error{Code::deadline, "this took longer than the " + std::to_string(time.count()) + " s that a call may take here", ""};
    return outcomes.take_error();
  }
  std::vector<cell::FiPoint> fi;
  if (parameters.amp > 0)
    for (std::size_t i = 0; i < runs.size(); ++i) fi.push_back(cell::fi_point(runs[i], (*outcomes)[i]));
  const cell::PictureInput input{runs.back(), outcomes->back(), fi};
  return "\"b'" + base64(cell::draw(input, cell::PictureFormat::png)) + "'\"";
}

// Any other function that the one who asks may call. NaN and infinities are written bare, as Python does.
Task<Result<std::string>> published(Context& context, accounts::Identity who, std::string name, std::string params_json) {
  const Error none{Code::not_found, "there is no function of this name that you may call", ""};
  if (who.role == accounts::Role::anonymous) co_return none;
  auto catalog = context.functions.catalog();
  auto caller = who;
  auto found = co_await function::Catalog::find(catalog, std::move(caller), std::move(name));
  if (!found && found.error().code == Code::not_found) co_return none;
  if (!found) co_return found.take_error();
  if (!context.settings.exec && !(*found)->native) co_return Error{Code::forbidden, "running scripts is turned off on this server", ""};
  function::Asked call;
  call.user = session::user_of(who);
  call.function = *found;
  call.body = "{\"parameters\":" + params_json + "}";
  auto terms = function::read_terms(call.body);
  if (!terms) co_return terms.take_error();
  call.given = std::move(terms->given);
  call.exact = terms->exact;
  call.nonfinite = "bare";
  call.bare = true;
  auto answered = co_await context.functions.call(std::move(call), std::make_shared<function::Handle>());
  if (!answered) co_return answered.take_error();
  auto rope = std::make_shared<codec::Rope>(std::move(answered->answer.rope));
  auto reader = reader_of(answered->answer.memfd);
  auto encode = [rope, reader] { return codec::encode_all(*rope, codec::Format::json, codec::Nonfinite::bare, reader); };
  co_return co_await async::on_pool(context.pool, std::move(encode));
}

}  // namespace

Task<Result<std::string>> call_function(Context& context, accounts::Identity who, std::string name, std::string params_json) {
  auto params = read_json(params_json, depth);
  if (!params || !params->object()) co_return refused("params must be an object");
  const Value::Object& arguments = *params->object();
  if (name == "return_params" || name == "run_cell") {
    // These are everybody's; who comes with a token that is for other things is nobody in particular.
    const std::string id = "myelin." + name;
    if (!accounts::within_scopes(who, "use", "function", id)) {
      if (!context.settings.public_functions) co_return Error{Code::forbidden, "this token does not have use:function:" + id, ""};
      who = accounts::anonymous_identity();
    }
  }
  if (name == "return_params") co_return return_params(arguments);
  if (name == "run_cell") {
    const bool is_public = who.role == accounts::Role::anonymous;
    auto cell = cell_of(arguments, is_public);
    if (!cell) co_return cell.take_error();
    if (is_public) {
      auto entered = co_await Gate::enter(&context.public_calls);
      if (!entered) co_return Error{Code::too_many, "too many calls without a token at once; try again in a few seconds", ""};
      auto job = [cell = *cell] { return run_cell(cell, public_time); };
      co_return co_await context.functions.compute(who.user_id, std::move(job));
    }
    auto job = [cell = *cell] { return run_cell(cell, member_time); };
    co_return co_await context.functions.compute(who.user_id, std::move(job));
  }
  co_return co_await published(context, std::move(who), std::move(name), std::move(params_json));
}

}  // namespace myelin::api::neuroapi
