#pragma once
// The server's end of a session's channel: frames out, frames in, with the descriptors that travel beside them. One
// sender and one receiver at a time. A peer that breaks the protocol gets an Error and nothing more: it is hostile.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "async/fd_watch.hpp"
#include "async/task.hpp"
#include "base/result.hpp"
#include "codec/frame.hpp"
#include "os/fd.hpp"

namespace myelin::worker {

struct Frame {
  codec::FrameKind kind{};
  std::uint64_t call = 0;
  std::string body;
  os::UniqueFd memfd;  // set if the frame brought one
};

class Channel {
 public:
  Channel(async::Loop& loop, os::UniqueFd socket);

  /// Sends a whole frame; `head` and `body` are its body's two parts. Code::worker_lost if the peer is gone.
  async::Task<Result<void>> send(codec::FrameKind kind, std::uint64_t call, std::string head, std::string body);
  /// Sends a small frame now, or not at all (the socket is full, or another frame is being sent: false). `fds` travel with it and stay
  /// the caller's.
  bool send_now(codec::FrameKind kind, std::uint64_t call, std::string_view body = {}, std::span<const int> fds = {});
  /// True when there is something to receive, or the peer is gone; nothing is read.
  async::Task<bool> readable(async::milliseconds timeout);
  /// The next frame. Code::timeout at the deadline, worker_lost at the end of the stream or
  /// for a broken frame. A frame cut by the deadline is lost: close the channel then.
  async::Task<Result<Frame>> receive(async::milliseconds timeout);
  void close();

 private:
  async::FdWatch watch_;
  std::string buffer_;         // received, not yet taken: [begin_, end_)
  std::size_t begin_ = 0, end_ = 0;
  os::UniqueFd pending_fd_;
  bool sending_ = false;
  std::size_t unyielded_ = 0;  // frames and 64 KiB pieces since the loop had a turn
};

}  // namespace myelin::worker
