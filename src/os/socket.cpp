#include "os/socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "os/failure.hpp"

namespace myelin::os {

Result<std::pair<UniqueFd, UniqueFd>> socket_pair(SocketKind kind) {
  int fds[2];
  int type = (kind == SocketKind::stream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC;
  if (::socketpair(AF_UNIX, type, 0, fds) < 0) return failure("socketpair");
  return std::pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<void> set_nonblocking(int fd, bool on) {
  int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0) return failure("O_NONBLOCK");
  return {};
}

Result<std::size_t> send_message(int fd, std::string_view bytes, std::span<const int> fds) {
  if (bytes.empty()) throw std::logic_error("send_message: no bytes");
  if (fds.size() > max_descriptors) throw std::logic_error("send_message: too many descriptors");
  iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char carried[CMSG_SPACE(sizeof(int) * max_descriptors)] = {};
  if (!fds.empty()) {
    message.msg_control = carried;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size_bytes());
  }
  for (;;) {
    ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::size_t{0};
    if (errno != EINTR) return failure("sendmsg");
  }
}

Result<Received> receive_message(int fd, std::size_t max_bytes) {
  Received result;
  result.bytes.resize(max_bytes);
  iovec piece{result.bytes.data(), max_bytes};
  alignas(cmsghdr) char carried[CMSG_SPACE(sizeof(int) * max_descriptors)] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = carried;
  message.msg_controllen = sizeof carried;
  ssize_t got;
  while ((got = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) continue;
  int number = errno;
  if (got >= 0) {
    for (cmsghdr* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
      std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; i++) {
        int one;
        std::memcpy(&one, CMSG_DATA(head) + i * sizeof(int), sizeof one);
        result.fds.emplace_back(one);
      }
    }
  }
  result.bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (got < 0) {
    if (number == EAGAIN || number == EWOULDBLOCK) {
      result.state = Received::State::would_block;
    } else if (number == ECONNRESET) {
      result.state = Received::State::end;
    } else {
      return failure("recvmsg", number);
    }
  } else if (message.msg_flags & MSG_TRUNC) {
    return Error{Code::too_large, "a message is longer than " + std::to_string(max_bytes) + " bytes", {}};
  } else if (message.msg_flags & MSG_CTRUNC) {
    return Error{Code::too_large, "a message carries too many descriptors", {}};
  } else if (got == 0) {
    result.state = Received::State::end;
  }
  return result;
}

bool wait_readable(int fd, int timeout_ms) {
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    pollfd waiting{fd, POLLIN, 0};
    int ready = ::poll(&waiting, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

}  // namespace myelin::os
