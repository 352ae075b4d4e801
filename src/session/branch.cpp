#include "session/branch.hpp"

#include <algorithm>
#include <boost/json.hpp>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "os/memfd.hpp"
#include "os/process.hpp"
#include "os/socket.hpp"
#include "os/stream.hpp"

namespace myelin::session {
namespace {

namespace json = boost::json;
using async::milliseconds;
using async::Task;

constexpr milliseconds slice_patience{10'000};  // a busy session reaches a point where it can branch, or the request is given up
constexpr milliseconds quiet_patience{60'000};  // copying files of the working directory included
constexpr milliseconds hello_patience{30'000};

constexpr std::size_t part_bytes = 16 << 20;  // of a saved state, in one frame

CheckpointStatus describe(const std::string& session, const Checkpoint& checkpoint) {
  return {checkpoint.id, checkpoint.name, session, checkpoint.bytes, checkpoint.saved != nullptr,
          checkpoint.saved ? checkpoint.saved->left_out : "", checkpoint.created};
}

/// What the worker answered to `save`. It may be anything: the state is only handed on, and the list is read as a list.
Result<std::shared_ptr<SavedState>> take_saved(Answer answer) {
  Error broken{Code::worker_lost, "the worker saved its state in a form that is not known", ""};
  auto saved = std::make_shared<SavedState>();
  std::string text;
  const codec::Piece* state = nullptr;
  for (auto& piece : answer.rope.pieces()) {
    if (piece.kind == codec::PieceKind::text) {
      if (piece.where != codec::Where::inline_data) return broken;
      text += answer.rope.inline_data(piece);
    } else {
      if (state || piece.where != codec::Where::memfd || piece.dtype != codec::Dtype::u8 || piece.offset != 0) return broken;
      state = &piece;
      text += "null";
    }
  }
  json::error_code failed;
  auto value = json::parse(text, failed);
  if (failed || !value.is_object() || !state || !answer.memfd) return broken;
  auto* left_out = value.get_object().if_contains("left_out");
  if (!left_out || !left_out->is_array()) return broken;
  json::array named;
  for (auto& one : left_out->get_array()) {
    if (!one.is_object()) return broken;
    auto* name = one.get_object().if_contains("name");
    auto* why = one.get_object().if_contains("why");
    if (!name || !name->is_string() || !why || !why->is_string()) return broken;
    named.push_back(json::object{{"name", *name}, {"why", *why}});
  }
  saved->left_out = json::serialize(named);
  saved->memfd = std::move(*answer.memfd);
  saved->bytes = state->bytes;
  // What it holds, not what it says: the file may be larger.
  auto size = os::file_size(saved->memfd.get());
  auto allocated = os::allocated_bytes(saved->memfd.get());
  if (!size || !allocated || *size > state->bytes + 4096 || *allocated > state->bytes + (4u << 20)) return broken;
  return saved;
}

Call internal_call(std::string meta, std::string body = {}) {
  Call call;
  call.meta = std::move(meta);
  call.body = std::move(body);
  call.reads = true;  // it is no call of the user's: neither history nor events have it
  return call;
}

std::uint64_t next_number() {
  static std::uint64_t numbers = 0;
  return ++numbers;
}

}  // namespace

void retire(std::shared_ptr<Manager::Impl> manager, std::shared_ptr<Process> process) {
  auto end = [](std::shared_ptr<Manager::Impl> owner, std::shared_ptr<Process> ending) -> Task<void> {
    ending->on_exit = nullptr;
    if (ending->channel) ending->channel->close();
    co_await Process::end(ending, owner->pool, milliseconds(0));
    ending->output.close();
    owner->by_pid.erase(ending->pid);
  };
  manager->tasks.spawn(end(manager, std::move(process)), "end of a process");
}

bool answer_branch(Process& process, BranchRequest& request, const worker::Frame& frame) {
  json::error_code failed;
  auto value = json::parse(frame.body, failed);
  if (failed || !value.is_object() || frame.call != request.number) return false;
  const auto& answer = value.get_object();
  if (answer.contains("ready")) {
    std::string body = request.abandoned ? "{\"cancel\":true}" : json::serialize(json::object{{"directory", request.directory}});
    if (request.abandoned) return process.channel->send_now(codec::FrameKind::branch, request.number, body);
    int fds[] = {request.channel.get(), request.output.get()};
    if (!process.channel->send_now(codec::FrameKind::branch, request.number, body, fds)) return false;
    request.channel.reset();
    request.output.reset();
  } else if (answer.contains("branched")) {
    request.finish(Result<void>{});
  } else if (auto* refused = answer.if_contains("refused"); refused && refused->is_string()) {
    request.finish(Error{Code::conflict, "no branch: " + std::string(refused->get_string()), ""});
  } else {
    return false;
  }
  return true;
}

Task<Result<void>> await_branch(std::shared_ptr<Process> process, std::shared_ptr<BranchRequest> request,
                                std::shared_ptr<Session::Impl> session) {
  while (!request->result) {
    auto frame = co_await process->channel->receive(quiet_patience);
    if (!frame) {
      request->finish(frame.error());
      co_return frame.take_error();
    }
    if (session) {
      bool aside = co_await Session::Impl::take_aside(session, *frame);
      if (aside) continue;
    }
    if (frame->kind != codec::FrameKind::branched || !answer_branch(*process, *request, *frame)) {
      Error broken{Code::worker_lost, "the worker broke the protocol while it branched", ""};
      request->finish(broken);
      co_return broken;
    }
  }
  co_return Result<void>{};
}

Task<Result<void>> ask_quiet(std::shared_ptr<Process> process, std::shared_ptr<BranchRequest> request,
                             std::shared_ptr<Session::Impl> session) {
  std::string head = "{}", body;
  auto sent = co_await process->channel->send(codec::FrameKind::branch, request->number, std::move(head), std::move(body));
  if (!sent) {
    request->finish(sent.error());
    co_return sent.take_error();
  }
  co_return co_await await_branch(process, request, session);
}

Result<Ends> make_ends(BranchRequest& request) {
  auto channel = os::socket_pair(os::SocketKind::stream);
  if (!channel) return channel.take_error();
  auto told = os::set_sender_pids(channel->first.get(), true);
  if (!told) return told.take_error();
  auto output = os::make_pipe();
  if (!output) return output.take_error();
  request.channel = std::move(channel->second);
  request.output = std::move(output->second);
  return Ends{std::move(channel->first), std::move(output->first)};
}

std::shared_ptr<GroupToBe> begin_group(std::shared_ptr<Manager::Impl> manager, std::shared_ptr<Process> source, std::string name, Limits limits) {
  if (!manager->groups) return nullptr;
  auto group = std::make_shared<GroupToBe>();
  auto make = [](std::shared_ptr<Manager::Impl> owner, std::shared_ptr<GroupToBe> to_be, std::shared_ptr<Process> from, std::string id,
                 Limits bounds) -> Task<void> {
    auto tree = owner->groups;
    auto group_limits = limits_of_group(bounds);
    auto neighbour = from->group;
    const pid_t member = from->exit_status ? -1 : from->pid;
    auto work = [tree, id, group_limits, neighbour, member]() -> Result<os::CgroupGroup> {
      auto made = tree->create(id, group_limits);
      if (made && neighbour && member > 0) neighbour->expect_add(member);
      return made;
    };
    auto made = co_await async::on_pool(owner->pool, std::move(work));
    to_be->made.emplace(std::move(made));
    to_be->done.set();
  };
  manager->tasks.spawn(make(manager, group, std::move(source), std::move(name), limits), "limits of a branch");
  return group;
}

void drop_group(std::shared_ptr<Manager::Impl> manager, std::shared_ptr<GroupToBe> group) {
  if (!group) return;
  auto drop = [](std::shared_ptr<Manager::Impl> owner, std::shared_ptr<GroupToBe> to_be) -> Task<void> {
    co_await to_be->done.wait();
    if (!to_be->made || !*to_be->made) co_return;
    auto made = std::make_shared<os::CgroupGroup>(std::move(**to_be->made));
    auto remove = [made] { (void)made->remove(); };
    co_await async::on_pool(owner->pool, std::move(remove));
  };
  manager->tasks.spawn(drop(manager, std::move(group)), "limits of no branch");
}

Task<Result<std::shared_ptr<Process>>> raise(std::shared_ptr<Manager::Impl> manager, std::string engine, std::shared_ptr<Sandbox> sandbox,
                                             Ends ends, std::shared_ptr<GroupToBe> group) {
  auto process = std::make_shared<Process>();
  process->sandbox = std::move(sandbox);
  const int socket = ends.channel.get();
  process->channel = std::make_unique<worker::Channel>(manager->loop, std::move(ends.channel));
  bool readable = co_await process->channel->readable(hello_patience);
  pid_t pid = readable ? os::peek_sender_pid(socket) : -1;
  (void)os::set_sender_pids(socket, false);
  // A pid that is known already is no copy: the worker said hello itself.
  if (pid <= 1 || manager->by_pid.count(pid)) {
    drop_group(manager, group);
    co_return Error{Code::worker_lost, "the branch did not start", ""};
  }
  auto pidfd = os::open_pidfd(pid);
  if (!pidfd) {
    drop_group(manager, group);
    co_return Error{Code::worker_lost, "the branch ended at its start", ""};
  }
  process->pid = pid;
  process->pidfd = std::move(*pidfd);
  process->output = async::FdWatch(manager->loop, ends.output.release());
  manager->by_pid[pid] = process;
  auto found = manager->engines.find(engine);
  if (found != manager->engines.end()) found->second->adopt(pid);
  Result<void> ready;
  if (group) {
    co_await group->done.wait();
    if (!group->made) {
      drop_group(manager, group);
      ready = Error{Code::unavailable, "the server is stopping", ""};
    } else if (!*group->made) {
      ready = group->made->take_error();
    } else {
      process->group = std::move(**group->made);
      auto put = [own = *process->group, pid]() mutable { return own.add(pid); };
      ready = co_await async::on_pool(manager->pool, std::move(put));
    }
  }
  if (ready) {
    auto hello = co_await process->channel->receive(hello_patience);
    if (!hello) ready = hello.take_error();
    else if (hello->kind != codec::FrameKind::hello) ready = Error{Code::worker_lost, "the branch broke the protocol at its start", ""};
  }
  if (!ready) {
    retire(manager, process);
    co_return ready.take_error();
  }
  co_return process;
}

Task<Result<std::shared_ptr<Process>>> copy_quiet(std::shared_ptr<Manager::Impl> manager, std::string engine, std::shared_ptr<Process> source,
                                                  std::string directory, Limits limits) {
  auto request = std::make_shared<BranchRequest>();
  request->number = next_number();
  request->directory = directory;
  auto ends = make_ends(*request);
  if (!ends) co_return ends.take_error();
  auto group = begin_group(manager, source, std::move(directory), limits);
  auto asked = co_await ask_quiet(source, request, nullptr);
  if (asked) asked = *request->result;
  if (!asked) {
    drop_group(manager, group);
    co_return asked.take_error();
  }
  auto sandbox = source->sandbox;
  co_return co_await raise(manager, std::move(engine), std::move(sandbox), std::move(*ends), std::move(group));
}

Task<Result<void>> let_go(std::shared_ptr<Process> process, std::string go) {
  std::string body;
  co_return co_await process->channel->send(codec::FrameKind::go, 0, std::move(go), std::move(body));
}

// ---- of a session ------------------------------------------------------------------------------------------------

Task<Result<void>> Session::Impl::ask_for_branch(std::shared_ptr<Impl> self, std::shared_ptr<BranchRequest> request) {
  const auto give_up = Clock::now() + slice_patience * 2;
  bool sent = false;
  for (int attempt = 0; attempt < 200 && self->running && !self->intended_end && !sent;) {
    if (auto other = self->branching; other && !other->result) {  // also one that nobody waits for any more: the worker still answers it
      const auto left = std::chrono::duration_cast<milliseconds>(give_up - Clock::now());
      if (left.count() <= 0) co_return Error{Code::unavailable, "the session is still busy with another branch: try again later", ""};
      co_await other->done.wait(left);
      continue;
    }
    const std::string body = "{}";
    sent = self->process->channel->send_now(codec::FrameKind::branch, request->number, body);
    if (sent) break;
    ++attempt;
    co_await async::sleep_for(milliseconds(5));  // the call's own frame is on its way
  }
  if (sent) {
    self->branching = request;
    self->process->interrupt();  // it looks at its channel
    bool answered = co_await request->done.wait(slice_patience);
    if (!answered) {
      request->abandoned = true;
      co_return Error{Code::conflict,
                      "no branch: the running call did not reach a point within 10 s where the session can be copied; try again "
                      "after it, or interrupt it", ""};
    }
    co_return *request->result;
  }
  // One that starts does it as its first job.
  if (self->state == State::ended || self->intended_end) co_return self->ended_error();
  if (self->queue.size() >= self->limits.queue) co_return Error{Code::too_many, "the session's queue is full: try again later", ""};
  auto job = std::make_shared<PendingCall>();
  std::weak_ptr<PendingCall> weak = job;
  job->instead = [request, weak](std::shared_ptr<Impl> session) -> Task<bool> {
    return [](std::shared_ptr<Impl> owner, std::shared_ptr<BranchRequest> asked, std::shared_ptr<PendingCall> queued) -> Task<bool> {
      auto process = owner->process;
      asked->history = owner->history;
      auto done = co_await ask_quiet(process, asked, owner);
      if (queued) queued->finish(Answer{});
      co_return static_cast<bool>(done);
    }(std::move(session), request, weak.lock());
  };
  self->queue.push_back(job);
  self->work.set();
  co_await job->done.wait();  // a session that ends answers what is queued
  if (!request->result) {
    if (job->result && !*job->result) co_return job->result->take_error();
    co_return Error{Code::unavailable, "the wait for the branch was given up", ""};
  }
  co_return *request->result;
}

namespace {
/// A branch that failed because its session died says what the session died of.
Task<Error> of_the_end(std::shared_ptr<Session::Impl> session, Error error) {
  constexpr milliseconds end_patience{5'000};
  if (error.code != Code::worker_lost || !(session->state == State::ended || session->intended_end || session->process->exit_status)) co_return error;
  if (session->state != State::ended) co_await session->over.wait(end_patience);
  co_return session->ended_error();
}
}  // namespace

Task<Result<std::vector<std::shared_ptr<Process>>>> Session::Impl::branch(std::shared_ptr<Impl> self, std::vector<std::string> directories,
                                                                          bool dormant, History* history) {
  auto request = std::make_shared<BranchRequest>();
  request->number = next_number();
  request->directory = directories.front();
  auto ends = make_ends(*request);
  if (!ends) co_return ends.take_error();
  auto manager = self->manager.shared_from_this();
  auto group = begin_group(manager, self->process, directories.front(), self->limits);
  auto done = co_await ask_for_branch(self, request);
  if (!done) {
    drop_group(manager, group);
    auto why = done.take_error();
    co_return co_await of_the_end(self, std::move(why));
  }
  *history = std::move(request->history);
  auto sandbox = self->process->sandbox;
  auto first = co_await raise(manager, self->engine, sandbox, std::move(*ends), std::move(group));
  if (!first) {
    auto why = first.take_error();
    co_return co_await of_the_end(self, std::move(why));
  }
  std::vector<std::shared_ptr<Process>> made{*first};
  // The session may have gone on already. The first copy has not: the others are made from it, before it goes.
  Result<void> all;
  for (std::size_t i = 1; i < directories.size() && all; ++i) {
    std::string engine_name = self->engine, directory = directories[i];
    auto next = co_await copy_quiet(manager, std::move(engine_name), made.front(), std::move(directory), self->limits);
    if (next) made.push_back(*next);
    else all = next.take_error();
  }
  for (std::size_t i = 0; i < made.size() && all; ++i) {
    std::string go = self->go_options(dormant);
    all = co_await let_go(made[i], std::move(go));
  }
  if (!all) {
    for (auto& process : made) retire(manager, process);
    co_return all.take_error();
  }
  co_return made;
}

Task<Result<std::shared_ptr<SavedState>>> Session::Impl::save(std::shared_ptr<Impl> self) {
  if (self->state == State::ended || self->intended_end) co_return self->ended_error();
  if (self->queue.size() >= self->limits.queue) co_return Error{Code::too_many, "the session's queue is full: try again later", ""};
  auto job = std::make_shared<PendingCall>();
  auto history = std::make_shared<History>();
  std::weak_ptr<PendingCall> weak = job;
  job->instead = [weak, history](std::shared_ptr<Impl> session) -> Task<bool> {
    return [](std::shared_ptr<Impl> owner, std::shared_ptr<PendingCall> asked, std::shared_ptr<History> calls) -> Task<bool> {
      auto part = std::make_shared<PendingCall>();
      part->call = internal_call(R"({"method":"save"})");
      bool alive = co_await run_one(owner, part);
      *calls = owner->history;  // before a later call is added
      if (part->result) asked->finish(std::move(*part->result));
      else asked->finish(Error{Code::gone, "the session ended while its state was saved", ""});
      co_return alive;
    }(std::move(session), weak.lock(), history);
  };
  self->queue.push_back(job);
  self->work.set();
  co_await job->done.wait();
  if (!job->result) co_return Error{Code::unavailable, "the wait for the state was given up", ""};
  if (!*job->result) co_return job->result->take_error();
  auto saved = take_saved(std::move(**job->result));
  if (saved) (*saved)->history = std::move(*history);
  co_return saved;
}

Task<bool> Session::Impl::restore(std::shared_ptr<Impl> self, std::shared_ptr<SavedState> saved, std::shared_ptr<PendingCall> job) {
  std::uint64_t at = 0;
  do {
    const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(part_bytes, saved->bytes - at));
    auto read = [saved, at, count]() -> Result<std::string> {
      std::string bytes(count, '\0');
      auto done = os::read_exactly_at(saved->memfd.get(), bytes.data(), count, at);
      if (!done) return done.take_error();
      return bytes;
    };
    auto bytes = co_await async::on_pool(self->manager.pool, std::move(read));
    if (!bytes) {
      job->finish(bytes.take_error());
      co_return true;
    }
    json::object meta{{"method", "restore"}, {"first", at == 0}, {"last", at + count == saved->bytes}};
    at += count;
    auto part = std::make_shared<PendingCall>();
    part->call = internal_call(json::serialize(meta), std::move(*bytes));
    bool alive = co_await run_one(self, part);
    if (!alive || !part->result) {
      self->dirty = true;
      job->finish(Error{Code::gone, "the session ended while a saved state was put back", ""});
      co_return false;
    }
    if (!*part->result) {
      job->finish(Error{Code::conflict, "no way back: " + part->result->error().message, part->result->error().detail});
      co_return true;
    }
  } while (at < saved->bytes);
  self->history = saved->history;
  self->tell("rewound");
  self->dirty = true;
  self->last_used = std::chrono::system_clock::now();
  job->finish(Answer{});
  co_return true;
}

Task<Result<std::shared_ptr<Process>>> Session::Impl::copy_of(std::shared_ptr<Impl> self, std::shared_ptr<Checkpoint> checkpoint) {
  auto manager = self->manager.shared_from_this();
  std::string engine_name = self->engine, directory = make_id("g_");
  auto fresh = co_await copy_quiet(manager, std::move(engine_name), checkpoint->process, std::move(directory), self->limits);
  if (fresh) {
    std::string go = self->go_options(false);
    auto gone = co_await let_go(*fresh, std::move(go));
    if (gone) co_return *fresh;
    retire(manager, *fresh);
    fresh = gone.take_error();
  }
  auto why = fresh.take_error();
  // It is the checkpoint that is lost then, not the session.
  co_return Error{why.code == Code::worker_lost ? Code::conflict : why.code, "no way back: " + why.message, ""};
}

Task<bool> Session::Impl::rewind(std::shared_ptr<Impl> self, std::shared_ptr<Checkpoint> checkpoint, std::shared_ptr<PendingCall> job) {
  if (checkpoint->saved) {
    auto saved = checkpoint->saved;
    bool alive = co_await restore(self, saved, job);
    co_return alive;
  }
  auto manager = self->manager.shared_from_this();
  auto fresh = co_await copy_of(self, checkpoint);
  if (!fresh) {
    job->finish(fresh.take_error());
    co_return true;
  }
  if (self->intended_end) {
    retire(manager, *fresh);
    job->finish(Error{Code::gone, self->intended_end->second, ""});
    co_return false;
  }
  auto old = self->process;
  self->adopt(*fresh);
  self->history = checkpoint->history;
  retire(manager, std::move(old));
  if (self->listener) {
    self->tell("rewound");
    bool follows = self->followed;
    self->followed = self->follow_asked = false;
    if (follows) Session(self).follow();
  }
  self->dirty = true;
  self->last_used = std::chrono::system_clock::now();
  job->finish(Answer{});
  co_return true;
}

std::vector<CheckpointStatus> Session::checkpoints() const {
  std::vector<CheckpointStatus> out;
  for (auto& checkpoint : impl_->checkpoints) out.push_back(describe(impl_->id, *checkpoint));
  return out;
}

Result<void> Session::remove_checkpoint(const std::string& id) {
  auto& all = impl_->checkpoints;
  auto found = std::find_if(all.begin(), all.end(), [&id](auto& c) { return c->id == id; });
  if (found == all.end()) return impl_->manager.no_checkpoint(impl_->id, id);
  auto checkpoint = *found;
  all.erase(found);
  if (checkpoint->process) retire(impl_->manager.shared_from_this(), checkpoint->process);
  return {};
}

Task<Result<void>> Session::rewind(std::string checkpoint_id) {
  auto self = impl_;
  if (self->state == State::ended) co_return self->ended_error();
  auto found = std::find_if(self->checkpoints.begin(), self->checkpoints.end(), [&checkpoint_id](auto& c) { return c->id == checkpoint_id; });
  if (found == self->checkpoints.end()) co_return self->manager.no_checkpoint(self->id, checkpoint_id);
  if (self->queue.size() >= self->limits.queue) co_return Error{Code::too_many, "the session's queue is full: try again later", ""};
  auto checkpoint = *found;
  auto job = std::make_shared<PendingCall>();
  std::weak_ptr<PendingCall> weak = job;
  job->instead = [checkpoint, weak](std::shared_ptr<Impl> session) -> Task<bool> { return Impl::rewind(std::move(session), checkpoint, weak.lock()); };
  self->queue.push_back(job);
  self->work.set();
  co_await job->done.wait();
  if (!job->result) co_return Error{Code::unavailable, "the wait was given up; the session still goes back", ""};
  if (!*job->result) co_return job->result->take_error();
  co_return Result<void>{};
}

// ---- of the manager ----------------------------------------------------------------------------------------------

Task<Result<std::vector<Session>>> Manager::branch(Session from, std::vector<std::string> names) {
  auto self = impl_;
  auto parent = self->live.find(from.id());
  if (parent == self->live.end()) co_return Error{Code::gone, "the session has ended", ""};
  auto source = parent->second;
  auto allowed = self->may_add(source->owner, source->engine, names.size());
  if (!allowed) co_return allowed.take_error();
  auto is_free = [self, source](const std::string& name) -> Result<void> {
    auto other = self->by_name.find({source->owner.id, source->engine, name});
    if (other == self->by_name.end() || other->second->state == State::ended) return {};
    return Error{Code::conflict, "you already have a session '" + name + "' on " + source->engine + ": " + other->second->id, ""};
  };
  // All or none: names are looked at before the first is made.
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) continue;
    if (auto free = is_free(names[i]); !free) co_return free.take_error();
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) != names.begin() + static_cast<std::ptrdiff_t>(i))
      co_return Error{Code::conflict, "two branches can't both be named '" + names[i] + "'", ""};
  }
  std::shared_ptr<SavedState> saved;
  if (self->saves(source->engine)) {
    auto taken = co_await Session::Impl::save(source);
    if (!taken) co_return taken.take_error();
    saved = *taken;
  }
  for (auto& name : names) {
    if (!name.empty()) continue;
    int number = 1;
    auto is_taken = [&](const std::string& candidate) {
      return self->by_name.count({source->owner.id, source->engine, candidate}) || std::find(names.begin(), names.end(), candidate) != names.end();
    };
    std::string candidate;
    do candidate = source->name + "." + std::to_string(number++);
    while (is_taken(candidate));
    name = std::move(candidate);
  }
  std::vector<Session> made;
  if (saved) {
    auto end_made = [&made] {
      for (auto& session : made) session.end("deleted", "a branch made with it failed");
    };
    for (auto& name : names) {
      if (auto free = is_free(name); !free) {
        end_made();
        co_return free.take_error();
      }
      User owner = source->owner;
      std::string engine = source->engine, origin = source->id;
      auto begun = co_await Impl::begin_from(self, std::move(owner), std::move(engine), std::move(name), std::move(origin), saved);
      if (!begun) {
        end_made();
        co_return begun.take_error();
      }
      made.emplace_back(*begun);
    }
    co_return made;
  }
  std::vector<std::shared_ptr<Session::Impl>> branches;
  std::vector<std::string> directories;
  for (auto& name : names) {
    auto branched = std::make_shared<Session::Impl>(*self, source->owner, source->engine, name, source->limits, false);
    branched->parent = source->id;
    branched->born = true;
    branched->dirty = true;
    directories.push_back(branched->id);
    self->tasks.spawn(Session::Impl::record(branched), "record of a branch");  // its first call would wait for it
    branches.push_back(std::move(branched));
  }
  History history;
  auto processes = co_await Session::Impl::branch(source, std::move(directories), false, &history);
  Result<void> fits;
  if (!processes) {
    fits = processes.take_error();
  } else {
    // Others may have been made meanwhile.
    fits = self->may_add(source->owner, source->engine, names.size());
    if (source->unwanted()) fits = source->ended_error();
    for (auto& name : names)
      if (fits) fits = is_free(name);
    if (!fits)
      for (auto& process : *processes) retire(self, process);
  }
  if (!fits) {
    for (auto& branched : branches)
      self->tasks.spawn(Session::Impl::record_end(branched, {"failed", "the branch was not made", "", std::chrono::system_clock::now()}), "end of no branch");
    co_return fits.take_error();
  }
  for (std::size_t i = 0; i < branches.size(); ++i) {
    branches[i]->history = history;
    branches[i]->adopt((*processes)[i]);
    self->put(branches[i]);
    made.emplace_back(branches[i]);
  }
  co_return made;
}

Task<Result<Manager::Made>> Manager::checkpoint(Session session, std::string name) {
  auto self = impl_;
  auto found = self->live.find(session.id());
  if (found == self->live.end()) co_return Error{Code::gone, "the session has ended", ""};
  auto source = found->second;
  const std::size_t mine = self->checkpoints_of(source->owner.id).size();
  if (mine >= source->limits.checkpoints_per_user)
    co_return Error{Code::too_many, "you have " + std::to_string(mine) + " checkpoints, the most that are allowed: delete some", ""};
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->id = make_id("c_");
  checkpoint->name = std::move(name);
  if (self->saves(source->engine)) {
    auto saved = co_await Session::Impl::save(source);
    if (!saved) co_return saved.take_error();
    checkpoint->saved = *saved;
    checkpoint->bytes = (*saved)->bytes;
  } else {
    std::vector<std::string> directory{checkpoint->id};
    auto process = co_await Session::Impl::branch(source, std::move(directory), true, &checkpoint->history);
    if (!process) co_return process.take_error();
    checkpoint->process = process->front();
  }
  if (source->state == State::ended || source->unwanted()) {
    if (checkpoint->process) retire(self, checkpoint->process);
    co_return source->ended_error();
  }
  if (self->checkpoints_of(source->owner.id).size() >= source->limits.checkpoints_per_user) {  // others were made meanwhile
    if (checkpoint->process) retire(self, checkpoint->process);
    co_return Error{Code::too_many, "you have " + std::to_string(source->limits.checkpoints_per_user) + " checkpoints, the most that are allowed: delete some", ""};
  }
  source->checkpoints.push_back(checkpoint);
  auto evicted = co_await Impl::fit_checkpoints(self, source->owner.id, checkpoint->id);
  if (!evicted) {
    (void)self->drop_checkpoint(source->id, checkpoint->id);
    co_return evicted.take_error();
  }
  if (source->unwanted()) co_return source->ended_error();  // and took it along
  co_return Made{describe(source->id, *checkpoint), std::move(*evicted)};
}

bool Manager::Impl::saves(const std::string& engine) const {
  auto found = engines.find(engine);
  const auto* info = found == engines.end() ? nullptr : found->second->info();
  return info && info->saves;
}

namespace {
/// A session that continues from another one's state, if its user may have one more; it has neither state nor process yet.
Result<std::shared_ptr<Session::Impl>> successor(Manager::Impl& manager, User owner, std::string engine, std::string name, std::string parent) {
  auto allowed = manager.may_add(owner, engine, 1);
  if (!allowed) return allowed.take_error();
  Limits limits = manager.options.limits_for(engine, owner.name);
  auto session = std::make_shared<Session::Impl>(manager, std::move(owner), std::move(engine), std::move(name), limits, false);
  session->parent = std::move(parent);
  return session;
}
}  // namespace

Task<Result<std::shared_ptr<Session::Impl>>> Manager::Impl::begin_from(std::shared_ptr<Impl> self, User owner, std::string engine, std::string name,
                                                                       std::string parent, std::shared_ptr<SavedState> saved) {
  auto next = successor(*self, std::move(owner), std::move(engine), std::move(name), std::move(parent));
  if (!next) co_return next.take_error();
  auto session = *next;
  auto job = std::make_shared<PendingCall>();
  std::weak_ptr<PendingCall> weak = job;
  job->instead = [saved, weak](std::shared_ptr<Session::Impl> begun) -> Task<bool> {
    return Session::Impl::restore(std::move(begun), saved, weak.lock());
  };
  session->queue.push_back(job);
  self->put(session);
  co_await job->done.wait();
  if (!job->result) co_return Error{Code::unavailable, "the wait for the session was given up", ""};
  if (!*job->result) {
    Session(session).end("failed", "its state could not be put in place");
    co_return job->result->take_error();
  }
  co_return session;
}

Task<Result<std::shared_ptr<Session::Impl>>> Manager::Impl::begin_copy(std::shared_ptr<Impl> self, User owner, std::string engine, std::string name,
                                                                       std::string parent, std::shared_ptr<Checkpoint> checkpoint) {
  auto next = successor(*self, std::move(owner), std::move(engine), std::move(name), std::move(parent));
  if (!next) co_return next.take_error();
  auto session = *next;
  session->born = true;
  session->dirty = true;
  auto process = co_await Session::Impl::copy_of(session, checkpoint);
  if (!process) co_return process.take_error();
  // Others may have been made meanwhile.
  auto allowed = self->may_add(session->owner, session->engine, 1);
  auto same = self->by_name.find({session->owner.id, session->engine, session->name});
  if (allowed && same != self->by_name.end() && same->second->state != State::ended)
    allowed = Error{Code::conflict, "you already have a session '" + session->name + "' on " + session->engine + ": " + same->second->id, ""};
  if (!allowed) {
    retire(self, *process);
    co_return allowed.take_error();
  }
  session->history = checkpoint->history;
  session->adopt(*process);
  self->put(session);
  co_return session;
}

std::vector<std::pair<std::string, std::shared_ptr<Checkpoint>>> Manager::Impl::checkpoints_of(const std::string& user) const {
  std::vector<std::pair<std::string, std::shared_ptr<Checkpoint>>> all;
  for (auto& [id, session] : live)
    if (user.empty() || session->owner.id == user)
      for (auto& checkpoint : session->checkpoints) all.emplace_back(id, checkpoint);
  for (auto& [id, left] : left_behind)
    if (user.empty() || left.owner.id == user)
      for (auto& checkpoint : left.checkpoints) all.emplace_back(id, checkpoint);
  return all;
}

Error Manager::Impl::no_checkpoint(const std::string& session, const std::string& id) const {
  std::string text = "no checkpoint " + id + " of this session";
  for (auto& one : dropped)
    if (one.session == session && one.id == id) text += ": " + one.why;
  return {Code::not_found, std::move(text), ""};
}

bool Manager::Impl::drop_checkpoint(const std::string& session, const std::string& id, std::string why) {
  constexpr std::size_t most_remembered = 1000;
  const bool told = !why.empty();
  if (told) dropped.push_back({session, id, std::move(why)});
  if (dropped.size() > most_remembered) dropped.pop_front();
  if (auto found = live.find(session); found != live.end()) return static_cast<bool>(Session(found->second).remove_checkpoint(id));
  auto left = left_behind.find(session);
  if (left == left_behind.end()) return false;
  auto& all = left->second.checkpoints;
  auto which = std::find_if(all.begin(), all.end(), [&id](auto& c) { return c->id == id; });
  if (which == all.end()) return false;
  if ((*which)->process) retire(shared_from_this(), (*which)->process);
  all.erase(which);
  if (all.empty() && !told) left_behind.erase(left);  // else who asks for it hears why
  return true;
}

void Manager::Impl::drop_left(const std::function<bool(const LeftBehind&)>& of, bool copies) {
  for (auto left = left_behind.begin(); left != left_behind.end();) {
    if (of(left->second)) {
      std::erase_if(left->second.checkpoints, [&](auto& checkpoint) {
        if (checkpoint->process) retire(shared_from_this(), checkpoint->process);
        return checkpoint->process || !copies;
      });
      if (left->second.checkpoints.empty()) {
        left = left_behind.erase(left);
        continue;
      }
    }
    ++left;
  }
}

std::optional<std::vector<CheckpointStatus>> Manager::left_checkpoints(const User& user, const std::string& session) const {
  auto found = impl_->left_behind.find(session);
  if (found == impl_->left_behind.end() || (!user.is_operator && found->second.owner.id != user.id)) return std::nullopt;
  std::vector<CheckpointStatus> out;
  for (auto& checkpoint : found->second.checkpoints) out.push_back(describe(session, *checkpoint));
  return out;
}

Result<void> Manager::remove_left_checkpoint(const User& user, const std::string& session, const std::string& id) {
  auto found = impl_->left_behind.find(session);
  if (found == impl_->left_behind.end() || (!user.is_operator && found->second.owner.id != user.id) || !impl_->drop_checkpoint(session, id))
    return impl_->no_checkpoint(session, id);
  return {};
}

Task<Result<Session>> Manager::revive(User user, std::string session, std::string checkpoint_id) {
  auto self = impl_;
  auto unknown = self->no_checkpoint(session, checkpoint_id);
  auto found = self->left_behind.find(session);
  if (found == self->left_behind.end() || (!user.is_operator && found->second.owner.id != user.id)) co_return unknown;
  auto& all = found->second.checkpoints;
  auto which = std::find_if(all.begin(), all.end(), [&checkpoint_id](auto& c) { return c->id == checkpoint_id; });
  if (which == all.end()) co_return unknown;
  if (found->second.reviving) co_return Error{Code::conflict, "the session is being brought back already", ""};
  found->second.reviving = true;
  auto checkpoint = *which;
  User owner = found->second.owner;
  std::string engine = found->second.engine, name = found->second.name, parent = session;
  if (auto same = self->by_name.find({owner.id, engine, name}); same != self->by_name.end() && same->second->state != State::ended)
    name = free_name(owner, engine);
  Result<std::shared_ptr<Session::Impl>> begun = Error{Code::internal, "", ""};
  if (checkpoint->saved) begun = co_await Impl::begin_from(self, std::move(owner), std::move(engine), std::move(name), std::move(parent), checkpoint->saved);
  else begun = co_await Impl::begin_copy(self, std::move(owner), std::move(engine), std::move(name), std::move(parent), checkpoint);
  auto left = self->left_behind.find(session);
  if (left != self->left_behind.end()) left->second.reviving = false;
  if (!begun) co_return begun.take_error();
  if (left != self->left_behind.end() && (*begun)->state != State::ended) {
    auto& moved = left->second.checkpoints;
    (*begun)->checkpoints.insert((*begun)->checkpoints.end(), moved.begin(), moved.end());
    self->left_behind.erase(left);
  }
  co_return Session(*begun);
}

Task<Result<std::vector<CheckpointStatus>>> Manager::Impl::fit_checkpoints(std::shared_ptr<Impl> self, std::string user, std::string keep) {
  // Shared pages count by their share: what a checkpoint holds alone is what ending it gives back.
  auto all = self->checkpoints_of(user);
  std::uint64_t budget = 0;
  for (auto& [id, session] : self->live)
    if (session->owner.id == user) budget = std::max(budget, session->limits.checkpoint_bytes);
  std::vector<pid_t> pids;
  for (auto& [session, checkpoint] : all) pids.push_back(checkpoint->process ? checkpoint->process->pid : -1);
  auto measure = [pids] {
    std::vector<std::uint64_t> bytes;
    for (pid_t pid : pids) bytes.push_back(pid > 0 ? os::proportional_bytes(pid) : 0);
    return bytes;
  };
  auto bytes = co_await async::on_pool(self->pool, std::move(measure));
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (pids[i] > 0) all[i].second->bytes = bytes[i];
    sum += all[i].second->bytes;
  }
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.second->created < b.second->created; });
  std::vector<CheckpointStatus> evicted;
  for (auto& [session, checkpoint] : all) {
    if (budget == 0 || sum <= budget) break;
    if (!checkpoint->name.empty() || checkpoint->id == keep) continue;
    sum -= checkpoint->bytes;
    evicted.push_back(describe(session, *checkpoint));
  }
  if (budget != 0 && sum > budget)
    co_return Error{Code::insufficient_storage, "your checkpoints would hold " + std::to_string(sum >> 20) + " MiB, over the budget of " +
                                                    std::to_string(budget >> 20) + " MiB, and those left have names: delete some of them", ""};
  const std::string why = "it was dropped to make room for a newer one within your budget of " + std::to_string(budget >> 20) + " MiB";
  for (auto& one : evicted) (void)self->drop_checkpoint(one.session, one.id, why);  // now that it helps
  co_return evicted;
}

}  // namespace myelin::session
