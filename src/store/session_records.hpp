#pragma once
// Which sessions ran, and why each one ended: kept over a restart of the server, so that a lost kernel is
// always told. Calls block and commit to disk; one thread at a time, as the Database they share.

#include <vector>

#include "store/database.hpp"

namespace myelin::store {

struct Cause {
  std::string code;  // stable: "exit", "signal", "memory_limit", "deadline", "deleted", "server_restarted", …
  std::string text;  // for people
};

struct SessionRecord {
  std::string id;
  std::string owner;  // user id
  std::string name;   // "" for the user's own kernel
  std::string engine;
  Time started;
  std::optional<Time> ended;   // nullopt: running
  std::optional<Cause> cause;  // set when ended
  std::string tail;            // last bytes of its output; need not be UTF-8
  bool acknowledged = false;   // the loss was told and a fresh session was asked for

  /// A later call to this name is answered with the cause.
  [[nodiscard]] bool must_be_told() const { return ended && !acknowledged; }
};

class SessionRecords {
 public:
  explicit SessionRecords(Database& database) : database_(database) {}

  /// conflict when the id is known.
  Result<void> started(std::string_view id, std::string_view owner, std::string_view name,
                       std::string_view engine, Time when);
  /// True if it was running; the first cause stays. False (and nothing changes) for an ended or unknown id.
  Result<bool> ended(std::string_view id, const Cause& cause, std::string_view tail, Time when);
  /// At server start: every session that still counts as running ended with cause "server_restarted" and this
  /// text. Returns them as they now are, oldest first.
  Result<std::vector<SessionRecord>> mark_all_running_as_lost(std::string_view text, Time when);

  Result<std::optional<SessionRecord>> find(std::string_view id);
  /// The youngest session of that name, running or ended.
  Result<std::optional<SessionRecord>> latest_for(std::string_view owner, std::string_view name,
                                                  std::string_view engine);
  /// The end of this session, and of all older ones of its owner, name and engine, need not be told any more.
  /// False if there was nothing left to tell. A session that still runs is not touched.
  Result<bool> acknowledge(std::string_view id);
  /// Forgets sessions that ended before `older_than`; how many.
  Result<std::int64_t> expire(Time older_than);

 private:
  Database& database_;
};

}  // namespace myelin::store
