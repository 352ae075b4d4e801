#pragma once
// One accepted connection. Idle connections and quick answers run on plain callbacks: no coroutine frame, no
// timer (connection.cpp). A coroutine is started for a request that needs one (exchange.cpp) and ends with
// it. A WebSocket runs on callbacks again, with one coroutine for the handler's function (upgrade.cpp).
// Deadlines are a phase and a time stamp, looked at by one sweep of the server, so that no read or write arms
// a timer.

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <list>
#include <memory>
#include <string>

#include "http/parse.hpp"
#include "http/server_impl.hpp"
#include "http/web_socket_state.hpp"

namespace myelin::http {

class Connection final : public std::enable_shared_from_this<Connection>, private WebSocketCarrier {
 public:
  Connection(std::shared_ptr<Server::Impl> server, os::UniqueFd fd, int family, std::string address,
             unsigned listener, bool secure);

  Server::Impl::Connections::iterator at;  // where the server has it

  void start() { process(); }
  /// Answers without a request, when there is no room.
  void turn_away(int status, const char* why);
  void check_deadline(Clock::time_point now);
  /// At stop(): true if nothing of a request is here.
  [[nodiscard]] bool is_quiet() const;
  /// At stop(): tells a WebSocket's peer.
  void say_goodbye();
  /// Ends a stream or a WebSocket, if its holder fits.
  void cut(const std::function<bool(std::string_view holder)>& fits);
  /// The grace is over: say so if nothing was answered yet, and go.
  void give_up();
  void close();

 private:
  using error_code = boost::system::error_code;
  using Socket = boost::asio::basic_stream_socket<boost::asio::generic::stream_protocol,
                                                  boost::asio::io_context::executor_type>;
  /// `handling`: the handler works. `streaming`: a BodySource is waited for. `lingering`: what the peer still
  /// sends is drained.
  enum class Phase { idle, head, body, handling, streaming, writing, web_socket, lingering, closed };
  enum class Next { again, close, drain, web_socket };
  struct Active;   // a request in the metrics
  struct Channel;  // what only a WebSocket needs

  // connection.cpp: life, deadlines, heads, quick answers
  void abort();
  void abandon();
  void set_phase(Phase phase);
  [[nodiscard]] std::uint64_t taken_by_peer();
  void count_written(std::size_t n);
  void expire(bool hard);
  void spawn(Task<void> task, const char* what);
  void process();
  void read_more();
  void on_read(const error_code& ec, std::size_t n);
  void refuse(const Refusal& refusal);
  void finish();
  void linger();
  [[nodiscard]] Response crashed(std::string_view what) const;
  [[nodiscard]] bool write_head(std::string& out, const Response& response, bool chunked);
  [[nodiscard]] bool sends_body(int status) const;
  void make_valid(Response& response) const;
  [[nodiscard]] Response split_head() const;
  void serialise(Response& response);
  bool write_now(Response& response);
  // Has the peer gone while nothing is read? The bytes of a next request stay where they are.
  void watch_peer();
  void look_at_peer();

  // exchange.cpp: requests by coroutine. Static: `self` keeps the connection alive.
  using Self = std::shared_ptr<Connection>;
  static Task<void> write_rest(Self self, std::size_t done);
  static Task<bool> write_all(Self self, std::string_view a, std::string_view b, std::string_view c,
                              std::size_t done);
  void start_exchange(std::optional<Response> ready);
  static Task<void> exchange(Self self, std::optional<Response> ready);
  static Task<Response> answer(Self self, Request* request, Active* active);
  void skip_body();
  static Task<Refusal> read_body(Self self, Request* request, Active* active);
  static Task<Next> send(Self self, Response response);
  [[nodiscard]] Next after() const;
  static Task<Next> send_stream(Self self, Response response);
  static Task<Result<bool>> next_piece(Self self, BodySource* source, std::string* chunk);

  // upgrade.cpp: the handshake, and a WebSocket's bytes
  static Task<Next> upgrade(Self self, Response response);
  void start_web_socket();
  static Task<void> run_web_socket(Self self);
  void leave_web_socket();
  void check_web_socket(Clock::time_point now);
  void output_is_ready() override;
  void input_was_taken() override;
  void flush();
  void on_writable(const error_code& ec);
  void read_frames();
  void on_readable(const error_code& ec);
  void take_in(char* bytes, std::size_t count);
  void count_held();

  std::shared_ptr<Server::Impl> server_;
  Socket socket_;
  std::string address_;
  const unsigned listener_;
  const bool secure_;  // by TLS
  Phase phase_ = Phase::head;
  Clock::time_point since_;         // start of the phase; in `body` of the window, in `writing` too
  std::uint64_t window_bytes_ = 0;  // of a body in this window
  std::uint64_t written_ = 0, taken_before_ = 0;

  std::string in_;  // unread input is [begin_, end_)
  std::size_t begin_ = 0, end_ = 0;
  HeadScanner scanner_;
  Request request_;
  Framing framing_;
  std::string out_, large_body_;
  std::shared_ptr<async::TaskGroup> tasks_;  // made when first needed
  std::shared_ptr<async::Event> gone_;       // to be set when the peer leaves
  std::unique_ptr<Channel> channel_;         // once it is a WebSocket
  std::string holder_;                       // of the stream or WebSocket

  bool keep_alive_ = true;
  bool expired_ = false;
  bool answering_ = false;      // bytes of the present answer have left
  bool drain_after_ = false;    // a body was left unread
  bool watching_ = false;       // a wait for the peer is pending
  bool look_by_sweep_ = false;  // bytes of a next request are here, so that waiting would not wait
  bool peer_closed_ = false;    // its side only: it may still want the answer
  bool is_web_socket_ = false;  // and in the server's list of them
  bool function_runs_ = false;  // of a WebSocket
};

/// Channel is complete where a connection may be destroyed.
struct Connection::Channel {
  std::shared_ptr<WebSocket::State> state;
  std::function<Task<void>(std::shared_ptr<WebSocket>)> function;
  bool reading = false, writing = false;  // a wait is pending
  bool pinged = false;
  Clock::time_point heard;     // the last byte of the peer, or our ping
  Clock::time_point progress;  // of a write that waits
  Clock::time_point left;      // our Close
  std::size_t held = 0;        // as counted in the metrics
};

}  // namespace myelin::http
