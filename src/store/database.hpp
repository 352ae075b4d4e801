#pragma once
// One connection to the embedded database (SQLite: WAL, synchronous=FULL, foreign keys, 5 s busy timeout).
// A write that returned ok is on the disk. Calls block: run them on a pool thread. A Database, and every
// *Records object on it, is used by one thread at a time; several connections to one file, in any processes,
// work together. The file and its WAL are made with mode 0600. Never carry an open Database over fork().

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

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
  [[nodiscard]] bool is_null(int column) const;
  [[nodiscard]] std::int64_t integer(int column) const;
  [[nodiscard]] std::string text(int column) const;  // text or blob; null gives ""
  [[nodiscard]] Time time(int column) const;
  [[nodiscard]] std::optional<Time> optional_time(int column) const;

 private:
  friend class Database;
  explicit Row(void* statement) : statement_(statement) {}
  void* statement_;
};

class Database {
 public:
  /// Opens or makes the file; its folder must exist. Does not migrate (see migrate.hpp).
  /// Errors: unavailable (cannot open, locked), internal (damaged, not a database), insufficient_storage.
  static Result<Database> open(const std::filesystem::path& file);
  /// A file of somebody else's, which is left as it is. Same errors.
  static Result<Database> read(const std::filesystem::path& file);
  Database(Database&&) noexcept;
  Database& operator=(Database&&) noexcept;
  ~Database();

  /// Runs one statement to its end; the number of rows it inserted, changed or deleted.
  /// A violated constraint is Code::conflict.
  Result<std::int64_t> run(std::string_view sql, std::initializer_list<Value> values = {});
  /// Runs one statement and calls `each` for every row.
  Result<void> query(std::string_view sql, std::initializer_list<Value> values,
                     const std::function<void(const Row&)>& each);
  /// Runs a constant script of several statements (for migrations; takes no values).
  Result<void> script(const char* sql);
  /// BEGIN IMMEDIATE, body, COMMIT; rolled back if the body returns an error or throws. Does not nest.
  Result<void> transaction(const std::function<Result<void>()>& body);
  /// Changes whenever another connection committed something. Cheap: no disk access (see tokens.hpp for its
  /// use).
  Result<std::int64_t> data_version();

  [[nodiscard]] const std::filesystem::path& file() const;

 private:
  struct Impl;
  explicit Database(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace myelin::store
