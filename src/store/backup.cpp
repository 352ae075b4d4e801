#include "store/backup.hpp"

#include "store/account_records.hpp"
#include "store/migrate.hpp"

namespace myelin::store {
namespace {

constexpr const char* version_table = "schema_version";
constexpr const char* restored_action = "restored";

/// The columns of a table of an SQLite file, in its order.
Result<std::vector<std::string>> columns_of(Database& file, const std::string& table) {
  std::vector<std::string> columns;
  auto asked = file.query("SELECT name FROM pragma_table_info(?) ORDER BY cid", {table}, [&](const Row& row) { columns.push_back(row.text(0)); });
  if (!asked) return asked.take_error();
  return columns;
}

Result<void> insert(Database& to, const std::string& sql, const Row& row, int columns) {
  std::vector<std::string> texts(static_cast<std::size_t>(columns));
  std::vector<Value> values;
  for (int i = 0; i < columns; ++i) {
    auto& text = texts[static_cast<std::size_t>(i)];
    switch (row.kind(i)) {
      case Row::Kind::null: values.emplace_back(nullptr); break;
      case Row::Kind::integer: values.emplace_back(row.integer(i)); break;
      case Row::Kind::text: values.emplace_back(text = row.text(i)); break;
      case Row::Kind::blob: values.emplace_back(Blob{text = row.text(i)}); break;
    }
  }
  auto done = to.run(sql, values);
  if (!done) return done.take_error();
  return {};
}

Result<void> copy_rows(Database& from, Database& to, const std::string& table, const std::vector<std::string>& columns) {
  std::string list, marks;
  for (const auto& column : columns) {
    list += (list.empty() ? "" : ", ") + column;
    marks += marks.empty() ? "?" : ", ?";
  }
  const std::string sql = "INSERT INTO " + table + " (" + list + ") VALUES (" + marks + ")";
  const auto count = static_cast<int>(columns.size());
  Result<void> failed;
  std::int64_t rows = 0;
  auto take = [&](const Row& row) {
    ++rows;
    if (failed) failed = insert(to, sql, row, count);
  };
  std::string order;  // rows that came in an order keep it
  for (const auto& column : columns)
    if (column == "seq" || column == "number") order = " ORDER BY " + column;
  const std::string select = "SELECT " + list + " FROM " + table + order;
  if (!from.is_postgres()) {
    if (auto asked = from.query(select, {}, take); !asked) return asked;
    return failed;
  }
  // A few at a time: an answer is in memory as a whole, and a run can have megabytes.
  const std::string cursor = "copy_" + table;
  if (auto declared = from.run("DECLARE " + cursor + " NO SCROLL CURSOR FOR " + select); !declared) return declared.take_error();
  do {
    rows = 0;
    if (auto asked = from.query("FETCH 50 FROM " + cursor, {}, take); !asked) return asked;
  } while (rows > 0 && failed);
  return failed;
}

}  // namespace

Result<void> copy_state(Database& from, const std::filesystem::path& file) {
  if (!from.is_postgres()) {
    if (auto copied = from.copy_to(file); !copied) return copied;
    auto copy = Database::open(file);
    if (!copy) return copy.take_error();
    return migrate(*copy, migrations());
  }
  auto copy = Database::open(file);
  if (!copy) return copy.take_error();
  if (auto made = migrate(*copy, migrations()); !made) return made;
  return from.snapshot([&]() -> Result<void> {
    std::int64_t version = 0;
    auto asked = from.query("SELECT version FROM schema_version", {}, [&](const Row& row) { version = row.integer(0); });
    if (!asked) return asked;
    if (version != static_cast<std::int64_t>(migrations().size()))
      return Error{Code::conflict, "database " + from.name() + " was written by another version of Myelin: make the backup with that one", ""};
    auto tables = copy->tables();
    if (!tables) return tables.take_error();
    return copy->transaction([&]() -> Result<void> {
      for (const auto& table : *tables) {
        if (table == version_table) continue;
        auto columns = columns_of(*copy, table);
        if (!columns) return columns.take_error();
        if (auto cleared = copy->run("DELETE FROM " + table); !cleared) return cleared.take_error();  // what a migration put there
        if (auto copied = copy_rows(from, *copy, table, *columns); !copied) return copied;
      }
      return {};
    });
  });
}

Result<void> fill_state(Database& to, Database& from, std::string_view mark) {
  auto tables = from.tables();
  if (!tables) return tables.take_error();
  return to.transaction([&]() -> Result<void> {
    bool done = false, empty = true;
    auto marked = to.query("SELECT 1 FROM audit WHERE action = ? AND object = ?", {restored_action, mark}, [&](const Row&) { done = true; });
    if (!marked) return marked;
    if (done) return {};
    for (const auto& table : {"users", "runs", "sessions", "audit", "package_versions"}) {
      auto looked = to.query("SELECT 1 FROM " + std::string(table) + " LIMIT 1", {}, [&](const Row&) { empty = false; });
      if (!looked) return looked;
    }
    if (!empty) return Error{Code::conflict, "database " + to.name() + " is in use already: restore into an empty one", ""};
    for (const auto& table : *tables) {  // in the order of their making: what a row refers to is there before it
      if (table == version_table) continue;
      auto columns = columns_of(from, table);
      if (!columns) return columns.take_error();
      if (auto cleared = to.run("DELETE FROM " + table); !cleared) return cleared.take_error();
      if (auto copied = copy_rows(from, to, table, *columns); !copied) return copied;
    }
    // What counts by itself goes on behind the rows that brought their numbers.
    std::vector<std::pair<std::string, std::string>> counted;
    if (to.is_postgres()) {
      auto asked = to.query("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() "
                            "AND is_identity = 'YES'", {}, [&](const Row& row) { counted.emplace_back(row.text(0), row.text(1)); });
      if (!asked) return asked;
    }
    for (const auto& [table, column] : counted) {
      auto set = to.query("SELECT setval(pg_get_serial_sequence('" + table + "', '" + column + "'), (SELECT coalesce(max(" + column +
                              "), 0) + 1 FROM " + table + "), false)", {}, [](const Row&) {});
      if (!set) return set;
    }
    return AccountRecords(to).note({0, now(), "operator", "command line", "", restored_action, std::string(mark), ""});
  });
}

}  // namespace myelin::store
