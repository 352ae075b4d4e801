#include "store/package_records.hpp"

namespace myelin::store {

Result<std::int64_t> PackageRecords::add(const PackageVersion& v) {
  std::int64_t number = 0;
  auto done = database_.transaction([&]() -> Result<void> {
    auto asked = database_.query("SELECT coalesce(max(version), 0) + 1 FROM package_versions WHERE owner = ? AND name = ?", {v.owner, v.name},
                                 [&](const Row& row) { number = row.integer(0); });
    if (!asked) return asked;
    auto added = database_.run("INSERT INTO package_versions (owner, owner_name, name, version, hash, audience, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
                               {v.owner, v.owner_name, v.name, number, v.hash, v.audience, v.created});
    if (!added) return added.take_error();
    return {};
  });
  if (!done) return done.take_error();
  return number;
}

Result<std::vector<PackageVersion>> PackageRecords::list(std::string_view owner) {
  std::vector<PackageVersion> out;
  auto asked = database_.query(
      "SELECT owner, owner_name, name, version, hash, audience, created_ms, withdrawn_ms FROM package_versions WHERE ?1 = '' OR owner = ?1 "
      "ORDER BY owner, name, version",
      {owner}, [&](const Row& row) {
        out.push_back({row.text(0), row.text(1), row.text(2), row.integer(3), row.text(4), row.text(5), row.time(6), row.optional_time(7)});
      });
  if (!asked) return asked.take_error();
  return out;
}

Result<std::int64_t> PackageRecords::withdraw(std::string_view owner, std::string_view name, Time when) {
  return database_.run("UPDATE package_versions SET withdrawn_ms = ? WHERE owner = ? AND name = ? AND withdrawn_ms IS NULL", {when, owner, name});
}

Result<void> PackageRecords::set_audience(std::string_view from, std::string_view to) {
  auto changed = database_.run("UPDATE package_versions SET audience = ? WHERE audience = ?", {to, from});
  if (!changed) return changed.take_error();
  return {};
}

Result<std::vector<std::string>> PackageRecords::pass_on(std::string_view from, std::string_view to, std::string_view to_name, std::string_view only) {
  std::vector<std::string> names;
  auto done = database_.transaction([&]() -> Result<void> {
    auto asked = database_.query(
        "SELECT DISTINCT name FROM package_versions WHERE owner = ? AND (? = '' OR name = ?) AND name NOT IN (SELECT name FROM package_versions WHERE owner = ?)",
        {from, only, only, to}, [&](const Row& row) { names.push_back(row.text(0)); });
    if (!asked) return asked;
    for (const auto& name : names) {
      auto changed = database_.run("UPDATE package_versions SET owner = ?, owner_name = ? WHERE owner = ? AND name = ?", {to, to_name, from, name});
      if (!changed) return changed.take_error();
    }
    return {};
  });
  if (!done) return done.take_error();
  return names;
}

}  // namespace myelin::store
