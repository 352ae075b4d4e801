#pragma once
// A body that is made a piece at a time, with bounded memory, for whoever sends it. Knows nothing of HTTP.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "async/task.hpp"
#include "base/result.hpp"

namespace myelin::run {

struct Source {
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;
  /// Replaces `chunk` with the next piece. False at the end, with the last piece in `chunk` or empty. After
  /// an error (a damaged file, say) there is no more.
  virtual async::Task<Result<bool>> next(std::string& chunk) = 0;
  /// The whole length in bytes, if known.
  [[nodiscard]] virtual std::optional<std::uint64_t> length() const { return std::nullopt; }
};

/// A source with what a client wants to know of it.
struct Download {
  std::unique_ptr<Source> source;
  std::string content_type;
  std::string filename;  // safe ASCII
};

}  // namespace myelin::run
