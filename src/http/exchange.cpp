#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.hpp"
#include "http/connection.hpp"
#include "http/response_head.hpp"

namespace myelin::http {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {
constexpr std::size_t body_read = 64 * 1024;  // how much of a body is read at a time
constexpr std::string_view chunk_end = "\r\n";
constexpr std::string_view last_chunk = "0\r\n\r\n";
constexpr std::string_view chunk_end_and_last = "\r\n0\r\n\r\n";
}  // namespace

Task<void> Connection::write_rest(Self self, std::size_t done) {
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
Task<bool> Connection::write_all(Self self, std::string_view a, std::string_view b, std::string_view c,
                                 std::size_t done) {
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

// ---- requests

struct Connection::Active {
  explicit Active(Metrics& m) : metrics(m) { ++metrics.active; }
  ~Active() {
    --metrics.active;
    hold(0);
  }
  // So many bytes of the body are in memory.
  void hold(std::uint64_t bytes) {
    if (bytes == held) return;
    metrics.buffered += bytes - held;
    if (!account.empty()) {
      auto [mine, fresh] = metrics.buffered_by.try_emplace(account, 0);
      mine->second += bytes - held;
      if (mine->second == 0) metrics.buffered_by.erase(mine);
    }
    held = bytes;
  }
  [[nodiscard]] std::uint64_t held_by_account() const {
    auto mine = metrics.buffered_by.find(account);
    return mine == metrics.buffered_by.end() ? 0 : mine->second;
  }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;
  Metrics& metrics;
  std::uint64_t held = 0;  // bytes of the body
  std::string account;
};

void Connection::start_exchange(std::optional<Response> ready) {
  spawn(exchange(shared_from_this(), std::move(ready)), "http request");
}

Task<void> Connection::exchange(Self self, std::optional<Response> ready) {
  auto next = Next::close;
  {
    const auto server = self->server_;
    Active active(server->metrics);
    if (!ready) {
      Request request = std::move(self->request_);
      self->request_.method = request.method;  // what the answer's framing needs
      self->request_.path = request.path;
      self->request_.minor_version = request.minor_version;
      if (request.wants_web_socket()) self->request_.headers = request.headers;
      request.body_limit = server->limits.body_bytes;
      ready = co_await answer(self, &request, &active);
      active.hold(0);
      self->gone_.reset();
    }
    self->holder_ = std::move(ready->holder);
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
    case Next::web_socket:
      self->start_web_socket();
      break;
  }
}

/// Asks the handler, reading the body in between. `request` and `active` live in the caller's frame.
Task<Response> Connection::answer(Self self, Request* request, Active* active) {
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
    self->gone_ = request->gone;
    if (self->gone_) self->watch_peer();
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
void Connection::skip_body() {
  const auto here = end_ - begin_;
  if (!framing_.chunked && framing_.content_length <= here) {
    begin_ += static_cast<std::size_t>(framing_.content_length);
    return;
  }
  keep_alive_ = false;
  drain_after_ = true;
}

Task<Refusal> Connection::read_body(Self self, Request* request, Active* active) {
  auto& server = *self->server_;
  auto& body = request->body;
  const auto limit = request->body_limit;
  active->account = request->account;
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
    active->hold(body.size());
    if (server.metrics.buffered > server.limits.buffered_bytes)
      co_return Refusal{503, "too many request bodies at once; try again"};
    // One account's calls that wait with large bodies leave room for the others'.
    if (active->held_by_account() > server.limits.buffered_bytes / 4)
      co_return Refusal{503, "too many request bodies of yours at once; try again"};
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

Task<Connection::Next> Connection::send(Self self, Response response) {
  self->set_phase(Phase::handling);
  if (self->server_->stopping) self->keep_alive_ = false;
  if (response.web_socket) co_return co_await upgrade(self, std::move(response));
  if (response.stream) co_return co_await send_stream(self, std::move(response));
  self->serialise(response);
  self->answering_ = true;
  const bool ok = co_await write_all(self, self->out_, self->large_body_, {}, 0);
  self->large_body_ = std::string();
  co_return ok ? self->after() : Next::close;
}

Connection::Next Connection::after() const {
  if (drain_after_) return Next::drain;
  return keep_alive_ ? Next::again : (end_ == begin_ ? Next::close : Next::drain);
}

Task<Connection::Next> Connection::send_stream(Self self, Response response) {
  self->make_valid(response);
  if (!response.stream) co_return co_await send(self, std::move(response));
  if (response.close) self->keep_alive_ = false;
  const auto length = response.stream->length();
  const bool old = self->request_.minor_version == 0;
  const bool chunked = !length && !old;
  if (!length && old) self->keep_alive_ = false;  // delimited by the connection's end
  const bool with_body = self->sends_body(response.status);

  self->out_.clear();
  if (!self->write_head(self->out_, response, chunked)) {
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
    self->set_phase(Phase::streaming);
    auto piece = co_await next_piece(self, response.stream.get(), &chunk);
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
    self->set_phase(Phase::handling);
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
      if (!chunk.empty()) append_chunk_size(self->out_, chunk.size());
      if (chunk.empty())
        tail = last_chunk;
      else
        tail = more ? chunk_end : chunk_end_and_last;
    }
    self->answering_ = true;
    const bool ok = co_await write_all(self, self->out_, chunk, tail, 0);
    if (!ok) co_return Next::close;
    self->out_.clear();
  }
  co_return self->after();
}

/// BodySource::next, its exceptions turned into errors.
Task<Result<bool>> Connection::next_piece(Self self, BodySource* source, std::string* chunk) {
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
  if (self->phase_ != Phase::closed) log::error("response stream: " + failure);  // else it was cancelled
  co_return Error{Code::internal, "internal error; the server's log has the cause", {}};
}

}  // namespace myelin::http
