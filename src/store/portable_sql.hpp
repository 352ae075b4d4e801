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

/// PostgreSQL keeps neither a zero byte nor what is no UTF-8; SQLite does. Such a byte is kept as the private character U+F0000 + byte, one
/// of those as its four bytes, so that every text comes back as it went, and equal ones stay equal.
[[nodiscard]] std::string kept_text(std::string_view text);
[[nodiscard]] std::string text_from_kept(std::string_view kept);

}  // namespace myelin::store
