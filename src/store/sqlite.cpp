#include "store/backend.hpp"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

namespace myelin::store {

namespace {

constexpr int busy_timeout_ms = 5000;

struct CloseDatabase {
  void operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }
};
struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using StatementPtr = std::unique_ptr<sqlite3_stmt, Finalize>;

/// Ends a run of a statement and drops its values, so that no borrowed memory stays bound.
struct ResetAtEnd {
  sqlite3_stmt* statement;
  ~ResetAtEnd() {
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
  }
};

Error failure(const std::filesystem::path& file, int rc, const char* text) {
  std::string where = "database " + file.string() + ": ";
  switch (rc & 0xff) {
    case SQLITE_FULL:
      return {Code::insufficient_storage, where + "the disk is full", text};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {Code::unavailable, where + "in use by another process for too long; try again", text};
    case SQLITE_CONSTRAINT:
      return {Code::conflict, where + text, ""};
    case SQLITE_CORRUPT:
      return {Code::internal, where + "damaged; restore it from a backup or move it away", text};
    case SQLITE_NOTADB:
      return {Code::internal, where + "not a database; move the file away", text};
    case SQLITE_READONLY:
      return {Code::unavailable, where + "not writable by this user", text};
    case SQLITE_CANTOPEN:
      return {Code::unavailable, where + "cannot be opened; check the folder and its owner", text};
    default:
      return {Code::internal, where + text, ""};
  }
}

// The file is made here, not by SQLite, so that it never exists with a wider mode. An existing file is not
// opened and closed again: closing any descriptor of it would drop the locks of this process's other
// connections.
Result<void> make_private(const std::filesystem::path& file) {
  int fd = ::open(file.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) {
    ::close(fd);
    return {};
  }
  if (errno != EEXIST) {
    return Error{errno == ENOSPC || errno == EDQUOT ? Code::insufficient_storage : Code::unavailable,
                 "database " + file.string() + ": " + std::strerror(errno), ""};
  }
  struct stat info {};
  if (::stat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 0077) != 0 &&
      ::chmod(file.c_str(), 0600) != 0) {
    return Error{Code::unavailable,
                 "database " + file.string() + " is readable by others and its mode cannot be changed",
                 std::strerror(errno)};
  }
  return {};
}

}  // namespace

namespace {

class SqliteRow final : public Row {
 public:
  explicit SqliteRow(sqlite3_stmt* statement) : statement_(statement) {}
  ~SqliteRow() = default;
  Kind kind(int column) const override {
    switch (sqlite3_column_type(statement_, column)) {
      case SQLITE_NULL: return Kind::null;
      case SQLITE_INTEGER: return Kind::integer;
      case SQLITE_BLOB: return Kind::blob;
      default: return Kind::text;
    }
  }
  std::int64_t integer(int column) const override { return sqlite3_column_int64(statement_, column); }
  std::string text(int column) const override {
    const void* bytes = sqlite3_column_blob(statement_, column);
    int size = sqlite3_column_bytes(statement_, column);
    if (bytes == nullptr || size <= 0) return {};
    return {static_cast<const char*>(bytes), static_cast<std::size_t>(size)};
  }

 private:
  sqlite3_stmt* statement_;
};

class Sqlite final : public Backend {
 public:
  std::unique_ptr<sqlite3, CloseDatabase> handle;
  std::map<std::string, StatementPtr, std::less<>> prepared;  // after handle: finalized before it closes

  Error fail(int rc) const { return failure(file, rc, sqlite3_errmsg(handle.get())); }

  Result<StatementPtr> prepare(std::string_view sql, unsigned flags) {
    sqlite3_stmt* raw = nullptr;
    int rc = sqlite3_prepare_v3(handle.get(), sql.data(), static_cast<int>(sql.size()), flags, &raw, nullptr);
    if (rc != SQLITE_OK) return fail(rc);
    return StatementPtr(raw);
  }

  Result<std::int64_t> run(std::string_view sql, std::span<const Value> values, const std::function<void(const Row&)>* each) override {
    const auto before = sqlite3_total_changes64(handle.get());
    StatementPtr own;
    sqlite3_stmt* statement = nullptr;
    auto known = prepared.find(sql);
    if (known != prepared.end() && sqlite3_stmt_busy(known->second.get()) == 0) {
      statement = known->second.get();
    } else {
      auto made = prepare(sql, known == prepared.end() ? SQLITE_PREPARE_PERSISTENT : 0);
      if (!made) return made.take_error();
      statement = made->get();
      if (known == prepared.end()) {
        prepared.emplace(std::string(sql), std::move(*made));
      } else {
        own = std::move(*made);  // asked again from inside its own callback
      }
    }
    ResetAtEnd reset{statement};
    int index = 0;
    for (const Value& value : values) {
      ++index;
      int rc = std::visit(
          [&](const auto& v) {
            using V = std::decay_t<decltype(v)>;
            if constexpr (std::is_same_v<V, std::nullptr_t>)
              return sqlite3_bind_null(statement, index);
            else if constexpr (std::is_same_v<V, std::int64_t>)
              return sqlite3_bind_int64(statement, index, v);
            else if constexpr (std::is_same_v<V, std::string_view>)
              return sqlite3_bind_text64(statement, index, v.data() ? v.data() : "", v.size(), SQLITE_STATIC,
                                         SQLITE_UTF8);
            else
              return sqlite3_bind_blob64(statement, index, v.bytes.data() ? v.bytes.data() : "",
                                         v.bytes.size(), SQLITE_STATIC);
          },
          value.get());
      if (rc != SQLITE_OK) return fail(rc);
    }
    if (index != sqlite3_bind_parameter_count(statement)) {
      throw std::logic_error("Database: the statement takes another number of values: " + std::string(sql));
    }
    for (;;) {
      int rc = sqlite3_step(statement);
      if (rc == SQLITE_DONE) return std::int64_t{sqlite3_total_changes64(handle.get()) - before};
      if (rc != SQLITE_ROW) return fail(rc);
      if (each != nullptr) (*each)(SqliteRow(statement));
    }
  }

  Result<void> script(const char* sql) override {
    int rc = sqlite3_exec(handle.get(), sql, nullptr, nullptr, nullptr);
    if (rc != SQLITE_OK) return fail(rc);
    return {};
  }

  Result<void> begin() override { return done("BEGIN IMMEDIATE"); }
  Result<void> commit() override { return done("COMMIT"); }
  Result<void> begin_reading() override { return done("BEGIN"); }  // WAL: what its first query sees, all see
  void rollback() override {
    // After some errors (disk full) SQLite has rolled back already.
    if (sqlite3_get_autocommit(handle.get()) == 0) sqlite3_exec(handle.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  }

  Result<std::int64_t> data_version() override {
    std::int64_t version = 0;
    const std::function<void(const Row&)> take = [&](const Row& row) { version = row.integer(0); };
    auto asked = run("PRAGMA data_version", {}, &take);
    if (!asked) return asked;
    return version;
  }

  Result<std::vector<std::string>> tables() override {
    std::vector<std::string> names;
    const std::function<void(const Row&)> take = [&](const Row& row) { names.push_back(row.text(0)); };
    auto asked = run("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid", {}, &take);
    if (!asked) return asked.take_error();
    return names;
  }

  Result<void> copy_to(const std::filesystem::path& to) override {
    if (auto made = make_private(to); !made) return made;
    sqlite3* raw = nullptr;
    int rc = sqlite3_open_v2(to.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
    std::unique_ptr<sqlite3, CloseDatabase> target(raw);
    if (rc != SQLITE_OK) return failure(to, rc, raw ? sqlite3_errmsg(raw) : sqlite3_errstr(rc));
    auto* backup = sqlite3_backup_init(raw, "main", handle.get(), "main");
    if (backup == nullptr) return failure(to, sqlite3_errcode(raw), sqlite3_errmsg(raw));
    // All in one step: one read of the database as it is now, which nobody's write can make begin anew.
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(busy_timeout_ms);
    do {
      rc = sqlite3_backup_step(backup, -1);
      if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    } while ((rc == SQLITE_BUSY || rc == SQLITE_LOCKED) && std::chrono::steady_clock::now() < until);
    const int finished = sqlite3_backup_finish(backup);
    if (rc != SQLITE_DONE) return failure(to, rc, sqlite3_errstr(rc));
    if (finished != SQLITE_OK) return failure(to, finished, sqlite3_errstr(finished));
    // One file, with nothing beside it.
    rc = sqlite3_exec(raw, "PRAGMA journal_mode=DELETE", nullptr, nullptr, nullptr);
    if (rc != SQLITE_OK) return failure(to, rc, sqlite3_errmsg(raw));
    return {};
  }

 private:
  Result<void> done(std::string_view sql) {
    auto ran = run(sql, {}, nullptr);
    if (!ran) return ran.take_error();
    return {};
  }
};

}  // namespace

Result<std::unique_ptr<Backend>> open_sqlite(const std::filesystem::path& file, bool read_only) {
  if (!read_only)
    if (auto made = make_private(file); !made) return made.take_error();
  sqlite3* raw = nullptr;
  // NOMUTEX: one thread at a time is the contract of Database.
  int rc = sqlite3_open_v2(file.c_str(), &raw, (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX, nullptr);
  auto backend = std::make_unique<Sqlite>();
  backend->file = file;
  backend->name = file.string();
  backend->handle.reset(raw);
  if (rc != SQLITE_OK) return failure(file, rc, raw ? sqlite3_errmsg(raw) : sqlite3_errstr(rc));
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, busy_timeout_ms);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  if (read_only) return std::unique_ptr<Backend>(std::move(backend));
  // Two processes that open a new file at once: the change to WAL answers busy without waiting, so it is
  // retried here. Where a file system cannot do WAL the journal stays what it was, which is as durable.
  auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(busy_timeout_ms);
  for (;;) {
    rc = sqlite3_exec(raw, "PRAGMA journal_mode=WAL", nullptr, nullptr, nullptr);
    if ((rc & 0xff) != SQLITE_BUSY || std::chrono::steady_clock::now() > until) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (rc == SQLITE_OK) {
    rc = sqlite3_exec(raw, "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON", nullptr, nullptr, nullptr);
  }
  if (rc != SQLITE_OK) return backend->fail(rc);
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace myelin::store
