#pragma once
// A directory tree that belongs to a hostile user: nothing outside it is ever read, written or removed, whatever links the user
// puts there and however fast they are swapped. Paths are relative, with slashes; links are never followed. Calls block.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "os/fd.hpp"

namespace myelin::os {

struct TreeEntry {
  std::string name;
  enum class Type { file, directory, link, other } type = Type::other;
  std::uint64_t bytes = 0;
  std::int64_t modified_s = 0;  // seconds since 1970
  std::uint32_t mode = 0, uid = 0, gid = 0;  // mode: the permissions alone
};

class Tree {
 public:
  /// `owner`: who new files belong to, for a server that runs as root.
  [[nodiscard]] static Result<Tree> open(const std::string& directory, std::optional<std::uint32_t> owner);

  /// A directory's entries by name, at most `most`.
  [[nodiscard]] Result<std::vector<TreeEntry>> list(std::string_view path, std::size_t most) const;
  [[nodiscard]] Result<bool> is_directory(std::string_view path) const;
  /// A regular file, for reading.
  [[nodiscard]] Result<UniqueFd> read(std::string_view path) const;
  /// Where a link points to, which may be anywhere.
  [[nodiscard]] Result<std::string> link(std::string_view path) const;
  /// The whole file at once: the old one stays until the new one is on the disk. Directories on the way are made.
  Result<void> write(std::string_view path, std::string_view bytes) const;
  Result<void> make_directory(std::string_view path) const;
  /// A file, a link or an empty directory.
  Result<void> remove(std::string_view path) const;

 private:
  UniqueFd root_;
  std::optional<std::uint32_t> owner_;
  [[nodiscard]] Result<UniqueFd> walk(const std::vector<std::string>& parts, std::size_t count, bool make) const;
};

/// What is below a directory of theirs, in bytes on the disk or as long as files say they are, whichever is more; any file, link or
/// directory counts at least 4096, for inodes run out too. By descriptors: no path is too long. Whatever can't be looked at is an error.
[[nodiscard]] Result<std::uint64_t> bytes_below(const std::string& directory);

}  // namespace myelin::os
