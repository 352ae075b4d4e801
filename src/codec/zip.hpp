#pragma once
// Zip archives written from front to back: the heads and the directory as bytes, and the deflating of an
// entry. The data itself passes by the caller. Sizes beyond 4 GiB and more than 65,535 entries use zip64;
// names are UTF-8; times are UTC.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace myelin::codec {

/// Of an entry that is stored as it is, and whose checksum was computed before.
struct ZipKnown {
  std::uint64_t bytes = 0;
  std::uint32_t crc32 = 0;
};

class ZipWriter {
 public:
  explicit ZipWriter(std::chrono::system_clock::time_point when);
  ~ZipWriter();
  ZipWriter(const ZipWriter&) = delete;
  ZipWriter& operator=(const ZipWriter&) = delete;

  /// The head of a stored entry; exactly `known.bytes` bytes of it follow, as they are: then call stored().
  void begin_stored(std::string& out, std::string name, ZipKnown known);
  void stored();
  /// The head of an entry to be deflated.
  void begin_deflated(std::string& out, std::string name);
  /// Appends the deflated bytes.
  void deflate(std::string& out, std::string_view bytes);
  void end_deflated(std::string& out);
  /// The directory: the archive's end.
  void finish(std::string& out);

  /// Bytes of an archive that has only stored entries: (length of the name, bytes) each.
  [[nodiscard]] static std::uint64_t stored_size(
      const std::vector<std::pair<std::size_t, std::uint64_t>>& entries);

 private:
  struct Entry {
    std::string name;
    std::uint64_t offset = 0, packed = 0, bytes = 0;
    std::uint32_t crc32 = 0;
    bool deflated = false;
  };
  struct Deflater;
  void local_head(std::string& out, const Entry& entry);
  std::vector<Entry> entries_;
  std::unique_ptr<Deflater> deflater_;
  std::uint64_t at_ = 0;  // bytes written so far
  std::uint16_t date_ = 0, time_ = 0;
};

/// Continues a CRC-32 (as zip and PNG have it); start with 0.
[[nodiscard]] std::uint32_t crc32_of(std::uint32_t crc, std::string_view bytes);

}  // namespace myelin::codec
