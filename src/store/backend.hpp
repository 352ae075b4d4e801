#pragma once
// What stands behind a Database: SQLite (sqlite.cpp) or PostgreSQL (postgres.cpp). Used by this room only.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/database.hpp"

namespace myelin::store {

class Backend {
 public:
  virtual ~Backend() = default;
  /// The number of rows that the statement changed; `each` may be null.
  virtual Result<std::int64_t> run(std::string_view sql, std::span<const Value> values, const std::function<void(const Row&)>* each) = 0;
  virtual Result<void> script(const char* sql) = 0;
  /// With begin() until commit() or rollback() no other connection writes.
  virtual Result<void> begin() = 0;
  virtual Result<void> commit() = 0;
  virtual void rollback() = 0;
  virtual Result<void> begin_reading() = 0;  // one view until rollback()
  virtual Result<std::int64_t> data_version() = 0;
  virtual Result<std::vector<std::string>> tables() = 0;
  virtual Result<void> copy_to(const std::filesystem::path& file) = 0;

  std::string name;            // for people, without a password
  std::filesystem::path file;  // of SQLite
  bool in_transaction = false;
};

Result<std::unique_ptr<Backend>> open_sqlite(const std::filesystem::path& file, bool read_only);
Result<std::unique_ptr<Backend>> open_postgres(const std::string& url, Use use);

}  // namespace myelin::store
