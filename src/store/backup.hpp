#pragma once
// The state as one SQLite file, wherever it is kept, and back: so that a backup of either kind of database restores to either. Calls
// block for as long as the copying takes.

#include "store/database.hpp"

namespace myelin::store {

/// All rows as they are at one moment, in the shape that this version knows, as a new file. Others go on writing meanwhile. Errors:
/// those of both databases; conflict when `from` is of a newer Myelin, or (PostgreSQL) of an older one.
Result<void> copy_state(Database& from, const std::filesystem::path& file);

/// The rows of `from`, which copy_state made, in a database that has none yet, all or nothing. With the same `mark` again: nothing is left
/// to do. conflict when there are rows.
Result<void> fill_state(Database& to, Database& from, std::string_view mark);

}  // namespace myelin::store
