#pragma once
// Whether a text is one JSON document, decided in a single pass without recursion and without allocating (but
// for the error). Accepted: RFC 8259, and where allowed the bare NaN, Infinity, -Infinity of Python. Refused,
// among the rest: bytes that are not UTF-8, a byte order mark, control characters in strings, \u escapes of
// half a surrogate pair, nesting beyond the limit, anything after the document.

#include <cstddef>
#include <string_view>

#include "base/result.hpp"

namespace myelin::codec {

struct JsonLimits {
  std::size_t max_depth = 64;  // of lists and objects; more than 1024 means 1024
  bool nonfinite = true;       // NaN, Infinity, -Infinity are values
};

/// ok, or bad_request with "invalid JSON at byte N: what".
[[nodiscard]] Result<void> check_json(std::string_view text, const JsonLimits& limits = {});

}  // namespace myelin::codec
