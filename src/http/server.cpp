#include "http/server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>
#include <list>
#include <unordered_map>
#include <vector>

#include "async/fd_watch.hpp"
#include "base/log.hpp"
#include "http/parse.hpp"
#include "http/text.hpp"

// Idle connections and quick answers run on plain callbacks: no coroutine frame, no timer. A coroutine is
// started for a request that needs one (Connection::exchange) and ends with it. Deadlines are a phase and a
// time stamp in each connection, looked at by one sweep, so that no read or write arms a timer.

namespace myelin::http {
namespace asio = boost::asio;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Socket = asio::basic_stream_socket<asio::generic::stream_protocol, asio::io_context::executor_type>;
using Timer = asio::basic_waitable_timer<Clock, asio::wait_traits<Clock>, asio::io_context::executor_type>;

namespace {

constexpr std::size_t small_read = 2 * 1024;      // a connection's first buffer
constexpr std::size_t body_read = 64 * 1024;      // how much of a body is read at a time
constexpr std::size_t copied_body = 16 * 1024;    // a body up to this travels in the head's buffer
constexpr std::size_t refused_connections = 128;  // may linger beyond Limits::connections to read their 503
constexpr std::string_view chunk_end = "\r\n";
constexpr std::string_view last_chunk = "0\r\n\r\n";

void append_number(std::string& out, std::uint64_t value) {
  std::array<char, 20> digits;
  auto at = digits.size();
  do {
    digits[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  out.append(digits.data() + at, digits.size() - at);
}

std::string hex(std::uint64_t value) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  do out.insert(out.begin(), digits[value & 15]);
  while ((value >>= 4) != 0);
  return out;
}

/// Fields that frame the message or name the server are the server's alone.
bool is_own_field(std::string_view name) {
  switch (name.size()) {
    case 4:
      return iequals(name, "date");
    case 6:
      return iequals(name, "server");
    case 10:
      return iequals(name, "connection") || iequals(name, "keep-alive");
    case 14:
      return iequals(name, "content-length");
    case 17:
      return iequals(name, "transfer-encoding");
    default:
      return false;
  }
}

bool is_clean_value(std::string_view value) {
  for (const unsigned char c : value)
    if ((c < 0x20 && c != '\t') || c == 0x7f) return false;
  return true;
}

bool has_no_body(int status) { return status < 200 || status == 204 || status == 304; }

Error os_error(Code code, const std::string& what) { return {code, what + ": " + std::strerror(errno), {}}; }

struct Fd {
  explicit Fd(int value) : fd(value) {}
  ~Fd() {
    if (fd >= 0) ::close(fd);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int release() { return std::exchange(fd, -1); }
  int fd;
};

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

class Connection;

struct Listener {
  async::FdWatch watch;
  int family = 0;
  std::string path;  // of a Unix socket
  dev_t device = 0;
  ino_t inode = 0;
  bool accepting = false;
};

}  // namespace

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  Impl(async::Loop& l, Limits li, Handler& h)
      : loop(l), limits(li), handler(h), accepts(l), exchanges(l), timer(l.context()) {}

  async::Loop& loop;
  const Limits limits;
  Handler& handler;
  Metrics metrics;
  std::vector<std::shared_ptr<Listener>> listeners;
  async::TaskGroup accepts, exchanges;
  Timer timer;
  std::list<std::shared_ptr<Connection>> connections;
  std::unordered_map<std::string, std::size_t> per_address;
  std::string own_fields;  // "Date: …\r\nServer: myelin\r\n", renewed by the sweep
  std::time_t own_fields_of = 0;
  async::Event drained;  // set while no connection is open
  bool serving = false, stopping = false, closed = false;
  bool out_of_files = false;

  static Task<void> accept_from(std::shared_ptr<Impl> self, std::shared_ptr<Listener> listener);
  void admit(int fd, std::string address, int family);
  void close_listeners();
  void close_all();
  void renew_fields();
  void sweep_later();
  void sweep();
  static Task<void> stop(std::shared_ptr<Impl> self, milliseconds grace);
};

namespace {

using Impl = Server::Impl;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  enum class Phase { idle, head, body, handling, writing, lingering, closed };

  Connection(std::shared_ptr<Impl> server, int fd, int family, std::string address)
      : server_(std::move(server)),
        socket_(server_->loop.context(), asio::generic::stream_protocol(family, SOCK_STREAM), fd),
        address_(std::move(address)),
        since_(Clock::now()) {
    socket_.non_blocking(true);
  }

  std::list<std::shared_ptr<Connection>>::iterator at;  // in the server's list
  [[nodiscard]] const std::string& address() const { return address_; }

  void start() { process(); }

  /// Answers without a request, when there is no room.
  void turn_away(int status, const char* why) {
    ++server_->metrics.refused;
    refuse({status, why});
  }

  void check_deadline(Clock::time_point now) {
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
      case Phase::lingering:
        if (age > limits.linger) close();
        break;
      case Phase::handling:
      case Phase::closed:
        break;
    }
  }

  /// At stop(): true if nothing of a request is here.
  [[nodiscard]] bool is_quiet() const {
    if (phase_ == Phase::lingering) return false;
    if (phase_ != Phase::idle && !(phase_ == Phase::head && begin_ == end_)) return false;
    error_code ec;
    return socket_.available(ec) == 0 || ec;  // a request that arrived before the stop is still answered
  }

  /// The grace is over: say so if nothing was answered yet, and go.
  void give_up() {
    if (phase_ == Phase::body || phase_ == Phase::handling) {
      if (!answering_) {
        std::string text;
        append_head(text, problem(503, "unavailable", "the server is stopping"), false, true);
        error_code ec;
        socket_.write_some(asio::buffer(text), ec);
        socket_.shutdown(Socket::shutdown_send, ec);
      }
    }
    close();
  }

  void close() {
    if (phase_ == Phase::closed) return;
    phase_ = Phase::closed;
    error_code ignored;
    socket_.close(ignored);
    auto& server = *server_;
    --server.metrics.open;
    if (const auto found = server.per_address.find(address_); found != server.per_address.end())
      if (--found->second == 0) server.per_address.erase(found);
    const auto self = shared_from_this();
    server.connections.erase(at);
    if (server.connections.empty()) server.drained.set();
  }

 private:
  enum class Next { again, close, drain };

  /// Closes so that the peer sees an error, and the kernel keeps nothing for it.
  void abort() {
    error_code ignored;
    if (socket_.is_open()) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
    close();
  }

  void set_phase(Phase phase) {
    if (phase_ == Phase::closed) return;
    phase_ = phase;
    since_ = Clock::now();
  }

  /// Bytes that the peer has acknowledged. Not what the kernel took: its buffer reports room only once a
  /// third is free, which takes a slow but honest reader longer than any sensible timeout.
  [[nodiscard]] std::uint64_t taken_by_peer() {
    int queued = 0;
    if (::ioctl(socket_.native_handle(), SIOCOUTQ, &queued) != 0) queued = 0;
    return written_ - std::min<std::uint64_t>(written_, static_cast<std::uint64_t>(std::max(queued, 0)));
  }

  void count_written(std::size_t n) {
    written_ += n;
    server_->metrics.bytes_out += n;
  }

  /// Stops the pending read; who waits for it answers 408.
  void expire(bool hard) {
    if (hard) return close();
    if (expired_) return;
    expired_ = true;
    ++server_->metrics.timeouts;
    error_code ignored;
    socket_.cancel(ignored);
  }

  // ---- reading heads, by callbacks

  /// Answers all complete requests in the buffer, then waits for more.
  void process() {
    for (;;) {
      if (phase_ == Phase::closed) return;
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
        if (bytes.size() >= server_->limits.header_bytes)
          return refuse({431, "the request head is too large"});
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
        if (answered && !response.stream) {
          if (!write_now(response)) return;
          if (!keep_alive_) return finish();
          continue;
        }
        if (answered) return start_exchange(std::move(response));
      }
      return start_exchange(std::nullopt);
    }
  }

  void read_more() {
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

  void on_read(const error_code& ec, std::size_t n) {
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
  void refuse(const Refusal& refusal) {
    ++server_->metrics.errors;
    auto response = reply(refusal.status, "text/plain; charset=utf-8", std::string(refusal.why) + "\n");
    if (refusal.status == 503 || refusal.status == 429) response.headers.add("Retry-After", "1");
    keep_alive_ = false;
    request_.method.clear();
    out_.clear();
    append_head(out_, response, false, true);
    error_code ec;
    count_written(socket_.write_some(asio::buffer(out_), ec));  // fits any socket's fresh buffer
    linger();
  }

  /// Ends the connection after its last answer.
  void finish() {
    error_code ignored;
    if (end_ == begin_ && !socket_.available(ignored)) {
      socket_.shutdown(Socket::shutdown_both, ignored);
      return close();
    }
    linger();
  }

  /// Unread bytes at close would make the kernel reset the connection and the peer lose the answer: drain for
  /// a while.
  void linger() {
    if (phase_ == Phase::closed) return;
    set_phase(Phase::lingering);
    error_code ec;
    socket_.shutdown(Socket::shutdown_send, ec);
    if (ec) return close();
    begin_ = end_ = 0;
    read_more();
  }

  Response crashed(std::string_view what) const {
    log::error("request " + request_.method + " " + request_.path + ": " + std::string(what));
    return problem(500, "internal", "internal error; the server's log has the cause");
  }

  /// The head, and with `whole` the body too (unless HEAD). False: the handler set a field that would split
  /// the message.
  bool append_head(std::string& out, const Response& response, bool chunked, bool whole) {
    const auto start = out.size();
    const int status = response.status;
    out += "HTTP/1.1 ";
    append_number(out, static_cast<std::uint64_t>(status));
    out += ' ';
    out += reason_phrase(status);
    out += "\r\n";
    out += server_->own_fields;
    for (const auto& [name, value] : response.headers) {
      if (is_own_field(name)) continue;
      if (!is_token(name) || !is_clean_value(value)) {
        out.resize(start);
        return false;
      }
      out += name;
      out += ": ";
      out += value;
      out += "\r\n";
    }
    if (!has_no_body(status)) {
      if (chunked) {
        out += "Transfer-Encoding: chunked\r\n";
      } else if (!response.stream || response.stream->length()) {
        out += "Content-Length: ";
        append_number(out, response.stream ? *response.stream->length() : response.body.size());
        out += "\r\n";
      }
    }
    if (!keep_alive_)
      out += "Connection: close\r\n";
    else if (request_.minor_version == 0)
      out += "Connection: keep-alive\r\n";
    out += "\r\n";
    if (whole && sends_body(status)) out += response.body;
    return true;
  }

  [[nodiscard]] bool sends_body(int status) const {
    return !has_no_body(status) && request_.method != "HEAD";
  }

  /// Checks what a handler made; replaces what can't be sent.
  void make_valid(Response& response) const {
    if (response.status >= 200 && response.status <= 599) return;
    log::error("request " + request_.method + " " + request_.path + ": status " +
               std::to_string(response.status) + " can't be sent");
    response = problem(500, "internal", "internal error; the server's log has the cause");
  }
  Response split_head() const { return crashed("a response field with a control character was refused"); }

  /// Serialises into out_ (and a large body beside it).
  void serialise(Response& response) {
    make_valid(response);
    if (response.close) keep_alive_ = false;
    out_.clear();
    const bool small = response.body.size() <= copied_body;
    if (!append_head(out_, response, false, small)) {
      response = split_head();
      append_head(out_, response, false, true);
    }
    large_body_.clear();
    if (response.body.size() > copied_body && sends_body(response.status))
      large_body_ = std::move(response.body);
  }

  /// Writes at once what the socket takes. False if something is left: a task then writes it and goes on from
  /// there.
  bool write_now(Response& response) {
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
    server_->exchanges.spawn(write_rest(shared_from_this(), n), "http write");
    return false;
  }

  static Task<void> write_rest(std::shared_ptr<Connection> self, std::size_t done) {
    const bool ok = co_await write_all(self, self->out_, self->large_body_, std::string_view(), done);
    if (!ok) {
      self->close();
    } else if (self->keep_alive_) {
      self->process();
    } else {
      self->finish();
    }
  }

  /// Writes three pieces that outlive the call, but for the first `done` bytes. False: the connection is of
  /// no use now.
  static Task<bool> write_all(std::shared_ptr<Connection> self, std::string_view a, std::string_view b,
                              std::string_view c, std::size_t done) {
    std::array<std::string_view, 3> left{a, b, c};
    const auto advance = [&left](std::size_t n) {
      for (auto& piece : left) {
        const auto take = std::min(n, piece.size());
        piece.remove_prefix(take);
        n -= take;
      }
    };
    advance(done);
    bool blocked = false;  // the write's window starts once, whatever trickles meanwhile
    auto window_start = Clock::time_point();
    while (left[0].size() + left[1].size() + left[2].size() > 0) {
      if (self->phase_ == Phase::closed) co_return false;
      const std::array<asio::const_buffer, 3> buffers{asio::buffer(left[0]), asio::buffer(left[1]),
                                                      asio::buffer(left[2])};
      error_code ec;
      auto n = self->socket_.write_some(buffers, ec);
      if (ec == asio::error::would_block) {
        self->set_phase(Phase::writing);
        if (blocked)
          self->since_ = window_start;
        else
          self->taken_before_ = self->taken_by_peer();
        blocked = true;
        auto token = asio::redirect_error(asio::use_awaitable, ec);
        n = co_await self->socket_.async_write_some(buffers, token);
        window_start = self->since_;
        self->set_phase(Phase::handling);
      }
      self->count_written(n);
      if (ec) co_return false;
      advance(n);
    }
    co_return self->phase_ != Phase::closed;
  }

  // ---- answering with a coroutine

  void start_exchange(std::optional<Response> ready) {
    ++server_->metrics.active;
    server_->exchanges.spawn(exchange(shared_from_this(), std::move(ready)), "http request");
  }

  struct Active {
    explicit Active(Metrics& m) : metrics(m) {}
    ~Active() {
      --metrics.active;
      metrics.buffered -= held;
    }
    Active(const Active&) = delete;
    Active& operator=(const Active&) = delete;
    Metrics& metrics;
    std::uint64_t held = 0;
  };

  static Task<void> exchange(std::shared_ptr<Connection> self, std::optional<Response> ready) {
    auto next = Next::close;
    {
      const auto server = self->server_;
      Active active(server->metrics);
      if (!ready) {
        Request request = std::move(self->request_);
        self->request_.method = request.method;  // what the answer's framing needs
        self->request_.path = request.path;
        self->request_.minor_version = request.minor_version;
        request.body_limit = server->limits.body_bytes;
        ready = co_await answer(self, &request, &active);
        server->metrics.buffered -= std::exchange(active.held, 0);
      }
      if (self->phase_ != Phase::closed) next = co_await send(self, std::move(*ready));
    }
    if (self->phase_ == Phase::closed) co_return;
    switch (next) {
      case Next::again:
        self->process();
        break;
      case Next::drain:
        self->linger();
        break;
      case Next::close:
        self->close();
        break;
    }
  }

  /// Asks the handler, reading the body in between. `request` and `active` live in the caller's frame.
  static Task<Response> answer(std::shared_ptr<Connection> self, Request* request, Active* active) {
    std::string failure;
    bool unread = request->has_body;
    try {
      auto early = co_await self->server_->handler.admit(*request);
      if (self->phase_ == Phase::closed) co_return Response();
      if (early) {
        self->skip_body();
        co_return std::move(*early);
      }
      if (request->has_body) {
        const auto refusal = co_await read_body(self, request, active);
        if (refusal) {
          ++self->server_->metrics.errors;
          self->drain_after_ = true;
          auto response =
              refusal.status == 413 || refusal.status == 503 || refusal.status == 408
                  ? problem(refusal.status,
                            refusal.status == 413   ? "too_large"
                            : refusal.status == 408 ? "timeout"
                                                    : "unavailable",
                            refusal.why)
                  : reply(refusal.status, "text/plain; charset=utf-8", std::string(refusal.why) + "\n");
          response.close = true;
          co_return response;
        }
      }
      unread = false;
      if (self->phase_ == Phase::closed) co_return Response();
      self->set_phase(Phase::handling);
      auto response = co_await self->server_->handler.handle(std::move(*request));
      co_return response;
    } catch (const boost::system::system_error& e) {
      if (self->phase_ == Phase::closed) co_return Response();  // cancelled
      failure = e.what();
    } catch (const std::exception& e) {
      failure = e.what();
    } catch (...) {
      failure = "unknown exception";
    }
    auto response = self->crashed(failure);
    self->drain_after_ = response.close = unread;
    co_return response;
  }

  /// The answer came before the body: skip it if it is all here, else the connection can't be used again.
  void skip_body() {
    const auto here = end_ - begin_;
    if (!framing_.chunked && framing_.content_length <= here) {
      begin_ += static_cast<std::size_t>(framing_.content_length);
      return;
    }
    keep_alive_ = false;
    drain_after_ = true;
  }

  static Task<Refusal> read_body(std::shared_ptr<Connection> self, Request* request, Active* active) {
    auto& server = *self->server_;
    auto& body = request->body;
    const auto limit = request->body_limit;
    const auto length = self->framing_.content_length;
    const bool chunked = self->framing_.chunked;
    constexpr Refusal too_large{413, "the request body is larger than allowed here"};
    if (!chunked && length > limit) co_return too_large;

    if (self->framing_.expect_continue && self->begin_ == self->end_) {
      const bool ok = co_await write_all(self, "HTTP/1.1 100 Continue\r\n\r\n", {}, {}, 0);
      if (!ok) co_return Refusal{400, "closed"};
    }
    self->window_bytes_ = 0;
    self->set_phase(Phase::body);
    ChunkDecoder decoder;
    for (;;) {
      // First what the buffer holds.
      const std::string_view bytes(self->in_.data() + self->begin_, self->end_ - self->begin_);
      std::size_t used = 0;
      bool done = false;
      if (chunked) {
        const auto state = decoder.feed(bytes, used, body, limit);
        if (state == ChunkDecoder::State::bad) co_return Refusal{400, "bad chunk"};
        if (state == ChunkDecoder::State::too_large) co_return too_large;
        done = state == ChunkDecoder::State::done;
      } else {
        used = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), length - body.size()));
        body.append(bytes.substr(0, used));
        done = body.size() == length;
      }
      self->begin_ += used;
      server.metrics.buffered += body.size() - active->held;
      active->held = body.size();
      if (server.metrics.buffered > server.limits.buffered_bytes)
        co_return Refusal{503, "too many request bodies at once; try again"};
      if (done) co_return Refusal{};

      self->begin_ = self->end_ = 0;
      char* to = nullptr;
      std::size_t room = 0;
      const auto before = body.size();
      if (chunked) {
        if (self->in_.size() < body_read) self->in_.resize(body_read);
        to = self->in_.data();
        room = self->in_.size();
      } else {
        // Straight into the body, which grows with what came, not with what was announced.
        const auto piece = std::max(body_read, before / 4);
        room = static_cast<std::size_t>(std::min<std::uint64_t>(length - before, piece));
        body.resize(before + room);
        to = body.data() + before;
      }
      error_code ec;
      auto token = asio::redirect_error(asio::use_awaitable, ec);
      auto buffer = asio::buffer(to, room);
      const auto n = co_await self->socket_.async_read_some(buffer, token);
      if (chunked)
        self->end_ = n;
      else
        body.resize(before + n);
      server.metrics.bytes_in += n;
      self->window_bytes_ += n;
      if (self->phase_ == Phase::closed) co_return Refusal{400, "closed"};
      if (self->expired_) co_return Refusal{408, "the request body came too slowly"};
      if (ec) {
        self->close();  // the peer left in the middle of its body
        co_return Refusal{400, "closed"};
      }
    }
  }

  static Task<Next> send(std::shared_ptr<Connection> self, Response response) {
    self->set_phase(Phase::handling);
    if (self->server_->stopping) self->keep_alive_ = false;
    if (response.stream) co_return co_await send_stream(self, std::move(response));
    self->serialise(response);
    self->answering_ = true;
    const bool ok = co_await write_all(self, self->out_, self->large_body_, {}, 0);
    self->large_body_ = std::string();
    co_return ok ? self->after() : Next::close;
  }

  [[nodiscard]] Next after() const {
    if (drain_after_) return Next::drain;
    return keep_alive_ ? Next::again : (end_ == begin_ ? Next::close : Next::drain);
  }

  static Task<Next> send_stream(std::shared_ptr<Connection> self, Response response) {
    self->make_valid(response);
    if (!response.stream) co_return co_await send(self, std::move(response));
    if (response.close) self->keep_alive_ = false;
    const auto length = response.stream->length();
    const bool old = self->request_.minor_version == 0;
    const bool chunked = !length && !old;
    if (!length && old) self->keep_alive_ = false;  // delimited by the connection's end
    const bool with_body = self->sends_body(response.status);

    self->out_.clear();
    if (!self->append_head(self->out_, response, chunked, false)) {
      auto replacement = self->split_head();
      co_return co_await send(self, std::move(replacement));
    }
    if (!with_body) {
      self->answering_ = true;
      const bool ok = co_await write_all(self, self->out_, {}, {}, 0);
      co_return ok ? self->after() : Next::close;
    }

    std::string chunk;
    std::uint64_t sent = 0;
    bool more = true;
    while (more) {
      auto piece = co_await next_piece(response.stream.get(), &chunk);
      if (self->phase_ == Phase::closed) co_return Next::close;
      if (!piece) {
        // Nothing has left yet: the error itself can be the answer.
        if (!self->answering_) {
          auto replacement = problem(piece.error());
          co_return co_await send(self, std::move(replacement));
        }
        log::warning("response stream of " + self->request_.path + " broke: " + piece.error().message);
        self->abort();
        co_return Next::close;
      }
      more = *piece;
      sent += chunk.size();
      if (length && (sent > *length || (!more && sent < *length))) {
        log::error("response stream of " + self->request_.path + " does not have the length it announced");
        self->abort();
        co_return Next::close;
      }
      if (chunk.empty() && more) continue;
      std::string_view tail;
      if (chunked) {
        if (!chunk.empty()) self->out_ += hex(chunk.size()) + "\r\n";
        if (chunk.empty())
          tail = last_chunk;
        else
          tail = more ? chunk_end : std::string_view("\r\n0\r\n\r\n");
      }
      self->answering_ = true;
      const bool ok = co_await write_all(self, self->out_, chunk, tail, 0);
      if (!ok) co_return Next::close;
      self->out_.clear();
    }
    co_return self->after();
  }

  /// BodySource::next, its exceptions turned into errors.
  static Task<Result<bool>> next_piece(BodySource* source, std::string* chunk) {
    chunk->clear();
    std::string failure;
    try {
      auto piece = co_await source->next(*chunk);
      co_return piece;
    } catch (const std::exception& e) {
      failure = e.what();
    } catch (...) {
      failure = "unknown exception";
    }
    log::error("response stream: " + failure);
    co_return Error{Code::internal, "internal error; the server's log has the cause", {}};
  }

  std::shared_ptr<Impl> server_;
  Socket socket_;
  std::string address_;
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

  bool keep_alive_ = true;
  bool expired_ = false;
  bool answering_ = false;    // bytes of the present answer have left
  bool drain_after_ = false;  // a body was left unread
};

}  // namespace

// ---- Server

bool Handler::handle_now(Request&, Response&) { return false; }

void Server::Impl::renew_fields() {
  const auto now = std::time(nullptr);
  if (now == own_fields_of) return;
  own_fields_of = now;
  own_fields = "Date: " + http_date(now) + "\r\nServer: myelin\r\n";
}

void Server::Impl::sweep_later() {
  timer.expires_after(limits.sweep);
  timer.async_wait([weak = weak_from_this()](const error_code& ec) {
    const auto self = weak.lock();
    if (ec || !self || self->closed) return;
    self->sweep();
    self->sweep_later();
  });
}

void Server::Impl::sweep() {
  renew_fields();
  const auto now = Clock::now();
  for (auto at = connections.begin(); at != connections.end();) {
    const auto connection = *at++;  // which may leave the list
    connection->check_deadline(now);
  }
}

void Server::Impl::admit(int fd, std::string address, int family) {
  Fd owned(fd);
  ++metrics.accepted;
  const bool full = connections.size() >= limits.connections;
  if (full && connections.size() >= limits.connections + refused_connections) {
    ++metrics.refused;
    return;
  }
  if (family != AF_UNIX) {
    const int yes = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  }
  auto& from_here = per_address[address];
  ++from_here;
  const bool greedy =
      family != AF_UNIX && limits.connections_per_address && from_here > limits.connections_per_address;
  auto connection = std::make_shared<Connection>(shared_from_this(), owned.fd, family, std::move(address));
  owned.release();
  connection->at = connections.insert(connections.end(), connection);
  ++metrics.open;
  drained.reset();
  if (full)
    connection->turn_away(503, "too many connections");
  else if (greedy)
    connection->turn_away(429, "too many connections from this address");
  else
    connection->start();
}

Task<void> Server::Impl::accept_from(std::shared_ptr<Impl> self, std::shared_ptr<Listener> listener) {
  constexpr int burst = 64;  // then others get a turn
  while (!self->stopping) {
    const bool ready = co_await listener->watch.readable();
    if (!ready || self->stopping) co_return;
    bool pause = false;
    for (int i = 0; i < burst; ++i) {
      sockaddr_storage address{};
      socklen_t size = sizeof address;
      const int fd = ::accept4(listener->watch.fd(), reinterpret_cast<sockaddr*>(&address), &size,
                               SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        self->out_of_files = false;
        address.ss_family = static_cast<sa_family_t>(listener->family);
        self->admit(fd, address_text(address), listener->family);
        continue;
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == EPERM) continue;
      // No descriptors or no memory: the connection stays in the backlog. Wait for others to end.
      if (!self->out_of_files) log::error(std::string("accept: ") + std::strerror(errno) + "; backing off");
      self->out_of_files = true;
      pause = true;
      break;
    }
    if (pause) co_await async::sleep_for(milliseconds(100));
  }
}

void Server::Impl::close_listeners() {
  for (const auto& listener : listeners) {
    struct stat now {};
    // Only if it is still ours: a newer server may have replaced it.
    if (!listener->path.empty() && ::stat(listener->path.c_str(), &now) == 0 &&
        now.st_dev == listener->device && now.st_ino == listener->inode)
      ::unlink(listener->path.c_str());
    listener->watch.close();
  }
  listeners.clear();
}

void Server::Impl::close_all() {
  stopping = closed = true;
  close_listeners();
  timer.cancel();
  while (!connections.empty()) {
    const auto connection = connections.front();
    connection->give_up();
  }
  exchanges.cancel();
  accepts.cancel();
}

Task<void> Server::Impl::stop(std::shared_ptr<Impl> self, milliseconds grace) {
  self->stopping = true;
  self->close_listeners();
  for (auto at = self->connections.begin(); at != self->connections.end();) {
    const auto connection = *at++;
    if (connection->is_quiet()) connection->close();
  }
  const bool drained = co_await self->drained.wait(grace);
  if (!drained)
    log::warning("stopping: " + std::to_string(self->connections.size()) + " connections cut off");
  self->close_all();
  const bool joined = co_await self->exchanges.join(milliseconds(1000));
  if (!joined)
    log::error("stopping: " + std::to_string(self->exchanges.size()) +
               " requests did not end when cancelled");
  (void)co_await self->accepts.join(milliseconds(1000));
}

Server::Server(async::Loop& loop, Limits limits, Handler& handler)
    : impl_(std::make_shared<Impl>(loop, limits, handler)) {
  impl_->drained.set();
  impl_->renew_fields();
}

Server::~Server() { impl_->close_all(); }

Result<Address> Server::listen(const std::string& host, std::uint16_t port) {
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
    return Error{Code::bad_request, "can't listen on " + host + ": give a numeric address or localhost", {}};
  }
  const auto where = host + ":" + std::to_string(port);
  Fd fd(::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.fd < 0) return os_error(Code::unavailable, "can't listen on " + where);
  const int yes = 1;
  ::setsockopt(fd.fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(fd.fd, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::listen(fd.fd, SOMAXCONN) != 0)
    return os_error(errno == EADDRINUSE ? Code::conflict : Code::unavailable, "can't listen on " + where);
  size = sizeof address;
  ::getsockname(fd.fd, reinterpret_cast<sockaddr*>(&address), &size);
  Address bound{address_text(address), ntohs(address.ss_family == AF_INET ? v4.sin_port : v6.sin6_port)};
  auto listener = std::make_shared<Listener>();
  listener->family = address.ss_family;
  listener->watch = async::FdWatch(impl_->loop, fd.release());
  impl_->listeners.push_back(std::move(listener));
  if (impl_->serving) serve();
  return bound;
}

Result<Address> Server::listen_unix(const std::string& path, unsigned mode) {
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
    const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (probe.fd < 0) return os_error(Code::unavailable, what);
    if (::connect(probe.fd, generic, sizeof address) == 0 || errno != ECONNREFUSED)
      return Error{Code::conflict, what + ": another server listens there", {}};
    ::unlink(path.c_str());
  }
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.fd < 0) return os_error(Code::unavailable, what);
  // The file is born with these permissions (less the umask): there is no moment with more.
  if (::fchmod(fd.fd, static_cast<mode_t>(mode)) != 0 || ::bind(fd.fd, generic, sizeof address) != 0 ||
      ::chmod(path.c_str(), static_cast<mode_t>(mode)) != 0 || ::listen(fd.fd, SOMAXCONN) != 0 ||
      ::stat(path.c_str(), &there) != 0)
    return os_error(Code::unavailable, what);
  auto listener = std::make_shared<Listener>();
  listener->family = AF_UNIX;
  listener->path = path;
  listener->device = there.st_dev;
  listener->inode = there.st_ino;
  listener->watch = async::FdWatch(impl_->loop, fd.release());
  impl_->listeners.push_back(std::move(listener));
  if (impl_->serving) serve();
  return Address{path, 0};
}

void Server::serve() {
  if (!impl_->serving) impl_->sweep_later();
  impl_->serving = true;
  for (const auto& listener : impl_->listeners) {
    if (std::exchange(listener->accepting, true)) continue;
    impl_->accepts.spawn(Impl::accept_from(impl_, listener), "accept");
  }
}

Task<void> Server::stop(milliseconds grace) { return Impl::stop(impl_, grace); }
bool Server::stopping() const { return impl_->stopping; }
const Metrics& Server::metrics() const { return impl_->metrics; }

}  // namespace myelin::http
