#pragma once
// NeuroAPI's own command line, `neuroapi init|run`: the names, options and variables of the original, this server behind them.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/config.hpp"
#include "store/database.hpp"

namespace myelin::cli {

/// The exit status of `neuroapi ARGUMENTS`.
int neuroapi_main(const std::vector<std::string>& arguments, Surroundings surroundings);

/// The variables of a .flaskenv: lines KEY=VALUE, with `export` before and quotes about the value if one likes.
[[nodiscard]] std::map<std::string, std::string> parse_flaskenv(std::string_view text);

/// The file that a DATABASE_URI names; nothing where there is none to read (SQLite's memory). Errors: bad_request for a database that
/// is not SQLite.
[[nodiscard]] Result<std::optional<std::filesystem::path>> sqlite_file_of(std::string_view uri);

struct Imported {
  std::size_t users = 0, known = 0;      // made; there already by name or email
  std::vector<std::string> cleartext;    // without a password now: it was stored as it is
  std::vector<std::string> refused;      // with the reason: no user of this server can be called so
  std::optional<std::string> password;   // a new one of `admin`, whose own was the one that everybody knows
};
/// Takes over the users of an original database. Numbers are kept where they are free, hashes as they are (they are renewed when
/// their users sign in). The user `admin` becomes this server's admin if it has none.
Result<Imported> import_neuroapi_users(store::Database& from, store::Database& to);

}  // namespace myelin::cli
