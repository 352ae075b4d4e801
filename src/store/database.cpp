#include "store/database.hpp"

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

sqlite3_stmt* as_statement(void* statement) { return static_cast<sqlite3_stmt*>(statement); }

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

Time now() {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

bool Row::is_null(int column) const {
  return sqlite3_column_type(as_statement(statement_), column) == SQLITE_NULL;
}

std::int64_t Row::integer(int column) const { return sqlite3_column_int64(as_statement(statement_), column); }

std::string Row::text(int column) const {
  const void* bytes = sqlite3_column_blob(as_statement(statement_), column);
  int size = sqlite3_column_bytes(as_statement(statement_), column);
  if (bytes == nullptr || size <= 0) return {};
  return {static_cast<const char*>(bytes), static_cast<std::size_t>(size)};
}

Time Row::time(int column) const { return Time(std::chrono::milliseconds(integer(column))); }

std::optional<Time> Row::optional_time(int column) const {
  if (is_null(column)) return std::nullopt;
  return time(column);
}

struct Database::Impl {
  std::filesystem::path file;
  std::unique_ptr<sqlite3, CloseDatabase> handle;
  std::map<std::string, StatementPtr, std::less<>> prepared;  // after handle: finalized before it closes
  bool in_transaction = false;

  Error fail(int rc) const { return failure(file, rc, sqlite3_errmsg(handle.get())); }

  Result<StatementPtr> prepare(std::string_view sql, unsigned flags) {
    sqlite3_stmt* raw = nullptr;
    int rc = sqlite3_prepare_v3(handle.get(), sql.data(), static_cast<int>(sql.size()), flags, &raw, nullptr);
    if (rc != SQLITE_OK) return fail(rc);
    return StatementPtr(raw);
  }

  Result<void> query(std::string_view sql, std::initializer_list<Value> values,
                     const std::function<void(const Row&)>* each) {
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
      if (rc == SQLITE_DONE) return {};
      if (rc != SQLITE_ROW) return fail(rc);
      if (each != nullptr) (*each)(Row(statement));
    }
  }
};

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;

const std::filesystem::path& Database::file() const { return impl_->file; }

Result<Database> Database::open(const std::filesystem::path& file) {
  if (auto made = make_private(file); !made) return made.take_error();
  sqlite3* raw = nullptr;
  // NOMUTEX: one thread at a time is the contract of this class.
  int rc = sqlite3_open_v2(file.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  auto impl = std::make_unique<Impl>();
  impl->file = file;
  impl->handle.reset(raw);
  if (rc != SQLITE_OK) return failure(file, rc, raw ? sqlite3_errmsg(raw) : sqlite3_errstr(rc));
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, busy_timeout_ms);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
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
  if (rc != SQLITE_OK) return impl->fail(rc);
  return Database(std::move(impl));
}

Result<Database> Database::read(const std::filesystem::path& file) {
  sqlite3* raw = nullptr;
  int rc = sqlite3_open_v2(file.c_str(), &raw, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
  auto impl = std::make_unique<Impl>();
  impl->file = file;
  impl->handle.reset(raw);
  if (rc != SQLITE_OK) return failure(file, rc, raw ? sqlite3_errmsg(raw) : sqlite3_errstr(rc));
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, busy_timeout_ms);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  return Database(std::move(impl));
}

Result<std::int64_t> Database::run(std::string_view sql, std::initializer_list<Value> values) {
  auto before = sqlite3_total_changes64(impl_->handle.get());
  auto done = impl_->query(sql, values, nullptr);
  if (!done) return done.take_error();
  return std::int64_t{sqlite3_total_changes64(impl_->handle.get()) - before};
}

Result<void> Database::query(std::string_view sql, std::initializer_list<Value> values,
                             const std::function<void(const Row&)>& each) {
  return impl_->query(sql, values, &each);
}

Result<void> Database::script(const char* sql) {
  int rc = sqlite3_exec(impl_->handle.get(), sql, nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return impl_->fail(rc);
  return {};
}

Result<void> Database::transaction(const std::function<Result<void>()>& body) {
  if (impl_->in_transaction) throw std::logic_error("Database: transactions do not nest");
  if (auto begun = run("BEGIN IMMEDIATE"); !begun) return begun.take_error();
  struct Guard {
    Impl& impl;
    bool committed = false;
    explicit Guard(Impl& i) : impl(i) { impl.in_transaction = true; }
    ~Guard() {
      impl.in_transaction = false;
      // After some errors (disk full) SQLite has rolled back already.
      if (!committed && sqlite3_get_autocommit(impl.handle.get()) == 0) {
        sqlite3_exec(impl.handle.get(), "ROLLBACK", nullptr, nullptr, nullptr);
      }
    }
  } guard(*impl_);
  if (auto done = body(); !done) return done.take_error();
  if (auto committed = run("COMMIT"); !committed) return committed.take_error();
  guard.committed = true;
  return {};
}

Result<std::int64_t> Database::data_version() {
  std::int64_t version = 0;
  auto asked = query("PRAGMA data_version", {}, [&](const Row& row) { version = row.integer(0); });
  if (!asked) return asked.take_error();
  return version;
}

}  // namespace myelin::store
