#pragma once
// Unguessable identifiers and tokens, from the system's random source.

#include <cstddef>
#include <string>

namespace myelin {

/// `bytes` random bytes as lower-case hex (2 characters a byte).
[[nodiscard]] std::string random_hex(std::size_t bytes);
/// An id with a prefix that tells its kind, e.g. "s_" + 24 hex digits (96 bits).
[[nodiscard]] std::string make_id(const char* prefix);

}  // namespace myelin
