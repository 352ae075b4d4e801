#pragma once
// What session.cpp and manager.cpp share. Not for other rooms.

#include <deque>
#include <map>
#include <set>
#include <vector>

#include "async/fd_watch.hpp"
#include "async/queue.hpp"
#include "os/process.hpp"
#include "session/manager.hpp"
#include "session/output_ring.hpp"
#include "session/process.hpp"

namespace myelin::session {

using Clock = std::chrono::steady_clock;

/// What a session's globals held: a pickle, which is only ever loaded in a sandbox of the same user.
struct SavedState {
  os::UniqueFd memfd;
  std::uint64_t bytes = 0;
  std::string left_out;  // JSON array
  History history;
};

struct Checkpoint {
  std::string id, name;  // the name may be empty: then it goes first when memory is short
  std::chrono::system_clock::time_point created = std::chrono::system_clock::now();
  std::shared_ptr<Process> process;  // dormant; or null, and
  std::shared_ptr<SavedState> saved;
  History history;
  std::uint64_t bytes = 0;           // as last measured
};

/// A branch that a process was asked for.
struct BranchRequest {
  std::uint64_t number = 0;
  std::string directory;        // its name; unique in the sandbox
  os::UniqueFd channel, output;  // the branch's ends
  bool abandoned = false;
  async::Event done;
  std::optional<Result<void>> result;
  History history;  // of what the copy has done
  void finish(Result<void> r) {
    if (result) return;
    result.emplace(std::move(r));
    done.set();
  }
};

/// Checkpoints of a session that ended by itself.
struct LeftBehind {
  User owner;
  std::string engine, name;
  std::chrono::system_clock::time_point ended = std::chrono::system_clock::now();
  std::vector<std::shared_ptr<Checkpoint>> checkpoints;
  bool reviving = false;
};

/// What waits in a session's queue: a call, or (with `instead`) something else that the runner does in its place.
struct PendingCall {
  Call call;
  std::function<async::Task<bool>(std::shared_ptr<Session::Impl>)> instead;  // false: the session is to end
  async::Event started, done;
  std::string facts;
  std::optional<History> before;  // what the session had done when it began, where facts are asked for
  std::optional<Result<Answer>> result;
  void finish(Result<Answer> r) {
    if (result) return;
    result.emplace(std::move(r));
    started.set();  // or never will be
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
  std::shared_ptr<const Bare> bare;  // for one piece of work only
  bool record_at_start = true;  // a kernel that holds nothing yet is not recorded: nothing can be lost

  State state = State::starting;
  std::optional<Cause> cause;
  std::optional<std::pair<std::string, std::string>> intended_end;  // code, text: set before it is killed on purpose
  std::chrono::system_clock::time_point created = std::chrono::system_clock::now(), last_used = created;

  std::string parent;      // the session that it branched from
  std::shared_ptr<Process> process = std::make_shared<Process>();
  bool born = false;       // it branched: the process runs already
  OutputRing ring;
  History history;
  std::vector<std::shared_ptr<Checkpoint>> checkpoints;
  std::shared_ptr<BranchRequest> branching;  // asked of the process while a call runs; at most one
  async::Event over, start_written, end_written;

  std::shared_ptr<Listener> listener;
  bool followed = false, follow_wanted = false, follow_asked = false;  // wanted: waits in the queue; asked: the worker was

  std::deque<std::shared_ptr<PendingCall>> queue;  // those that wait; the running one is `running`
  std::shared_ptr<PendingCall> running;
  async::Event work;
  std::uint64_t call_number = 0;
  Clock::time_point call_began{};
  std::optional<Progress> progress;

  // An interrupt of the running call: who wants it, and when patience ends.
  bool interrupt_sent = false, interrupt_wanted = false, deadline_passed = false;
  bool call_sent = false;  // the running call is with the worker
  std::optional<Clock::time_point> kill_at;

  bool dirty = false, recorded = false, unwritten = false, running_reads = false;
  std::uint64_t cpu_ms_seen = 0;
  std::uint64_t work_bytes_at_start = 0;  // as first measured while it was busy; 0: not yet

  static async::Task<void> run(std::shared_ptr<Impl> self);
  static async::Task<Result<void>> start(std::shared_ptr<Impl> self);
  static async::Task<bool> run_one(std::shared_ptr<Impl> self, std::shared_ptr<PendingCall> job);
  static async::Task<void> finish(std::shared_ptr<Impl> self, std::string code, std::string text);
  static async::Task<void> read_output(std::shared_ptr<Impl> self, std::shared_ptr<Process> process);
  static async::Task<Result<void>> prepare_home(std::shared_ptr<Impl> self, std::string home);
  /// Returns when it is written, whoever began it.
  static async::Task<void> record(std::shared_ptr<Impl> self);
  /// The end of a recorded session, in the store.
  static async::Task<void> record_end(std::shared_ptr<Impl> self, Cause why);

  /// Takes over a process that runs and waits for calls.
  void adopt(std::shared_ptr<Process> fresh);
  /// Copies of this session's process at one moment, in limits of their own, that have said hello and got `go`; as many as `directories`.
  static async::Task<Result<std::vector<std::shared_ptr<Process>>>> branch(std::shared_ptr<Impl> self, std::vector<std::string> directories, bool dormant,
                                                                           History* history);
  /// A process that goes on from a checkpoint's, for this session.
  static async::Task<Result<std::shared_ptr<Process>>> copy_of(std::shared_ptr<Impl> self, std::shared_ptr<Checkpoint> checkpoint);
  static async::Task<Result<void>> ask_for_branch(std::shared_ptr<Impl> self, std::shared_ptr<BranchRequest> request);
  static async::Task<bool> rewind(std::shared_ptr<Impl> self, std::shared_ptr<Checkpoint> checkpoint, std::shared_ptr<PendingCall> job);
  /// Queued: what the globals hold, as the engine saves it.
  static async::Task<Result<std::shared_ptr<SavedState>>> save(std::shared_ptr<Impl> self);
  /// In the runner: puts it in place of what is there. False: the session is to end.
  static async::Task<bool> restore(std::shared_ptr<Impl> self, std::shared_ptr<SavedState> saved, std::shared_ptr<PendingCall> job);
  [[nodiscard]] std::string go_options(bool dormant) const;

  /// Frames that come beside a call's answer. False: not one of these.
  static async::Task<bool> take_aside(std::shared_ptr<Impl> self, worker::Frame& frame);
  static async::Task<bool> follow_quietly(std::shared_ptr<Impl> self);
  static async::Task<bool> followed_quietly(std::shared_ptr<Impl> self);
  void tell(std::string_view state, std::string members = "{}");
  void send_interrupt();
  [[nodiscard]] std::chrono::milliseconds deadline_of_call() const;
  /// Since the last question: busy, or a thread, child or signal handler that its scripts left behind ran.
  [[nodiscard]] bool may_write();
  void tick(Clock::time_point now);
  [[nodiscard]] Error ended_error() const;
  /// Somebody wanted it gone: nothing of it stays.
  [[nodiscard]] bool unwanted() const;
  /// Those that do not outlive it, taken from its list.
  [[nodiscard]] std::vector<std::shared_ptr<Checkpoint>> take_mortal();
};

[[nodiscard]] os::CgroupLimits limits_of_group(const Limits& limits);

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
  std::set<std::string> withdrawn;  // of these: those that wait for the end of their sessions
  std::map<std::string, Clock::time_point> engine_used, engine_renewed;
  std::map<std::string, std::shared_ptr<Session::Impl>> live;             // by id
  using Key = std::tuple<std::string, std::string, std::string>;         // owner, engine, name
  std::map<Key, std::shared_ptr<Session::Impl>> by_name;                  // live, or ended and not yet told
  std::map<pid_t, std::weak_ptr<Process>> by_pid;
  std::map<std::string, LeftBehind> left_behind;  // by id of the session
  struct Dropped {
    std::string session, id, why;
  };
  std::deque<Dropped> dropped;  // checkpoints that nobody asked to delete; the newest
  std::string only_user;
  bool stopping = false;
  async::Event all_idle;
  async::TaskGroup tasks;

  Result<std::shared_ptr<Session::Impl>> add(User user, std::string engine, std::string name, bool own, bool record,
                                             std::optional<std::uint64_t> seed = std::nullopt);
  Result<void> may_add(const User& user, const std::string& engine, std::size_t more);
  void put(std::shared_ptr<Session::Impl> session);
  [[nodiscard]] bool has_engine(const std::string& name) const { return engines.count(name) > 0 && withdrawn.count(name) == 0; }
  static async::Task<void> warm(std::shared_ptr<Impl> self, std::string engine);
  void start_engine(worker::EngineOptions of);
  void forget(const Session::Impl& session);
  static async::Task<Result<os::CgroupGroup>> make_group(std::shared_ptr<Impl> self, std::string name, Limits limits, pid_t pid);
  /// Ends the oldest unnamed checkpoints of a user until what is left fits the budget: those that went, as descriptions.
  [[nodiscard]] bool saves(const std::string& engine) const;
  /// A new session of `from`'s user and engine that begins with a saved state.
  static async::Task<Result<std::shared_ptr<Session::Impl>>> begin_from(std::shared_ptr<Impl> self, User owner, std::string engine, std::string name,
                                                                        std::string parent, std::shared_ptr<SavedState> saved);
  /// The same with a copy of a dormant process.
  static async::Task<Result<std::shared_ptr<Session::Impl>>> begin_copy(std::shared_ptr<Impl> self, User owner, std::string engine, std::string name,
                                                                        std::string parent, std::shared_ptr<Checkpoint> checkpoint);
  /// All checkpoints of a user (of everybody: ""), by the id of their session, living or not.
  [[nodiscard]] std::vector<std::pair<std::string, std::shared_ptr<Checkpoint>>> checkpoints_of(const std::string& user) const;
  /// `why`: a sentence for who asks for it later.
  bool drop_checkpoint(const std::string& session, const std::string& id, std::string why = "");
  [[nodiscard]] Error no_checkpoint(const std::string& session, const std::string& id) const;
  /// Ends what these sessions left behind; `copies`: only their processes.
  void drop_left(const std::function<bool(const LeftBehind&)>& of, bool copies = false);
  static async::Task<Result<std::vector<CheckpointStatus>>> fit_checkpoints(std::shared_ptr<Impl> self, std::string user, std::string keep);
  static async::Task<void> watch(std::shared_ptr<Impl> self);
  void end_idle(Clock::time_point now);
  void relieve_memory();
  void on_exit(pid_t pid, int status);
  [[nodiscard]] std::size_t busy() const;
  static async::Task<Result<void>> prepare_work(std::shared_ptr<Impl> self, std::string user);
  static async::Task<void> remove_home(std::shared_ptr<Impl> self, std::string home);
  std::size_t homes_going = 0;
  static async::Task<void> expire_records(std::shared_ptr<Impl> self);
  static async::Task<void> check_quotas(std::shared_ptr<Impl> self);
  static async::Task<void> count_work(std::shared_ptr<Impl> self, std::string user);
  bool counting = false;                              // by check_quotas
  std::map<std::string, std::uint64_t> work_bytes;    // of users' ~/work, when last counted
};

}  // namespace myelin::session
