#include "store/run_records.hpp"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

namespace myelin::store {

namespace {

constexpr std::size_t longest_listed = 64 * 1024;
constexpr std::array<std::string_view, 5> kinds = {"exec", "call", "rerun", "function", "sweep"};
constexpr std::array<std::string_view, 6> states = {"queued", "running",   "done",
                                                    "failed", "cancelled", "lost"};

Value optional(const std::optional<std::string>& text) {
  return text ? Value(std::string_view(*text)) : Value(nullptr);
}
Value optional(const std::optional<Time>& time) { return time ? Value(*time) : Value(nullptr); }
Value optional(const std::optional<std::int64_t>& number) { return number ? Value(*number) : Value(nullptr); }

std::optional<std::string> optional_text(const Row& row, int column) {
  if (row.is_null(column)) return std::nullopt;
  return row.text(column);
}

std::string joined(const std::vector<std::string>& ids) {
  boost::json::array list;
  for (const auto& id : ids) list.emplace_back(id);
  return boost::json::serialize(list);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> ids;
  boost::system::error_code error;
  const auto value = boost::json::parse(text, error);
  if (!error && value.is_array())
    for (const auto& item : value.get_array())
      if (item.is_string()) ids.emplace_back(item.get_string().c_str());
  return ids;
}

// What a listing has; the columns after these are for one run alone.
#define BRIEF                                                                                              \
  "id, owner, owner_name, title, kind, state, session, engine, parent_session, inputs, function, "         \
  "history_count, history_complete, versions, machine, seeds, options, created_ms, started_ms, ended_ms, " \
  "expires_ms, kept_for_ms, error, bytes, datasets"

RunRecord read(const Row& row, bool listed) {
  RunRecord r;
  int i = 0;
  r.id = row.text(i++);
  r.owner = row.text(i++);
  r.owner_name = row.text(i++);
  r.title = row.text(i++);
  const std::string kind = row.text(i++);
  r.kind = static_cast<RunKind>(std::find(kinds.begin(), kinds.end() - 1, kind) - kinds.begin());
  r.state = run_state_of(row.text(i++)).value_or(RunState::lost);
  r.session = row.text(i++);
  r.engine = row.text(i++);
  r.parent_session = optional_text(row, i++);
  r.inputs = split(row.text(i++));
  r.function = optional_text(row, i++);
  r.history_count = row.integer(i++);
  r.history_complete = row.integer(i++) != 0;
  r.versions = row.text(i++);
  r.machine = row.text(i++);
  r.seeds = row.text(i++);
  r.options = row.text(i++);
  r.created = row.time(i++);
  r.started = row.optional_time(i++);
  r.ended = row.optional_time(i++);
  r.expires = row.optional_time(i++);
  if (!row.is_null(i)) r.kept_for_ms = row.integer(i);
  ++i;
  r.error = optional_text(row, i++);
  r.bytes = row.integer(i++);
  r.datasets = row.text(i);
  if (listed && r.datasets.size() > longest_listed) {
    r.datasets = "[]";
    r.datasets_left_out = true;
  }
  return r;
}

}  // namespace

std::string_view name_of(RunKind kind) { return kinds[static_cast<std::size_t>(kind)]; }
std::string_view name_of(RunState state) { return states[static_cast<std::size_t>(state)]; }
std::optional<RunState> run_state_of(std::string_view name) {
  for (std::size_t i = 0; i < states.size(); ++i)
    if (states[i] == name) return static_cast<RunState>(i);
  return std::nullopt;
}

Result<void> RunRecords::add(const RunRecord& r) {
  auto done = database_.run(
      "INSERT INTO runs (id, owner, owner_name, title, kind, state, session, engine, parent_session, inputs, "
      "source, "
      "function, arguments, history, history_count, history_complete, versions, machine, seeds, options, "
      "created_ms, "
      "expires_ms, kept_for_ms, bytes) VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
      "?, ?, ?, ?, "
      "?, ?)",
      {r.id,
       r.owner,
       r.owner_name,
       r.title,
       name_of(r.kind),
       r.session,
       r.engine,
       optional(r.parent_session),
       joined(r.inputs),
       optional(r.source),
       optional(r.function),
       optional(r.arguments),
       r.history,
       r.history_count,
       std::int64_t{r.history_complete},
       r.versions,
       r.machine,
       r.seeds,
       r.options,
       r.created,
       optional(r.expires),
       optional(r.kept_for_ms),
       r.bytes});
  if (!done) return done.take_error();
  return {};
}

Result<bool> RunRecords::started(std::string_view id, Time when, const std::optional<RunHistory>& history) {
  auto changed = history ? database_.run("UPDATE runs SET state = 'running', started_ms = ?, history = ?, history_count = ?, history_complete = ? "
                                         "WHERE id = ? AND state = 'queued'", {when, history->calls, history->count, std::int64_t{history->complete}, id})
                         : database_.run("UPDATE runs SET state = 'running', started_ms = ? WHERE id = ? AND state = 'queued'", {when, id});
  if (!changed) return changed.take_error();
  return *changed > 0;
}

Result<bool> RunRecords::ended(std::string_view id, const RunEnd& end) {
  bool ended_now = false;
  auto done = database_.transaction([&]() -> Result<void> {
    if (end.quota_bytes > 0) {
      std::int64_t used = 0;
      auto asked = database_.query(
          "SELECT coalesce(sum(bytes), 0) FROM runs WHERE owner = (SELECT owner FROM runs WHERE id = ?)",
          {id}, [&](const Row& row) { used = row.integer(0); });
      if (!asked) return asked;
      if (used + end.added_bytes > end.quota_bytes)
        return Error{Code::quota,
                     "your runs hold " + std::to_string(used >> 20) + " MiB and this result " +
                         std::to_string(end.added_bytes >> 20) + " MiB: more than your quota of " +
                         std::to_string(end.quota_bytes >> 20) + " MiB. Delete runs that you no longer need",
                     ""};
    }
    auto changed = database_.run(
        "UPDATE runs SET state = ?1, ended_ms = ?2, error = ?3, stdout = ?4, datasets = ?5, layout = ?6, "
        "bytes = bytes + ?7, seeds = coalesce(?9, seeds), "
        "expires_ms = coalesce(?2 + kept_for_ms, expires_ms) WHERE id = ?8 AND state IN ('queued', "
        "'running')",
        {name_of(end.state), end.when, optional(end.error), Blob{end.stdout_text}, end.datasets, end.layout,
         end.added_bytes, id, optional(end.seeds)});
    if (!changed) return changed.take_error();
    ended_now = *changed > 0;
    return {};
  });
  if (!done) return done.take_error();
  return ended_now;
}

Result<std::int64_t> RunRecords::mark_unfinished_as_lost(std::string_view problem, Time when) {
  return database_.run(
      "UPDATE runs SET state = 'lost', ended_ms = ?1, error = ?2, expires_ms = coalesce(?1 + kept_for_ms, "
      "expires_ms) "
      "WHERE state IN ('queued', 'running')",
      {when, problem});
}

Result<std::optional<RunRecord>> RunRecords::find(std::string_view id) {
  std::optional<RunRecord> found;
  auto asked =
      database_.query("SELECT " BRIEF ", source, arguments, history, stdout, layout FROM runs WHERE id = ?",
                      {id}, [&](const Row& row) {
                        found = read(row, false);
                        found->source = optional_text(row, 25);
                        found->arguments = optional_text(row, 26);
                        found->history = row.text(27);
                        found->stdout_text = row.text(28);
                        found->layout = row.text(29);
                      });
  if (!asked) return asked.take_error();
  return found;
}

Result<std::vector<RunRecord>> RunRecords::list(const RunFilter& f) {
  std::optional<std::int64_t> before;
  if (f.after) {
    auto asked =
        database_.query("SELECT seq FROM runs WHERE id = ? AND (owner = ?2 OR ?2 IS NULL)",
                        {*f.after, optional(f.owner)}, [&](const Row& row) { before = row.integer(0); });
    if (!asked) return asked.take_error();
    if (!before)
      return Error{Code::bad_request,
                   "'after' names a run that does not exist (any more): list from the start", ""};
  }
  std::optional<std::string> state;
  if (f.state) state = std::string(name_of(*f.state));
  std::optional<std::string> title;
  if (f.title) title = pattern_containing(*f.title);
  std::vector<RunRecord> runs;
  auto asked = database_.query(
      "SELECT " BRIEF
      // A value is compared before it is asked for NULL: from the comparison PostgreSQL knows its type.
      " FROM runs WHERE (owner = ?1 OR ?1 IS NULL) AND (engine = ?2 OR ?2 IS NULL) AND (session = ?3 OR ?3 IS NULL) "
      "AND (lower(title) LIKE ?4 ESCAPE '\\' OR ?4 IS NULL) AND (state = ?5 OR ?5 IS NULL) "
      "AND (created_ms >= ?6 OR ?6 IS NULL) AND (created_ms < ?7 OR ?7 IS NULL) AND (seq < ?8 OR ?8 IS NULL) "
      "AND (?9 = 0 OR state IN ('queued', 'running') OR expires_ms IS NOT NULL) ORDER BY seq DESC LIMIT ?10",
      {optional(f.owner), optional(f.engine), optional(f.session), optional(title), optional(state),
       optional(f.since), optional(f.until), optional(before), std::int64_t{f.jobs}, f.limit},
      [&](const Row& row) { runs.push_back(read(row, true)); });
  if (!asked) return asked.take_error();
  return runs;
}

Result<void> RunRecords::set_title(std::string_view id, std::string_view title) {
  auto changed = database_.run("UPDATE runs SET title = ? WHERE id = ?", {title, id});
  if (!changed) return changed.take_error();
  if (*changed == 0) return Error{Code::not_found, "no run " + std::string(id), ""};
  return {};
}

Result<void> RunRecords::set_expiry(std::string_view id, std::optional<Time> when) {
  auto changed =
      database_.run("UPDATE runs SET expires_ms = ?, kept_for_ms = NULL WHERE id = ?", {optional(when), id});
  if (!changed) return changed.take_error();
  if (*changed == 0) return Error{Code::not_found, "no run " + std::string(id), ""};
  return {};
}

Result<bool> RunRecords::remove(std::string_view id) {
  auto changed = database_.run("DELETE FROM runs WHERE id = ? AND state NOT IN ('queued', 'running')", {id});
  if (!changed) return changed.take_error();
  return *changed > 0;
}

Result<std::vector<std::pair<std::string, std::string>>> RunRecords::expired(Time now, std::int64_t limit) {
  std::vector<std::pair<std::string, std::string>> found;
  auto asked = database_.query(
      "SELECT id, owner FROM runs WHERE expires_ms <= ? AND state NOT IN ('queued', 'running') ORDER BY "
      "expires_ms LIMIT ?",
      {now, limit}, [&](const Row& row) { found.emplace_back(row.text(0), row.text(1)); });
  if (!asked) return asked.take_error();
  return found;
}

Result<std::vector<std::pair<std::string, std::string>>> RunRecords::all_done() {
  std::vector<std::pair<std::string, std::string>> found;
  auto asked = database_.query("SELECT owner, id FROM runs WHERE state = 'done'", {},
                               [&](const Row& row) { found.emplace_back(row.text(0), row.text(1)); });
  if (!asked) return asked.take_error();
  return found;
}

Result<std::vector<std::string>> RunRecords::ended_of(std::string_view owner) {
  std::vector<std::string> ids;
  auto asked = database_.query("SELECT id FROM runs WHERE owner = ? AND ended_ms IS NOT NULL ORDER BY seq", {owner},
                               [&](const Row& row) { ids.push_back(row.text(0)); });
  if (!asked) return asked.take_error();
  return ids;
}

Result<void> RunRecords::set_owner(std::string_view id, std::string_view owner, std::string_view owner_name) {
  auto changed = database_.run("UPDATE runs SET owner = ?, owner_name = ? WHERE id = ?", {owner, owner_name, id});
  if (!changed) return changed.take_error();
  return {};
}

Result<std::int64_t> RunRecords::bytes_of(std::string_view owner) {
  std::int64_t bytes = 0;
  auto asked = database_.query("SELECT coalesce(sum(bytes), 0) FROM runs WHERE owner = ?", {owner},
                               [&](const Row& row) { bytes = row.integer(0); });
  if (!asked) return asked.take_error();
  return bytes;
}

#undef BRIEF

}  // namespace myelin::store
