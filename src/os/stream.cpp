#include "os/stream.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace myelin::os {
namespace {

Transfer outcome(ssize_t n, bool zero_is_end) {
  if (n > 0) return {Io::done, static_cast<std::size_t>(n)};
  if (n == 0) return {zero_is_end ? Io::closed : Io::done, 0};
  if (errno == EAGAIN || errno == EWOULDBLOCK) return {Io::would_block, 0};
  if (errno == EPIPE || errno == ECONNRESET) return {Io::closed, 0};
  return {Io::failed, 0};
}

}  // namespace

Transfer receive_some(int socket, char* buffer, std::size_t capacity, UniqueFd& fd) {
  iovec part{buffer, capacity};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  do n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n >= 0) {
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int received;
        std::memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof received);
        UniqueFd owned(received);
        if (i == 0) fd = std::move(owned);
      }
    }
  }
  return outcome(n, true);
}

Result<void> set_sender_pids(int socket, bool on) {
  int value = on;
  if (::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &value, sizeof value) != 0)
    return Error{Code::internal, std::string("SO_PASSCRED: ") + std::strerror(errno), ""};
  return {};
}

pid_t peek_sender_pid(int socket) {
  char byte;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return -1;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS) continue;
    ucred sender;
    std::memcpy(&sender, CMSG_DATA(c), sizeof sender);
    return sender.pid;
  }
  return -1;
}

Transfer send_some(int socket, std::string_view first, std::string_view second) {
  iovec parts[2] = {{const_cast<char*>(first.data()), first.size()},
                    {const_cast<char*>(second.data()), second.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  ssize_t n;
  do n = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return outcome(n, false);
}

Transfer read_some(int fd, char* buffer, std::size_t capacity) {
  ssize_t n;
  do n = ::read(fd, buffer, capacity);
  while (n < 0 && errno == EINTR);
  return outcome(n, true);
}

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return Error{Code::internal, std::string("no pipe: ") + std::strerror(errno), ""};
  return std::pair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace myelin::os
