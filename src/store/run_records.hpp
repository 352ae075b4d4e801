#pragma once
// The rows behind runs: what was run, by whom, with what, how it ended, and which files hold its result. The
// data itself lies in files (room run/). JSON members are kept as the text that came. Calls block and commit
// to disk; one thread at a time, as the Database they share.

#include <vector>

#include "store/database.hpp"

namespace myelin::store {

enum class RunKind { exec, call, rerun, function, sweep };
enum class RunState { queued, running, done, failed, cancelled, lost };
[[nodiscard]] std::string_view name_of(RunKind kind);
[[nodiscard]] std::string_view name_of(RunState state);
[[nodiscard]] std::optional<RunState> run_state_of(std::string_view name);

struct RunRecord {
  std::string id;
  std::string owner;       // user id
  std::string owner_name;  // as it was then
  std::string title;
  RunKind kind = RunKind::exec;
  RunState state = RunState::queued;
  std::string session, engine;
  std::optional<std::string> parent_session;
  std::vector<std::string> inputs;    // ids
  std::optional<std::string> source;  // of exec; else function and arguments
  std::optional<std::string> function;
  std::optional<std::string> arguments;  // JSON
  std::string history = "[]";            // JSON list: earlier calls of the session
  std::int64_t history_count = 0;
  bool history_complete = true;
  std::string versions = "{}", machine = "{}", seeds = "{}", options = "{}";  // JSON objects
  Time created;
  std::optional<Time> started, ended, expires;
  std::optional<std::int64_t> kept_for_ms;  // expires so long after its end
  std::optional<std::string> error;         // problem, JSON
  std::string stdout_text;
  std::int64_t bytes = 0;          // that it takes of the owner's quota
  std::string datasets = "[]";     // JSON list
  bool datasets_left_out = false;  // in a listing, where they are too many
  std::string layout = "{}";       // JSON: the files of the result, see run/layout.hpp

  [[nodiscard]] bool ended_by_now() const { return state != RunState::queued && state != RunState::running; }
};

/// What a run is when it is over.
struct RunEnd {
  RunState state = RunState::done;
  std::optional<std::string> error;
  std::string stdout_text;
  std::optional<std::string> seeds;  // JSON object; nothing: as they were
  std::string datasets = "[]";
  std::string layout = "{}";
  std::int64_t added_bytes = 0;
  std::int64_t quota_bytes = 0;  // 0: none. insufficient: nothing changes, and the error is Code::quota
  Time when;
};

struct RunFilter {
  std::optional<std::string> owner, engine, session, title;  // title: contained in it, ASCII case ignored
  std::optional<RunState> state;
  std::optional<Time> since, until;  // created at or after; created before
  bool jobs = false;                 // only those not ended, and those that expire
  std::optional<std::string> after;  // the id of the last run of the page before
  std::int64_t limit = 50;
};

/// The calls that made a run's session.
struct RunHistory {
  std::string calls;  // JSON list
  std::int64_t count = 0;
  bool complete = true;
};

class RunRecords {
 public:
  explicit RunRecords(Database& database) : database_(database) {}

  /// conflict when the id is known.
  Result<void> add(const RunRecord& record);
  /// False when it was not queued.
  Result<bool> started(std::string_view id, Time when, const std::optional<RunHistory>& history = std::nullopt);
  /// Ends a queued or running run, in one transaction with the check of the quota. False (and nothing
  /// changes) when it had ended.
  Result<bool> ended(std::string_view id, const RunEnd& end);
  /// At server start: what was queued or running is lost, with this problem. How many.
  Result<std::int64_t> mark_unfinished_as_lost(std::string_view problem, Time when);

  Result<std::optional<RunRecord>> find(std::string_view id);
  /// Newest first, without source, arguments, history, stdout, layout. bad_request for an unknown `after`.
  Result<std::vector<RunRecord>> list(const RunFilter& filter);
  /// not_found when there is no such run.
  Result<void> set_title(std::string_view id, std::string_view title);
  Result<void> set_expiry(std::string_view id, std::optional<Time> when);
  /// False when it is unknown, or still queued or running.
  Result<bool> remove(std::string_view id);
  /// Ended runs whose expiry is past, oldest first, at most `limit`: id and owner.
  Result<std::vector<std::pair<std::string, std::string>>> expired(Time now, std::int64_t limit);
  /// Owner and id of every run whose result is kept, to find files that belong to none.
  Result<std::vector<std::pair<std::string, std::string>>> all_done();
  Result<std::int64_t> bytes_of(std::string_view owner);
  /// Ids of the owner's runs that are over.
  Result<std::vector<std::string>> ended_of(std::string_view owner);
  Result<void> set_owner(std::string_view id, std::string_view owner, std::string_view owner_name);

 private:
  Database& database_;
};

}  // namespace myelin::store
