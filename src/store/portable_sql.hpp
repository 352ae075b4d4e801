#pragma once
// SQLite's words in PostgreSQL's. What differs elsewhere is avoided where the SQL is written. Pure functions.

#include <string>
#include <string_view>

namespace myelin::store {

struct Translated {
  std::string sql;
  int values = 0;  // how many it takes
};

/// `?` and `?3` become `$1` and `$3`; x'00' becomes '\x00'::bytea. Of tables: INTEGER and BLOB become BIGINT and BYTEA, TEXT is compared by
/// its bytes as SQLite does, INTEGER PRIMARY KEY AUTOINCREMENT is an identity, STRICT goes. Texts, names in quotes and comments stay.
[[nodiscard]] Translated to_postgres(std::string_view sqlite);

}  // namespace myelin::store
