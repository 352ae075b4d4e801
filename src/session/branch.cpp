#include "session/branch.hpp"

#include <algorithm>
#include <boost/json.hpp>

#include "base/ids.hpp"
#include "base/log.hpp"
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

CheckpointStatus describe(const Session::Impl& session, const Checkpoint& checkpoint) {
  return {checkpoint.id, checkpoint.name, session.id, checkpoint.bytes, checkpoint.created};
}

/// Ends a dormant process, in the background.
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

}  // namespace

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
                                             Ends ends, std::shared_ptr<GroupToBe> group, std::string go) {
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
  if (ready) {
    std::string body;
    ready = co_await process->channel->send(codec::FrameKind::go, 0, std::move(go), std::move(body));
  }
  if (!ready) {
    retire(manager, process);
    co_return ready.take_error();
  }
  co_return process;
}

// ---- of a session ------------------------------------------------------------------------------------------------

Task<Result<void>> Session::Impl::ask_for_branch(std::shared_ptr<Impl> self, std::shared_ptr<BranchRequest> request) {
  while (self->branching && !self->branching->result && self->state != State::ended) {
    self->branch_free.reset();
    bool freed = co_await self->branch_free.wait(slice_patience * 2);
    if (!freed) co_return Error{Code::unavailable, "the session is still busy with another branch: try again later", ""};
  }
  if (self->state == State::ended || self->intended_end) co_return self->ended_error();
  if (self->state == State::starting) {
    // its first job: the runner does it when the session is there
  } else if (self->running) {
    self->branching = request;
    bool sent = false;
    const std::string body = "{}";
    for (int attempt = 0; attempt < 200 && self->running && !request->result; ++attempt) {
      sent = self->process->channel->send_now(codec::FrameKind::branch, request->number, body);
      if (sent) break;
      co_await async::sleep_for(milliseconds(5));  // the call's own frame is on its way
    }
    if (sent) {
      self->process->interrupt();  // it looks at its channel
      bool answered = co_await request->done.wait(slice_patience);
      if (!answered) {
        request->abandoned = true;
        co_return Error{Code::conflict,
                        "no branch: the running call did not reach a point within 10 s where the session can be copied; try again "
                        "after it, or interrupt it", ""};
      }
      self->branch_free.pulse();
      co_return *request->result;
    }
    self->branching.reset();
    if (request->result) co_return *request->result;
  }
  if (self->queue.size() >= self->limits.queue) co_return Error{Code::too_many, "the session's queue is full: try again later", ""};
  auto job = std::make_shared<PendingCall>();
  job->instead = [request](std::shared_ptr<Impl> session) -> Task<bool> {
    return [](std::shared_ptr<Impl> owner, std::shared_ptr<BranchRequest> asked) -> Task<bool> {
      auto process = owner->process;
      auto done = co_await ask_quiet(process, asked, owner);
      co_return static_cast<bool>(done);
    }(std::move(session), request);
  };
  self->queue.push_back(job);
  self->work.set();
  co_await request->done.wait();
  if (!request->result) co_return Error{Code::unavailable, "the wait for the branch was given up", ""};
  co_return *request->result;
}

Task<Result<std::shared_ptr<Process>>> Session::Impl::branch(std::shared_ptr<Impl> self, std::string directory, bool dormant) {
  auto request = std::make_shared<BranchRequest>();
  static std::uint64_t numbers = 0;
  request->number = ++numbers;
  request->directory = directory;
  auto ends = make_ends(*request);
  if (!ends) co_return ends.take_error();
  auto manager = self->manager.shared_from_this();
  auto group = begin_group(manager, self->process, std::move(directory), self->limits);
  auto done = co_await ask_for_branch(self, request);
  if (!done) {
    drop_group(manager, group);
    co_return done.take_error();
  }
  std::string go = self->go_options(dormant);
  auto sandbox = self->process->sandbox;
  co_return co_await raise(manager, self->engine, sandbox, std::move(*ends), std::move(group), std::move(go));
}

Task<bool> Session::Impl::rewind(std::shared_ptr<Impl> self, std::shared_ptr<Checkpoint> checkpoint, std::shared_ptr<PendingCall> job) {
  auto request = std::make_shared<BranchRequest>();
  request->number = ++self->call_number;
  request->directory = make_id("g_");
  auto manager = self->manager.shared_from_this();
  auto source = checkpoint->process;
  auto ends = make_ends(*request);
  auto group = begin_group(manager, source, request->directory, self->limits);
  Result<void> ready;
  if (!ends) ready = ends.take_error();
  if (ready) ready = co_await ask_quiet(source, request, nullptr);
  if (ready && request->result) ready = *request->result;
  if (!ready) {
    drop_group(manager, group);
    job->finish(Error{Code::conflict, "no way back: " + ready.error().message, ""});
    co_return true;
  }
  std::string go = self->go_options(false);
  auto fresh = co_await raise(manager, self->engine, source->sandbox, std::move(*ends), std::move(group), std::move(go));
  if (!fresh) {
    job->finish(fresh.take_error());
    co_return true;
  }
  if (self->intended_end) {
    retire(manager, *fresh);
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
  for (auto& checkpoint : impl_->checkpoints) out.push_back(describe(*impl_, *checkpoint));
  return out;
}

Result<void> Session::remove_checkpoint(const std::string& id) {
  auto& all = impl_->checkpoints;
  auto found = std::find_if(all.begin(), all.end(), [&id](auto& c) { return c->id == id; });
  if (found == all.end()) return Error{Code::not_found, "no checkpoint " + id + " of this session", ""};
  auto checkpoint = *found;
  all.erase(found);
  retire(impl_->manager.shared_from_this(), checkpoint->process);
  return {};
}

Task<Result<void>> Session::rewind(std::string checkpoint_id) {
  auto self = impl_;
  if (self->state == State::ended) co_return self->ended_error();
  auto found = std::find_if(self->checkpoints.begin(), self->checkpoints.end(), [&checkpoint_id](auto& c) { return c->id == checkpoint_id; });
  if (found == self->checkpoints.end()) co_return Error{Code::not_found, "no checkpoint " + checkpoint_id + " of this session", ""};
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
  std::vector<Session> made;
  for (auto& wanted : names) {
    std::string name = wanted;
    for (int number = 1; name.empty() || (wanted.empty() && self->by_name.count({source->owner.id, source->engine, name})); ++number)
      name = source->name + "." + std::to_string(number);
    if (auto found = self->by_name.find({source->owner.id, source->engine, name}); found != self->by_name.end() && found->second->state != State::ended)
      co_return Error{Code::conflict, "you already have a session '" + name + "' on " + source->engine + ": " + found->second->id, ""};
    auto branched = std::make_shared<Session::Impl>(*self, source->owner, source->engine, name, source->limits, false);
    branched->parent = source->id;
    branched->born = true;
    branched->dirty = true;
    std::string directory = branched->id;
    auto process = co_await Session::Impl::branch(source, std::move(directory), false);
    if (!process) {
      // All or none: what was made of a request that failed would be nobody's.
      std::string code = "deleted", text = "a branch made with it failed";
      for (auto& session : made) session.end(code, text);
      co_return process.take_error();
    }
    branched->history = source->history;
    if (source->running) branched->history.spoil();  // somewhere within a call
    branched->adopt(*process);
    self->put(branched);
    made.emplace_back(branched);
  }
  co_return made;
}

Task<Result<Manager::Made>> Manager::checkpoint(Session session, std::string name) {
  auto self = impl_;
  auto found = self->live.find(session.id());
  if (found == self->live.end()) co_return Error{Code::gone, "the session has ended", ""};
  auto source = found->second;
  std::size_t mine = 0;
  for (auto& [id, other] : self->live)
    if (other->owner.id == source->owner.id) mine += other->checkpoints.size();
  if (mine >= source->limits.checkpoints_per_user)
    co_return Error{Code::too_many, "you have " + std::to_string(mine) + " checkpoints, the most that are allowed: delete some", ""};
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->id = make_id("c_");
  checkpoint->name = std::move(name);
  std::string directory = checkpoint->id;
  auto process = co_await Session::Impl::branch(source, std::move(directory), true);
  if (!process) co_return process.take_error();
  checkpoint->process = *process;
  checkpoint->history = source->history;
  if (source->running) checkpoint->history.spoil();
  if (source->state == State::ended) {
    retire(self, *process);
    co_return source->ended_error();
  }
  source->checkpoints.push_back(checkpoint);
  auto evicted = co_await Impl::fit_checkpoints(self, source->owner.id, checkpoint->id);
  if (!evicted) {
    (void)session.remove_checkpoint(checkpoint->id);
    co_return evicted.take_error();
  }
  co_return Made{describe(*source, *checkpoint), std::move(*evicted)};
}

Task<Result<std::vector<CheckpointStatus>>> Manager::Impl::fit_checkpoints(std::shared_ptr<Impl> self, std::string user, std::string keep) {
  // Shared pages count by their share: what a checkpoint holds alone is what ending it gives back.
  std::vector<std::pair<std::shared_ptr<Session::Impl>, std::shared_ptr<Checkpoint>>> all;
  std::uint64_t budget = 0;
  for (auto& [id, session] : self->live)
    if (session->owner.id == user) {
      budget = std::max(budget, session->limits.checkpoint_bytes);
      for (auto& checkpoint : session->checkpoints) all.emplace_back(session, checkpoint);
    }
  std::vector<pid_t> pids;
  for (auto& [session, checkpoint] : all) pids.push_back(checkpoint->process->pid);
  auto measure = [pids] {
    std::vector<std::uint64_t> bytes;
    for (pid_t pid : pids) bytes.push_back(os::proportional_bytes(pid));
    return bytes;
  };
  auto bytes = co_await async::on_pool(self->pool, std::move(measure));
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < all.size(); ++i) sum += all[i].second->bytes = bytes[i];
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.second->created < b.second->created; });
  std::vector<CheckpointStatus> evicted;
  for (auto& [session, checkpoint] : all) {
    if (budget == 0 || sum <= budget) break;
    if (!checkpoint->name.empty() || checkpoint->id == keep) continue;
    sum -= checkpoint->bytes;
    evicted.push_back(describe(*session, *checkpoint));
    (void)Session(session).remove_checkpoint(checkpoint->id);
  }
  if (budget != 0 && sum > budget)
    co_return Error{Code::insufficient_storage, "your checkpoints would hold " + std::to_string(sum >> 20) + " MiB, over the budget of " +
                                                    std::to_string(budget >> 20) + " MiB, and those left have names: delete some of them", ""};
  co_return evicted;
}

}  // namespace myelin::session
