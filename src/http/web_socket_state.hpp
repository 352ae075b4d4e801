#pragma once
// The protocol of one WebSocket without its socket: a connection feeds it what came and sends what it has to
// say; a WebSocket is the handler's view of it. Everything in it is bounded: the message that is being
// received, the messages that wait for receive(), the outgoing queue.

#include <boost/asio/buffer.hpp>
#include <boost/container/static_vector.hpp>
#include <list>

#include "http/web_socket.hpp"
#include "http/web_socket_frame.hpp"

namespace myelin::http {

/// The connection below, while there is one.
class WebSocketCarrier {
 public:
  virtual void output_is_ready() = 0;  // something to send (may end the connection)
  virtual void input_was_taken() = 0;  // a message left the queue: reading may go on

 protected:
  ~WebSocketCarrier() = default;
};

struct WebSocket::State final : FrameSink {
  const Headers headers;

  State(WebSocketCarrier* below, Headers fields, std::uint64_t message_limit, std::size_t queue_limit)
      : headers(std::move(fields)), carrier(below), reader(message_limit), most_queued(queue_limit) {}

  // For the handler.
  static Task<Result<std::optional<Message>>> receive(std::shared_ptr<State> self);
  static Task<Result<void>> send(std::shared_ptr<State> self, Message message);
  bool try_send(Message& message);
  void close(std::uint16_t code, std::string_view reason);
  [[nodiscard]] bool open() const { return phase == Phase::open; }

  // For the connection.
  using Buffers = boost::container::static_vector<boost::asio::const_buffer, 16>;
  void take(char* bytes, std::size_t count);  // unmasks in place
  [[nodiscard]] bool wants_input() const;
  [[nodiscard]] Buffers output();
  void sent(std::size_t count);
  void ping();
  /// Ends it with a Close that overtakes what is queued, because of what the peer did or the server lacks.
  void fail(std::uint16_t code, std::string_view why);
  /// The Close has left; nothing but the peer's is awaited.
  [[nodiscard]] bool said_goodbye() const { return close_queued && outgoing.empty(); }
  /// Nothing is left to be said or heard.
  [[nodiscard]] bool done() const { return said_goodbye() && (close_received || failed); }
  [[nodiscard]] bool said_all() const { return close_received && !failed; }
  /// Bytes of what came and was not received yet.
  [[nodiscard]] std::size_t held() const { return reader.held() + waiting_bytes; }
  void lost();  // the connection is gone

 private:
  enum class Phase { open, closing, closed };
  /// Whole frames; a large payload beside them is not copied.
  struct Frames {
    std::string bytes, body;
    std::size_t sent = 0;  // of both
  };

  void on_message(bool binary, std::string data) override;
  void on_ping(std::string_view payload) override;
  void on_pong() override {}
  void on_close(std::optional<std::uint16_t> code, std::string_view reason) override;
  void on_error(std::uint16_t code, const char* why) override { fail(code, why); }

  void queue(Opcode opcode, std::string body);
  void say_goodbye(std::string payload);
  void drop_waiting();
  [[nodiscard]] std::list<Frames>::iterator next_whole();
  void tell_carrier() {
    if (carrier != nullptr) carrier->output_is_ready();
  }

  WebSocketCarrier* carrier;
  FrameReader reader;
  const std::size_t most_queued;
  Phase phase = Phase::open;
  bool close_queued = false, close_received = false, failed = false;

  std::list<Message> waiting;
  std::size_t waiting_bytes = 0;
  async::Event arrived;  // a message waits, or the end came

  std::list<Frames> outgoing;
  std::size_t queued = 0;           // bytes of it
  std::optional<std::string> pong;  // for the newest ping: answering that one is enough (RFC 6455, 5.5.3)
  bool ping_due = false;
  async::Event room;  // pulsed when the queue has shrunk, set at the end
};

}  // namespace myelin::http
