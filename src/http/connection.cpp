#include "http/connection.hpp"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <cstring>

#include "base/log.hpp"
#include "http/response_head.hpp"
#include "http/text.hpp"

namespace myelin::http {
namespace asio = boost::asio;

namespace {

constexpr std::size_t small_read = 2 * 1024;    // a connection's first buffer
constexpr std::size_t copied_body = 16 * 1024;  // a body up to this travels in the head's buffer
// A client that closed only its side of a connection may still want what comes; for a stream that has nothing
// to give, this is how long that is believed.
constexpr milliseconds half_closed{1000};

}  // namespace

Connection::Connection(std::shared_ptr<Server::Impl> server, os::UniqueFd fd, int family, std::string address,
                       unsigned listener, bool secure)
    : server_(std::move(server)),
      socket_(server_->loop.context(), asio::generic::stream_protocol(family, SOCK_STREAM), fd.get()),
      address_(std::move(address)),
      listener_(listener),
      secure_(secure),
      since_(Clock::now()) {
  (void)fd.release();
  socket_.non_blocking(true);
}

void Connection::turn_away(int status, const char* why) {
  ++server_->metrics.refused;
  refuse({status, why});
}

// ---- life

void Connection::set_phase(Phase phase) {
  if (phase_ == Phase::closed) return;
  phase_ = phase;
  since_ = Clock::now();
}

void Connection::check_deadline(Clock::time_point now) {
  const auto& limits = server_->limits;
  const auto age = now - since_;
  switch (phase_) {
    case Phase::idle:
      if (age > limits.idle_timeout) close();
      break;
    case Phase::head:
      if (age > limits.header_timeout) expire(age > limits.header_timeout * 2);
      break;
    case Phase::body: {
      if (age < limits.body_window) break;
      const auto window = std::chrono::duration_cast<milliseconds>(age).count();
      if (window_bytes_ < limits.body_rate * static_cast<std::uint64_t>(window) / 1000) expire(expired_);
      window_bytes_ = 0;
      since_ = now;
      break;
    }
    case Phase::writing:
      if (age > limits.write_timeout) {
        const auto window = std::chrono::duration_cast<milliseconds>(age).count();
        const auto taken = taken_by_peer();
        if (taken < taken_before_ + limits.write_rate * static_cast<std::uint64_t>(window) / 1000 + 1) {
          ++server_->metrics.timeouts;
          return abort();
        }
        taken_before_ = taken;
        since_ = now;
      }
      break;
    case Phase::handling:
    case Phase::streaming:
      if (look_by_sweep_)
        look_at_peer();
      else if (phase_ == Phase::streaming)
        watch_peer();
      if (phase_ == Phase::streaming && peer_closed_ && age > half_closed) abandon();
      break;
    case Phase::web_socket:
      check_web_socket(now);
      break;
    case Phase::lingering:
      if (age > limits.linger) close();
      break;
    case Phase::closed:
      break;
  }
}

bool Connection::is_quiet() const {
  if (phase_ == Phase::lingering) return false;
  if (phase_ != Phase::idle && !(phase_ == Phase::head && begin_ == end_)) return false;
  error_code ec;
  return socket_.available(ec) == 0 || ec;  // a request that arrived before the stop is still answered
}

void Connection::give_up() {
  const bool waits = phase_ == Phase::body || phase_ == Phase::handling || phase_ == Phase::streaming;
  if (waits && !answering_) {
    auto response = problem(503, "unavailable", "the server is stopping");
    keep_alive_ = false;
    std::string text;
    if (write_head(text, response, false)) text += response.body;
    error_code ec;
    socket_.write_some(asio::buffer(text), ec);
    socket_.shutdown(Socket::shutdown_send, ec);
  }
  say_goodbye();
  close();
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  const auto self = shared_from_this();
  auto& server = *server_;
  leave_web_socket();
  phase_ = Phase::closed;
  error_code ignored;
  socket_.close(ignored);
  --server.metrics.open;
  if (const auto found = server.per_address.find(address_); found != server.per_address.end())
    if (--found->second == 0) server.per_address.erase(found);
  if (tasks_ && tasks_->size() > 0) {
    Orphans orphans{tasks_, function_runs_};
    if (function_runs_) orphans.cancel_at = Clock::now() + server.limits.farewell;
    server.orphans.push_back(std::move(orphans));
  }
  (is_web_socket_ ? server.web_sockets : server.connections).erase(at);
  server.metrics.web_sockets = server.web_sockets.size();
  if (server.connections.empty() && server.web_sockets.empty()) server.drained.set();
}

/// Closes so that the peer sees an error, and the kernel keeps nothing for it.
void Connection::abort() {
  error_code ignored;
  if (socket_.is_open()) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  close();
}

/// Nobody reads the answer any more: it ends wherever it is.
void Connection::abandon() {
  abort();
  if (tasks_) tasks_->cancel();
}

/// Bytes that the peer has acknowledged. Not what the kernel took: its buffer reports room only once a
/// third is free, which takes a slow but honest reader longer than any sensible timeout.
std::uint64_t Connection::taken_by_peer() {
  int queued = 0;
  if (::ioctl(socket_.native_handle(), SIOCOUTQ, &queued) != 0) queued = 0;
  return written_ - std::min<std::uint64_t>(written_, static_cast<std::uint64_t>(std::max(queued, 0)));
}

void Connection::count_written(std::size_t n) {
  written_ += n;
  server_->metrics.bytes_out += n;
}

/// Stops the pending read; who waits for it answers 408. `hard`: it had its time for that, too.
void Connection::expire(bool hard) {
  if (expired_) {
    if (hard) close();
    return;
  }
  expired_ = true;
  ++server_->metrics.timeouts;
  error_code ignored;
  socket_.cancel(ignored);
}

void Connection::spawn(Task<void> task, const char* what) {
  if (!tasks_) tasks_ = std::make_shared<async::TaskGroup>(server_->loop);
  tasks_->spawn(std::move(task), what);
}

// ---- a peer that goes away while it is not read

void Connection::watch_peer() {
  if (peer_closed_ && gone_) gone_->set();
  if (watching_ || look_by_sweep_ || peer_closed_) return;
  watching_ = true;
  // One that vanishes without a word is found by the kernel.
  const int yes = 1, idle = 60, interval = 15, probes = 4;
  ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
  ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](const error_code& ec) {
    self->watching_ = false;
    if (!ec && (self->gone_ || self->phase_ == Phase::streaming)) self->look_at_peer();
  });
}

void Connection::look_at_peer() {
  pollfd now{socket_.native_handle(), POLLRDHUP, 0};
  if (::poll(&now, 1, 0) == 0) {
    look_by_sweep_ = true;
    return;
  }
  look_by_sweep_ = false;
  peer_closed_ = true;
  if (gone_) gone_->set();
  if (phase_ == Phase::streaming && (now.revents & (POLLERR | POLLHUP)) != 0) abandon();
}

// ---- reading heads, by callbacks

/// Answers all complete requests in the buffer, then waits for more.
void Connection::process() {
  for (;;) {
    if (phase_ == Phase::closed) return;
    look_by_sweep_ = false;
    // RFC 9112 2.2: empty lines before a request are skipped.
    if (scanner_.length() == 0)
      while (end_ - begin_ >= 2 && in_[begin_] == '\r' && in_[begin_ + 1] == '\n') begin_ += 2;
    const std::string_view bytes(in_.data() + begin_, end_ - begin_);
    if (bytes.empty()) {
      scanner_.reset();
      begin_ = end_ = 0;
      if (phase_ != Phase::idle && phase_ != Phase::head) set_phase(Phase::idle);
      if (phase_ == Phase::idle && server_->stopping) return close();
      return read_more();
    }
    if (phase_ != Phase::head) set_phase(Phase::head);
    auto state = HeadScanner::State::more;
    if (bytes != "\r") state = scanner_.scan(bytes);
    if (state == HeadScanner::State::bad) return refuse({400, "bad request"});
    if (state == HeadScanner::State::more) {
      if (bytes.size() >= server_->limits.header_bytes) return refuse({431, "the request head is too large"});
      return read_more();
    }
    const auto length = scanner_.length();
    scanner_.reset();
    if (length > server_->limits.header_bytes) return refuse({431, "the request head is too large"});
    const auto refusal =
        parse_head(bytes.substr(0, length), server_->limits.header_fields, request_, framing_);
    if (refusal) return refuse(refusal);
    begin_ += length;
    request_.remote_address = address_;
    request_.listener = listener_;
    request_.secure = secure_;
    ++server_->metrics.requests;
    keep_alive_ = framing_.keep_alive && !server_->stopping;
    phase_ = Phase::handling;
    answering_ = false;

    if (!request_.has_body) {
      Response response;
      bool answered = false;
      try {
        answered = server_->handler.handle_now(request_, response);
      } catch (const std::exception& e) {
        response = crashed(e.what());
        answered = true;
      } catch (...) {
        response = crashed("unknown exception");
        answered = true;
      }
      if (phase_ == Phase::closed) return;
      if (answered && !response.stream && !response.web_socket) {
        if (!write_now(response)) return;
        if (!keep_alive_) return finish();
        continue;
      }
      if (answered) return start_exchange(std::move(response));
    }
    return start_exchange(std::nullopt);
  }
}

void Connection::read_more() {
  if (begin_ > 0) {
    std::memmove(in_.data(), in_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == 0 && in_.size() > server_->limits.header_bytes * 2) in_ = std::string();  // it held a body
  if (in_.size() - end_ < small_read / 2) in_.resize(std::max(small_read, in_.size() * 2));
  socket_.async_read_some(
      asio::buffer(in_.data() + end_, in_.size() - end_),
      [self = shared_from_this()](const error_code& ec, std::size_t n) { self->on_read(ec, n); });
}

void Connection::on_read(const error_code& ec, std::size_t n) {
  if (phase_ == Phase::closed) return;
  server_->metrics.bytes_in += n;
  end_ += n;
  if (phase_ == Phase::lingering) {
    end_ = 0;
    if (ec) return close();
    return read_more();
  }
  if (expired_) {
    // A connection that never sent a byte is closed without a word.
    if (begin_ == end_) return close();
    return refuse({408, "the request head took too long"});
  }
  if (ec) return close();
  process();
}

// ---- answering without a coroutine

/// An answer of the server itself to what it can't accept; the connection ends.
void Connection::refuse(const Refusal& refusal) {
  ++server_->metrics.errors;
  const char* code = refusal.status == 431   ? "header_too_large"
                     : refusal.status == 408 ? "timeout"
                     : refusal.status == 429 ? "too_many"
                     : refusal.status == 503 ? "unavailable"
                                             : nullptr;
  auto response = code ? problem(refusal.status, code, refusal.why) : reply(refusal.status, "text/plain; charset=utf-8", std::string(refusal.why) + "\n");
  if (refusal.status == 503 || refusal.status == 429) response.headers.add("Retry-After", "1");
  keep_alive_ = false;
  request_.method.clear();
  out_.clear();
  if (write_head(out_, response, false)) out_ += response.body;
  error_code ec;
  count_written(socket_.write_some(asio::buffer(out_), ec));  // fits any socket's fresh buffer
  linger();
}

/// Ends the connection after its last answer.
void Connection::finish() {
  error_code ignored;
  if (end_ == begin_ && !socket_.available(ignored)) {
    socket_.shutdown(Socket::shutdown_both, ignored);
    return close();
  }
  linger();
}

/// Unread bytes at close would make the kernel reset the connection and the peer lose the answer: drain for
/// a while.
void Connection::linger() {
  if (phase_ == Phase::closed) return;
  set_phase(Phase::lingering);
  error_code ec;
  socket_.shutdown(Socket::shutdown_send, ec);
  if (ec) return close();
  begin_ = end_ = 0;
  read_more();
}

Response Connection::crashed(std::string_view what) const {
  log::error("request " + request_.method + " " + request_.path + ": " + std::string(what));
  return problem(500, "internal", "internal error; the server's log has the cause");
}

bool Connection::write_head(std::string& out, const Response& response, bool chunked) {
  HeadOptions options;
  options.chunked = chunked;
  options.keep_alive = keep_alive_;
  options.upgrade = response.status == 101 || response.status == 426;
  options.minor_version = request_.minor_version;
  options.own_fields = server_->own_fields;
  return append_head(out, response, options);
}

bool Connection::sends_body(int status) const { return !has_no_body(status) && request_.method != "HEAD"; }

/// Checks what a handler made; replaces what can't be sent.
void Connection::make_valid(Response& response) const {
  if (response.status >= 200 && response.status <= 599) return;
  log::error("request " + request_.method + " " + request_.path + ": status " +
             std::to_string(response.status) + " can't be sent");
  response = problem(500, "internal", "internal error; the server's log has the cause");
}

Response Connection::split_head() const {
  return crashed("a response field with a control character was refused");
}

/// Serialises into out_ (and a large body beside it).
void Connection::serialise(Response& response) {
  make_valid(response);
  if (response.close) keep_alive_ = false;
  out_.clear();
  if (!write_head(out_, response, false)) {
    response = split_head();
    (void)write_head(out_, response, false);
  }
  large_body_.clear();
  if (!sends_body(response.status)) return;
  if (response.body.size() > copied_body)
    large_body_ = std::move(response.body);
  else
    out_ += response.body;
}

/// Writes at once what the socket takes. False if something is left: a task then writes it and goes on from
/// there.
bool Connection::write_now(Response& response) {
  serialise(response);
  answering_ = true;
  const std::array<asio::const_buffer, 2> buffers{asio::buffer(out_), asio::buffer(large_body_)};
  error_code ec;
  const auto n =
      large_body_.empty() ? socket_.write_some(asio::buffer(out_), ec) : socket_.write_some(buffers, ec);
  count_written(n);
  if (ec && ec != asio::error::would_block) {
    close();
    return false;
  }
  if (n == out_.size() + large_body_.size()) return true;
  spawn(write_rest(shared_from_this(), n), "http write");
  return false;
}

}  // namespace myelin::http
