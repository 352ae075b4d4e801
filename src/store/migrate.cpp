#include "store/migrate.hpp"

namespace myelin::store {

namespace {

Result<bool> exists(Database& database, std::string_view sql) {
  bool found = false;
  auto asked = database.query(sql, {}, [&](const Row&) { found = true; });
  if (!asked) return asked.take_error();
  return found;
}

/// The version of the file; an empty file is version 0.
Result<std::int64_t> version_of(Database& database) {
  auto versioned =
      exists(database, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'");
  if (!versioned) return versioned.take_error();
  if (!*versioned) {
    auto foreign = exists(database, "SELECT 1 FROM sqlite_master LIMIT 1");
    if (!foreign) return foreign.take_error();
    if (*foreign) {
      return Error{Code::conflict,
                   "database " + database.file().string() +
                       " belongs to another program; move it away or choose another data directory",
                   ""};
    }
    return std::int64_t{0};
  }
  std::int64_t version = 0;
  auto asked = database.query("SELECT version FROM schema_version", {},
                              [&](const Row& row) { version = row.integer(0); });
  if (!asked) return asked.take_error();
  return version;
}

Result<void> first(Database& database) {
  return database.script(R"sql(
    -- One token, one user. `user_id` stays when a revoked name gets a new token: the user keeps their files.
    CREATE TABLE tokens (
      name         TEXT PRIMARY KEY,
      hash         BLOB NOT NULL UNIQUE,
      user_id      TEXT NOT NULL UNIQUE,
      created_ms   INTEGER NOT NULL,
      last_used_ms INTEGER,
      revoked_ms   INTEGER
    ) STRICT;
    CREATE TABLE sessions (
      id           TEXT PRIMARY KEY,
      owner        TEXT NOT NULL,
      name         TEXT NOT NULL,
      engine       TEXT NOT NULL,
      started_ms   INTEGER NOT NULL,
      ended_ms     INTEGER,
      cause_code   TEXT,
      cause_text   TEXT,
      tail         BLOB NOT NULL DEFAULT x'',
      acknowledged INTEGER NOT NULL DEFAULT 0,
      CHECK ((ended_ms IS NULL) = (cause_code IS NULL))
    ) STRICT;
    CREATE INDEX sessions_by_name ON sessions (owner, name, engine, started_ms);
    CREATE INDEX sessions_by_end ON sessions (ended_ms);
  )sql");
}

Result<void> runs(Database& database) {
  return database.script(R"sql(
    -- What was computed and is kept; the result lies in files. JSON members are the text that came.
    CREATE TABLE runs (
      seq              INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of listings
      id               TEXT NOT NULL UNIQUE,
      owner            TEXT NOT NULL,
      owner_name       TEXT NOT NULL,
      title            TEXT NOT NULL,
      kind             TEXT NOT NULL CHECK (kind IN ('exec', 'call', 'rerun')),
      state            TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'lost')),
      session          TEXT NOT NULL,
      engine           TEXT NOT NULL,
      parent_session   TEXT,
      inputs           TEXT NOT NULL,
      source           TEXT,
      function         TEXT,
      arguments        TEXT,
      history          TEXT NOT NULL,
      history_count    INTEGER NOT NULL,
      history_complete INTEGER NOT NULL,
      versions         TEXT NOT NULL,
      machine          TEXT NOT NULL,
      seeds            TEXT NOT NULL,
      options          TEXT NOT NULL,
      created_ms       INTEGER NOT NULL,
      started_ms       INTEGER,
      ended_ms         INTEGER,
      expires_ms       INTEGER,
      kept_for_ms      INTEGER,
      error            TEXT,
      stdout           BLOB NOT NULL DEFAULT x'',
      bytes            INTEGER NOT NULL,
      datasets         TEXT NOT NULL DEFAULT '[]',
      layout           TEXT NOT NULL DEFAULT '{}',
      CHECK ((ended_ms IS NULL) = (state IN ('queued', 'running')))
    ) STRICT;
    CREATE INDEX runs_by_owner ON runs (owner, seq);
    CREATE INDEX runs_by_expiry ON runs (expires_ms) WHERE expires_ms IS NOT NULL;
    CREATE INDEX runs_unfinished ON runs (state) WHERE state IN ('queued', 'running');
  )sql");
}

// Any kind of run, and packages of functions.
Result<void> functions(Database& database) {
  return database.script(R"sql(
    CREATE TABLE runs_of_any_kind (
      seq              INTEGER PRIMARY KEY AUTOINCREMENT,
      id               TEXT NOT NULL UNIQUE,
      owner            TEXT NOT NULL,
      owner_name       TEXT NOT NULL,
      title            TEXT NOT NULL,
      kind             TEXT NOT NULL,
      state            TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'lost')),
      session          TEXT NOT NULL,
      engine           TEXT NOT NULL,
      parent_session   TEXT,
      inputs           TEXT NOT NULL,
      source           TEXT,
      function         TEXT,
      arguments        TEXT,
      history          TEXT NOT NULL,
      history_count    INTEGER NOT NULL,
      history_complete INTEGER NOT NULL,
      versions         TEXT NOT NULL,
      machine          TEXT NOT NULL,
      seeds            TEXT NOT NULL,
      options          TEXT NOT NULL,
      created_ms       INTEGER NOT NULL,
      started_ms       INTEGER,
      ended_ms         INTEGER,
      expires_ms       INTEGER,
      kept_for_ms      INTEGER,
      error            TEXT,
      stdout           BLOB NOT NULL DEFAULT x'',
      bytes            INTEGER NOT NULL,
      datasets         TEXT NOT NULL DEFAULT '[]',
      layout           TEXT NOT NULL DEFAULT '{}',
      CHECK ((ended_ms IS NULL) = (state IN ('queued', 'running')))
    ) STRICT;
    INSERT INTO runs_of_any_kind SELECT * FROM runs;
    DROP TABLE runs;
    ALTER TABLE runs_of_any_kind RENAME TO runs;
    CREATE INDEX runs_by_owner ON runs (owner, seq);
    CREATE INDEX runs_by_expiry ON runs (expires_ms) WHERE expires_ms IS NOT NULL;
    CREATE INDEX runs_unfinished ON runs (state) WHERE state IN ('queued', 'running');
    -- A published version of a user's package; the files lie below DIR/packages/shown by their hash, and never change.
    CREATE TABLE package_versions (
      owner        TEXT NOT NULL,
      owner_name   TEXT NOT NULL,
      name         TEXT NOT NULL,
      version      INTEGER NOT NULL,
      hash         TEXT NOT NULL,
      audience     TEXT NOT NULL,
      created_ms   INTEGER NOT NULL,
      withdrawn_ms INTEGER,
      PRIMARY KEY (owner, name, version)
    ) STRICT;
  )sql");
}

}  // namespace

Result<void> migrate(Database& database, const std::vector<Migration>& steps) {
  const auto newest = static_cast<std::int64_t>(steps.size());
  auto found = version_of(database);
  if (!found) return found.take_error();
  while (*found < newest) {
    auto done = database.transaction([&]() -> Result<void> {
      found = version_of(database);  // another process may have been faster
      if (!found) return found.take_error();
      if (*found >= newest) return {};
      if (auto made = database.script("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)");
          !made) {
        return made;
      }
      if (auto applied = steps[static_cast<std::size_t>(*found)](database); !applied) return applied;
      if (auto cleared = database.run("DELETE FROM schema_version"); !cleared) return cleared.take_error();
      if (auto set = database.run("INSERT INTO schema_version VALUES (?)", {*found + 1}); !set)
        return set.take_error();
      return {};
    });
    if (!done) return done;
    if (*found < newest) *found += 1;
  }
  if (*found > newest) {
    return Error{Code::conflict,
                 "database " + database.file().string() + " was written by a newer Myelin (schema " +
                     std::to_string(*found) + ", this one knows " + std::to_string(newest) +
                     "): install that version, or choose another data directory",
                 ""};
  }
  return {};
}

const std::vector<Migration>& migrations() {
  static const std::vector<Migration> steps = {first, runs, functions};
  return steps;
}

Result<Database> open_state(const std::filesystem::path& directory) {
  auto database = Database::open(directory / "myelin.db");
  if (!database) return database.take_error();
  if (auto current = migrate(*database, migrations()); !current) return current.take_error();
  return database;
}

}  // namespace myelin::store
