#pragma once
// The rows behind tokens: names, hashes, users. Knows nothing of how a hash is made (accounts/ does).
// Calls block and commit to disk; one thread at a time, as the Database they share.

#include <vector>

#include "store/database.hpp"

namespace myelin::store {

struct TokenRecord {
  std::string name;
  std::string hash;  // raw bytes
  std::string user_id;
  Time created;
  std::optional<Time> last_used;
  std::optional<Time> revoked;
};

class TokenRecords {
 public:
  explicit TokenRecords(Database& database) : database_(database) {}

  /// Adds a name, or gives a revoked one a new hash under its old user id. The user id in force.
  /// Errors: conflict when the name has a valid token.
  Result<std::string> add(std::string_view name, std::string_view hash, std::string_view new_user_id,
                          Time when);
  /// not_found when there is no valid token of that name.
  Result<void> revoke(std::string_view name, Time when);
  /// All, by name; with `valid_only`, without the revoked ones.
  Result<std::vector<TokenRecord>> list(bool valid_only);
  /// Notes a use; an older time than the noted one changes nothing.
  Result<void> used(std::string_view user_id, Time when);

 private:
  Database& database_;
};

}  // namespace myelin::store
