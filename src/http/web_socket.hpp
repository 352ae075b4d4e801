#pragma once
// A WebSocket (RFC 6455) as a handler sees it: whole messages in, whole messages out. A handler answers a GET
// with Response::web_socket; the server does the handshake and runs that function with one of these.
//
// The server answers pings, pings a silent peer itself, checks UTF-8, and does the closing handshake. When
// the function returns, the socket is closed with 1000 (1001 if the server stops, 1011 if it threw). When the
// socket is gone first, the function has Limits::farewell to return, then it is cancelled.
//
// Belongs to the loop's thread. May outlive its connection: it is then closed.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "async/task.hpp"
#include "base/result.hpp"
#include "http/message.hpp"

namespace myelin::http {

struct Message {
  bool binary = false;
  std::string data;  // UTF-8 unless binary: checked when received, the sender's duty when sent
};

class WebSocket {
 public:
  struct State;
  explicit WebSocket(std::shared_ptr<State> state) : state_(std::move(state)) {}
  WebSocket(const WebSocket&) = delete;
  WebSocket& operator=(const WebSocket&) = delete;

  /// The next message, in order. Nothing once the peer has closed or is gone (after what came before it), or
  /// close() was called, or the server stops. While messages wait here the peer is not read any further.
  async::Task<Result<std::optional<Message>>> receive();
  /// Returns when the message is in the outgoing queue; waits while that is full. Code::gone once closed.
  /// A message larger than the whole queue is taken when the queue is empty.
  async::Task<Result<void>> send(Message message);
  /// False: the queue is full, or the socket closed.
  bool try_send(Message message);
  /// Sends what is queued, then a Close; nothing can be sent or received any more. A code that no endpoint
  /// may send (RFC 6455, 7.4) becomes a Close without one. The first call counts.
  void close(std::uint16_t code, std::string reason);
  /// Neither side has begun to close.
  [[nodiscard]] bool open() const;
  [[nodiscard]] const Headers& headers() const;  // of the handshake request

 private:
  std::shared_ptr<State> state_;
};

}  // namespace myelin::http
