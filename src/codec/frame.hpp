#pragma once
// Frames of the session channel (worker protocol, section 4): a header of 16 bytes, little-endian, and a
// body.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace myelin::codec {

enum class FrameKind : std::uint16_t {
  hello = 1,
  go = 2,
  call = 3,
  result = 4,
  error = 5,
  progress = 6,
  interrupt = 7,
  state = 8,
  bye = 9,
  branch = 10,
  branched = 11,
  follow = 12,
  data = 13,
};

enum class Sender { server, worker };

inline constexpr std::size_t frame_header_size = 16;
inline constexpr std::uint16_t frame_has_memfd = 1;  // flag: descriptors belong to this frame: a worker's memfd, a branch's two ends
inline constexpr std::uint32_t max_worker_body = 1024 * 1024;       // bytes
inline constexpr std::uint32_t max_server_body = 65 * 1024 * 1024;  // bytes

struct FrameHeader {
  std::uint32_t length = 0;  // bytes of the body
  FrameKind kind = FrameKind::hello;
  std::uint16_t flags = 0;
  std::uint64_t call = 0;
  [[nodiscard]] bool has_memfd() const { return (flags & frame_has_memfd) != 0; }
  bool operator==(const FrameHeader&) const = default;
};

/// The side that sends frames of this kind.
[[nodiscard]] Sender sender_of(FrameKind kind);

[[nodiscard]] std::array<char, frame_header_size> pack_frame_header(const FrameHeader& header);

/// Refuses (worker_lost) a kind that is unknown or not `sender`'s, unknown flags, and a body over the
/// sender's limit.
[[nodiscard]] Result<FrameHeader> parse_frame_header(std::span<const char, frame_header_size> bytes,
                                                     Sender sender);

/// What a call's body has before the raw request: u32 length of the meta, and the meta.
[[nodiscard]] std::string pack_call_head(std::string_view meta);

struct CallBody {
  std::string_view meta, request;  // views into the body
};
[[nodiscard]] Result<CallBody> parse_call_body(std::string_view body);

}  // namespace myelin::codec
