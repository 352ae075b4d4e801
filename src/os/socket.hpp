#pragma once
// Unix socket pairs and messages with descriptors. Everything is close-on-exec, and received descriptors have an owner
// from the start, so none is lost or leaked. No call raises SIGPIPE.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "os/fd.hpp"

namespace myelin::os {

enum class SocketKind { stream, packets };  // SOCK_STREAM, SOCK_SEQPACKET

/// A connected pair, both ends blocking.
[[nodiscard]] Result<std::pair<UniqueFd, UniqueFd>> socket_pair(SocketKind kind);
[[nodiscard]] Result<void> set_nonblocking(int fd, bool on = true);

inline constexpr std::size_t max_descriptors = 16;  // in one message

/// Sends one datagram, or the start of a stream's bytes, with up to 16 descriptors (they stay the caller's). The number of
/// bytes sent, 0 when it would block. Bytes must not be empty.
[[nodiscard]] Result<std::size_t> send_message(int fd, std::string_view bytes, std::span<const int> fds = {});

struct Received {
  enum class State { data, end, would_block } state = State::data;
  std::string bytes;
  std::vector<UniqueFd> fds;
};
/// One datagram or what a stream has, at most `max_bytes`. A longer datagram is an error (too_large), its descriptors
/// are closed. A reset connection is `end`.
[[nodiscard]] Result<Received> receive_message(int fd, std::size_t max_bytes);
/// Waits until the descriptor is readable (or at its end). False: it was not within the time.
[[nodiscard]] bool wait_readable(int fd, int timeout_ms);

}  // namespace myelin::os
