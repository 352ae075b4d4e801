#pragma once
// HTTP/1.x on the wire, read strictly: what two parsers could read differently (request smuggling) is
// refused, never repaired. Pure functions over bytes, no I/O; fuzzed in parse_test.cpp. Beast's parser
// accepts obsolete line folding and equal duplicates of Content-Length, and hides where a field ended.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace myelin::http {

/// Finds the end of a request head, line by line, looking at each byte once.
class HeadScanner {
 public:
  enum class State { more, complete, bad };
  /// `bytes` starts at the request's first byte and only ever grows between calls.
  State scan(std::string_view bytes);
  /// The head's length with its empty line, once complete.
  [[nodiscard]] std::size_t length() const { return at_; }
  void reset() { at_ = 0; }

 private:
  std::size_t at_ = 0;  // start of the line that is not complete yet
};

/// How the body is delimited and what happens to the connection.
struct Framing {
  bool keep_alive = false;
  bool chunked = false;
  bool expect_continue = false;
  std::uint64_t content_length = 0;
};

/// Status 0: fine. Otherwise the answer's status and a short reason.
struct Refusal {
  int status = 0;
  const char* why = "";
  [[nodiscard]] explicit operator bool() const { return status != 0; }
};

/// Reads a complete head (with its empty line) into `request`, whose old contents are dropped.
[[nodiscard]] Refusal parse_head(std::string_view head, std::size_t max_fields, Request& request,
                                 Framing& framing);

/// Decodes a chunked body. Extensions and trailers are bounded and dropped.
class ChunkDecoder {
 public:
  enum class State { more, done, bad, too_large };
  /// Appends decoded bytes to `out` until `out` would exceed `limit`; `used` says how much of `in` was
  /// consumed.
  State feed(std::string_view in, std::size_t& used, std::string& out, std::uint64_t limit);

 private:
  enum class At {
    size_first,
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer_start,
    trailer,
    trailer_lf,
    end_lf,
    done
  };
  At at_ = At::size_first;
  std::uint64_t left_ = 0;
  unsigned digits_ = 0;
  std::size_t overhead_ = 0;  // bytes of extensions and trailers
};

}  // namespace myelin::http
