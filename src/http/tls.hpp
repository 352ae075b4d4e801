#pragma once
// TLS in front of a connection: the handshake, then two pumps between the peer and one end of a socket pair whose other end the server
// serves as if it were the peer. So nothing behind this file knows of TLS. Belongs to the loop's thread.

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "async/task.hpp"
#include "base/result.hpp"
#include "os/fd.hpp"

namespace myelin::http {

/// A certificate with its key, PEM. TLS 1.2 and later.
class Tls {
 public:
  /// bad_request with what is wrong: a file that can't be read, a key that does not fit, an expired certificate is only warned of.
  [[nodiscard]] static Result<std::shared_ptr<Tls>> make(std::filesystem::path certificate, std::filesystem::path key);
  ~Tls();
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;

  /// Reads the files again, for connections from now on; what was known stays where they are wrong.
  [[nodiscard]] Result<void> reload();

  using Ready = std::function<void(os::UniqueFd plain)>;
  /// A peer is closed that does not finish its handshake in 10 s, or does not take a piece of 16 KiB in `reading_time`. `ready` is called
  /// once with what to serve.
  static async::Task<void> serve(std::shared_ptr<Tls> tls, async::Loop* loop, os::UniqueFd fd, std::chrono::milliseconds reading_time, Ready ready);

 private:
  struct Impl;
  explicit Tls(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace myelin::http
