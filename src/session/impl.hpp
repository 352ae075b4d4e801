#pragma once
// What session.cpp and manager.cpp share. Not for other rooms.

#include <deque>
#include <map>
#include <vector>

#include "async/fd_watch.hpp"
#include "async/queue.hpp"
#include "os/process.hpp"
#include "session/manager.hpp"
#include "session/output_ring.hpp"
#include "worker/channel.hpp"

namespace myelin::session {

using Clock = std::chrono::steady_clock;

struct PendingCall {
  Call call;
  async::Event done;
  std::optional<Result<Answer>> result;
  void finish(Result<Answer> r) {
    if (result) return;
    result.emplace(std::move(r));
    done.set();
  }
};

struct Session::Impl : std::enable_shared_from_this<Session::Impl> {
  Impl(Manager::Impl& m, User user, std::string engine_name, std::string session_name, Limits l, bool own_kernel);

  Manager::Impl& manager;
  const std::string id;
  const User owner;
  const std::string engine, name;
  const Limits limits;
  const bool own;          // a token's own kernel
  bool record_at_start = true;  // a kernel that holds nothing yet is not recorded: nothing can be lost

  State state = State::starting;
  std::optional<Cause> cause;
  std::optional<std::pair<std::string, std::string>> intended_end;  // code, text: set before it is killed on purpose
  std::chrono::system_clock::time_point created = std::chrono::system_clock::now(), last_used = created;

  std::string home;        // reduced mode: removed at the end
  pid_t pid = -1, init_pid = -1;
  os::UniqueFd pidfd, init;
  std::unique_ptr<worker::Channel> channel;
  std::optional<os::CgroupGroup> group;
  async::FdWatch output;
  OutputRing ring;
  std::optional<int> exit_status;
  Clock::time_point exited_at{};
  async::Event exited;

  std::deque<std::shared_ptr<PendingCall>> queue;  // those that wait; the running one is `running`
  std::shared_ptr<PendingCall> running;
  async::Event work;
  std::uint64_t call_number = 0;
  Clock::time_point call_began{};
  std::optional<Progress> progress;

  // An interrupt of the running call: who wants it, and when patience ends.
  bool interrupt_sent = false, interrupt_wanted = false, deadline_passed = false;
  std::optional<Clock::time_point> kill_at;

  bool dirty = false, recorded = false, unwritten = false, running_reads = false;
  std::uint64_t cpu_ms_seen = 0;
  std::uint64_t work_bytes_at_start = 0;  // as first measured while it was busy; 0: not yet

  static async::Task<void> run(std::shared_ptr<Impl> self);
  static async::Task<Result<void>> start(std::shared_ptr<Impl> self);
  static async::Task<bool> run_one(std::shared_ptr<Impl> self, std::shared_ptr<PendingCall> job);
  static async::Task<void> finish(std::shared_ptr<Impl> self, std::string code, std::string text);
  static async::Task<void> read_output(std::shared_ptr<Impl> self);
  static async::Task<Result<void>> prepare_home(std::shared_ptr<Impl> self);
  static async::Task<void> record(std::shared_ptr<Impl> self);

  void send_interrupt();
  void kill();
  void drain_output();
  [[nodiscard]] os::Use use() const;
  /// Since the last question: busy, or a thread, child or signal handler that its scripts left behind ran.
  [[nodiscard]] bool may_write();
  void on_exit(int status);
  void tick(Clock::time_point now);
  [[nodiscard]] Error ended_error() const;
};

struct Manager::Impl : std::enable_shared_from_this<Manager::Impl> {
  Impl(async::Loop& l, async::Pool& p, async::Pool& dp, store::Database& d, std::shared_ptr<os::CgroupTree> g,
       ManagerOptions o);

  async::Loop& loop;
  async::Pool& pool;
  async::Pool& database_pool;
  store::Database& database;
  std::shared_ptr<os::CgroupTree> groups;
  ManagerOptions options;
  std::map<std::string, std::unique_ptr<worker::Engine>> engines;
  std::map<std::string, Clock::time_point> engine_used;
  std::map<std::string, std::shared_ptr<Session::Impl>> live;             // by id
  using Key = std::tuple<std::string, std::string, std::string>;         // owner, engine, name
  std::map<Key, std::shared_ptr<Session::Impl>> by_name;                  // live, or ended and not yet told
  std::map<pid_t, std::weak_ptr<Session::Impl>> by_pid;
  std::string only_user;
  bool stopping = false;
  async::Event all_idle;
  async::TaskGroup tasks;

  Result<std::shared_ptr<Session::Impl>> add(User user, std::string engine, std::string name, bool own, bool record);
  void forget(const Session::Impl& session);
  static async::Task<void> watch(std::shared_ptr<Impl> self);
  void end_idle(Clock::time_point now);
  void relieve_memory();
  void on_exit(pid_t pid, int status);
  [[nodiscard]] std::size_t busy() const;
  static async::Task<Result<void>> prepare_work(std::shared_ptr<Impl> self, std::string user);
  static async::Task<void> expire_records(std::shared_ptr<Impl> self);
  static async::Task<void> check_quotas(std::shared_ptr<Impl> self);
};

}  // namespace myelin::session
