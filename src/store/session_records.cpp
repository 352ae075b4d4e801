#include "store/session_records.hpp"

namespace myelin::store {

namespace {

constexpr std::string_view lost_code = "server_restarted";

#define COLUMNS \
  "id, owner, name, engine, started_ms, ended_ms, cause_code, cause_text, tail, acknowledged FROM sessions "

SessionRecord read(const Row& row) {
  SessionRecord record{row.text(0),          row.text(1),  row.text(2), row.text(3),        row.time(4),
                       row.optional_time(5), std::nullopt, row.text(8), row.integer(9) != 0};
  if (record.ended) record.cause = Cause{row.text(6), row.text(7)};
  return record;
}

}  // namespace

Result<void> SessionRecords::started(std::string_view id, std::string_view owner, std::string_view name,
                                     std::string_view engine, Time when) {
  auto done =
      database_.run("INSERT INTO sessions (id, owner, name, engine, started_ms) VALUES (?, ?, ?, ?, ?)",
                    {id, owner, name, engine, when});
  if (!done) return done.take_error();
  return {};
}

Result<bool> SessionRecords::ended(std::string_view id, const Cause& cause, std::string_view tail,
                                   Time when) {
  auto changed = database_.run(
      "UPDATE sessions SET ended_ms = ?, cause_code = ?, cause_text = ?, tail = ? WHERE id = ? AND ended_ms "
      "IS NULL",
      {when, cause.code, cause.text, Blob{tail}, id});
  if (!changed) return changed.take_error();
  return *changed > 0;
}

Result<std::vector<SessionRecord>> SessionRecords::mark_all_running_as_lost(std::string_view text,
                                                                            Time when) {
  std::vector<SessionRecord> lost;
  auto done = database_.transaction([&]() -> Result<void> {
    auto asked = database_.query("SELECT " COLUMNS "WHERE ended_ms IS NULL ORDER BY started_ms, seq", {},
                                 [&](const Row& row) { lost.push_back(read(row)); });
    if (!asked) return asked;
    auto changed = database_.run(
        "UPDATE sessions SET ended_ms = ?, cause_code = ?, cause_text = ? WHERE ended_ms IS NULL",
        {when, lost_code, text});
    if (!changed) return changed.take_error();
    return {};
  });
  if (!done) return done.take_error();
  for (auto& record : lost) {
    record.ended = when;
    record.cause = Cause{std::string(lost_code), std::string(text)};
  }
  return lost;
}

Result<std::optional<SessionRecord>> SessionRecords::find(std::string_view id) {
  std::optional<SessionRecord> found;
  auto asked =
      database_.query("SELECT " COLUMNS "WHERE id = ?", {id}, [&](const Row& row) { found = read(row); });
  if (!asked) return asked.take_error();
  return found;
}

Result<std::optional<SessionRecord>> SessionRecords::latest_for(std::string_view owner, std::string_view name,
                                                                std::string_view engine) {
  std::optional<SessionRecord> found;
  auto asked = database_.query(
      "SELECT " COLUMNS
      "WHERE owner = ? AND name = ? AND engine = ? ORDER BY started_ms DESC, seq DESC LIMIT 1",
      {owner, name, engine}, [&](const Row& row) { found = read(row); });
  if (!asked) return asked.take_error();
  return found;
}

Result<bool> SessionRecords::acknowledge(std::string_view id) {
  auto changed = database_.run(
      "UPDATE sessions SET acknowledged = 1 FROM (SELECT seq AS this_row, owner AS this_owner, name AS "
      "this_name, "
      "engine AS this_engine, started_ms AS this_start FROM sessions WHERE id = ?) AS this "
      "WHERE owner = this_owner AND name = this_name AND engine = this_engine "
      "AND ended_ms IS NOT NULL AND acknowledged = 0 AND (started_ms < this_start OR (started_ms = "
      "this_start AND seq <= this_row))",
      {id});
  if (!changed) return changed.take_error();
  return *changed > 0;
}

Result<std::int64_t> SessionRecords::expire(Time older_than) {
  return database_.run("DELETE FROM sessions WHERE ended_ms IS NOT NULL AND ended_ms < ?", {older_than});
}

#undef COLUMNS

}  // namespace myelin::store
