#include "store/token_records.hpp"

namespace myelin::store {

Result<std::string> TokenRecords::add(std::string_view name, std::string_view hash,
                                      std::string_view new_user_id, Time when) {
  std::string user_id(new_user_id);
  auto done = database_.transaction([&]() -> Result<void> {
    bool known = false;
    bool valid = false;
    auto asked =
        database_.query("SELECT user_id, revoked_ms FROM tokens WHERE name = ?", {name}, [&](const Row& row) {
          known = true;
          valid = row.is_null(1);
          user_id = row.text(0);
        });
    if (!asked) return asked;
    if (valid) {
      return Error{
          Code::conflict,
          "there is a token named \"" + std::string(name) + "\" already; revoke it first to replace it", ""};
    }
    auto written =
        known ? database_.run(
                    "UPDATE tokens SET hash = ?, created_ms = ?, last_used_ms = NULL, revoked_ms = NULL "
                    "WHERE name = ?",
                    {Blob{hash}, when, name})
              : database_.run("INSERT INTO tokens (name, hash, user_id, created_ms) VALUES (?, ?, ?, ?)",
                              {name, Blob{hash}, user_id, when});
    if (!written) return written.take_error();
    return {};
  });
  if (!done) return done.take_error();
  return user_id;
}

Result<void> TokenRecords::revoke(std::string_view name, Time when) {
  auto changed =
      database_.run("UPDATE tokens SET revoked_ms = ? WHERE name = ? AND revoked_ms IS NULL", {when, name});
  if (!changed) return changed.take_error();
  if (*changed == 0)
    return Error{Code::not_found, "there is no valid token named \"" + std::string(name) + "\"", ""};
  return {};
}

Result<std::vector<TokenRecord>> TokenRecords::list(bool valid_only) {
  std::vector<TokenRecord> records;
  auto asked = database_.query(
      "SELECT name, hash, user_id, created_ms, last_used_ms, revoked_ms FROM tokens "
      "WHERE NOT ? OR revoked_ms IS NULL ORDER BY name",
      {std::int64_t{valid_only}}, [&](const Row& row) {
        records.push_back(
            {row.text(0), row.text(1), row.text(2), row.time(3), row.optional_time(4), row.optional_time(5)});
      });
  if (!asked) return asked.take_error();
  return records;
}

Result<void> TokenRecords::used(std::string_view user_id, Time when) {
  auto changed = database_.run(
      "UPDATE tokens SET last_used_ms = ?1 WHERE user_id = ?2 AND (last_used_ms IS NULL OR last_used_ms < "
      "?1)",
      {when, user_id});
  if (!changed) return changed.take_error();
  return {};
}

}  // namespace myelin::store
