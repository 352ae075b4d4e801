#pragma once
// One connection to the database: embedded (SQLite: WAL, synchronous=FULL, foreign keys, 5 s busy timeout), or a PostgreSQL server.
// A write that returned ok is on the disk. Calls block: run them on a pool thread. A Database, and every *Records object on it, is used
// by one thread at a time; several connections to one database, in any processes, work together. SQLite's file and its WAL are made
// with mode 0600. Never carry an open Database over fork().
//
// SQL is written once, in SQLite's words, and kept to what both understand; portable_sql.hpp says what is translated. A connection to
// PostgreSQL that breaks is made anew at the next call; until then calls fail with Code::unavailable, and a write whose answer was lost
// is never repeated. No error and no name here shows a password.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.hpp"

namespace myelin::store {

/// Wall-clock instants are kept as integer milliseconds since 1970.
using Time = std::chrono::sys_time<std::chrono::milliseconds>;
[[nodiscard]] Time now();

/// Bytes that need not be UTF-8; the viewed memory outlives the call it is passed to.
struct Blob {
  std::string_view bytes;
};

/// What a `?` in a statement can stand for.
class Value {
 public:
  Value(std::nullptr_t) : value_(nullptr) {}                             // NOLINT: implicit by design
  Value(std::int64_t v) : value_(v) {}                                   // NOLINT
  Value(Time v) : value_(std::int64_t{v.time_since_epoch().count()}) {}  // NOLINT
  Value(std::string_view v) : value_(v) {}                               // NOLINT
  Value(const std::string& v) : value_(std::string_view(v)) {}           // NOLINT
  Value(const char* v) : value_(std::string_view(v)) {}                  // NOLINT
  Value(Blob v) : value_(v) {}                                           // NOLINT
  [[nodiscard]] const auto& get() const { return value_; }

 private:
  std::variant<std::nullptr_t, std::int64_t, std::string_view, Blob> value_;
};

/// One row of an answer; valid inside the callback only. Columns count from 0.
class Row {
 public:
  enum class Kind { null, integer, text, blob };
  [[nodiscard]] virtual Kind kind(int column) const = 0;
  [[nodiscard]] virtual std::int64_t integer(int column) const = 0;
  [[nodiscard]] virtual std::string text(int column) const = 0;  // text or blob; null gives ""
  [[nodiscard]] bool is_null(int column) const { return kind(column) == Kind::null; }
  [[nodiscard]] Time time(int column) const { return Time(std::chrono::milliseconds(integer(column))); }
  [[nodiscard]] std::optional<Time> optional_time(int column) const {
    if (is_null(column)) return std::nullopt;
    return time(column);
  }

 protected:
  ~Row() = default;
};

/// What a connection to PostgreSQL is for.
enum class Use {
  work,
  server,   // as work; a second one on the same database is refused with conflict
  watcher,  // for a thread that may not wait long: reads, and data_version() without a question to the server
};

class Backend;

class Database {
 public:
  /// Opens or makes the file; its folder must exist. Does not migrate (see migrate.hpp).
  /// Errors: unavailable (cannot open, locked), internal (damaged, not a database), insufficient_storage.
  static Result<Database> open(const std::filesystem::path& file);
  /// A file of somebody else's, which is left as it is. Same errors.
  static Result<Database> read(const std::filesystem::path& file);
  /// A PostgreSQL server's database, "postgresql://user:password@host/name". Errors: unavailable, bad_request (no such address).
  static Result<Database> connect(const std::string& url, Use use = Use::work);
  Database(Database&&) noexcept;
  Database& operator=(Database&&) noexcept;
  ~Database();

  /// Runs one statement to its end; the number of rows it inserted, changed or deleted.
  /// A violated constraint is Code::conflict.
  Result<std::int64_t> run(std::string_view sql, std::initializer_list<Value> values = {});
  Result<std::int64_t> run(std::string_view sql, std::span<const Value> values);
  /// Runs one statement and calls `each` for every row.
  Result<void> query(std::string_view sql, std::initializer_list<Value> values,
                     const std::function<void(const Row&)>& each);
  /// Runs a constant script of several statements (for migrations; takes no values).
  Result<void> script(const char* sql);
  /// BEGIN IMMEDIATE, body, COMMIT; rolled back if the body returns an error or throws. Does not nest. One at a time on a database,
  /// whoever runs it. A statement in it that failed ends it: on PostgreSQL nothing after it succeeds.
  Result<void> transaction(const std::function<Result<void>()>& body);
  /// One view of all tables for many queries, however long they take. Nothing is written in it.
  Result<void> snapshot(const std::function<Result<void>()>& body);
  /// Changes whenever another connection committed a transaction(): at once for those of this process, for others' as soon as they are
  /// heard of. Cheap: no disk access (see accounts/snapshot.hpp for its use).
  Result<std::int64_t> data_version();
  /// Names of all tables that are no part of the database system, in the order of their making on SQLite, else by name.
  Result<std::vector<std::string>> tables();

  /// For people: the file, or the address without its password.
  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] bool is_postgres() const;
  /// Of SQLite.
  [[nodiscard]] const std::filesystem::path& file() const;
  /// SQLite only: all of it, as it is at one moment, as a new file. Others go on reading and writing meanwhile.
  Result<void> copy_to(const std::filesystem::path& file);

 private:
  explicit Database(std::unique_ptr<Backend> backend);
  std::unique_ptr<Backend> backend_;
};

/// A pattern for `lower(column) LIKE ? ESCAPE '\'` that finds `text`, in which nothing has a meaning, wherever it stands; ASCII case ignored.
[[nodiscard]] std::string pattern_containing(std::string_view text);

}  // namespace myelin::store
