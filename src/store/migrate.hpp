#pragma once
// The shape of the database, and how an older file becomes a current one. Each step runs in one transaction
// with its version number: a process killed midway leaves the file at the version before, and the next start
// goes on from there. Two processes that start at once do each step once. A file of a newer Myelin is
// refused, never touched.

#include <functional>
#include <vector>

#include "store/database.hpp"

namespace myelin::store {

/// Takes the schema from version i to i+1, where i is its place in the list. Steps are only ever appended.
using Migration = std::function<Result<void>(Database&)>;

/// Brings `database` to the version `steps.size()`. Errors: conflict when the file is newer or is not
/// Myelin's.
Result<void> migrate(Database& database, const std::vector<Migration>& steps);

/// Myelin's own steps.
[[nodiscard]] const std::vector<Migration>& migrations();

/// Opens DIR/myelin.db, current. DIR must exist.
Result<Database> open_state(const std::filesystem::path& directory);

}  // namespace myelin::store
