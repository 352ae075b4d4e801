#pragma once
// All sessions of the server: makes them, finds them by name, ends them when they are idle or memory is short, and remembers
// for seven days why each one ended. Belongs to the loop's thread; the database and slow file work run on pools.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "accounts/identity.hpp"
#include "async/pool.hpp"
#include "async/task.hpp"
#include "base/result.hpp"
#include "os/cgroup.hpp"
#include "session/session.hpp"
#include "store/database.hpp"
#include "worker/engine.hpp"

namespace myelin::session {

/// On whose behalf something is done.
struct User {
  std::string id;
  std::string name;
  bool is_operator = false;  // sees and may end everything
  /// Who asked for it, with role, groups and bounds. Null where it is done in somebody's name who did not ask.
  std::shared_ptr<const accounts::Identity> identity = nullptr;
};
[[nodiscard]] User user_of(const accounts::Identity& who);
/// Who may do what `user` wants; a member in no group, where they did not ask themselves.
[[nodiscard]] accounts::Identity identity_of(const User& user);

/// A session for one piece of work, such as a call of a function. It sees nobody's files: no ~/work, no operator mounts. It is not
/// listed, not recorded, found by nobody, and does not count among its user's sessions. Who made it ends it.
struct Bare {
  std::vector<std::pair<std::string, std::string>> packages;  // as worker::SessionOptions::packages
  Limits limits;
  int nice = 0;
};

struct ManagerOptions {
  std::vector<worker::EngineOptions> engines;
  std::function<Limits(const std::string& engine, const std::string& user_name)> limits_for;
  /// Which operator mounts a session gets.
  std::function<std::vector<worker::Mount>(const std::string& engine, const std::string& user_name)> mounts_for;
  std::string seccomp_program;
  std::string users_directory;       // one directory a user, their ~/work
  std::optional<std::uint32_t> uid;  // that owns them, for a server that runs as root
  std::uint64_t memory_all_bytes = 0;
  std::string modules;               // NEST_SERVER_MODULES
  bool one_user_only = false;        // reduced isolation, not asked for: a second user is refused
  unsigned threads = 1;              // what OMP_NUM_THREADS becomes in a session
};

class Manager {
 public:
  /// `groups` may be empty (no cgroups: memory is watched instead). All references outlive the manager.
  Manager(async::Loop& loop, async::Pool& pool, async::Pool& database_pool, store::Database& database,
          std::shared_ptr<os::CgroupTree> groups, ManagerOptions options);
  ~Manager();

  /// Marks what a former server left running as lost, starts the engine `first`, and the watch over idle time and memory.
  async::Task<Result<void>> open(std::string first);

  /// A new session; conflict when the user has a live one of that name on that engine. `seed`: as in History; without, a new one.
  async::Task<Result<Session>> create(User user, std::string engine, std::string name, std::optional<std::uint64_t> seed = std::nullopt);
  /// Queued calls wait until it has started. What can't start says so at its first call.
  Result<Session> create_bare(User user, std::string engine, Bare what);
  /// What a session of this user on this engine may use.
  [[nodiscard]] Limits limits_for(const std::string& engine, const std::string& user_name) const;
  /// "session-1" or the next one that no session of the user on that engine has.
  [[nodiscard]] std::string free_name(const User& user, const std::string& engine) const;
  /// The user's kernel of that name, made at the first call. `own`: the token's own kernel, which idle time does not end.
  /// Code::gone with the cause's text when it was lost, until called with `fresh` (the caller resets it).
  async::Task<Result<Session>> kernel(User user, std::string engine, std::string name, bool own, bool fresh);
  /// New sessions that go on from the exact state of this one (of which a call may run: then at its next slice), as many as `names`;
  /// an empty name gets one. conflict where the engine or what the session has open can't be copied.
  async::Task<Result<std::vector<Session>>> branch(Session from, std::vector<std::string> names);
  /// A dormant branch to come back to, and the older ones that it displaced.
  struct Made {
    CheckpointStatus checkpoint;
    std::vector<CheckpointStatus> evicted;
  };
  async::Task<Result<Made>> checkpoint(Session session, std::string name);
  /// Checkpoints outlive a session that was not deleted: for seven days, within the user's budget. nullopt: the user has no such session.
  [[nodiscard]] std::optional<std::vector<CheckpointStatus>> left_checkpoints(const User& user, const std::string& session) const;
  [[nodiscard]] Result<void> remove_left_checkpoint(const User& user, const std::string& session, const std::string& id);
  /// A new session of the same user and engine, with the state of such a checkpoint; the checkpoints are its then.
  async::Task<Result<Session>> revive(User user, std::string session, std::string checkpoint_id);

  /// Also finds an ended one, with its cause, for seven days. not_found, also for what belongs to another user.
  async::Task<Result<Status>> status(User user, std::string id);
  [[nodiscard]] std::optional<Session> find(const User& user, const std::string& id) const;
  [[nodiscard]] std::optional<Session> find_named(const User& user, const std::string& engine, const std::string& name) const;
  [[nodiscard]] std::vector<Status> list(const User& user) const;
  [[nodiscard]] std::size_t count() const;

  /// The user's ~/work as the server sees it; prepare_work makes it.
  [[nodiscard]] std::string work_directory(const User& user) const;
  [[nodiscard]] std::optional<std::uint32_t> work_owner() const;
  async::Task<Result<void>> prepare_work(User user);
  /// Bytes until its quota.
  async::Task<Result<std::uint64_t>> work_room(User user);

  /// From now on there is this engine too. False while one of that name, withdrawn, still has sessions.
  bool add_engine(worker::EngineOptions options);
  /// No new sessions of this engine; its zygote ends with the last one that it has.
  void withdraw_engine(const std::string& name);
  [[nodiscard]] worker::EngineOptions engine_options(const std::string& name) const;
  [[nodiscard]] bool has_engine(const std::string& name) const;
  [[nodiscard]] std::vector<std::string> engine_names() const;
  /// What the engine said of itself; nullptr until it was ready once.
  [[nodiscard]] const worker::EngineInfo* engine_info(const std::string& name) const;
  async::Task<Result<worker::EngineInfo>> engine_ready(std::string name);

  /// Ends all sessions of a user who is no more, with this cause.
  void end_all_of(const std::string& user_id, std::string code, std::string text);

  /// New calls are refused; those that run may finish within `grace`; then all sessions end with cause `stopping`.
  async::Task<void> stop(std::chrono::milliseconds grace);

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::session
