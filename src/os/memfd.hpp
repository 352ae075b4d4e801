#pragma once
// Anonymous memory files: how large or read-only bytes travel between processes. A receiver that reads one by mapping
// must check is_memfd_sealed_against_shrinking first (a shrunk file is SIGBUS); pread needs no check but stays safe with it.

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "os/fd.hpp"

namespace myelin::os {

/// A memfd (close-on-exec) with these bytes, sealed against every change. `name` shows in /proc only.
[[nodiscard]] Result<UniqueFd> make_sealed_memfd(const char* name, std::string_view bytes);
/// True for a memfd that can't be shrunk by anybody any more. False for any other file.
[[nodiscard]] bool is_memfd_sealed_against_shrinking(int fd);
/// Size in bytes of a file.
[[nodiscard]] Result<std::size_t> file_size(int fd);
/// Bytes that it takes up, which may be more than its size.
[[nodiscard]] Result<std::uint64_t> allocated_bytes(int fd);
/// Exactly `count` bytes from `offset`; an end before that is an error. Never moves the file's position.
[[nodiscard]] Result<void> read_exactly_at(int fd, char* to, std::size_t count, std::size_t offset);
/// A whole file by path, at most `max_bytes` (more is too_large). Works for /proc and cgroup files.
[[nodiscard]] Result<std::string> read_text(const std::string& path, std::size_t max_bytes = 1 << 20);

}  // namespace myelin::os
