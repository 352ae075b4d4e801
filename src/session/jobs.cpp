#include "session/jobs.hpp"

#include <boost/json.hpp>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "os/host.hpp"
#include "session/impl.hpp"

#include <gnu/libc-version.h>
#include <sys/utsname.h>

namespace myelin::session {
namespace {

namespace json = boost::json;
using async::Task;

// Where it ran: what may change the last bit of a result.
std::string machine() {
  utsname name{};
  ::uname(&name);
  json::object o{{"kernel", std::string(name.sysname) + " " + name.release}, {"architecture", name.machine},
                 {"libc", std::string("glibc ") + ::gnu_get_libc_version()}, {"cpu", os::cpu_model()}};
  return json::serialize(o);
}

std::string versions(const worker::EngineInfo& engine) {
  json::object o{{"myelin", MYELIN_VERSION}};
  for (auto& [part, version] : engine.versions) o[part] = version;
  return json::serialize(o);
}

// What the session's global generators began with, beside what the engine tells of its own.
std::string seeds_of(const History& history, json::object engine = {}) {
  engine["python"] = history.seed;
  return json::serialize(engine);
}

// nullopt in a run of a time when they were not recorded.
std::optional<std::uint64_t> python_seed(const std::string& seeds) {
  json::error_code failed;
  auto value = json::parse(seeds, failed);
  if (failed || !value.is_object()) return std::nullopt;
  auto* seed = value.get_object().if_contains("python");
  if (!seed || !seed->is_int64() || seed->get_int64() < 0) return std::nullopt;
  return static_cast<std::uint64_t>(seed->get_int64());
}

std::string stdout_of(const Error& error) {
  json::error_code failed;
  auto detail = json::parse(error.detail, failed);
  if (failed || !detail.is_object()) return "";
  auto* text = detail.get_object().if_contains("stdout");
  return text && text->is_string() ? std::string(text->get_string()) : "";
}

}  // namespace

struct Jobs::Impl : std::enable_shared_from_this<Jobs::Impl> {
  Impl(async::Loop& l, Manager& s, run::Runs& r) : sessions(s), runs(r), tasks(l) {}

  struct Job {
    std::string owner;  // a user's id
    std::optional<Session> session;
    Ticket ticket;
    std::shared_ptr<Doing> doing;  // instead of both
    bool cancelled = false;
    std::size_t calls_before = 0;  // in the record's history
    bool complete_before = true;
    async::Event over;
  };

  static std::string text_of(const History& history) {
    std::string text = "[";
    for (auto& one : history.calls) text += (text.size() > 1 ? "," : "") + one;
    return text + "]";
  }
  Manager& sessions;
  run::Runs& runs;
  std::map<std::string, std::shared_ptr<Job>> jobs;  // by run id
  std::vector<Again> again;
  async::TaskGroup tasks;

  // From the queue to the disk.
  static Task<void> follow(std::shared_ptr<Impl> self, std::string id, std::shared_ptr<Job> job) {
    co_await job->ticket.call->started.wait();
    const bool cancelled_before = job->ticket.call->result && !*job->ticket.call->result && job->cancelled;
    if (!cancelled_before) {
      // What had been done when it began, not when it was queued.
      std::optional<std::pair<std::string, bool>> history;
      if (auto& before = job->ticket.call->before; before && (before->calls.size() != job->calls_before || before->complete != job->complete_before))
        history.emplace(text_of(*before), before->complete);
      auto started = co_await self->runs.start(id, std::move(history));
      if (!started) log::error("run " + id + ": " + started.error().message);
    }
    auto session = *job->session;
    auto answer = co_await session.wait(job->ticket);
    co_await end(self, id, job, std::move(answer));
  }

  static Task<void> end(std::shared_ptr<Impl> self, std::string id, std::shared_ptr<Job> job, Result<Answer> answer) {
    if (answer) {
      std::optional<std::string> seeds;
      json::error_code failed;
      auto facts = json::parse(answer->facts.empty() ? "{}" : answer->facts, failed);
      if (!failed && facts.is_object())
        if (auto* value = facts.get_object().if_contains("seeds"); value && value->is_object() && job->ticket.call && job->ticket.call->before)
          seeds = seeds_of(*job->ticket.call->before, std::move(value->get_object()));
      auto done = co_await self->runs.finish(id, std::move(answer->rope), std::move(answer->memfd), std::nullopt, std::move(seeds));
      if (!done && done.error().code != Code::conflict) log::error("run " + id + " was not kept: " + done.error().message);
    } else {
      std::string problem = run::problem_text(answer.error()), text = stdout_of(answer.error());
      bool cancelled = job->cancelled && answer.error().code == Code::interrupted;
      auto ending = cancelled ? self->runs.cancel(id, std::move(problem), std::move(text)) : self->runs.fail(id, std::move(problem), std::move(text));
      auto done = co_await std::move(ending);
      if (!done && done.error().code != Code::conflict) log::error("run " + id + ": " + done.error().message);
    }
    self->jobs.erase(id);
    job->over.set();
  }

  static Task<Result<run::Record>> start(std::shared_ptr<Impl> self, User user, Session session, Call call, run::NewRun what) {
    what.owner = session.owner();
    what.owner_name = session.status().owner_name;
    if (what.owner_name.empty()) what.owner_name = user.name;
    what.session = session.id();
    what.engine = session.engine();
    auto parent = session.status().parent;
    if (!parent.empty()) what.parent_session = parent;
    const std::size_t calls_before = session.history().calls.size();
    what.seeds = seeds_of(session.history());
    what.history = text_of(session.history());
    what.history_complete = session.history().complete;
    const bool complete_before = what.history_complete;
    auto engine = co_await self->sessions.engine_ready(session.engine());  // its first session may still be starting
    if (!engine) co_return engine.take_error();
    what.versions = versions(*engine);
    what.machine = machine();
    call.facts = true;
    // Before the record: what is refused is no run.
    auto ticket = session.enqueue(std::move(call));
    if (!ticket) co_return ticket.take_error();
    auto job = std::make_shared<Job>();
    job->session = session;
    job->ticket = *ticket;
    job->calls_before = calls_before;
    job->complete_before = complete_before;
    auto record = co_await self->runs.create(std::move(what));
    if (!record) {
      session.cancel(*ticket, std::chrono::milliseconds(2000));
      co_return record.take_error();
    }
    job->owner = record->owner;
    self->jobs[record->id] = job;
    std::string id = record->id;
    self->tasks.spawn(follow(self, std::move(id), job), "job");
    co_return record;
  }

  static Task<Result<run::Record>> start_doing(std::shared_ptr<Impl> self, run::NewRun what, std::shared_ptr<Doing> doing) {
    worker::EngineInfo engine;
    if (self->sessions.has_engine(what.engine)) {
      auto ready = co_await self->sessions.engine_ready(what.engine);
      if (!ready) co_return ready.take_error();
      engine = std::move(*ready);
    }
    what.versions = versions(engine);
    what.machine = machine();
    auto record = co_await self->runs.create(std::move(what));
    if (!record) co_return record.take_error();
    auto job = std::make_shared<Job>();
    job->doing = std::move(doing);
    job->owner = record->owner;
    self->jobs[record->id] = job;
    std::string id = record->id;
    self->tasks.spawn(carry_out(self, std::move(id), job), "job");
    co_return record;
  }

  static Task<void> carry_out(std::shared_ptr<Impl> self, std::string id, std::shared_ptr<Job> job) {
    auto started = co_await self->runs.start(id);
    if (!started) log::error("run " + id + ": " + started.error().message);
    auto doing = job->doing;
    auto answer = co_await doing->run(id);
    co_await end(self, id, job, std::move(answer));
  }

  static Task<void> repeat(std::shared_ptr<Impl> self, run::Record old, std::string id, std::shared_ptr<Job> job, Session session) {
    Result<Answer> answer = co_await play(self, old, job, session, id);
    co_await end(self, id, job, std::move(answer));
    std::string code = "deleted", text = "the rerun is over";
    session.end(std::move(code), std::move(text));
  }

  static Task<Result<Answer>> play(std::shared_ptr<Impl> self, run::Record old, std::shared_ptr<Job> job, Session session, std::string id) {
    auto started = co_await self->runs.start(id);
    if (!started) co_return started.take_error();
    json::error_code failed;
    auto history = json::parse(old.history, failed);
    auto options = json::parse(old.options, failed);
    std::vector<std::pair<std::string, std::string>> calls;
    if (!failed && history.is_array())
      for (auto& one : history.get_array())
        if (one.is_object())
          calls.emplace_back(json::serialize(one.at("meta")), std::string(one.at("body").as_string()));
    const std::size_t earlier = calls.size();
    if (failed || !options.is_object() || !options.get_object().contains("call"))
      co_return Error{Code::conflict, "the run does not tell how it was called", ""};
    auto& last = options.get_object().at("call").as_object();
    calls.emplace_back(json::serialize(last.at("meta")), std::string(last.at("body").as_string()));
    for (std::size_t i = 0; i < calls.size(); ++i) {
      if (job->cancelled) co_return Error{Code::interrupted, "the rerun was cancelled", ""};
      Call call{std::move(calls[i].first), std::move(calls[i].second), false};
      call.facts = i == earlier;
      auto ticket = session.enqueue(std::move(call));
      if (!ticket) co_return ticket.take_error();
      job->ticket = *ticket;
      auto answer = co_await session.wait(*ticket);
      if (i == earlier) co_return answer;
      // Earlier calls may have failed the first time, too; their failures are part of the history.
      if (!answer && answer.error().code != Code::call_failed) co_return answer;
    }
    co_return Error{Code::internal, "nothing to run", ""};
  }
};

Jobs::Jobs(async::Loop& loop, Manager& sessions, run::Runs& runs) : impl_(std::make_shared<Impl>(loop, sessions, runs)) {}
Jobs::~Jobs() { impl_->tasks.cancel(); }

Task<Result<run::Record>> Jobs::start(User user, Session session, Call call, run::NewRun what) {
  return Impl::start(impl_, std::move(user), std::move(session), std::move(call), std::move(what));
}

Task<Result<run::Record>> Jobs::start(User user, run::NewRun what, std::shared_ptr<Doing> doing) {
  what.owner = user.id;
  what.owner_name = user.name;
  co_return co_await Impl::start_doing(impl_, std::move(what), std::move(doing));
}

void Jobs::add_again(Again again) { impl_->again.push_back(std::move(again)); }

std::shared_ptr<Doing> Jobs::doing(const std::string& id) const {
  auto found = impl_->jobs.find(id);
  return found == impl_->jobs.end() ? nullptr : found->second->doing;
}

Task<void> Jobs::wait(std::string id) {
  auto found = impl_->jobs.find(id);
  if (found == impl_->jobs.end()) co_return;
  auto job = found->second;
  co_await job->over.wait();
}

Task<Result<run::Record>> Jobs::rerun(User user, std::string id, std::chrono::milliseconds kept_for) {
  auto self = impl_;
  run::Asker asker{user.id, user.is_operator};
  auto old = co_await self->runs.get(std::move(asker), id);
  if (!old) co_return old.take_error();
  if (!old->history_complete)
    co_return Error{Code::conflict, "this run can't be repeated: what its session had done before is not known in full (too long, interrupted, "
                                    "or files were put there). Runs of fresh sessions can", ""};
  run::NewRun what;
  what.owner = user.id;
  what.owner_name = user.name;
  what.title = "rerun of " + (old->title.empty() ? id : old->title);
  what.kind = run::Kind::rerun;
  what.engine = old->engine;
  what.inputs = {id};
  what.source = old->source;
  what.function = old->function;
  what.arguments = old->arguments;
  what.options = old->options;
  if (kept_for.count() > 0) what.kept_for = kept_for;
  for (auto again : self->again) {
    auto doing = co_await again(user, *old);
    if (!doing) co_return doing.take_error();
    if (*doing) {
      what.seeds = old->seeds;
      co_return co_await Impl::start_doing(self, std::move(what), std::move(*doing));
    }
  }
  std::string name = "rerun-" + random_hex(4);
  auto session = co_await self->sessions.create(user, old->engine, std::move(name), python_seed(old->seeds));
  if (!session) co_return session.take_error();
  what.session = session->id();
  what.seeds = seeds_of(session->history());
  what.history = old->history;
  auto engine = co_await self->sessions.engine_ready(old->engine);
  what.versions = versions(engine ? *engine : worker::EngineInfo{});
  what.machine = machine();
  auto record = co_await self->runs.create(std::move(what));
  if (!record) {
    session->end("deleted", "its rerun could not be recorded");
    co_return record.take_error();
  }
  auto job = std::make_shared<Impl::Job>();
  job->owner = record->owner;
  job->session = *session;
  self->jobs[record->id] = job;
  std::string new_id = record->id;
  self->tasks.spawn(Impl::repeat(self, std::move(*old), std::move(new_id), job, *session), "rerun");
  co_return record;
}

Task<Result<void>> Jobs::cancel(User user, std::string id, std::chrono::milliseconds grace) {
  auto self = impl_;
  run::Asker asker{user.id, user.is_operator};
  auto record = co_await self->runs.get(std::move(asker), id);
  if (!record) co_return record.take_error();
  auto found = self->jobs.find(id);
  if (found == self->jobs.end()) co_return Error{Code::conflict, "the job is over", ""};
  found->second->cancelled = true;
  if (found->second->doing) found->second->doing->cancel(grace);
  if (found->second->session && found->second->ticket.call) found->second->session->cancel(found->second->ticket, grace);
  co_return Result<void>{};
}

std::vector<std::shared_ptr<Doing>> Jobs::doings_of(const std::string& user_id) const {
  std::vector<std::shared_ptr<Doing>> out;
  for (auto& [id, job] : impl_->jobs)
    if (job->owner == user_id && job->doing) out.push_back(job->doing);
  return out;
}

void Jobs::end_all_of(const std::string& user_id) {
  auto jobs = impl_->jobs;  // one that ends changes the list
  for (auto& [id, job] : jobs) {
    if (job->owner != user_id) continue;
    job->cancelled = true;
    if (job->doing) job->doing->cancel(std::chrono::milliseconds(0));
  }
}

std::optional<Progress> Jobs::progress(const std::string& id) const {
  auto found = impl_->jobs.find(id);
  if (found != impl_->jobs.end() && found->second->doing) return found->second->doing->progress();
  if (found == impl_->jobs.end() || !found->second->session || !found->second->ticket.call) return std::nullopt;
  if (!found->second->session->is_running(found->second->ticket)) return std::nullopt;
  return found->second->session->status().progress;
}

std::string Jobs::output(const std::string& id) const {
  auto found = impl_->jobs.find(id);
  if (found != impl_->jobs.end() && found->second->doing) return found->second->doing->output();
  if (found == impl_->jobs.end() || !found->second->session) return "";
  return found->second->session->output_tail(16 * 1024);
}

}  // namespace myelin::session
