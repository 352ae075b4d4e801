#include "session/manager.hpp"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "base/log.hpp"
#include "base/time.hpp"
#include "os/process.hpp"
#include "os/tree.hpp"
#include "session/branch.hpp"
#include "session/impl.hpp"
#include "store/session_records.hpp"

#include <unistd.h>

namespace myelin::session {
namespace {

using async::milliseconds;
using async::Task;

constexpr std::chrono::hours cause_kept{7 * 24};
constexpr std::chrono::seconds renew_pause{10};  // between two tries to start a zygote that died
constexpr std::chrono::minutes engine_idle{30};  // a zygote that nobody used so long ends; the first engine's stays

}  // namespace

Manager::Impl::Impl(async::Loop& l, async::Pool& p, async::Pool& dp, store::Database& d,
                    std::shared_ptr<os::CgroupTree> g, ManagerOptions o)
    : loop(l), pool(p), database_pool(dp), database(d), groups(std::move(g)), options(std::move(o)), tasks(l) {}

User user_of(const accounts::Identity& who) {
  return {who.user_id, who.name, who.is_operator, std::make_shared<const accounts::Identity>(who)};
}

accounts::Identity identity_of(const User& user) {
  if (user.identity) return *user.identity;
  accounts::Identity who;
  who.user_id = user.id;
  who.name = user.name;
  who.is_operator = user.is_operator;
  if (user.is_operator) who.role = accounts::Role::admin;
  return who;
}

Manager::Manager(async::Loop& loop, async::Pool& pool, async::Pool& database_pool, store::Database& database,
                 std::shared_ptr<os::CgroupTree> groups, ManagerOptions options)
    : impl_(std::make_shared<Impl>(loop, pool, database_pool, database, std::move(groups), std::move(options))) {
  for (auto& engine : impl_->options.engines) impl_->start_engine(engine);
}

void Manager::Impl::start_engine(worker::EngineOptions of) {
  std::weak_ptr<Impl> weak = weak_from_this();
  std::string name = of.name;
  engines[name] = std::make_unique<worker::Engine>(loop, std::move(of), options.seccomp_program, [weak](pid_t pid, int status) {
    if (auto self = weak.lock()) self->on_exit(pid, status);
  });
}

Manager::~Manager() {
  for (auto& [name, engine] : impl_->engines) engine->stop();
}

Task<Result<void>> Manager::open(std::string first) {
  auto self = impl_;
  store::Database* database = &self->database;
  std::string text = "the server restarted at " + iso_time(std::chrono::system_clock::now()) + "; what the session held is lost";
  auto mark = [database, text]() -> Result<void> {
    store::SessionRecords records(*database);
    auto lost = records.mark_all_running_as_lost(text, store::now());
    if (!lost) return lost.take_error();
    auto expired = records.expire(store::now() - cause_kept);
    if (!expired) return expired.take_error();
    return {};
  };
  auto marked = co_await async::on_pool(self->database_pool, std::move(mark));
  if (!marked) co_return marked.take_error();
  self->tasks.spawn(Impl::watch(self), "session watch");
  if (self->engines.count(first)) {
    self->engine_used[first] = Clock::time_point::max();  // kept
    self->tasks.spawn(Impl::warm(self, first), "engine start");
  }
  co_return Result<void>{};
}

Task<void> Manager::Impl::warm(std::shared_ptr<Impl> self, std::string name) {
  auto found = self->engines.find(name);
  if (found == self->engines.end()) co_return;
  auto ready = co_await found->second->ready();
  if (!ready) log::error("engine " + name + " is not available: " + ready.error().message);
}

Result<void> Manager::Impl::may_add(const User& user, const std::string& engine, std::size_t more) {
  if (stopping) return Error{Code::unavailable, "the server is stopping", ""};
  if (!has_engine(engine)) {
    std::string known;
    for (auto& [known_name, e] : engines)
      if (has_engine(known_name)) known += (known.empty() ? "" : ", ") + known_name;
    return Error{Code::not_found, "no engine named '" + engine + "'; there are: " + known, ""};
  }
  if (options.one_user_only) {
    if (only_user.empty()) only_user = user.id;
    if (only_user != user.id)
      return Error{Code::forbidden,
                   "this host can't isolate users from each other (see `myelin doctor`), so only one may run sessions; "
                   "`isolation = \"reduced\"` in the configuration allows more", ""};
  }
  Limits limits = options.limits_for(engine, user.name);
  if (more == 0) return {};
  auto mine = std::count_if(live.begin(), live.end(), [&](auto& entry) { return entry.second->owner.id == user.id && !entry.second->bare; });
  if (limits.sessions_per_user && static_cast<std::size_t>(mine) + more > limits.sessions_per_user)
    return Error{Code::too_many, "you have " + std::to_string(mine) + " sessions; " + std::to_string(limits.sessions_per_user) +
                                     " are allowed: end one first", ""};
  return {};
}

Result<std::shared_ptr<Session::Impl>> Manager::Impl::add(User user, std::string engine, std::string name, bool own,
                                                          bool record, std::optional<std::uint64_t> seed) {
  auto allowed = may_add(user, engine, 1);
  if (!allowed) return allowed.take_error();
  Limits limits = options.limits_for(engine, user.name);
  auto session = std::make_shared<Session::Impl>(*this, std::move(user), engine, std::move(name), limits, own);
  session->record_at_start = record;
  if (seed) session->history.seed = *seed;
  put(session);
  return session;
}

void Manager::Impl::put(std::shared_ptr<Session::Impl> session) {
  live[session->id] = session;
  if (!session->bare) by_name[{session->owner.id, session->engine, session->name}] = session;
  if (auto used = engine_used.find(session->engine); used == engine_used.end() || used->second != Clock::time_point::max())
    engine_used[session->engine] = Clock::now();
  if (!session->bare && session->limits.work_quota_bytes > 0 && !work_bytes.count(session->owner.id))
    tasks.spawn(count_work(shared_from_this(), session->owner.id), "files of a user");
  tasks.spawn(Session::Impl::run(session), "session");
}

os::CgroupLimits limits_of_group(const Limits& limits) {
  os::CgroupLimits out;
  out.memory_bytes = limits.memory_bytes;
  out.pids = limits.processes;
  out.cpu_weight = limits.cpu_weight;
  return out;
}

Task<Result<os::CgroupGroup>> Manager::Impl::make_group(std::shared_ptr<Impl> self, std::string name, Limits limits, pid_t pid) {
  auto group_limits = limits_of_group(limits);
  auto tree = self->groups;
  auto make = [tree, name, group_limits, pid]() -> Result<os::CgroupGroup> {
    auto group = tree->create(name, group_limits);
    if (!group) return group;
    auto added = group->add(pid);
    if (added) return group;
    (void)group->remove();
    return added.take_error();
  };
  co_return co_await async::on_pool(self->pool, std::move(make));
}

void Manager::Impl::forget(const Session::Impl& session) {
  live.erase(session.id);
  // The store tells of the end until it is acknowledged. Only what could not be written there stays here.
  if (session.unwritten) return;
  Key key{session.owner.id, session.engine, session.name};
  auto found = by_name.find(key);
  if (found != by_name.end() && found->second.get() == &session) by_name.erase(found);
}

void Manager::Impl::on_exit(pid_t pid, int status) {
  auto found = by_pid.find(pid);
  if (found == by_pid.end()) return;
  if (auto process = found->second.lock()) process->was_reaped(status);
}

std::size_t Manager::Impl::busy() const {
  return static_cast<std::size_t>(std::count_if(live.begin(), live.end(), [](auto& entry) {
    return entry.second->running != nullptr || !entry.second->queue.empty();
  }));
}

// ---- watch -------------------------------------------------------------------------------------------------------

Task<void> Manager::Impl::watch(std::shared_ptr<Impl> self) {
  for (std::uint64_t beat = 1;; ++beat) {
    co_await async::sleep_for(milliseconds(100));
    auto now = Clock::now();
    auto sessions = self->live;  // a tick may end one
    for (auto& [id, session] : sessions) session->tick(now);
    if (beat % 5 == 0) self->relieve_memory();
    if (beat % 10 == 0) self->end_idle(now);
    if (beat % 100 == 0) self->tasks.spawn(check_quotas(self), "quota check");
    if (beat % 36'000 == 0) self->tasks.spawn(expire_records(self), "old causes");
  }
}

Task<void> Manager::Impl::expire_records(std::shared_ptr<Impl> self) {
  self->drop_left([](const LeftBehind& left) { return std::chrono::system_clock::now() - left.ended > cause_kept; });
  store::Database* database = &self->database;
  auto expire = [database] { return store::SessionRecords(*database).expire(store::now() - cause_kept); };
  auto expired = co_await async::on_pool(self->database_pool, std::move(expire));
  if (!expired) log::error("old causes can't be removed: " + expired.error().message);
}

void Manager::Impl::end_idle(Clock::time_point now) {
  auto wall = std::chrono::system_clock::now();
  std::map<std::string, int> sessions_of;
  for (auto& [id, session] : live) {
    ++sessions_of[session->engine];
    if (session->own || session->state != State::idle || session->limits.idle.count() == 0 || !session->queue.empty()) continue;
    if (wall - session->last_used >= session->limits.idle)
      Session(session).end("idle", "the session was ended after " +
                                       std::to_string(session->limits.idle.count() / 1000) + " s without a call");
  }
  for (auto& [id, left] : left_behind)
    for (auto& checkpoint : left.checkpoints)
      if (checkpoint->process) ++sessions_of[left.engine];  // the engine's end would be theirs
  for (auto& [name, used] : engine_used) {
    const bool wanted = used == Clock::time_point::max() || now - used <= engine_idle;
    // A zygote that died is there again before somebody needs it.
    if (wanted && engines[name]->info() && engines[name]->zygote_pid() < 0 && now - engine_renewed[name] > renew_pause) {
      engine_renewed[name] = now;
      tasks.spawn(warm(shared_from_this(), name), "engine start");
    }
    if (used == Clock::time_point::max()) continue;
    if (sessions_of[name] > 0) used = now;
    else if (now - used > engine_idle && engines[name]->running()) {
      log::info("engine " + name + " is idle: its zygote ends");
      engines[name]->stop();
    }
  }
  for (auto name = withdrawn.begin(); name != withdrawn.end();) {
    if (sessions_of[*name] > 0) {
      ++name;
      continue;
    }
    if (auto found = engines.find(*name); found != engines.end()) {
      found->second->stop();
      engines.erase(found);
    }
    engine_used.erase(*name);
    name = withdrawn.erase(name);
  }
}

// Memory: without cgroups each session is watched here; with them only the sum of all is.
void Manager::Impl::relieve_memory() {
  std::uint64_t sum = 0;
  for (auto& [id, session] : live) {
    if (session->process->pid <= 0 || session->intended_end) continue;  // what one that ends holds is on its way back
    std::uint64_t used = session->process->memory_bytes();
    if (!session->process->group && session->limits.memory_bytes && used > session->limits.memory_bytes)
      Session(session).end("memory", "the session was ended by its memory limit of " +
                                         std::to_string(session->limits.memory_bytes >> 20) + " MiB" +
                                         (session->running ? " during a call" : ""));
    sum += used;
    for (auto& checkpoint : session->checkpoints) {
      if (checkpoint->process) sum += checkpoint->process->memory_bytes();
      else if (!session->process->group) sum += checkpoint->bytes;  // else its group counts it
    }
  }
  for (auto& [id, left] : left_behind)
    for (auto& checkpoint : left.checkpoints) sum += checkpoint->process ? checkpoint->process->memory_bytes() : checkpoint->bytes;
  if (options.memory_all_bytes == 0 || sum < options.memory_all_bytes / 100 * 95) return;
  // What can be made again goes first: the oldest checkpoint without a name.
  std::string keeper;
  std::shared_ptr<Checkpoint> oldest;
  for (auto& [id, checkpoint] : checkpoints_of(""))
    if (checkpoint->name.empty() && (!oldest || checkpoint->created < oldest->created)) {
      keeper = id;
      oldest = checkpoint;
    }
  auto drop = [this](const std::string& session, const std::shared_ptr<Checkpoint>& checkpoint) {
    log::warning("memory is short: checkpoint " + checkpoint->id + " of session " + session + " ends");
    (void)drop_checkpoint(session, checkpoint->id, "it was dropped because memory was short");
  };
  if (oldest) {
    drop(keeper, oldest);
    return;
  }
  // The one that has been idle longest; sessions other than a token's own kernel first.
  std::shared_ptr<Session::Impl> victim;
  for (auto& [id, session] : live) {
    if (session->state != State::idle || !session->queue.empty() || session->intended_end) continue;
    if (!victim || std::make_tuple(session->own, session->last_used) < std::make_tuple(victim->own, victim->last_used))
      victim = session;
  }
  if (victim) {
    Session(victim).end("pressure", "the session was ended because memory was short: it had been idle longest");
    return;
  }
  // At last also what has a name, of sessions that are no more.
  for (auto& [id, left] : left_behind)
    for (auto& checkpoint : left.checkpoints)
      if (!oldest || checkpoint->created < oldest->created) {
        keeper = id;
        oldest = checkpoint;
      }
  if (oldest) drop(keeper, oldest);
}

Task<Result<void>> Manager::Impl::prepare_work(std::shared_ptr<Impl> self, std::string user) {
  std::string directory = self->options.users_directory + "/" + user;
  auto uid = self->options.uid;
  auto work = [directory, uid]() -> Result<void> {
    std::error_code error;
    bool made = std::filesystem::create_directory(directory, error);
    if (error) return Error{Code::insufficient_storage, "can't make the user's directory: " + error.message(), ""};
    if (made) {
      std::filesystem::permissions(directory, std::filesystem::perms::owner_all, error);
      if (uid && ::chown(directory.c_str(), *uid, *uid) != 0)
        return Error{Code::internal, "can't give the user's directory to the session's uid", ""};
    }
    return {};
  };
  co_return co_await async::on_pool(self->pool, std::move(work));
}

Task<void> Manager::Impl::remove_home(std::shared_ptr<Impl> self, std::string home) {
  ++self->homes_going;
  auto clear = [home] {
    std::error_code ignored;
    std::filesystem::remove_all(home, ignored);  // does not follow the link to ~/work
  };
  co_await async::on_pool(self->pool, std::move(clear));
  --self->homes_going;
}

Task<void> Manager::Impl::check_quotas(std::shared_ptr<Impl> self) {
  if (self->counting) co_return;  // the last count is still going on
  self->counting = true;
  struct Done {
    bool& counting;
    ~Done() { counting = false; }
  } done{self->counting};
  std::map<std::string, std::vector<std::shared_ptr<Session::Impl>>> busy_of;
  for (auto& [id, session] : self->live)
    if (!session->bare && session->may_write() && session->limits.work_quota_bytes > 0) busy_of[session->owner.id].push_back(session);
  for (auto& [user, sessions] : busy_of) {
    std::string directory = self->options.users_directory + "/" + user;
    auto measure = [directory] { return os::bytes_below(directory); };
    auto used = co_await async::on_pool(self->pool, std::move(measure));
    if (!used) {
      for (auto& session : sessions) Session(session).end("quota", "the session was ended because its files can't be counted: " + used.error().message);
      continue;
    }
    const auto before = self->work_bytes.find(user);
    for (auto& session : sessions) {
      // One that began beyond the quota may run, so that its user can delete files, but not add to it.
      if (session->work_bytes_at_start == 0) session->work_bytes_at_start = std::max<std::uint64_t>(before == self->work_bytes.end() ? *used : before->second, 1);
      std::uint64_t allowed = session->limits.work_quota_bytes;
      if (*used > allowed && *used > session->work_bytes_at_start + (1 << 20))
        Session(session).end("quota", "the session was ended because ~/work holds " + std::to_string(*used >> 20) +
                                          " MiB, over its quota of " + std::to_string(allowed >> 20) +
                                          " MiB: delete files there");
    }
    self->work_bytes[user] = *used;
  }
}

// What a user's first session finds there: what it adds is told from that.
Task<void> Manager::Impl::count_work(std::shared_ptr<Impl> self, std::string user) {
  if (self->work_bytes.count(user)) co_return;
  std::string directory = self->options.users_directory + "/" + user;
  auto measure = [directory] { return os::bytes_below(directory); };
  auto used = co_await async::on_pool(self->pool, std::move(measure));
  if (used) self->work_bytes.try_emplace(std::move(user), *used);
}

// ---- interface ---------------------------------------------------------------------------------------------------

Task<Result<Session>> Manager::create(User user, std::string engine, std::string name, std::optional<std::uint64_t> seed) {
  auto self = impl_;
  auto found = self->by_name.find({user.id, engine, name});
  if (found != self->by_name.end() && found->second->intended_end) {
    auto ending = Session(found->second);
    co_await ending.ended(milliseconds(5000));
    found = self->by_name.find({user.id, engine, name});
  }
  if (found != self->by_name.end() && found->second->state != State::ended)
    co_return Error{Code::conflict, "you already have a session '" + name + "' on " + engine + ": " + found->second->id, ""};
  auto session = self->add(std::move(user), std::move(engine), std::move(name), false, true, seed);
  if (!session) co_return session.take_error();
  co_return Session(*session);
}

Result<Session> Manager::create_bare(User user, std::string engine, Bare what) {
  auto self = impl_;
  auto allowed = self->may_add(user, engine, 0);
  if (!allowed) return allowed.take_error();
  auto limits = what.limits;
  auto session = std::make_shared<Session::Impl>(*self, std::move(user), engine, "", limits, false);
  session->bare = std::make_shared<const Bare>(std::move(what));
  session->record_at_start = false;
  session->recorded = true;  // never: nothing waits for it
  session->start_written.set();
  self->put(session);
  return Session(session);
}

Limits Manager::limits_for(const std::string& engine, const std::string& user_name) const { return impl_->options.limits_for(engine, user_name); }

Task<Result<Session>> Manager::kernel(User user, std::string engine, std::string name, bool own, bool fresh) {
  auto self = impl_;
  Impl::Key key{user.id, engine, name};
  std::string lost_id;
  auto found = self->by_name.find(key);
  if (found != self->by_name.end()) {
    auto session = found->second;
    if (session->state != State::ended && !session->intended_end) co_return Session(session);
    if (!fresh) {
      // Its end may still be on the way to the disk.
      co_return session->ended_error();
    }
    lost_id = session->id;
  } else {
    store::Database* database = &self->database;
    std::string owner = user.id;
    auto look_up = [database, owner, name, engine] {
      return store::SessionRecords(*database).latest_for(owner, name, engine);
    };
    auto record = co_await async::on_pool(self->database_pool, std::move(look_up));
    if (!record) co_return record.take_error();
    // Another call may have made it meanwhile.
    found = self->by_name.find(key);
    if (found != self->by_name.end() && found->second->state != State::ended) co_return Session(found->second);
    if (*record && (*record)->must_be_told()) {
      if (!fresh) {
        std::string text = (*record)->cause ? (*record)->cause->text : "the session ended";
        co_return Error{Code::gone, text, (*record)->tail};
      }
      lost_id = (*record)->id;
    }
  }
  if (!lost_id.empty()) {
    store::Database* database = &self->database;
    auto acknowledge = [database, lost_id] {
      return store::SessionRecords(*database).acknowledge(lost_id);
    };
    auto told = co_await async::on_pool(self->database_pool, std::move(acknowledge));
    if (!told) co_return told.take_error();
    found = self->by_name.find(key);
    if (found != self->by_name.end()) {
      if (found->second->state != State::ended && !found->second->intended_end) co_return Session(found->second);
      self->by_name.erase(found);
    }
  }
  auto session = self->add(std::move(user), std::move(engine), std::move(name), own, false);
  if (!session) co_return session.take_error();
  co_return Session(*session);
}

Task<Result<Status>> Manager::status(User user, std::string id) {
  auto self = impl_;
  Error unknown{Code::not_found, "no session " + id, ""};
  auto found = self->live.find(id);
  if (found != self->live.end()) {
    if (found->second->bare || (!user.is_operator && found->second->owner.id != user.id)) co_return unknown;
    co_return Session(found->second).status();
  }
  store::Database* database = &self->database;
  auto look_up = [database, id] { return store::SessionRecords(*database).find(id); };
  auto record = co_await async::on_pool(self->database_pool, std::move(look_up));
  if (!record) co_return record.take_error();
  if (!*record || (!user.is_operator && (*record)->owner != user.id)) co_return unknown;
  Status status;
  status.id = (*record)->id;
  status.owner = (*record)->owner;
  status.name = (*record)->name;
  status.engine = (*record)->engine;
  status.state = State::ended;
  status.created = (*record)->started;
  status.last_used = (*record)->ended.value_or((*record)->started);
  Cause cause;
  if ((*record)->cause) {
    cause.code = (*record)->cause->code;
    cause.text = (*record)->cause->text;
  }
  cause.tail = (*record)->tail;
  cause.at = status.last_used;
  status.cause = cause;
  co_return status;
}

std::optional<Session> Manager::find(const User& user, const std::string& id) const {
  auto found = impl_->live.find(id);
  if (found == impl_->live.end() || found->second->bare || (!user.is_operator && found->second->owner.id != user.id)) return std::nullopt;
  return Session(found->second);
}

std::optional<Session> Manager::find_named(const User& user, const std::string& engine, const std::string& name) const {
  auto found = impl_->by_name.find({user.id, engine, name});
  if (found == impl_->by_name.end() || found->second->state == State::ended || found->second->intended_end) return std::nullopt;
  return Session(found->second);
}

std::vector<Status> Manager::list(const User& user) const {
  std::vector<Status> out;
  for (auto& [id, session] : impl_->live)
    if (!session->bare && (user.is_operator || session->owner.id == user.id)) out.push_back(Session(session).status());
  std::sort(out.begin(), out.end(), [](const Status& a, const Status& b) { return a.created < b.created; });
  return out;
}

void Manager::end_all_of(const std::string& user_id, std::string code, std::string text) {
  std::vector<Session> theirs;  // ending one changes the list
  for (auto& [id, session] : impl_->live)
    if (session->owner.id == user_id) theirs.emplace_back(session);
  for (auto& session : theirs) session.end(code, text);
  impl_->drop_left([&user_id](const LeftBehind& left) { return left.owner.id == user_id; });
}

std::string Manager::free_name(const User& user, const std::string& engine) const {
  for (std::size_t number = 1;; ++number) {
    std::string name = "session-" + std::to_string(number);
    if (!impl_->by_name.count({user.id, engine, name})) return name;
  }
}

std::string Manager::work_directory(const User& user) const { return impl_->options.users_directory + "/" + user.id; }
std::optional<std::uint32_t> Manager::work_owner() const { return impl_->options.uid; }

Task<Result<void>> Manager::prepare_work(User user) {
  auto self = impl_;
  co_return co_await Impl::prepare_work(self, std::move(user.id));
}

Task<Result<std::uint64_t>> Manager::work_room(User user) {
  auto self = impl_;
  std::uint64_t quota = self->options.limits_for("", user.name).work_quota_bytes;
  if (quota == 0) co_return std::numeric_limits<std::uint64_t>::max();
  std::string directory = work_directory(user);
  auto measure = [directory] { return os::bytes_below(directory); };
  auto used = co_await async::on_pool(self->pool, std::move(measure));
  if (!used) co_return used.take_error();
  co_return *used < quota ? quota - *used : 0;
}

bool Manager::add_engine(worker::EngineOptions options) {
  if (impl_->engines.count(options.name)) return false;
  impl_->start_engine(std::move(options));
  return true;
}

void Manager::withdraw_engine(const std::string& name) {
  if (!impl_->engines.count(name)) return;
  impl_->withdrawn.insert(name);
  impl_->drop_left([&name](const LeftBehind& left) { return left.engine == name; }, true);
  impl_->end_idle(Clock::now());  // at once, if it has no session
}

worker::EngineOptions Manager::engine_options(const std::string& name) const {
  auto found = impl_->engines.find(name);
  return found == impl_->engines.end() ? worker::EngineOptions{} : found->second->options();
}

std::size_t Manager::count() const { return impl_->live.size(); }
bool Manager::has_engine(const std::string& name) const { return impl_->has_engine(name); }

std::vector<std::string> Manager::engine_names() const {
  std::vector<std::string> out;
  for (auto& [name, engine] : impl_->engines)
    if (impl_->has_engine(name)) out.push_back(name);
  return out;
}

const worker::EngineInfo* Manager::engine_info(const std::string& name) const {
  auto found = impl_->engines.find(name);
  return found == impl_->engines.end() ? nullptr : found->second->info();
}

Task<Result<worker::EngineInfo>> Manager::engine_ready(std::string name) {
  auto self = impl_;
  auto found = self->engines.find(name);
  if (found == self->engines.end()) co_return Error{Code::not_found, "no engine named " + name, ""};
  co_return co_await found->second->ready();
}

Task<void> Manager::stop(milliseconds grace) {
  auto self = impl_;
  self->stopping = true;
  if (self->busy() > 0) {
    self->all_idle.reset();
    co_await self->all_idle.wait(grace);
  }
  std::string text = "the server was stopped at " + iso_time(std::chrono::system_clock::now()) + "; what the session held is lost";
  auto sessions = self->live;
  for (auto& [id, session] : sessions) Session(session).end("stopping", text);
  self->drop_left([](const LeftBehind&) { return true; });
  for (int rounds = 0; rounds < 60 && (!self->live.empty() || self->homes_going > 0); ++rounds) co_await async::sleep_for(milliseconds(50));
  for (auto& [name, engine] : self->engines) engine->stop();
}

}  // namespace myelin::session
