#pragma once
// Files that are written once, with their checksums, and read with a check. Blocking: for pool threads.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "os/fd.hpp"

namespace myelin::run {

/// Gives an errno to fail the named step with, else 0. Empty outside of tests.
using Fault = std::function<int(const char* step)>;

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(std::string_view bytes);
  /// The digest in hex; ends it.
  [[nodiscard]] std::string hex();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct FileFacts {
  std::uint64_t bytes = 0;
  std::string sha256;
  std::uint32_t crc32 = 0;
};

/// What the files of one run share while they are written.
struct WriteContext {
  Fault fault;
  std::uint64_t budget = UINT64_MAX;  // bytes left of the quota
  std::size_t files = 0;              // that were finished
  [[nodiscard]] Result<void> step(const char* name) const;
  /// quota when there is not that much left.
  [[nodiscard]] Result<void> take(std::uint64_t bytes);
};

/// A new file, written from front to back.
class FileWriter {
 public:
  static Result<FileWriter> create(std::filesystem::path path, WriteContext& context);
  Result<void> append(std::string_view bytes);
  /// Replaces bytes that were written; the facts are then read from the file again.
  Result<void> patch(std::uint64_t offset, std::string_view bytes);
  Result<void> read(std::uint64_t offset, std::span<char> into);
  /// Writes the rest and, unless so many files are written that sync_all() is cheaper, syncs.
  Result<FileFacts> finish();
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  Result<void> flush();
  std::filesystem::path path_;
  WriteContext* context_ = nullptr;
  os::UniqueFd fd_;
  std::string buffer_;
  std::uint64_t size_ = 0, flushed_ = 0;
  Sha256 sha_;
  std::uint32_t crc_ = 0;
  bool patched_ = false;
};

/// Everything that was written below `directory`, and the directory itself, is on the disk after it.
Result<void> sync_all(const std::filesystem::path& directory,
                      const std::vector<std::filesystem::path>& directories, WriteContext& context);
Result<void> sync_directory(const std::filesystem::path& directory, const WriteContext& context);

/// A finished file. Reads from the front to the end are checked: the last one is an error when the file is
/// not what was written. `label` names it in errors.
class CheckedFile {
 public:
  CheckedFile(std::filesystem::path path, std::string label, std::uint64_t bytes, std::string sha256);
  /// Exactly `into.size()` bytes.
  Result<void> read(std::uint64_t offset, std::span<char> into);
  /// The whole file, checked.
  Result<std::string> all();
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  Result<void> open();
  [[nodiscard]] Error damaged(std::string_view what) const;
  std::filesystem::path path_;
  std::string label_;
  std::uint64_t bytes_;
  std::string sha256_;
  os::UniqueFd fd_;
  std::uint64_t next_ = 0;  // up to here it was hashed
  Sha256 sha_;
};

}  // namespace myelin::run
