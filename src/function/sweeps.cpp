#include "function/sweeps.hpp"

#include <algorithm>
#include <map>

#include "base/ids.hpp"
#include "codec/json_value.hpp"
#include "function/columns.hpp"

namespace myelin::function {
namespace {

using async::milliseconds;
using async::Task;

constexpr std::uint64_t most_bytes = 4ull << 30;  // of all points' results
constexpr std::size_t most_errors = 100, most_axes = 6;
constexpr std::size_t most_running = 8;  // sweeps of one user
constexpr std::size_t together = 64;  // points of a function that takes many
constexpr std::chrono::hours job_kept{24};

std::string text_of(const json::object& o, std::string_view key) {
  auto* value = o.if_contains(key);
  return value && value->is_string() ? std::string(value->get_string()) : "";
}

Error field_error(const std::string& field, std::string message) {
  return {Code::invalid, field + " " + message, json::serialize(json::object{{"errors", json::array{json::object{{"field", field}, {"message", message}}}}})};
}

// Where the points lie: of a grid, the last axis turns fastest.
struct Plan {
  std::vector<std::string> names;
  std::vector<json::array> values;  // a grid's axes
  json::array points;               // or one object each
  std::size_t count = 0;
  std::vector<std::uint64_t> shape;

  [[nodiscard]] json::object at(std::size_t index) const {
    if (values.empty()) return points[index].get_object();
    json::object point;
    for (std::size_t axis = values.size(); axis-- > 0;) {
      point[names[axis]] = values[axis][index % values[axis].size()];
      index /= values[axis].size();
    }
    return point;
  }
};

Result<Plan> plan_of(const json::object& spec, std::size_t most) {
  Plan plan;
  auto* grid = spec.if_contains("grid");
  auto* points = spec.if_contains("points");
  if ((grid != nullptr) == (points != nullptr)) return Error{Code::bad_request, "say where the points are: {\"grid\": {\"amp\": [0.1, 0.2]}} or {\"points\": [{\"amp\": 0.1}]}", ""};
  if (grid) {
    if (!grid->is_object() || grid->get_object().empty() || grid->get_object().size() > most_axes)
      return Error{Code::bad_request, "grid is an object of 1 to " + std::to_string(most_axes) + " names with a list of values each", ""};
    plan.count = 1;
    for (auto& [name, list] : grid->get_object()) {
      if (!list.is_array() || list.get_array().empty()) return field_error("grid." + std::string(name).substr(0, 200), "must be a list of values");
      plan.names.emplace_back(name);
      plan.values.push_back(list.get_array());
      plan.shape.push_back(list.get_array().size());
      if (plan.count > most / list.get_array().size()) return Error{Code::too_large, "a sweep has at most " + std::to_string(most) + " points", ""};
      plan.count *= list.get_array().size();
    }
    return plan;
  }
  if (!points->is_array() || points->get_array().empty()) return Error{Code::bad_request, "points is a list of objects", ""};
  plan.points = points->get_array();
  plan.count = plan.points.size();
  if (plan.count > most) return Error{Code::too_large, "a sweep has at most " + std::to_string(most) + " points, not " + std::to_string(plan.count), ""};
  plan.shape = {plan.count};
  for (std::size_t i = 0; i < plan.points.size(); ++i)
    if (!plan.points[i].is_object()) return field_error("points[" + std::to_string(i) + "]", "must be an object of names and values");
  return plan;
}

bool is_global(std::string_view name) { return is_name(name) && !name.starts_with("__"); }

}  // namespace

class Sweeps::Sweep : public session::Doing {
 public:
  Sweep(Sweeps& of, session::User user, Plan plan)
      : of_(of), user_(std::move(user)), plan_(std::move(plan)), columns_(std::make_shared<Columns>(of.scratch_, plan_.shape, most_bytes)), tasks_(of.loop_) {}

  FunctionPtr function;
  std::string body;  // of a function's points: {"parameters": …}
  json::object given;
  bool exact = true;
  std::optional<std::uint64_t> seed;
  milliseconds timeout{0};
  std::optional<session::Session> from;  // of a session's
  std::string source;
  json::value returned;

  Task<Result<session::Answer>> run(std::string) override {
    std::optional<session::Session> base;
    if (from) {
      // All points begin where the session is now, whatever it does meanwhile.
      std::vector<std::string> names{"sweep-" + random_hex(4)};
      auto branched = co_await of_.sessions_.branch(*from, std::move(names));
      if (!branched) co_return branched.take_error();
      base = branched->front();
    }
    const std::size_t lanes = std::min(std::max<std::size_t>(of_.functions_.runner().options().batch, 1), plan_.count);
    const bool packed = function && function->native && function->native->many;
    for (std::size_t lane = 0; lane < lanes; ++lane) tasks_.spawn(packed ? work_together(this) : work(this, base), "sweep");
    while (lanes_done_ < lanes) co_await lane_ended_.wait(milliseconds(60'000));
    if (base) base->end("deleted", "its sweep is over");
    if (cancelled_) co_return Error{Code::interrupted, "the sweep was cancelled after " + std::to_string(state_.done) + " of " + std::to_string(plan_.count) + " points", ""};
    if (broken_) co_return *broken_;
    if (state_.failed == plan_.count && first_error_) co_return *first_error_;
    co_return co_await assembled(true, false);
  }

  void cancel(milliseconds grace) override {
    cancelled_ = true;
    for (auto& handle : handles_) handle->cancel(grace);
    for (auto& [id, session] : branches_) session.end("deleted", "its sweep was cancelled");
  }

  [[nodiscard]] std::optional<session::Progress> progress() const override {
    session::Progress progress;
    progress.done = static_cast<double>(state_.done) / static_cast<double>(plan_.count);
    return progress;
  }
  [[nodiscard]] std::string output() const override { return ""; }

  [[nodiscard]] SweepState state() const {
    auto state = state_;
    state.points = plan_.count;
    for (std::size_t axis = 0; axis < plan_.values.size(); ++axis) state.axes[plan_.names[axis]] = plan_.values[axis];
    return state;
  }

  Task<Result<session::Answer>> assembled(bool bare, bool partial) {
    // Parameters first, then results, then what failed.
    std::string before = "{\"data\":{";
    if (!plan_.values.empty()) {
      before += "\"axes\":{";
      for (std::size_t axis = 0; axis < plan_.values.size(); ++axis) {
        if (axis > 0) before += ',';
        codec::append_quoted(before, plan_.names[axis]);
        before += ':';
        codec::append_json(before, plan_.values[axis]);
      }
      before += "},";
    } else {
      before += "\"parameters\":{";
      std::map<std::string, json::array> lists;
      for (std::size_t i = 0; i < plan_.count; ++i)
        for (auto& [name, value] : plan_.points[i].get_object()) lists[std::string(name)];
      bool first = true;
      for (auto& [name, list] : lists) {
        for (std::size_t i = 0; i < plan_.count; ++i) {
          auto* value = plan_.points[i].get_object().if_contains(name);
          list.push_back(value ? *value : json::value(nullptr));
        }
        if (!first) before += ',';
        first = false;
        codec::append_quoted(before, name);
        before += ':';
        codec::append_json(before, list);
      }
      before += "},";
    }
    before += "\"points\":" + std::to_string(plan_.count) + ",\"done\":" + std::to_string(state_.done) + ",\"failed\":" + std::to_string(state_.failed) + ",\"results\":";
    std::string after = ",\"errors\":";
    codec::append_json(after, state_.errors);
    after += "},\"stdout\":\"\"}";
    auto columns = columns_;
    auto make = [columns, before, after, bare, partial] { return columns->assemble(before, after, bare, partial); };
    co_return co_await async::on_pool(of_.pool_, std::move(make));
  }

 private:
  // Of a native function that takes many: some points at once.
  static Task<void> work_together(Sweep* self) {
    while (!self->cancelled_ && !self->broken_ && self->next_ < self->plan_.count) {
      const std::size_t first = self->next_, count = std::min(together, self->plan_.count - first);
      self->next_ += count;
      for (std::size_t done = 0; done < count && !self->cancelled_ && !self->broken_;) {
        std::vector<json::object> points;
        for (std::size_t i = done; i < count; ++i) points.push_back(self->plan_.at(first + i));
        auto handle = std::make_shared<Handle>();
        self->handles_.push_back(handle);
        auto asked = self->asked();
        auto answers = co_await self->of_.functions_.call_many(std::move(asked), std::move(points), handle);
        self->handles_.erase(std::find(self->handles_.begin(), self->handles_.end(), handle));
        if (self->cancelled_) break;
        const std::size_t got = answers ? std::min(answers->size(), count - done) : count - done;
        for (std::size_t i = 0; i < got; ++i) {
          Result<session::Answer> answer = answers ? std::move((*answers)[i]) : Result<session::Answer>(answers.error());
          co_await keep(self, first + done + i, std::move(answer), "");
        }
        done += got;
      }
    }
    ++self->lanes_done_;
    self->lane_ended_.pulse();
  }

  static Task<void> keep(Sweep* self, std::size_t index, Result<session::Answer> answer, std::string member) {
    if (answer) {
      auto columns = self->columns_;
      auto point = std::make_shared<session::Answer>(std::move(*answer));
      auto take = [columns, index, point, member] { return columns->put(index, *point, member); };
      auto taken = co_await async::on_pool(self->of_.pool_, std::move(take));
      if (!taken && taken.error().code == Code::worker_lost) answer = taken.take_error();
      else if (!taken) self->broken_ = taken.take_error();
    }
    if (!answer) self->note(index, answer.error());
    ++self->state_.done;
  }

  static Task<void> work(Sweep* self, std::optional<session::Session> base) {
    while (!self->cancelled_ && !self->broken_ && self->next_ < self->plan_.count) {
      const std::size_t index = self->next_++;
      Result<session::Answer> answer = Error{Code::internal, "", ""};
      if (self->function) answer = co_await call(self, index);
      else answer = co_await script(self, index, *base);
      std::string member = self->function ? "" : "data";
      if (self->cancelled_) break;
      co_await keep(self, index, std::move(answer), std::move(member));
    }
    ++self->lanes_done_;
    self->lane_ended_.pulse();
  }

  [[nodiscard]] Asked asked() const {
    Asked made;
    made.user = user_;
    made.function = function;
    made.body = body;
    made.given = given;
    made.exact = exact;
    made.nonfinite = "bare";
    made.timeout = timeout;
    made.bare = true;
    made.batch = true;
    return made;
  }

  static Task<Result<session::Answer>> call(Sweep* self, std::size_t index) {
    auto asked = self->asked();
    if (self->seed) asked.seed = (*self->seed + index) % 4294967296ull;
    asked.more = self->plan_.at(index);
    auto handle = std::make_shared<Handle>();
    self->handles_.push_back(handle);
    auto answered = co_await self->of_.functions_.call(std::move(asked), handle);
    self->handles_.erase(std::find(self->handles_.begin(), self->handles_.end(), handle));
    if (!answered) co_return answered.take_error();
    co_return std::move(answered->answer);
  }

  static Task<Result<session::Answer>> script(Sweep* self, std::size_t index, session::Session base) {
    auto handle = std::make_shared<Handle>();
    self->handles_.push_back(handle);
    auto& runner = self->of_.functions_.runner();
    auto entered = co_await runner.enter(self->user_.id, true, handle);
    self->handles_.erase(std::find(self->handles_.begin(), self->handles_.end(), handle));
    if (!entered) co_return entered.take_error();
    auto answer = co_await on_branch(self, index, base);
    runner.leave(handle);
    co_return answer;
  }

  static Task<Result<session::Answer>> on_branch(Sweep* self, std::size_t index, session::Session base) {
    std::vector<std::string> names{"sweep-" + random_hex(4)};
    auto branched = co_await self->of_.sessions_.branch(base, std::move(names));
    if (!branched) co_return branched.take_error();
    auto session = branched->front();
    if (self->cancelled_) {
      session.end("deleted", "its sweep was cancelled");
      co_return Error{Code::interrupted, "the sweep was cancelled", ""};
    }
    self->branches_.insert_or_assign(session.id(), session);
    session::Call call;
    call.meta = R"({"method":"exec","envelope":"v1","content_type":"application/json","nonfinite":"bare"})";
    json::object request{{"source", self->source}, {"set", self->plan_.at(index)}};
    if (!self->returned.is_null()) request["return"] = self->returned;
    call.body = json::serialize(request);
    call.timeout = self->timeout;
    auto answer = co_await session.call(std::move(call));
    self->branches_.erase(session.id());
    session.end("deleted", "its point of the sweep is done");
    co_return answer;
  }

  void note(std::size_t index, const Error& error) {
    ++state_.failed;
    if (!first_error_) first_error_ = error;
    if (state_.errors.size() < most_errors)
      state_.errors.push_back(json::object{{"point", index}, {"parameters", plan_.at(index)}, {"code", std::string(myelin::describe(error.code).name)}, {"detail", error.message}});
  }

  Sweeps& of_;
  session::User user_;
  Plan plan_;
  std::shared_ptr<Columns> columns_;
  std::size_t next_ = 0, lanes_done_ = 0;
  async::Event lane_ended_;
  SweepState state_;
  bool cancelled_ = false;
  std::optional<Error> broken_, first_error_;
  std::vector<std::shared_ptr<Handle>> handles_;
  std::map<std::string, session::Session> branches_;
  async::TaskGroup tasks_;
};

Sweeps::Sweeps(async::Loop& loop, async::Pool& pool, session::Manager& sessions, session::Jobs& jobs, Functions& functions, std::string scratch)
    : loop_(loop), pool_(pool), sessions_(sessions), jobs_(jobs), functions_(functions), scratch_(std::move(scratch)) {
  auto again = [](Sweeps* self, session::User user, run::Record old) -> Task<Result<std::shared_ptr<session::Doing>>> {
    std::shared_ptr<session::Doing> none;
    auto options = codec::parse_object(old.options);
    if (!options) co_return none;
    auto* spec = options->if_contains("sweep");
    if (!spec || !spec->is_object()) co_return none;
    auto sweep = co_await make(self, std::move(user), spec->get_object());
    if (!sweep) co_return sweep.take_error();
    auto made = *sweep;
    if (made->function && made->function->hash != text_of(*options, "hash"))
      co_return Error{Code::conflict, "the code of " + made->function->id + " has changed since: start a new sweep", ""};
    if (made->function && made->function->declaration.deterministic) made->seed.reset();
    none = std::move(made);
    co_return none;
  };
  jobs_.add_again([this, again](session::User user, run::Record old) { return again(this, std::move(user), std::move(old)); });
}

Task<Result<std::shared_ptr<Sweeps::Sweep>>> Sweeps::make(Sweeps* self, session::User user, json::object spec) {
  auto plan = plan_of(spec, self->functions_.options().sweep_points);
  if (!plan) co_return plan.take_error();
  std::string name = text_of(spec, "function"), id = text_of(spec, "session");
  if (name.empty() == id.empty()) co_return Error{Code::bad_request, "say what to sweep: {\"function\": NAME} or {\"session\": ID, \"source\": …}", ""};
  auto sweep = std::make_shared<Sweep>(*self, user, std::move(*plan));
  if (auto* seconds = spec.if_contains("timeout_s")) {
    double s = seconds->is_number() ? seconds->to_number<double>() : 0;
    if (!(s > 0) || s > 31536000) co_return Error{Code::bad_request, "timeout_s is a number of seconds, above 0; for each point", ""};
    sweep->timeout = milliseconds(std::max<std::int64_t>(1, static_cast<std::int64_t>(s * 1000)));
  }
  const Error no_scripts{Code::forbidden, "running scripts is turned off on this server", ""};
  if (!id.empty()) {
    if (!self->functions_.options().scripts) co_return no_scripts;
    auto session = self->sessions_.find(user, id);
    if (session && user.identity && !accounts::allows(*user.identity, "use", "session", session->id(), user.id))
      co_return Error{Code::forbidden, "you may not use this session (use:session:" + session->id() + ")", ""};
    if (!session) co_return Error{Code::not_found, "no session " + id.substr(0, 64), ""};
    auto* source = spec.if_contains("source");
    if (!source || !source->is_string()) co_return Error{Code::bad_request, "source is the script that each point runs", ""};
    sweep->from = session;
    sweep->source = std::string(source->get_string());
    if (auto* returned = spec.if_contains("return")) sweep->returned = *returned;
    for (std::size_t i = 0; i < sweep->state().points; ++i) {
      json::object point;
      if (auto* points = spec.if_contains("points")) point = points->get_array()[i].get_object();
      else if (i == 0) point = spec.at("grid").get_object();
      for (auto& [key, value] : point)
        if (!is_global(key)) co_return field_error(std::string(key).substr(0, 200), "is no name of a global");
      if (spec.contains("grid")) break;
    }
    co_return sweep;
  }
  auto who = session::identity_of(user);
  auto catalog = self->functions_.catalog();
  auto found = co_await Catalog::find(catalog, std::move(who), name);
  if (!found) co_return found.take_error();
  if (!self->functions_.options().scripts && !(*found)->native) co_return no_scripts;
  sweep->function = *found;
  if (auto* parameters = spec.if_contains("parameters")) {
    if (!parameters->is_object()) co_return Error{Code::bad_request, "parameters is an object: those that are the same for all points", ""};
    sweep->given = parameters->get_object();
  }
  sweep->body = json::serialize(json::object{{"parameters", sweep->given}});
  if (auto* seed = spec.if_contains("seed"); seed && seed->is_int64() && seed->get_int64() >= 0) sweep->seed = static_cast<std::uint64_t>(seed->get_int64()) % 4294967296ull;
  co_return sweep;
}

Task<Result<run::Record>> Sweeps::start(session::User user, std::string body) {
  const Error too_large{Code::too_large, "a sweep's request has at most 1 MiB", ""};
  if (body.size() > run::max_history_bytes) co_return too_large;
  std::size_t running = 0;
  for (auto& doing : jobs_.doings_of(user.id)) running += std::dynamic_pointer_cast<Sweep>(doing) != nullptr;
  if (running >= most_running) co_return Error{Code::too_many, std::to_string(running) + " sweeps of yours run already: wait for one, or cancel it", ""};
  json::error_code failed;
  json::parse_options options;
  options.max_depth = 64;
  auto value = json::parse(body, failed, {}, options);
  if (failed) value = json::parse(with_quoted_nonfinite(body), failed, {}, options);
  if (failed || !value.is_object()) co_return Error{Code::bad_request, "send a JSON object: {\"function\": NAME, \"grid\": {…}}", ""};
  auto spec = std::move(value.get_object());
  constexpr std::string_view known = "function,parameters,session,source,return,grid,points,title,keep,timeout_s,seed";
  for (auto& [key, member] : spec)
    if (("," + std::string(known) + ",").find("," + std::string(key) + ",") == std::string::npos)
      co_return Error{Code::bad_request, "unknown member '" + std::string(key).substr(0, 100) + "'; known: " + std::string(known), ""};
  // A sweep of a function that draws random numbers is to be repeatable.
  if (!spec.contains("seed") && spec.contains("function")) spec["seed"] = static_cast<std::int64_t>(std::stoull(random_hex(4), nullptr, 16) & 0x7fffffff);
  auto sweep = co_await make(this, user, spec);
  if (!sweep) co_return sweep.take_error();
  auto made = *sweep;
  if (made->function && made->function->declaration.deterministic) made->seed.reset();
  if (made->function) {
    // All points are checked before the first one runs; each value once, for a grid repeats them.
    auto plan = plan_of(spec, functions_.options().sweep_points);
    auto fail = [](std::size_t point, Error error) {
      error.message = "point " + std::to_string(point) + ": " + error.message;
      return error;
    };
    Asked first;
    first.function = made->function;
    first.given = made->given;
    first.more = plan->at(0);
    if (auto checked = Functions::check(first); !checked) co_return fail(0, checked.take_error());
    std::size_t stride = plan->count;
    for (std::size_t axis = 0; axis < plan->values.size(); ++axis) {
      stride /= plan->values[axis].size();
      for (std::size_t i = 0; i < plan->values[axis].size(); ++i)
        if (auto checked = Functions::check_some(*made->function, {{plan->names[axis], plan->values[axis][i]}}); !checked) co_return fail(i * stride, checked.take_error());
    }
    std::vector<std::string> in_first;
    const auto point_0 = plan->at(0);
    for (auto& member : point_0) in_first.emplace_back(member.key());
    for (std::size_t i = 1; i < plan->points.size(); ++i) {
      auto& point = plan->points[i].get_object();
      if (auto checked = Functions::check_some(*made->function, point); !checked) co_return fail(i, checked.take_error());
      // What only the first point said may be missing in another.
      for (auto& name : in_first) {
        auto* parameter = made->function->declaration.find(name);
        if (!parameter || !parameter->required || point.contains(name) || made->given.contains(name)) continue;
        first.more = point;
        if (auto checked = Functions::check(first); !checked) co_return fail(i, checked.take_error());
      }
    }
  }
  // Of what the result will hold: axes and parameters, and each result along them.
  json::object results;
  if (made->function) {
    auto& declaration = made->function->declaration;
    auto* grid = spec.if_contains("grid");
    json::array along;
    if (grid) for (auto& [name, values] : grid->get_object()) along.emplace_back(name);
    else along.emplace_back("point");
    auto put = [&results](std::string path, std::string_view unit, json::array dims) { results[path] = json::object{{"unit", unit}, {"dims", std::move(dims)}}; };
    for (auto& parameter : declaration.parameters)
      put((grid ? "axes." : "parameters.") + parameter.name, parameter.unit, json::array(1, json::value(json::string(grid ? parameter.name : "point"))));
    for (auto& [name, result] : declaration.results) {
      json::array dims = along;
      for (auto& dim : result.at("dims").as_array()) dims.push_back(dim);
      put("results." + std::string(name), std::string_view(result.at("unit").as_string()), std::move(dims));
    }
    if (declaration.results.empty()) put("results", "", along);
  }
  run::NewRun what;
  what.kind = run::Kind::sweep;
  if (auto* title = spec.if_contains("title"); title && title->is_string()) what.title = std::string(title->get_string()).substr(0, 200);
  what.engine = made->function ? made->function->declaration.engine : made->from->engine();
  if (made->function) {
    what.function = made->function->id;
    what.arguments = json::serialize(made->given);
  } else {
    what.source = made->source;
    what.session = made->from->id();
    what.history_complete = true;
  }
  if (what.title.empty()) what.title = "sweep of " + (made->function ? made->function->id : made->from->name());
  if (made->seed) what.seeds = json::serialize(json::object{{"python", *made->seed}});
  json::object kept{{"sweep", spec}, {"points", made->state().points}};
  if (made->function) {
    kept["version"] = made->function->version;
    kept["hash"] = made->function->hash;
    kept["results"] = std::move(results);
  }
  what.options = json::serialize(kept);
  if (what.options.size() > run::max_history_bytes) co_return too_large;
  if (auto* keep = spec.if_contains("keep"); keep && keep->is_bool() && !keep->get_bool()) what.kept_for = job_kept;
  std::shared_ptr<session::Doing> doing = made;
  co_return co_await jobs_.start(std::move(user), std::move(what), std::move(doing));
}

std::optional<SweepState> Sweeps::state(const std::string& id) const {
  auto sweep = std::dynamic_pointer_cast<Sweep>(jobs_.doing(id));
  if (!sweep) return std::nullopt;
  return sweep->state();
}

Task<Result<session::Answer>> Sweeps::partial(std::string id, bool bare) {
  auto sweep = std::dynamic_pointer_cast<Sweep>(jobs_.doing(id));
  if (!sweep) co_return Error{Code::conflict, "the sweep is over: its result is that of the run", ""};
  co_return co_await sweep->assembled(bare, true);
}

}  // namespace myelin::function
