#pragma once
// Non-blocking reads and writes on a stream socket that carries file descriptors beside its bytes, and plain reads from
// pipes. All calls return at once. A received descriptor is close-on-exec and owned by the caller.

#include <sys/types.h>

#include <cstddef>
#include <string_view>
#include <utility>

#include "base/result.hpp"
#include "os/fd.hpp"

namespace myelin::os {

enum class Io { done, would_block, closed, failed };

struct Transfer {
  Io state = Io::done;
  std::size_t bytes = 0;
};

/// Reads up to `capacity` bytes. A descriptor that arrives with them replaces `fd`; more than one is a protocol error of
/// the peer: the others are closed.
Transfer receive_some(int socket, char* buffer, std::size_t capacity, UniqueFd& fd);
/// Whether what is received from now on tells who sent it (SO_PASSCRED).
Result<void> set_sender_pids(int socket, bool on);
/// The process that sent the first bytes that wait here, as this process sees it; -1 if it can't be told. The bytes stay. The kernel
/// vouches for it: a sender without capabilities can't name another.
[[nodiscard]] pid_t peek_sender_pid(int socket);
/// Writes what fits of two buffers, one after the other.
Transfer send_some(int socket, std::string_view first, std::string_view second);
/// Reads up to `capacity` bytes from a pipe.
Transfer read_some(int fd, char* buffer, std::size_t capacity);
/// A pipe, close-on-exec: read end, write end.
Result<std::pair<UniqueFd, UniqueFd>> make_pipe();

}  // namespace myelin::os
