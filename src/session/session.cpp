#include "session/session.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "codec/json_value.hpp"
#include "os/memfd.hpp"
#include "os/process.hpp"
#include "os/stream.hpp"
#include "session/branch.hpp"
#include "session/impl.hpp"
#include "store/session_records.hpp"

#include <sys/wait.h>
#include <unistd.h>

namespace myelin::session {
namespace {

namespace json = boost::json;
using async::milliseconds;
using async::Task;

constexpr milliseconds hello_deadline{60'000};       // the late import of an engine included
constexpr milliseconds last_words{300};              // between the wait status and the end of the channel
constexpr milliseconds deadline_grace{2'000};        // between SIGINT and SIGKILL when a call's deadline has passed
constexpr std::size_t tail_bytes = 16 * 1024;

std::string describe_exit(int status) {
  if (WIFEXITED(status)) return "exited with code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) {
    int number = WTERMSIG(status);
    const char* name = ::sigabbrev_np(number);
    return std::string("was killed by signal ") + (name ? std::string("SIG") + name : std::to_string(number)) +
           (number == SIGSEGV ? " (segmentation fault)" : number == SIGABRT ? " (abort)" : "");
  }
  return "ended";
}

std::string mebibytes(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

std::string seconds_text(milliseconds duration) {
  auto ms = duration.count();
  return ms % 1000 == 0 ? std::to_string(ms / 1000) + " s" : std::to_string(ms) + " ms";
}

std::optional<double> number(const json::object& object, std::string_view key) {
  auto* value = object.if_contains(key);
  if (!value || !value->is_number()) return std::nullopt;
  return value->to_number<double>();
}

bool flag(const json::object& object, std::string_view key) {
  auto* value = object.if_contains(key);
  return value && value->is_bool() && value->get_bool();
}

std::optional<json::object> parse(const std::string& text) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = 64;
  auto value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.get_object());
}

}  // namespace

void History::add(const Call& call) {
  constexpr std::size_t most = 1 << 20;
  if (!complete) return;
  bool binary = call.meta.find("\"method\":\"files\"") != std::string::npos;
  if (binary || bytes + call.meta.size() + call.body.size() > most) return spoil();
  std::string text = "{\"meta\":" + call.meta + ",\"body\":";
  codec::append_quoted(text, call.body);
  text += "}";
  if (bytes + text.size() + calls.size() + 2 > most) return spoil();  // with brackets and commas
  bytes += text.size();
  calls.push_back(std::move(text));
}

void History::spoil() {
  complete = false;
  bytes = 0;
  calls.clear();
}

const char* name_of(State state) {
  switch (state) {
    case State::starting: return "starting";
    case State::idle: return "idle";
    case State::busy: return "busy";
    case State::ended: return "ended";
  }
  return "ended";
}

Session::Impl::Impl(Manager::Impl& m, User user, std::string engine_name, std::string session_name, Limits l,
                    bool own_kernel)
    : manager(m), id(make_id("s_")), owner(std::move(user)), engine(std::move(engine_name)),
      name(std::move(session_name)), limits(l), own(own_kernel) {
  history.seed = std::stoull(random_hex(4), nullptr, 16);
}

Error Session::Impl::ended_error() const {
  if (!cause && !intended_end) return {Code::gone, "the session has ended", ""};
  const auto& code = cause ? cause->code : intended_end->first;
  const bool later = code == "failed" || code == "stopping";  // it never lived, or the server goes: a later call may try again
  return {later ? Code::unavailable : Code::gone, cause ? cause->text : intended_end->second, cause ? cause->tail : ""};
}

bool Session::Impl::unwanted() const {
  return intended_end && (intended_end->first == "deleted" || intended_end->first == "stopping" || intended_end->first == "user_ended");
}

std::vector<std::shared_ptr<Checkpoint>> Session::Impl::take_mortal() {
  // Copies of its process hold memory, and can be woken only while there is their engine.
  const bool copies_stay = manager.has_engine(engine) && !(intended_end && intended_end->first == "pressure");
  auto stays = [&](auto& checkpoint) { return !unwanted() && (copies_stay || checkpoint->saved); };
  auto first = std::stable_partition(checkpoints.begin(), checkpoints.end(), stays);
  std::vector<std::shared_ptr<Checkpoint>> mortal(std::make_move_iterator(first), std::make_move_iterator(checkpoints.end()));
  checkpoints.erase(first, checkpoints.end());
  return mortal;
}

// ---- start -------------------------------------------------------------------------------------------------------

Task<Result<void>> Session::Impl::start(std::shared_ptr<Impl> self) {
  Manager::Impl& m = self->manager;
  auto found = m.engines.find(self->engine);
  if (found == m.engines.end()) co_return Error{Code::not_found, "no engine named " + self->engine, ""};

  auto shared_manager = m.shared_from_this();
  if (!self->bare) {
    auto prepared = co_await Manager::Impl::prepare_work(shared_manager, self->owner.id);
    if (!prepared) co_return prepared.take_error();
  }

  const auto& engine_options = found->second->options();
  if (!engine_options.namespaces) {
    std::string home = engine_options.home + "/" + self->id;
    auto made = co_await prepare_home(self, std::move(home));
    if (!made) co_return made.take_error();
  }

  worker::SessionOptions options;
  options.id = self->id;
  if (self->bare) options.packages = self->bare->packages;
  else options.user = self->owner.id;
  if (m.options.mounts_for && !self->bare) options.mounts = m.options.mounts_for(self->engine, self->owner.name);
  options.files = self->limits.files;
  options.processes = self->limits.processes;
  options.file_bytes = self->limits.work_quota_bytes;
  if (!m.groups && self->limits.memory_bytes) options.data_bytes = self->limits.memory_bytes * 2;
  auto born = co_await found->second->start(std::move(options));
  if (!born) co_return born.take_error();

  auto process = self->process;
  process->pid = born->pid;
  process->pidfd = std::move(born->pidfd);
  if (!process->sandbox) process->sandbox = std::make_shared<Sandbox>();
  process->sandbox->init_pid = born->init_pid;
  process->sandbox->init = std::move(born->init);
  process->channel = std::make_unique<worker::Channel>(m.loop, std::move(born->channel));
  process->output = async::FdWatch(m.loop, born->output.release());
  m.by_pid[process->pid] = process;
  self->adopt(process);
  if (self->intended_end) co_return Error{Code::gone, self->intended_end->second, ""};

  if (m.groups) {
    std::string group_name = self->id;
    auto made = co_await Manager::Impl::make_group(shared_manager, std::move(group_name), self->limits, process->pid);
    if (!made) co_return made.take_error();
    process->group = std::move(*made);
  }

  auto hello = co_await process->channel->receive(hello_deadline);
  if (!hello) {
    if (hello.error().code == Code::timeout) co_return Error{Code::unavailable, "the session did not start in time", ""};
    co_return hello.take_error();
  }
  if (hello->kind == codec::FrameKind::error) co_return Error{Code::unavailable, hello->body, ""};
  if (hello->kind != codec::FrameKind::hello) co_return Error{Code::internal, "the worker broke the protocol at its start: " + hello->body, ""};

  std::string go_text = self->go_options(false), no_body;
  auto sent = co_await process->channel->send(codec::FrameKind::go, 0, std::move(go_text), std::move(no_body));
  if (!sent) co_return sent.take_error();
  if (self->record_at_start) co_await record(self);
  co_return Result<void>{};
}

std::string Session::Impl::go_options(bool dormant) const {
  json::object go{{"session", id},
                  {"user", owner.name},
                  {"seed", history.seed},
                  {"threads", manager.options.threads},
                  {"stdout_bytes", limits.stdout_bytes},
                  {"processes", limits.processes}};
  auto found = manager.engines.find(engine);
  if (found != manager.engines.end() && found->second->options().kind == "nest") go["modules"] = manager.options.modules;  // the others would import NEST for nothing
  if (bare && bare->nice > 0) go["nice"] = bare->nice;
  if (dormant) go["dormant"] = true;
  return json::serialize(go);
}

void Session::Impl::adopt(std::shared_ptr<Process> fresh) {
  process = std::move(fresh);
  std::weak_ptr<Impl> weak = shared_from_this();
  // A session that dies while nothing runs is noticed here; during a call its channel ends.
  process->on_exit = [weak] {
    if (auto self = weak.lock()) self->work.set();
  };
  manager.tasks.spawn(read_output(shared_from_this(), process), "session output");
}

// Without namespaces: a directory of its own, with the user's ~/work linked into it.
Task<Result<void>> Session::Impl::prepare_home(std::shared_ptr<Impl> self, std::string home) {
  self->process->sandbox = std::make_shared<Sandbox>();
  std::weak_ptr<Manager::Impl> weak = self->manager.shared_from_this();
  self->process->sandbox->over = [weak, home] {  // branches work there too, and may live longer than the session
    if (auto manager = weak.lock()) manager->tasks.spawn(Manager::Impl::remove_home(manager, home), "a session's directory");
  };
  std::string work = self->manager.options.users_directory + "/" + self->owner.id;
  auto uid = self->manager.options.uid;
  const bool linked = !self->bare;
  auto make = [home, work, uid, linked]() -> Result<void> {
    std::error_code error;
    for (const std::string& directory : {home, home + "/home", home + "/tmp"}) {
      std::filesystem::create_directory(directory, error);
      if (error || (uid && ::chown(directory.c_str(), *uid, *uid) != 0))
        return Error{Code::insufficient_storage, "can't make the session's directory " + directory, ""};
    }
    if (linked) std::filesystem::create_symlink(work, home + "/home/work", error);
    if (error) return Error{Code::insufficient_storage, "can't link ~/work: " + error.message(), ""};
    return {};
  };
  co_return co_await async::on_pool(self->manager.pool, std::move(make));
}

Task<void> Session::Impl::record(std::shared_ptr<Impl> self) {
  if (self->recorded) {
    co_await self->start_written.wait();
    co_return;
  }
  self->recorded = true;
  Manager::Impl& m = self->manager;
  store::Database* database = &m.database;
  auto write = [database, self]() -> Result<void> {
    return store::SessionRecords(*database).started(self->id, self->owner.id, self->name, self->engine, store::now());
  };
  auto written = co_await async::on_pool(m.database_pool, std::move(write));
  if (!written) log::error("can't record session " + self->id + ": " + written.error().message);
  self->start_written.set();
}

Task<void> Session::Impl::record_end(std::shared_ptr<Impl> self, Cause why) {
  co_await self->start_written.wait();
  store::Database* database = &self->manager.database;
  bool pristine = !self->dirty && !self->record_at_start;
  auto write = [database, self, why, pristine]() -> Result<bool> {
    store::SessionRecords records(*database);
    auto ended = records.ended(self->id, {why.code, why.text}, why.tail, store::now());
    if (ended && pristine) return records.acknowledge(self->id);
    return ended;
  };
  auto written = co_await async::on_pool(self->manager.database_pool, std::move(write));
  if (!written) log::error("can't record the end of session " + self->id + ": " + written.error().message);
  self->unwritten = !written && !pristine;
  self->end_written.set();
}

// ---- life --------------------------------------------------------------------------------------------------------

Task<void> Session::Impl::run(std::shared_ptr<Impl> self) {
  Result<void> started;
  if (!self->born) started = co_await start(self);
  else if (self->record_at_start) co_await record(self);
  if (!started) {
    auto error = started.take_error();
    bool died = error.code == Code::worker_lost;
    std::string code = died ? "exited" : "failed", text;
    if (!died) text = "the session could not start: " + error.message;
    co_await finish(self, std::move(code), std::move(text));
    co_return;
  }
  if (self->state == State::starting) {
    self->state = State::idle;
    self->tell("idle", "{\"ok\":true}");
  }
  while (self->state != State::ended && !self->intended_end && !self->process->exit_status) {
    if (self->queue.empty()) {
      self->work.reset();
      co_await self->work.wait();
      continue;
    }
    auto job = self->queue.front();
    self->queue.pop_front();
    bool alive;
    if (job->instead) {
      alive = co_await job->instead(self);
    } else {
      alive = co_await run_one(self, job);
      // A branch may have been asked for just when the call ended.
      if (alive && self->branching && !self->branching->result) {
        auto request = self->branching;
        auto process = self->process;
        request->history = self->history;
        auto answered = co_await await_branch(process, request, self);
        if (!answered) alive = false;
      }
      if (alive && self->follow_asked) alive = co_await followed_quietly(self);
    }
    if (!alive) break;
  }
  std::string code = "exited", text;
  co_await finish(self, std::move(code), std::move(text));
}

void Session::Impl::tell(std::string_view name_of_state, std::string members) {
  if (listener) listener->state(name_of_state, std::move(members));
}

Task<bool> Session::Impl::take_aside(std::shared_ptr<Impl> self, worker::Frame& frame) {
  constexpr std::size_t most_said = 64 * 1024;  // of progress and state: more is no worker of ours, and is not read
  if (frame.kind == codec::FrameKind::data) {
    if (self->listener && !frame.memfd) {
      auto listener = self->listener;
      std::string body = std::move(frame.body);
      co_await listener->data(std::move(body));
    }
    co_return true;
  }
  if (frame.kind == codec::FrameKind::progress) {
    if (auto o = frame.body.size() <= most_said ? parse(frame.body) : std::nullopt) {
      Progress p = self->progress.value_or(Progress{});
      if (o->contains("interruptible")) p.interruptible = flag(*o, "interruptible");
      if (auto done = number(*o, "done")) p.done = done;
      if (auto time = number(*o, "time_ms")) p.time_ms = time;
      if (auto of = number(*o, "of_ms")) p.of_ms = of;
      self->progress = p;
      if (self->listener) self->listener->progress(p);
    }
    co_return true;
  }
  if (frame.kind == codec::FrameKind::state) {
    if (auto o = frame.body.size() <= most_said ? parse(frame.body) : std::nullopt) {
      if (flag(*o, "reset")) {
        self->dirty = false;
        self->tell("reset");
      }
      if (flag(*o, "dirty")) {
        self->dirty = true;
        co_await record(self);
      }
      if (auto* facts = o->if_contains("facts"); facts && self->running) self->running->facts = json::serialize(*facts);
      if (o->contains("following")) {
        self->followed = flag(*o, "following");
        self->follow_asked = false;
      }
    }
    co_return true;
  }
  co_return false;
}

// The worker answers a follow frame with what its recorders hold, then a state frame.
Task<bool> Session::Impl::follow_quietly(std::shared_ptr<Impl> self) {
  if (self->followed) co_return true;
  auto process = self->process;
  std::string head = "{\"on\":true}", body;
  auto sent = co_await process->channel->send(codec::FrameKind::follow, 0, std::move(head), std::move(body));
  if (!sent) co_return false;
  self->follow_asked = true;
  co_return co_await followed_quietly(self);
}

Task<bool> Session::Impl::followed_quietly(std::shared_ptr<Impl> self) {
  auto process = self->process;
  while (self->follow_asked) {
    auto frame = co_await process->channel->receive(hello_deadline);
    if (!frame) co_return false;
    bool aside = co_await take_aside(self, *frame);
    if (!aside) {
      self->intended_end = {"protocol", "the worker broke the protocol: an answer to no call"};
      co_return false;
    }
  }
  co_return true;
}

Task<bool> Session::Impl::run_one(std::shared_ptr<Impl> self, std::shared_ptr<PendingCall> job) {
  self->running = job;
  job->started.set();
  self->state = State::busy;
  self->call_began = Clock::now();
  self->progress.reset();
  self->interrupt_sent = self->interrupt_wanted = self->deadline_passed = false;
  self->kill_at.reset();
  const std::uint64_t number_of_call = ++self->call_number;
  self->call_sent = false;

  // Written down before anything can be lost: also a server that dies during this call must tell of it later.
  if (!job->call.reads) co_await record(self);
  if (!job->call.reads) self->tell("busy", "{\"call\":" + std::to_string(number_of_call) + "}");
  self->running_reads = job->call.reads;
  if (job->call.facts) job->before = self->history;
  if (!job->call.reads) self->history.add(job->call);
  std::string head = codec::pack_call_head(job->call.meta);
  auto process = self->process;
  auto sent = co_await process->channel->send(codec::FrameKind::call, number_of_call, std::move(head), std::move(job->call.body));
  if (!sent) co_return false;
  self->call_sent = true;
  if (self->interrupt_wanted) self->send_interrupt();

  for (std::uint64_t frames = 1;; ++frames) {
    // A worker sends some twenty frames a second before its answer. One that floods waits, not the loop. Its recorders' data
    // wait for the disk instead.
    if (frames % 16 == 0) {
      co_await async::sleep_for(milliseconds(5));
      if (self->intended_end) co_return false;
    }
    auto frame = co_await process->channel->receive(async::forever);
    if (!frame) {
      if (frame.error().message != "the worker is gone" && !self->intended_end)
        self->intended_end = {"protocol", "the worker broke the protocol: " + frame.error().message};
      co_return false;
    }
    if (frame->kind == codec::FrameKind::data && self->listener) --frames;
    bool aside = co_await take_aside(self, *frame);
    if (aside) continue;
    if (frame->kind == codec::FrameKind::branched && self->branching) {
      auto request = self->branching;
      request->history = self->history;
      request->history.spoil();  // somewhere within a call
      if (!answer_branch(*process, *request, *frame)) {
        self->intended_end = {"protocol", "the worker broke the protocol: an answer to no branch"};
        co_return false;
      }
      continue;
    }
    if (frame->call != number_of_call ||
        (frame->kind != codec::FrameKind::result && frame->kind != codec::FrameKind::error)) {
      self->intended_end = {"protocol", "the worker broke the protocol: an answer to no call"};
      co_return false;
    }
    const auto deadline = self->deadline_of_call();
    self->running.reset();
    self->state = State::idle;
    if (self->listener) process->drain_output(self->ring, self->listener.get());  // printed before the answer was sent
    if (!job->call.reads)
      self->tell("idle", frame->kind == codec::FrameKind::result ? "{\"ok\":true}" : "{\"ok\":false}");
    self->last_used = std::chrono::system_clock::now();
    self->kill_at.reset();
    if (frame->kind == codec::FrameKind::result) {
      Answer answer;
      std::uint64_t memfd_size = 0;
      if (frame->memfd) {
        auto size = os::file_size(frame->memfd.get());
        if (!size || !os::is_memfd_sealed_against_shrinking(frame->memfd.get())) {
          self->intended_end = {"protocol", "the worker broke the protocol: its memory file is not sealed"};
          self->running = job;  // answered by finish
          co_return false;
        }
        memfd_size = *size;
        answer.memfd = std::make_shared<os::UniqueFd>(std::move(frame->memfd));
      }
      auto rope = codec::parse_rope(std::move(frame->body), answer.memfd != nullptr, memfd_size);
      if (!rope) {
        self->intended_end = {"protocol", "the worker broke the protocol: " + rope.error().message};
        self->running = job;  // answered by finish
        co_return false;
      }
      answer.rope = std::move(*rope);
      answer.facts = std::move(job->facts);
      job->finish(std::move(answer));
    } else {
      auto o = parse(frame->body);
      bool interrupted = o && flag(*o, "interrupted");
      if (interrupted) self->history.spoil();
      std::string text = "the call failed";
      if (o)
        if (auto* t = o->if_contains("text"); t && t->is_string()) text = std::string(t->get_string());
      if (interrupted && self->deadline_passed)
        job->finish(Error{Code::deadline, "the call was interrupted at its deadline of " +
                                              seconds_text(deadline) + ": " + text, frame->body});
      else
        job->finish(Error{interrupted ? Code::interrupted : Code::call_failed, text, frame->body});
    }
    if (self->manager.stopping && self->manager.busy() == 0) self->manager.all_idle.set();
    co_return true;
  }
}

// ---- end ---------------------------------------------------------------------------------------------------------

namespace {
/// Ends a process of the session, after which nobody knows its pid.
Task<Process::OutOfMemory> end_process(std::shared_ptr<Session::Impl> self, std::shared_ptr<Process> process, milliseconds own_exit) {
  auto out_of_memory = co_await Process::end(process, self->manager.pool, own_exit);
  self->manager.by_pid.erase(process->pid);
  co_return out_of_memory;
}
}  // namespace

milliseconds Session::Impl::deadline_of_call() const {
  auto wanted = running ? running->call.timeout : milliseconds(0);
  if (wanted.count() == 0) return limits.call_deadline;
  return limits.call_deadline.count() == 0 ? wanted : std::min(wanted, limits.call_deadline);
}

bool Session::Impl::may_write() {
  if (process->pid <= 0) return false;
  auto cpu_ms = process->use().cpu_ms;
  bool ran = cpu_ms != cpu_ms_seen;
  cpu_ms_seen = cpu_ms;
  return ran || state == State::busy;
}

Task<void> Session::Impl::finish(std::shared_ptr<Impl> self, std::string code, std::string text) {
  if (self->state == State::ended) co_return;
  Manager::Impl& m = self->manager;
  auto mortal = self->take_mortal();
  for (auto& checkpoint : mortal)
    if (checkpoint->process) co_await end_process(self, checkpoint->process, milliseconds(0));
  mortal.clear();
  auto process = self->process;
  if (self->running && !self->running_reads) self->dirty = true;
  // An end that was wanted has its cause already: it is written down while the process goes.
  const bool wanted = self->intended_end && self->recorded && !self->bare;
  if (wanted) {
    process->drain_output(self->ring, self->listener.get());
    m.tasks.spawn(record_end(self, {self->intended_end->first, self->intended_end->second, self->ring.tail(tail_bytes), std::chrono::system_clock::now()}),
                  "end of a session");
  }
  // It closed its channel, or is to be ended: give a process that is just dying a moment to leave its own status.
  auto out_of_memory = co_await end_process(self, process, milliseconds(self->intended_end ? 0 : 500));
  process->drain_output(self->ring, self->listener.get());

  Cause cause;
  cause.at = std::chrono::system_clock::now();
  std::string doing = self->running ? " during a call" : "";
  if (self->intended_end) {
    cause.code = self->intended_end->first;
    cause.text = self->intended_end->second;
  } else if (out_of_memory != Process::OutOfMemory::no) {
    cause.code = "memory";
    if (out_of_memory == Process::OutOfMemory::own)
      cause.text = "the session was ended by its memory limit of " + mebibytes(self->limits.memory_bytes) + doing;
    else if (m.options.memory_all_bytes > 0)
      cause.text = "the session was ended by the memory limit of all sessions together, " + mebibytes(m.options.memory_all_bytes) + doing;
    else
      cause.text = "the session was ended because the machine had no memory left" + doing;
  } else if (!text.empty()) {
    cause.code = code;
    cause.text = text;
  } else if (process->exit_status) {
    cause.code = WIFSIGNALED(*process->exit_status) ? "signal" : "exited";
    cause.text = "the session's process " + describe_exit(*process->exit_status) + doing;
  } else {
    cause.code = code;
    cause.text = "the session's process ended" + doing;
  }
  cause.tail = self->ring.tail(tail_bytes);
  self->cause = cause;
  self->state = State::ended;
  mortal = self->take_mortal();  // made, or no more wanted, while it ended
  for (auto& checkpoint : mortal)
    if (checkpoint->process) retire(m.shared_from_this(), checkpoint->process);
  if (!self->checkpoints.empty()) {
    m.left_behind[self->id] = {self->owner, self->engine, self->name, cause.at, std::move(self->checkpoints)};
    self->checkpoints.clear();
  }
  if (!self->bare) log::info("session " + self->id + " (" + self->engine + ", " + self->owner.name + ") ended: " + cause.text);

  // Nobody hears of the end before it is written down, so that the cause also outlives a crash of the server now.
  if (self->record_at_start && !self->recorded) co_await record(self);  // it was never more than asked for
  if (wanted) {
    co_await self->end_written.wait();
  } else if (self->recorded && !self->bare) {
    Cause why = cause;
    co_await record_end(self, std::move(why));
  }
  m.forget(*self);
  self->over.set();
  if (self->listener) {
    self->tell("ended", json::serialize(json::object{{"cause", json::object{{"code", cause.code}, {"text", cause.text}}}}));
    self->listener.reset();
  }
  if (self->running) self->running->finish(self->ended_error());
  self->running.reset();
  for (auto& waiting : self->queue) waiting->finish(self->ended_error());
  self->queue.clear();
  if (self->branching) self->branching->finish(self->ended_error());
  if (process->channel) process->channel->close();
  process->output.close();
  self->process = std::make_shared<Process>();  // the sandbox ends with its last process
  if (m.stopping && m.busy() == 0) m.all_idle.set();
}

void Session::Impl::send_interrupt() {
  if (!process->channel || interrupt_sent) return;
  if (!call_sent || !process->channel->send_now(codec::FrameKind::interrupt, call_number)) {
    interrupt_wanted = true;  // the call itself is still being sent
    return;
  }
  interrupt_sent = true;
  process->interrupt();
}

// Deadlines and patience, looked at ten times a second.
void Session::Impl::tick(Clock::time_point now) {
  if (state != State::busy || intended_end) return;
  // A child that the script forked holds the channel open, and may go on for ever: the session ended with its process.
  if (process->exit_status && now - process->exited_at >= last_words && process->channel) process->channel->close();
  const auto deadline = deadline_of_call();
  if (deadline.count() > 0 && !deadline_passed && now - call_began >= deadline) {
    deadline_passed = true;
    send_interrupt();
    if (!kill_at) kill_at = now + deadline_grace;
  }
  if (kill_at && now >= *kill_at) {
    if (deadline_passed)
      intended_end = {"deadline", "the session was ended: its call ran past the deadline of " +
                                      seconds_text(deadline) + " and did not react to an interrupt"};
    else
      intended_end = {"interrupt", "the session was ended: its call was to be interrupted and did not react in time"};
    process->kill();
  }
}

Task<void> Session::Impl::read_output(std::shared_ptr<Impl> self, std::shared_ptr<Process> process) {
  // At most 64 KiB in 5 ms: a session that floods its output slows itself down, not the server.
  auto buffer = std::make_unique<char[]>(65536);
  while (process->output.fd() >= 0) {
    bool readable = co_await process->output.readable();
    if (!readable || process->output.fd() < 0) co_return;
    auto got = os::read_some(process->output.fd(), buffer.get(), 65536);
    if (got.state == os::Io::closed || got.state == os::Io::failed) co_return;
    if (got.state == os::Io::done) {
      self->ring.append({buffer.get(), got.bytes});
      if (self->listener && got.bytes > 0) self->listener->output({buffer.get(), got.bytes});
    }
    if (got.bytes >= 16384) co_await async::sleep_for(milliseconds(5));
  }
}

// ---- handle ------------------------------------------------------------------------------------------------------

const std::string& Session::id() const { return impl_->id; }
const std::string& Session::owner() const { return impl_->owner.id; }
const std::string& Session::name() const { return impl_->name; }
const std::string& Session::engine() const { return impl_->engine; }
State Session::state() const { return impl_->state; }
const std::optional<Cause>& Session::cause() const { return impl_->cause; }
std::string Session::output_tail(std::size_t bytes) const { return impl_->ring.tail(bytes); }

Status Session::status() const {
  Status s;
  s.id = impl_->id;
  s.owner = impl_->owner.id;
  s.owner_name = impl_->owner.name;
  s.name = impl_->name;
  s.engine = impl_->engine;
  s.state = impl_->state;
  s.queued = impl_->queue.size();
  if (impl_->running) {
    s.progress = impl_->progress;
    s.call_s = std::chrono::duration<double>(Clock::now() - impl_->call_began).count();
  }
  s.memory_bytes = impl_->process->memory_bytes();
  s.parent = impl_->parent;
  s.created = impl_->created;
  s.last_used = impl_->last_used;
  s.cause = impl_->cause;
  return s;
}

Task<Result<Answer>> Session::call(Call call) {
  auto ticket = enqueue(std::move(call));
  if (!ticket) co_return ticket.take_error();
  co_return co_await wait(std::move(*ticket));
}

Result<Ticket> Session::enqueue(Call call) {
  auto self = impl_;
  if (self->state == State::ended) return self->ended_error();
  if (self->manager.stopping) return Error{Code::unavailable, "the server is stopping", ""};
  if (self->queue.size() >= self->limits.queue)
    return Error{Code::too_many, "the session's queue is full (" + std::to_string(self->limits.queue) +
                                     " calls wait): try again later", ""};
  auto job = std::make_shared<PendingCall>();
  job->call = std::move(call);
  self->queue.push_back(job);
  self->last_used = std::chrono::system_clock::now();
  self->work.set();
  return Ticket{std::move(job)};
}

Task<Result<Answer>> Session::wait(Ticket ticket) {
  auto job = std::move(ticket.call);
  co_await job->done.wait();
  if (!job->result) co_return Error{Code::unavailable, "the wait for the answer was given up; the call goes on", ""};
  co_return std::move(*job->result);
}

Task<bool> Session::finished(Ticket ticket, milliseconds patience) {
  auto job = std::move(ticket.call);
  co_return co_await job->done.wait(patience);
}

void Session::cancel(const Ticket& ticket, milliseconds grace) {
  if (impl_->running == ticket.call) {
    (void)interrupt(grace);
    return;
  }
  auto& queue = impl_->queue;
  auto found = std::find(queue.begin(), queue.end(), ticket.call);
  if (found == queue.end()) return;
  queue.erase(found);
  ticket.call->finish(Error{Code::interrupted, "the call was cancelled before it began", ""});
}

bool Session::is_running(const Ticket& ticket) const { return impl_->running == ticket.call; }
const History& Session::history() const { return impl_->history; }

Result<void> Session::interrupt(milliseconds grace) {
  if (impl_->state == State::ended) return impl_->ended_error();
  if (impl_->state != State::busy) return Error{Code::conflict, "no call is running", ""};
  impl_->interrupt_wanted = true;
  impl_->send_interrupt();
  if (!impl_->kill_at) impl_->kill_at = Clock::now() + grace;
  return {};
}

void Session::listen(std::shared_ptr<Listener> listener) { impl_->listener = std::move(listener); }

void Session::follow() {
  auto self = impl_;
  if (self->state == State::ended || self->followed || self->follow_wanted || self->follow_asked) return;
  // While a call runs the worker looks at its channel when it is signalled, and follows at its next slice.
  if (self->running && self->process->channel->send_now(codec::FrameKind::follow, 0, "{\"on\":true}")) {
    self->follow_asked = true;  // at the latest the call's end answers it
    self->process->interrupt();
    return;
  }
  self->follow_wanted = true;
  auto job = std::make_shared<PendingCall>();
  job->instead = [](std::shared_ptr<Impl> session) -> Task<bool> {
    session->follow_wanted = false;
    return Impl::follow_quietly(std::move(session));
  };
  self->queue.push_front(job);  // before calls that wait: they are to be seen
  self->work.set();
}

Task<void> Session::ended(milliseconds patience) {
  auto self = impl_;
  if (self->state != State::ended) co_await self->over.wait(patience);
}

void Session::end(std::string code, std::string text) {
  if (impl_->state == State::ended || impl_->intended_end) return;
  impl_->intended_end = {std::move(code), std::move(text)};
  impl_->process->kill();
  impl_->work.set();
}

}  // namespace myelin::session
