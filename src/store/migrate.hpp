#pragma once
// The shape of the database, and how an older file becomes a current one. Each step runs in one transaction
// with its version number: a process killed midway leaves the file at the version before, and the next start
// goes on from there. Two processes that start at once do each step once. A file of a newer Myelin is
// refused, never touched. The steps are the same on both kinds of database.

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

/// Where the state is: a PostgreSQL address, or else DIR/myelin.db. DIR must exist.
struct Place {
  Place(std::filesystem::path in, std::string address = "") : directory(std::move(in)), url(std::move(address)) {}  // NOLINT: a folder is one
  std::filesystem::path directory;
  std::string url;
};

/// Opens it and makes it current.
Result<Database> open_state(const Place& place, Use use = Use::work);
/// One more connection to what open_state() opened.
Result<Database> open_connection(const Place& place, Use use);

}  // namespace myelin::store
