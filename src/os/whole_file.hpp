#pragma once
// Small files that are there whole or not at all, also after the power failed. Errors are the disk's.

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace myelin::os {

/// A new file (0600) beside `path`, with these bytes, on the disk: its own path, hidden by a dot. Whoever asked renames, links or
/// removes it.
[[nodiscard]] Result<std::string> write_beside(const std::string& path, std::string_view bytes);
/// The file's bytes, changed in one step. Its directory is there.
[[nodiscard]] Result<void> replace_file(const std::string& path, std::string_view bytes);
/// What was made, renamed or removed in the directory is so on the disk, too.
Result<void> sync_directory(const std::string& directory);

}  // namespace myelin::os
