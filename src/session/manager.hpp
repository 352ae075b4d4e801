#pragma once
// All sessions of the server: makes them, finds them by name, ends them when they are idle or memory is short, and remembers
// for seven days why each one ended. Belongs to the loop's thread; the database and slow file work run on pools.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/pool.hpp"
#include "async/task.hpp"
#include "base/result.hpp"
#include "os/cgroup.hpp"
#include "session/session.hpp"
#include "store/database.hpp"
#include "worker/engine.hpp"

namespace myelin::session {

/// Who calls. Until accounts exist a token is a user.
struct User {
  std::string id;
  std::string name;
  bool is_operator = false;  // sees and may end everything
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

  /// A new session; conflict when the user has a live one of that name on that engine.
  async::Task<Result<Session>> create(User user, std::string engine, std::string name);
  /// The user's kernel of that name, made at the first call. `own`: the token's own kernel, which idle time does not end.
  /// Code::gone with the cause's text when it was lost, until called with `fresh` (the caller resets it).
  async::Task<Result<Session>> kernel(User user, std::string engine, std::string name, bool own, bool fresh);
  /// Also finds an ended one, with its cause, for seven days. not_found, also for what belongs to another user.
  async::Task<Result<Status>> status(User user, std::string id);
  [[nodiscard]] std::optional<Session> find(const User& user, const std::string& id) const;
  [[nodiscard]] std::optional<Session> find_named(const User& user, const std::string& engine, const std::string& name) const;
  [[nodiscard]] std::vector<Status> list(const User& user) const;
  [[nodiscard]] std::size_t count() const;

  [[nodiscard]] bool has_engine(const std::string& name) const;
  [[nodiscard]] std::vector<std::string> engine_names() const;
  /// What the engine said of itself; nullptr until it was ready once.
  [[nodiscard]] const worker::EngineInfo* engine_info(const std::string& name) const;
  async::Task<Result<worker::EngineInfo>> engine_ready(std::string name);

  /// New calls are refused; those that run may finish within `grace`; then all sessions end with cause `stopping`.
  async::Task<void> stop(std::chrono::milliseconds grace);

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::session
