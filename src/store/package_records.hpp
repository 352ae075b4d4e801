#pragma once
// The rows behind users' packages of functions: which versions were published, for whom. The files lie elsewhere, by their hash. Calls
// block and commit to disk; one thread at a time, as the Database they share.

#include <vector>

#include "store/database.hpp"

namespace myelin::store {

struct PackageVersion {
  std::string owner, owner_name;  // user id, and the name as it was then
  std::string name;
  std::int64_t version = 0;
  std::string hash;
  std::string audience;  // "me", "group:a,b", "all", "public"
  Time created;
  std::optional<Time> withdrawn;
};

class PackageRecords {
 public:
  explicit PackageRecords(Database& database) : database_(database) {}

  /// The next version of the package; its number.
  Result<std::int64_t> add(const PackageVersion& version);
  /// All versions of the owner's packages (of all owners for an empty one), by owner, name and version.
  Result<std::vector<PackageVersion>> list(std::string_view owner);
  /// Of all versions that have the audience `from`.
  Result<void> set_audience(std::string_view from, std::string_view to);
  /// How many versions there were to withdraw.
  Result<std::int64_t> withdraw(std::string_view owner, std::string_view name, Time when);
  /// All versions of the packages of `from` (of `only` one of them, where not empty) that `to` has no package of that name of; the names. The
  /// others stay as they are.
  Result<std::vector<std::string>> pass_on(std::string_view from, std::string_view to, std::string_view to_name, std::string_view only);

 private:
  Database& database_;
};

}  // namespace myelin::store
