#include "codec/frame.hpp"

#include "codec/bytes.hpp"

namespace myelin::codec {
namespace {

Error broken(std::string what) {
  return {Code::worker_lost, "The session's channel is broken: " + std::move(what), ""};
}

}  // namespace

Sender sender_of(FrameKind kind) {
  switch (kind) {
    case FrameKind::go:
    case FrameKind::call:
    case FrameKind::interrupt:
    case FrameKind::bye:
    case FrameKind::branch:
    case FrameKind::follow:
      return Sender::server;
    case FrameKind::hello:
    case FrameKind::result:
    case FrameKind::error:
    case FrameKind::progress:
    case FrameKind::state:
    case FrameKind::branched:
    case FrameKind::data:
      break;
  }
  return Sender::worker;
}

std::array<char, frame_header_size> pack_frame_header(const FrameHeader& header) {
  std::array<char, frame_header_size> bytes;
  store(bytes.data(), header.length);
  store(bytes.data() + 4, static_cast<std::uint16_t>(header.kind));
  store(bytes.data() + 6, header.flags);
  store(bytes.data() + 8, header.call);
  return bytes;
}

Result<FrameHeader> parse_frame_header(std::span<const char, frame_header_size> bytes, Sender sender) {
  const auto length = load<std::uint32_t>(bytes.data());
  const auto kind = load<std::uint16_t>(bytes.data() + 4);
  const auto flags = load<std::uint16_t>(bytes.data() + 6);
  if (kind < 1 || kind > 13) return broken("unknown frame kind " + std::to_string(kind));
  if (sender_of(FrameKind{kind}) != sender)
    return broken("frame kind " + std::to_string(kind) + " from the wrong side");
  if ((flags & ~frame_has_memfd) != 0) return broken("unknown frame flags " + std::to_string(flags));
  if (length > (sender == Sender::worker ? max_worker_body : max_server_body))
    return broken("a frame body of " + std::to_string(length) + " bytes is too long");
  return FrameHeader{length, FrameKind{kind}, flags, load<std::uint64_t>(bytes.data() + 8)};
}

std::string pack_call_head(std::string_view meta) {
  std::string head(4, '\0');
  store(head.data(), static_cast<std::uint32_t>(meta.size()));
  return head.append(meta);
}

Result<CallBody> parse_call_body(std::string_view body) {
  if (body.size() < 4) return broken("a call shorter than its head");
  const auto length = load<std::uint32_t>(body.data());
  if (length > body.size() - 4) return broken("a call's meta exceeds its body");
  return CallBody{body.substr(4, length), body.substr(4 + std::size_t{length})};
}

}  // namespace myelin::codec
