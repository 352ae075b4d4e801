#include "worker/channel.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "os/socket.hpp"
#include "os/stream.hpp"

namespace myelin::worker {
namespace {

constexpr std::size_t most_unyielded = 64;

constexpr std::size_t buffer_bytes = 64 * 1024;
using async::milliseconds;
using async::Task;

Error lost() { return {Code::worker_lost, "the worker is gone", ""}; }

}  // namespace

Channel::Channel(async::Loop& loop, os::UniqueFd socket) : watch_(loop, socket.release()) {}

void Channel::close() { watch_.close(); }

bool Channel::send_now(codec::FrameKind kind, std::uint64_t call, std::string_view body, std::span<const int> fds) {
  if (sending_ || watch_.fd() < 0) return false;
  const std::uint16_t flags = fds.empty() ? 0 : codec::frame_has_memfd;
  auto head = codec::pack_frame_header({static_cast<std::uint32_t>(body.size()), kind, flags, call});
  std::string bytes(head.data(), head.size());
  bytes += body;
  // A stream socket that takes its first bytes takes so few of them whole.
  auto sent = os::send_message(watch_.fd(), bytes, fds);
  return sent && *sent == bytes.size();
}

Task<bool> Channel::readable(milliseconds timeout) {
  if (begin_ != end_) co_return true;
  co_return co_await watch_.readable(timeout);
}

Task<Result<void>> Channel::send(codec::FrameKind kind, std::uint64_t call, std::string head, std::string body) {
  std::string first;
  first.reserve(codec::frame_header_size + head.size());
  auto header = codec::pack_frame_header({static_cast<std::uint32_t>(head.size() + body.size()), kind, 0, call});
  first.append(header.data(), header.size());
  first += head;
  std::string_view a = first, b = body;
  sending_ = true;
  while (!a.empty() || !b.empty()) {
    if (watch_.fd() < 0) break;
    auto sent = os::send_some(watch_.fd(), a, b);
    if (sent.state == os::Io::would_block) {
      bool writable = co_await watch_.writable();
      if (!writable) break;
      continue;
    }
    if (sent.state != os::Io::done) break;
    std::size_t from_a = std::min(sent.bytes, a.size());
    a.remove_prefix(from_a);
    b.remove_prefix(sent.bytes - from_a);
  }
  sending_ = false;
  if (!a.empty() || !b.empty()) co_return lost();
  co_return Result<void>{};
}

Task<Result<Frame>> Channel::receive(milliseconds timeout) {
  if (buffer_.empty()) buffer_.resize(buffer_bytes);
  // A worker that never stops sending waits, not everybody else.
  if (++unyielded_ > most_unyielded) {
    unyielded_ = 0;
    co_await async::sleep_for(milliseconds(1));
  }
  const auto deadline = async::after(timeout);
  Frame frame;
  std::size_t body_have = 0, body_need = 0;
  bool have_header = false;
  for (;;) {
    if (!have_header && end_ - begin_ >= codec::frame_header_size) {
      auto header = codec::parse_frame_header(
          std::span<const char, codec::frame_header_size>(buffer_.data() + begin_, codec::frame_header_size),
          codec::Sender::worker);
      if (!header) co_return header.take_error();
      begin_ += codec::frame_header_size;
      have_header = true;
      frame.kind = header->kind;
      frame.call = header->call;
      if (header->has_memfd()) frame.memfd = std::move(pending_fd_);
      body_need = header->length;
      frame.body.resize(body_need);
    }
    if (have_header) {
      std::size_t take = std::min(body_need - body_have, end_ - begin_);
      std::memcpy(frame.body.data() + body_have, buffer_.data() + begin_, take);
      body_have += take;
      begin_ += take;
      if (body_have == body_need) {
        if (begin_ == end_) begin_ = end_ = 0;
        co_return frame;
      }
    }
    if (watch_.fd() < 0) co_return lost();
    // Straight into the body when it is large, else into the buffer behind what is there.
    os::Transfer got;
    bool direct = have_header && body_need - body_have >= buffer_bytes;
    if (direct) {
      got = os::receive_some(watch_.fd(), frame.body.data() + body_have, body_need - body_have, pending_fd_);
      if (got.state == os::Io::done) body_have += got.bytes;
      if (body_have == body_need) co_return frame;
    } else {
      if (begin_ > 0) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
      }
      got = os::receive_some(watch_.fd(), buffer_.data() + end_, buffer_.size() - end_, pending_fd_);
      if (got.state == os::Io::done) end_ += got.bytes;
    }
    if (got.state == os::Io::closed || got.state == os::Io::failed) co_return lost();
    if (got.state == os::Io::would_block) {
      milliseconds left = async::forever;
      if (timeout != async::forever) {
        left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
        if (left <= milliseconds(0)) co_return Error{Code::timeout, "the worker did not answer in time", ""};
      }
      bool readable = co_await watch_.readable(left);
      unyielded_ = 0;
      if (!readable) {
        if (watch_.fd() < 0) co_return lost();
        co_return Error{Code::timeout, "the worker did not answer in time", ""};
      }
    }
  }
}

}  // namespace myelin::worker
