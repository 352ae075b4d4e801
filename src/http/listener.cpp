#include "http/listener.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.hpp"

namespace myelin::http {
namespace {

constexpr int burst = 64;  // accepted in one go; then others get a turn
constexpr milliseconds back_off{100};

Error os_error(Code code, const std::string& what) { return {code, what + ": " + std::strerror(errno), {}}; }

os::UniqueFd stream_socket(int family) {
  return os::UniqueFd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

std::string address_text(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
  } else if (address.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(address);
    if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr))
      ::inet_ntop(AF_INET, &in.sin6_addr.s6_addr[12], text, sizeof text);
    else
      ::inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
  } else {
    return "unix";
  }
  return text;
}

}  // namespace

Result<std::shared_ptr<Listener>> Listener::tcp(async::Loop& loop, const std::string& host,
                                                std::uint16_t port) {
  const std::string numeric = host == "localhost" ? "127.0.0.1" : host;
  sockaddr_storage address{};
  socklen_t size = 0;
  auto& v4 = reinterpret_cast<sockaddr_in&>(address);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
  if (::inet_pton(AF_INET, numeric.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    size = sizeof v4;
  } else if (::inet_pton(AF_INET6, numeric.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    size = sizeof v6;
  } else {
    addrinfo hints{}, *found = nullptr;
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    if (const int failed = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); failed != 0)
      return Error{Code::bad_request, "can't listen on " + host + ": " + ::gai_strerror(failed), {}};
    size = found->ai_addrlen;
    std::memcpy(&address, found->ai_addr, size);
    ::freeaddrinfo(found);
    (address.ss_family == AF_INET ? v4.sin_port : v6.sin6_port) = htons(port);
  }
  const auto where = host + ":" + std::to_string(port);
  auto fd = stream_socket(address.ss_family);
  if (!fd) return os_error(Code::unavailable, "can't listen on " + where);
  const int yes = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0)
    return os_error(errno == EADDRINUSE ? Code::conflict : Code::unavailable, "can't listen on " + where);
  size = sizeof address;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  auto listener = std::make_shared<Listener>();
  listener->address_ = {address_text(address),
                        ntohs(address.ss_family == AF_INET ? v4.sin_port : v6.sin6_port)};
  listener->family_ = address.ss_family;
  listener->watch_ = async::FdWatch(loop, fd.release());
  return listener;
}

Result<std::shared_ptr<Listener>> Listener::unix_socket(async::Loop& loop, const std::string& path,
                                                        unsigned mode) {
  const std::string what = "can't listen on " + path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return Error{Code::bad_request, what + ": the path is empty or too long", {}};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);

  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) return Error{Code::conflict, what + ": something else is there", {}};
    const auto probe = stream_socket(AF_UNIX);
    if (!probe) return os_error(Code::unavailable, what);
    if (::connect(probe.get(), generic, sizeof address) == 0 || errno != ECONNREFUSED)
      return Error{Code::conflict, what + ": another server listens there", {}};
    ::unlink(path.c_str());
  }
  auto fd = stream_socket(AF_UNIX);
  if (!fd) return os_error(Code::unavailable, what);
  // The file is born with these permissions (less the umask): there is no moment with more.
  if (::fchmod(fd.get(), static_cast<mode_t>(mode)) != 0 || ::bind(fd.get(), generic, sizeof address) != 0 ||
      ::chmod(path.c_str(), static_cast<mode_t>(mode)) != 0 || ::listen(fd.get(), SOMAXCONN) != 0 ||
      ::stat(path.c_str(), &there) != 0)
    return os_error(Code::unavailable, what);
  auto listener = std::make_shared<Listener>();
  listener->address_ = {path, 0};
  listener->family_ = AF_UNIX;
  listener->path_ = path;
  listener->device_ = there.st_dev;
  listener->inode_ = there.st_ino;
  listener->watch_ = async::FdWatch(loop, fd.release());
  return listener;
}

Task<void> Listener::accept(std::shared_ptr<Listener> self, Admit admit) {
  bool told = false;
  while (!self->closed_) {
    const bool ready = co_await self->watch_.readable();
    if (!ready) co_return;
    bool pause = false;
    for (int i = 0; i < burst && !self->closed_; ++i) {
      sockaddr_storage address{};
      socklen_t size = sizeof address;
      os::UniqueFd fd(::accept4(self->watch_.fd(), reinterpret_cast<sockaddr*>(&address), &size,
                                SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (fd) {
        told = false;
        address.ss_family = static_cast<sa_family_t>(self->family_);
        admit(std::move(fd), address_text(address), self->family_);
        continue;
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == EPERM) continue;
      if (!told) log::error(std::string("accept: ") + std::strerror(errno) + "; backing off");
      told = pause = true;
      break;
    }
    if (pause) co_await async::sleep_for(back_off);
  }
}

void Listener::close() {
  if (std::exchange(closed_, true)) return;
  struct stat now {};
  if (!path_.empty() && ::stat(path_.c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == inode_)
    ::unlink(path_.c_str());
  watch_.close();
}

}  // namespace myelin::http
