#pragma once
// `myelin backup` and `myelin restore`: all that a server keeps, in a directory of plain files.
//
//   BACKUP/backup.json   what this is: version, time, counts, the SHA-256 of SHA256SUMS
//   BACKUP/SHA256SUMS    of every file below, as sha256sum writes and checks it
//   BACKUP/myelin.db     the database as it was at one moment, SQLite, whatever it is kept in
//   BACKUP/data/         DIR, without what belongs to a running process or can be made again
//
// A server may run meanwhile. The database is copied first; files that came later belong to no row and are swept at the start after a
// restore; the rows of runs that were deleted meanwhile are taken out again, so that no row lacks its files. BACKUP appears whole or not at all.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>

#include "cli/config.hpp"

namespace myelin::cli {

/// conflict when `target` exists.
Result<void> make_backup(const Config& config, const std::filesystem::path& target, bool show_progress);
/// DIR is empty or missing before; after an error it is empty again, and after a kill it says so to `serve`, and the next restore begins anew.
Result<void> restore_backup(const Config& config, const std::filesystem::path& source, bool show_progress);

/// That a restore into DIR has not come to its end. conflict if so.
Result<void> check_restored(const std::filesystem::path& directory);

void add_backup_commands(CLI::App& app, Flags& flags, const Surroundings& surroundings, const std::function<void(CLI::App*)>& take_data, int& status);

}  // namespace myelin::cli
