#pragma once
// Packages as files. A package NAME is a file NAME.py or a folder NAME with __init__.py or NAME.py in it. What is called is never the
// author's files but a copy named by its content, which nobody changes: DIR/packages/shown/<hash>. Everything here blocks: for pool threads.

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace myelin::function {

inline constexpr std::uint64_t most_file_bytes = 4 << 20;
inline constexpr std::uint64_t most_package_bytes = 32 << 20;
inline constexpr std::size_t most_files = 512;

/// Name → bytes, with slashes in the names. What a package is.
using Files = std::map<std::string, std::string>;

/// What changes when a file of a package does: of each file its name, size, time and inode.
[[nodiscard]] std::string fingerprint(const std::filesystem::path& folder, const std::string& name);
/// Name → fingerprint of every package in the folder; empty when there is no folder. Names that are no names of packages are left out.
[[nodiscard]] std::map<std::string, std::string> find_packages(const std::filesystem::path& folder);
/// The files of one package. not_found when it is gone; too_large with a sentence.
[[nodiscard]] Result<Files> read_package(const std::filesystem::path& folder, const std::string& name);
/// Of a file NAME.py or below a folder NAME.
[[nodiscard]] bool is_package(const Files& files, const std::string& name);

/// Hex SHA-256 over names and contents.
[[nodiscard]] std::string hash_of(const Files& files);
/// Only those whose name ends with this.
[[nodiscard]] Files ending_with(const Files& files, std::string_view end);

/// Puts the files into `shown`/NAME unless that exists: complete and on the disk, or not at all. Everybody may read them.
[[nodiscard]] Result<void> keep(const std::filesystem::path& shown, const std::string& name, const Files& files);

/// Makes room in `shown` when it holds more than `most_bytes`: what is not in `used` and was not looked for for the longest time goes. How
/// many went.
std::size_t make_room(const std::filesystem::path& shown, const std::set<std::string>& used, std::uint64_t most_bytes);

/// A path of a file in a package: at most 8 names of [A-Za-z0-9._-], none hidden, 200 bytes in all. bad_request with a sentence.
[[nodiscard]] Result<void> check_path(std::string_view path);

}  // namespace myelin::function
