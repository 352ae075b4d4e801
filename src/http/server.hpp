#pragma once
// An HTTP/1.1 server that bad clients can't hurt: every wait has a limit, every buffer a bound, what is
// malformed is refused and the connection closed. One loop, its thread. Handlers are called on the loop's
// thread only.
//
// Order for each request: head parsed → handle_now (bodyless requests) → admit → body read → handle →
// response written. No body is read before admit lets it in. Requests of one connection are answered in
// order, one at a time. A response may turn the connection into a WebSocket (web_socket.hpp).

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "async/task.hpp"
#include "http/message.hpp"

namespace myelin::http {

using std::chrono::milliseconds;

class Handler {
 public:
  virtual ~Handler() = default;
  /// The fast path, without a coroutine: called first for requests without a body. True if `response` answers
  /// it. It is a complete answer: it must do for itself what admit() would (authentication, Host).
  virtual bool handle_now(Request& request, Response& response);
  /// The head is here, the body is not read. Return a response to refuse or answer at once; or set
  /// request.context and request.body_limit and return nothing to let the body in.
  virtual Task<std::optional<Response>> admit(Request& request) = 0;
  virtual Task<Response> handle(Request request) = 0;
};

struct Limits {
  std::size_t header_bytes = 8 * 1024;          // request line and fields → 431
  std::size_t header_fields = 100;              // → 431
  std::uint64_t body_bytes = 64ull << 20;       // → 413; admit() may change it for a request
  std::uint64_t buffered_bytes = 512ull << 20;  // bodies of all connections together → 503, Retry-After
  std::size_t connections = 4096;               // but for WebSockets; beyond: 503 and close
  std::size_t connections_per_address = 0;      // 0: no bound; beyond: 429 and close
  milliseconds header_timeout{10'000};  // from the first byte of a request, or from the accept → 408
  milliseconds idle_timeout{60'000};    // keep-alive, between requests → closed
  milliseconds body_window{10'000};     // in each window a body must bring body_rate bytes/s → 408
  std::uint64_t body_rate = 1024;
  milliseconds write_timeout{30'000};  // in each such window the peer must take write_rate bytes/s → closed
  std::uint64_t write_rate = 1024;
  milliseconds linger{2'000};  // after a refusal or a Close: how long to drain what the peer still sends

  std::size_t web_sockets = 20'000;              // beyond: 503
  std::uint64_t message_bytes = 4ull << 20;      // of a received message → 1009
  std::size_t message_queue_bytes = 4ull << 20;  // of a WebSocket's outgoing queue
  milliseconds ping_after{45'000};               // of silence the server pings; many proxies close what is silent for a minute
  milliseconds pong_timeout{60'000};             // and closes when nothing comes for so long
  milliseconds farewell{10'000};  // for a WebSocket's function to return when its socket is gone

  milliseconds sweep{250};  // how often the deadlines are looked at (of WebSockets at every fourth)
};

struct Address {
  std::string host;        // numeric, or the path of a Unix socket
  std::uint16_t port = 0;  // 0 for a Unix socket
};

/// Counters since the start, but `open`, `active`, `buffered` and `web_sockets`, which are of now. Read on
/// the loop's thread.
struct Metrics {
  std::uint64_t accepted = 0, refused = 0;  // connections
  std::uint64_t requests = 0, errors = 0;   // errors: answers of the server itself to bad requests
  std::uint64_t timeouts = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0;
  std::uint64_t open = 0, active = 0, buffered = 0;  // connections, requests being answered, body bytes held
  std::uint64_t web_sockets = 0;                     // of the connections
  std::map<std::string, std::uint64_t, std::less<>> buffered_by;  // of `buffered`, by Request::account; none that is 0
};

class Tls;

class Server {
 public:
  /// `loop` and `handler` outlive the server.
  Server(async::Loop& loop, Limits limits, Handler& handler);
  ~Server();  // closes everything at once; prefer stop()
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Binds to a numeric address or "localhost" (port 0: a free one) and says where. Connections wait until
  /// serve(). May be called for several addresses; `tag` tells their requests apart. With `tls` only that is
  /// spoken there.
  [[nodiscard]] Result<Address> listen(const std::string& host, std::uint16_t port, unsigned tag = 0,
                                       std::shared_ptr<Tls> tls = nullptr);
  /// A Unix socket with these permissions; replaces a stale one, refuses a live one. Removed at stop.
  [[nodiscard]] Result<Address> listen_unix(const std::string& path, unsigned mode);
  /// Starts accepting on all that is bound.
  void serve();
  /// Stops accepting and closes idle connections at once; requests in flight may finish within `grace`, then
  /// get a 503 if they had no answer yet, and are closed; their handlers are cancelled. WebSockets are closed
  /// with 1001 at once.
  Task<void> stop(milliseconds grace);
  /// Ends the WebSockets (1008) and the streamed answers whose holder fits.
  void cut(const std::function<bool(std::string_view holder)>& fits);
  [[nodiscard]] bool stopping() const;
  [[nodiscard]] const Metrics& metrics() const;

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::http
