#pragma once
// A bound socket, TCP or Unix, and the loop that accepts from it.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "async/fd_watch.hpp"
#include "http/server.hpp"
#include "http/tls.hpp"
#include "os/fd.hpp"

namespace myelin::http {

class Listener {
 public:
  using Admit = std::function<void(os::UniqueFd fd, std::string address, int family)>;

  /// A numeric address, or a name, looked up at once: its first address ("localhost" is 127.0.0.1). Port 0: a free one.
  [[nodiscard]] static Result<std::shared_ptr<Listener>> tcp(async::Loop& loop, const std::string& host,
                                                             std::uint16_t port);
  /// A Unix socket with these permissions; replaces a stale one, refuses a live one.
  [[nodiscard]] static Result<std::shared_ptr<Listener>> unix_socket(async::Loop& loop,
                                                                     const std::string& path, unsigned mode);

  [[nodiscard]] const Address& address() const { return address_; }
  /// Hands each new connection to `admit` until close(). Without descriptors or memory it logs once, leaves
  /// the connections in the backlog, and tries again soon.
  static Task<void> accept(std::shared_ptr<Listener> listener, Admit admit);
  /// Also removes the Unix socket's file, if it is still ours.
  void close();

  bool accepting = false;  // accept() was started
  unsigned tag = 0;        // Request::listener of what comes by it
  std::shared_ptr<Tls> tls;  // none: plain

 private:
  async::FdWatch watch_;
  Address address_;
  int family_ = 0;
  std::string path_;  // of a Unix socket, with what identifies the file
  dev_t device_ = 0;
  ino_t inode_ = 0;
  bool closed_ = false;
};

}  // namespace myelin::http
