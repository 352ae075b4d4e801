#pragma once
// What a handler sees of HTTP: a request, a response, and the source of a streamed body. Plain values, no
// sockets.

#include <any>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/task.hpp"
#include "base/result.hpp"

namespace myelin::http {

using async::Task;

class WebSocket;

/// Header fields in the order they came; names compare without case.
class Headers {
 public:
  using Field = std::pair<std::string, std::string>;
  /// The first field of that name, or nullptr.
  [[nodiscard]] const std::string* find(std::string_view name) const;
  [[nodiscard]] std::string_view get(std::string_view name) const;  // the first value, or ""
  [[nodiscard]] std::vector<std::string_view> all(std::string_view name) const;
  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
  /// True if a field of that name lists `token` among its comma-separated values.
  [[nodiscard]] bool lists(std::string_view name, std::string_view token) const;
  void add(std::string name, std::string value) { fields_.emplace_back(std::move(name), std::move(value)); }
  void set(std::string_view name, std::string value);  // replaces all of that name
  void remove(std::string_view name);
  void clear() { fields_.clear(); }
  [[nodiscard]] std::size_t size() const { return fields_.size(); }
  [[nodiscard]] auto begin() const { return fields_.begin(); }
  [[nodiscard]] auto end() const { return fields_.end(); }

 private:
  std::vector<Field> fields_;
};

struct Request {
  std::string method;     // any token, as sent (case matters)
  std::string target;     // as sent
  std::string path;       // percent-decoded once; never contains NUL; starts with '/' (or is "*" for OPTIONS)
  std::string query;      // raw, without '?'
  int minor_version = 1;  // HTTP/1.<minor>
  Headers headers;        // Host is the target's authority for an absolute-form target
  std::string body;       // complete in handle(); empty in admit() and handle_now()
  std::string remote_address;                   // numeric, without port; "unix" for a Unix socket
  unsigned listener = 0;                        // the tag of the listener it came by (Server::listen)
  bool secure = false;                          // came over TLS
  bool has_body = false;                        // a Content-Length above 0, or chunked
  std::optional<std::uint64_t> content_length;  // as declared; absent when chunked or not given
  std::uint64_t body_limit = 0;                 // admit() may lower or raise it; starts at Limits::body_bytes
  std::any context;                             // what admit() wants to hand to handle()
  std::string account;                          // set by admit(): whose body it is; one account has a share of Limits::buffered_bytes
  /// Made by admit(): set when the client closes its side or resets while handle() runs.
  std::shared_ptr<async::Event> gone;

  /// A GET that asks to become a WebSocket. The server checks the rest of the handshake.
  [[nodiscard]] bool wants_web_socket() const;
};

/// A response's body in pieces. Each leaves at once; next() may take as long as it likes. Lives until the
/// last piece has left or the client is gone: next() is then cancelled if it waits.
struct BodySource {
  BodySource() = default;
  BodySource(const BodySource&) = delete;
  BodySource& operator=(const BodySource&) = delete;
  virtual ~BodySource() = default;
  /// Replaces `chunk` (whose capacity may be reused) with the next piece. False at the end, with the last
  /// piece in `chunk` or empty. An error closes the connection without the final chunk, so that the client
  /// notices.
  virtual Task<Result<bool>> next(std::string& chunk) = 0;
  /// The whole length in bytes if known: sent as Content-Length instead of chunked.
  [[nodiscard]] virtual std::optional<std::uint64_t> length() const { return std::nullopt; }
};

/// The server adds Content-Length or Transfer-Encoding, Connection, Date and Server, and drops them from
/// `headers`.
struct Response {
  int status = 200;
  Headers headers;
  std::string body;
  std::unique_ptr<BodySource> stream;  // if set, `body` is ignored
  bool close = false;                  // close the connection afterwards
  /// If set, the answer is the handshake of a WebSocket (101 with `headers`, or 426 if the request is no
  /// valid handshake), and the function then runs with it.
  std::function<Task<void>(std::shared_ptr<WebSocket>)> web_socket;
  std::string subprotocol;  // one that the client offered, or empty
  std::shared_ptr<void> held;  // let go when the body has left
  std::string holder;       // whose it is while it streams or is a WebSocket: see Server::cut
};

/// A body with its Content-Type.
[[nodiscard]] Response reply(int status, std::string content_type, std::string body);
/// RFC 9457 problem+json of an error, with the status of its code.
[[nodiscard]] Response problem(const Error& error);
/// problem() with another status.
[[nodiscard]] Response problem(int status, std::string_view code, std::string_view message);

/// "Not Found" for 404; "" for an unknown one.
[[nodiscard]] std::string_view reason_phrase(int status);

}  // namespace myelin::http
