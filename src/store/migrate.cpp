#include "store/migrate.hpp"

#include <algorithm>

namespace myelin::store {

namespace {

/// The version of the file; an empty file is version 0.
Result<std::int64_t> version_of(Database& database) {
  // One question: between two, another process may make the tables.
  auto tables = database.tables();
  if (!tables) return tables.take_error();
  if (std::find(tables->begin(), tables->end(), "schema_version") == tables->end()) {
    if (!tables->empty()) {
      return Error{Code::conflict,
                   "database " + database.name() + " belongs to another program; " +
                       (database.is_postgres() ? "make an empty one" : "move it away or choose another data directory"),
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

Result<void> accounts(Database& database) {
  auto made = database.script(R"sql(
    -- Who a copy of these tables must read anew: rows have the number that `all_changes` had when they changed.
    CREATE TABLE account_changes (all_changes INTEGER NOT NULL, grant_changes INTEGER NOT NULL) STRICT;
    INSERT INTO account_changes VALUES (1, 1);
    CREATE TABLE users (
      number          INTEGER PRIMARY KEY AUTOINCREMENT,
      id              TEXT NOT NULL UNIQUE,
      username        TEXT UNIQUE,                        -- null when deleted; former_name has it
      former_name     TEXT,
      email           TEXT UNIQUE,
      role            TEXT NOT NULL CHECK (role IN ('guest', 'member', 'admin')),
      active          INTEGER NOT NULL,
      password        TEXT NOT NULL,
      must_change     INTEGER NOT NULL,
      created_ms      INTEGER NOT NULL,
      last_sign_in_ms INTEGER,
      deleted_ms      INTEGER,
      issuer          TEXT NOT NULL DEFAULT '',
      subject         TEXT NOT NULL DEFAULT '',
      version         INTEGER NOT NULL,
      CHECK ((username IS NULL) = (deleted_ms IS NOT NULL))
    ) STRICT;
    CREATE INDEX users_by_version ON users (version);
    CREATE UNIQUE INDEX users_by_subject ON users (issuer, subject) WHERE subject <> '' AND deleted_ms IS NULL;
    CREATE TABLE api_tokens (
      id           TEXT PRIMARY KEY,
      user_id      TEXT NOT NULL REFERENCES users (id),
      name         TEXT NOT NULL,
      hash         BLOB NOT NULL UNIQUE,
      scopes       TEXT,
      created_ms   INTEGER NOT NULL,
      last_used_ms INTEGER,
      expires_ms   INTEGER,
      revoked_ms   INTEGER,
      version      INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX api_tokens_by_name ON api_tokens (user_id, name) WHERE revoked_ms IS NULL;
    CREATE INDEX api_tokens_by_version ON api_tokens (version);
    CREATE TABLE issued (
      jti        TEXT PRIMARY KEY,
      family     TEXT NOT NULL,
      kind       TEXT NOT NULL CHECK (kind IN ('access', 'refresh', 'cookie')),
      user_id    TEXT NOT NULL REFERENCES users (id),
      scopes     TEXT,
      client     TEXT NOT NULL,
      created_ms INTEGER NOT NULL,
      expires_ms INTEGER NOT NULL,
      used_ms    INTEGER,
      revoked_ms INTEGER,
      version    INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX issued_by_family ON issued (family);
    CREATE INDEX issued_by_user ON issued (user_id);
    CREATE INDEX issued_by_expiry ON issued (expires_ms);
    CREATE INDEX issued_by_version ON issued (version);
    CREATE TABLE user_groups (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE group_members (
      group_id TEXT NOT NULL REFERENCES user_groups (id),
      user_id  TEXT NOT NULL REFERENCES users (id),
      PRIMARY KEY (group_id, user_id)
    ) STRICT;
    CREATE TABLE grants (
      id         TEXT PRIMARY KEY,
      holder     TEXT NOT NULL,
      action     TEXT NOT NULL,
      kind       TEXT NOT NULL,
      object     TEXT NOT NULL,
      granted_by TEXT NOT NULL,
      created_ms INTEGER NOT NULL,
      UNIQUE (holder, action, kind, object)
    ) STRICT;
    CREATE TABLE known_addresses (
      user_id TEXT NOT NULL REFERENCES users (id),
      address TEXT NOT NULL,
      last_ms INTEGER NOT NULL,
      PRIMARY KEY (user_id, address)
    ) STRICT;
    CREATE TABLE password_resets (hash BLOB PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users (id), expires_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE audit (
      seq        INTEGER PRIMARY KEY AUTOINCREMENT,
      at_ms      INTEGER NOT NULL,
      actor      TEXT NOT NULL,
      actor_name TEXT NOT NULL,
      address    TEXT NOT NULL,
      action     TEXT NOT NULL,
      object     TEXT NOT NULL,
      detail     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_time ON audit (at_ms);
  )sql");
  if (!made) return made;
  if (database.is_postgres()) return database.script("DROP TABLE tokens");  // this old it never was
  return database.script(R"sql(
    -- A token was a user: it goes on being one, and the token is one of theirs.
    INSERT INTO users (id, username, role, active, password, must_change, created_ms, version)
      SELECT user_id, name, 'member', 1, '', 0, created_ms, 1 FROM tokens ORDER BY created_ms;
    INSERT INTO api_tokens (id, user_id, name, hash, created_ms, last_used_ms, revoked_ms, version)
      SELECT 't_' || lower(hex(randomblob(12))), user_id, name, hash, created_ms, last_used_ms, revoked_ms, 1 FROM tokens;
    DROP TABLE tokens;
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

// A number that says which of two sessions of the same instant came later; SQLite had one, of its own.
Result<void> sessions_in_order(Database& database) {
  auto made = database.script(R"sql(
    CREATE TABLE sessions_in_order (
      seq          INTEGER PRIMARY KEY AUTOINCREMENT,
      id           TEXT NOT NULL UNIQUE,
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
  )sql");
  if (made && !database.is_postgres())
    made = database.script("INSERT INTO sessions_in_order SELECT rowid, id, owner, name, engine, started_ms, ended_ms, cause_code, cause_text, "
                           "tail, acknowledged FROM sessions");
  if (!made) return made;
  return database.script(R"sql(
    DROP TABLE sessions;
    ALTER TABLE sessions_in_order RENAME TO sessions;
    CREATE INDEX sessions_by_name ON sessions (owner, name, engine, started_ms);
    CREATE INDEX sessions_by_end ON sessions (ended_ms);
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
                 "database " + database.name() + " was written by a newer Myelin (schema " +
                     std::to_string(*found) + ", this one knows " + std::to_string(newest) +
                     "): install that version, or choose another data directory",
                 ""};
  }
  return {};
}

const std::vector<Migration>& migrations() {
  static const std::vector<Migration> steps = {first, runs, accounts, functions, sessions_in_order};
  return steps;
}

Result<Database> open_state(const Place& place, Use use) {
  auto database = open_connection(place, use);
  if (!database) return database;
  if (auto current = migrate(*database, migrations()); !current) return current.take_error();
  return database;
}

Result<Database> open_connection(const Place& place, Use use) {
  return place.url.empty() ? Database::open(place.directory / "myelin.db") : Database::connect(place.url, use);
}

}  // namespace myelin::store
