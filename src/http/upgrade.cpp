#include <boost/asio/buffer.hpp>

#include "base/log.hpp"
#include "http/connection.hpp"
#include "http/text.hpp"

namespace myelin::http {
namespace asio = boost::asio;

namespace {

constexpr int reads_in_a_row = 4;  // then others get a turn

/// The fields of the handshake's answer are the server's.
void drop_handshake_fields(Headers& headers) {
  for (const auto* name : {"Upgrade", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol",
                           "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Content-Type"})
    headers.remove(name);
}

}  // namespace

// ---- the handshake

Task<Connection::Next> Connection::upgrade(Self self, Response response) {
  auto& server = *self->server_;
  const auto& fields = self->request_.headers;
  std::optional<Response> refusal;
  if (const auto flaw = handshake_flaw(self->request_); !flaw.empty()) {
    refusal = problem(426, "bad_request", "this address speaks WebSocket: " + std::string(flaw));
    refusal->headers.add("Upgrade", "websocket");
    refusal->headers.add("Sec-WebSocket-Version", "13");
  } else if (server.web_sockets.size() >= server.limits.web_sockets) {
    ++server.metrics.refused;
    refusal = problem(503, "unavailable", "too many WebSockets; try again later");
  }
  if (refusal) {
    auto answer = std::move(*refusal);
    co_return co_await send(self, std::move(answer));
  }

  drop_handshake_fields(response.headers);
  response.status = 101;
  response.headers.add("Upgrade", "websocket");
  response.headers.add("Sec-WebSocket-Accept", accept_key(fields.get("Sec-WebSocket-Key")));
  if (!response.subprotocol.empty()) {
    // A client must fail the connection if it gets one that it did not offer.
    if (fields.lists("Sec-WebSocket-Protocol", response.subprotocol))
      response.headers.add("Sec-WebSocket-Protocol", response.subprotocol);
    else
      log::warning("WebSocket " + self->request_.path +
                   ": the client did not offer the handler's subprotocol");
  }
  self->keep_alive_ = true;
  self->out_.clear();
  if (!self->write_head(self->out_, response, false)) {
    auto replacement = self->split_head();
    co_return co_await send(self, std::move(replacement));
  }
  self->answering_ = true;
  const bool ok = co_await write_all(self, self->out_, {}, {}, 0);
  if (!ok) co_return Next::close;
  const auto& limits = server.limits;
  self->channel_ = std::make_unique<Channel>();
  self->channel_->function = std::move(response.web_socket);
  WebSocketCarrier* carrier = self.get();
  self->channel_->state = std::make_shared<WebSocket::State>(
      carrier, std::move(self->request_.headers), limits.message_bytes, limits.message_queue_bytes);
  co_return Next::web_socket;
}

void Connection::start_web_socket() {
  set_phase(Phase::web_socket);
  is_web_socket_ = true;
  server_->web_sockets.splice(server_->web_sockets.end(), server_->connections, at);
  server_->metrics.web_sockets = server_->web_sockets.size();
  channel_->heard = since_;
  const auto path = request_.path;
  request_ = Request();
  request_.path = path;  // for the log
  out_ = std::string();
  function_runs_ = true;
  spawn(run_web_socket(shared_from_this()), "web socket");
  const auto early = std::exchange(in_, {});  // frames that came with the handshake
  const auto from = std::exchange(begin_, 0), to = std::exchange(end_, 0);
  if (to > from) {
    auto bytes = early.substr(from, to - from);
    take_in(bytes.data(), bytes.size());
  }
  if (server_->stopping) say_goodbye();
  if (phase_ == Phase::web_socket) read_frames();
}

Task<void> Connection::run_web_socket(Self self) {
  const auto state = self->channel_->state;
  const auto function = std::move(self->channel_->function);  // a coroutine may live in its captures
  std::uint16_t code = close_code::normal;
  std::string failure;
  try {
    auto socket = std::make_shared<WebSocket>(state);
    auto task = function(std::move(socket));
    co_await std::move(task);
  } catch (const std::exception& e) {
    failure = e.what();
  } catch (...) {
    failure = "unknown exception";
  }
  self->function_runs_ = false;
  if (!failure.empty()) {
    code = close_code::internal_error;
    if (state->open() && !self->server_->closed)
      log::error("WebSocket " + self->request_.path + ": " + failure);
  }
  if (self->server_->stopping) code = close_code::going_away;
  state->close(code, {});
}

void Connection::say_goodbye() {
  if (channel_) channel_->state->close(close_code::going_away, "the server is stopping");
}

void Connection::cut(const std::function<bool(std::string_view holder)>& fits) {
  if (holder_.empty() || !fits(holder_)) return;
  if (channel_) channel_->state->close(1008, "the sign-in behind it has ended");
  else if (phase_ == Phase::streaming || phase_ == Phase::writing) close();
}

/// The handler's side stays usable, and closed.
void Connection::leave_web_socket() {
  if (!channel_) return;
  const auto state = channel_->state;
  server_->metrics.buffered -= std::exchange(channel_->held, 0);
  state->lost();
}

// ---- deadlines

void Connection::check_web_socket(Clock::time_point now) {
  const auto& limits = server_->limits;
  auto& channel = *channel_;
  const auto state = channel.state;
  if (channel.writing) {
    const auto taken = taken_by_peer();
    if (taken > taken_before_) {
      taken_before_ = taken;
      channel.progress = now;
    } else if (now - channel.progress > limits.write_timeout) {
      ++server_->metrics.timeouts;
      return abort();
    }
  }
  if (state->said_goodbye()) {
    if (now - channel.left > limits.linger) close();
    return;
  }
  if (!state->wants_input()) {  // it is the handler that does not read
    channel.heard = now;
    channel.pinged = false;
  } else if (channel.pinged) {
    if (now - channel.heard <= limits.pong_timeout) return;
    ++server_->metrics.timeouts;
    abort();
  } else if (now - channel.heard > limits.ping_after) {
    channel.pinged = true;
    channel.heard = now;
    state->ping();
  }
}

// ---- bytes out

void Connection::output_is_ready() {
  if (phase_ == Phase::web_socket && !channel_->writing) flush();
}

void Connection::flush() {
  const auto self = shared_from_this();
  const auto state = channel_->state;
  for (;;) {
    const auto buffers = state->output();
    if (buffers.empty()) break;
    error_code ec;
    const auto n = socket_.write_some(buffers, ec);
    if (ec == asio::error::would_block) {
      channel_->writing = true;
      channel_->progress = Clock::now();
      taken_before_ = taken_by_peer();
      socket_.async_wait(Socket::wait_write, [self](const error_code& error) { self->on_writable(error); });
      return;
    }
    if (ec) return close();
    count_written(n);
    state->sent(n);
  }
  if (state->said_goodbye() && channel_->left == Clock::time_point()) channel_->left = Clock::now();
  if (!state->done()) return;
  leave_web_socket();
  // A peer that has said its Close sends nothing more; one that broke the rules may.
  if (state->said_all())
    finish();
  else
    linger();
}

void Connection::on_writable(const error_code& ec) {
  if (phase_ != Phase::web_socket) return;
  channel_->writing = false;
  if (ec) return close();
  flush();
}

// ---- bytes in

void Connection::input_was_taken() {
  count_held();
  read_frames();
}

void Connection::read_frames() {
  if (phase_ != Phase::web_socket || channel_->reading || !channel_->state->wants_input()) return;
  channel_->reading = true;
  socket_.async_wait(Socket::wait_read,
                     [self = shared_from_this()](const error_code& ec) { self->on_readable(ec); });
}

void Connection::on_readable(const error_code& ec) {
  if (phase_ != Phase::web_socket) return;
  channel_->reading = false;
  if (ec) return close();
  const auto state = channel_->state;
  auto& scratch = server_->scratch;
  for (int i = 0; i < reads_in_a_row && state->wants_input(); ++i) {
    error_code error;
    const auto n = socket_.read_some(asio::buffer(scratch), error);
    if (error == asio::error::would_block) break;
    if (error) return close();
    take_in(scratch.data(), n);
    if (phase_ != Phase::web_socket) return;
    if (n < scratch.size()) break;
  }
  read_frames();
}

void Connection::take_in(char* bytes, std::size_t count) {
  server_->metrics.bytes_in += count;
  channel_->heard = Clock::now();
  channel_->pinged = false;
  const auto state = channel_->state;
  state->take(bytes, count);
  if (phase_ != Phase::web_socket) return;
  count_held();
  if (server_->metrics.buffered > server_->limits.buffered_bytes)
    state->fail(close_code::try_again_later, "too many messages at once; try again");
}

void Connection::count_held() {
  if (phase_ != Phase::web_socket) return;
  const auto held = channel_->state->held();
  server_->metrics.buffered += held - channel_->held;
  channel_->held = held;
}

}  // namespace myelin::http
