#include "async/fd_watch.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <stdexcept>
#include <utility>

namespace myelin::async {
namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using boost::system::error_code;

struct FdWatch::State : std::enable_shared_from_this<FdWatch::State> {
  using Descriptor = asio::posix::basic_stream_descriptor<asio::io_context::executor_type>;
  using Timer = asio::basic_waitable_timer<Clock, asio::wait_traits<Clock>, asio::io_context::executor_type>;

  /// One direction. Its timer is armed lazily and left alone while a later deadline comes in, so that a wait
  /// with a timeout costs no timer operation in a busy stream.
  struct Side {
    explicit Side(asio::io_context& context) : timer(context) {}
    Timer timer;
    bool armed = false;
    bool waiting = false;
    bool timed_out = false;
    Clock::time_point deadline = Clock::time_point::max();
  };

  State(asio::io_context& context, int fd) : descriptor(context, fd), read(context), write(context) {
    descriptor.non_blocking(true);
  }

  void arm(Side& side) {
    if (side.deadline == Clock::time_point::max()) return;
    if (side.armed && side.timer.expiry() <= side.deadline) return;
    side.armed = true;
    side.timer.expires_at(side.deadline);
    side.timer.async_wait([weak = weak_from_this(), &side](const error_code& ec) {
      const auto self = weak.lock();
      if (ec || !self) return;
      side.armed = false;
      if (!side.waiting) return;
      if (Clock::now() < side.deadline) return self->arm(side);
      side.timed_out = true;
      error_code ignored;
      self->descriptor.cancel(ignored);
    });
  }

  static Task<bool> wait(std::shared_ptr<State> self, bool reading, milliseconds timeout) {
    Side& side = reading ? self->read : self->write;
    if (side.waiting) throw std::logic_error("FdWatch: two tasks wait for the same direction");
    side.deadline = after(timeout);
    side.timed_out = false;
    struct Waiting {
      explicit Waiting(Side& s) : side(s) { side.waiting = true; }
      ~Waiting() { side.waiting = false; }
      Side& side;
    } const waiting(side);
    self->arm(side);
    const auto type = reading ? Descriptor::wait_read : Descriptor::wait_write;
    while (self->descriptor.is_open()) {
      error_code ec;
      auto token = asio::redirect_error(asio::use_awaitable, ec);
      co_await self->descriptor.async_wait(type, token);
      if (!self->descriptor.is_open() || side.timed_out) co_return false;
      if (ec != asio::error::operation_aborted) co_return true;  // other errors: the read or write will tell
      // Aborted by the other direction's timeout (look again) or by the task's own cancellation.
      const auto cancelled = (co_await asio::this_coro::cancellation_state).cancelled();
      if (cancelled != asio::cancellation_type::none) co_return false;
    }
    co_return false;
  }

  Descriptor descriptor;
  Side read, write;
};

FdWatch::FdWatch(Loop& loop, int fd) : state_(std::make_shared<State>(loop.context(), fd)) {}
FdWatch::~FdWatch() { close(); }
FdWatch::FdWatch(FdWatch&&) noexcept = default;
FdWatch& FdWatch::operator=(FdWatch&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}

int FdWatch::fd() const {
  return state_ && state_->descriptor.is_open() ? state_->descriptor.native_handle() : -1;
}

namespace {
Task<bool> never() { co_return false; }
}  // namespace

Task<bool> FdWatch::readable(milliseconds timeout) {
  return state_ ? State::wait(state_, true, timeout) : never();
}
Task<bool> FdWatch::writable(milliseconds timeout) {
  return state_ ? State::wait(state_, false, timeout) : never();
}

int FdWatch::release() {
  if (!state_ || !state_->descriptor.is_open()) return -1;
  const int fd = state_->descriptor.release();
  state_.reset();
  return fd;
}

void FdWatch::close() {
  if (!state_) return;
  error_code ignored;
  state_->descriptor.close(ignored);
  state_.reset();
}

}  // namespace myelin::async
