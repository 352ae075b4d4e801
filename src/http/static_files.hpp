#pragma once
// A directory tree as GET and HEAD answers. Nothing outside the tree is ever opened (openat2 RESOLVE_BENEATH,
// no symbolic links; component by component where the kernel lacks it), no dotfiles, no listings; a directory
// answers with its index.html. Files are read on the pool, up to `largest` bytes. ETag, Last-Modified and
// 304, no ranges.

#include <cstdint>
#include <memory>
#include <string>

#include "async/pool.hpp"
#include "http/message.hpp"

namespace myelin::http {

class StaticFiles {
 public:
  /// `root` is opened here and kept; not_found if it is no directory.
  [[nodiscard]] static Result<StaticFiles> open(async::Pool& pool, const std::string& root,
                                                std::uint64_t largest = 32ull << 20);
  /// Answers for `path` within the tree (decoded, "/" first), by the request's method and conditional
  /// headers.
  [[nodiscard]] Task<Response> serve(std::string method, std::string path, Headers headers) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

/// By the file name's extension; application/octet-stream if unknown.
[[nodiscard]] std::string_view content_type_of(std::string_view name);

}  // namespace myelin::http
