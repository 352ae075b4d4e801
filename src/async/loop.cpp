#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>
#include <utility>
#include <vector>

#include <sched.h>

#include <algorithm>
#include <chrono>

#include "async/task.hpp"
#include "base/log.hpp"

namespace myelin::async {
namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using boost::system::error_code;

namespace {

/// What escaped a task. Cancellation is how tasks end at shutdown: not worth a line.
void report(const std::exception_ptr& error, std::string_view what) {
  if (!error) return;
  try {
    std::rethrow_exception(error);
  } catch (const boost::system::system_error& e) {
    if (e.code() == asio::error::operation_aborted) return;
    log::error(std::string(what) + ": " + e.what());
  } catch (const std::exception& e) {
    log::error(std::string(what) + ": " + e.what());
  } catch (...) {
    log::error(std::string(what) + ": unknown exception");
  }
}

}  // namespace

Clock::time_point after(milliseconds duration) {
  constexpr milliseconds most = std::chrono::hours(24 * 365);
  if (duration > most) return Clock::time_point::max();
  return Clock::now() + duration;
}

// ---- Loop

struct SignalWatch {
  SignalWatch(asio::io_context& context, int number, std::function<void(int)> f)
      : set(context, number), callback(std::move(f)) {
    arm();
  }
  void arm() {
    set.async_wait([this](const error_code& ec, int number) {
      if (ec) return;
      arm();  // first, so that a callback that throws does not lose the next signal
      callback(number);
    });
  }
  asio::signal_set set;
  std::function<void(int)> callback;
};

struct Loop::Impl {
  asio::io_context context{1};  // one thread runs it, any thread may post
  std::list<SignalWatch> signals;
};

Loop::Loop() : impl_(std::make_unique<Impl>()) {}
Loop::~Loop() { impl_->signals.clear(); }

namespace {

// After work the loop looks a little while for more before it sleeps: in a chain of short calls (client, loop, session and
// back) each sleep costs a wake-up on another CPU, which takes longer than the work. It yields meanwhile. Where the yield
// gives the CPU to somebody who keeps it, looking would make the loop wait: then it does not look for 20 ms, and for twice as long
// each time that happens again, up to 2 s. Nor where work has come late several times in a row (pongs of silent WebSockets, timers),
// until some comes soon again.
class Patience {
 public:
  using Clock = std::chrono::steady_clock;
  void worked() {
    auto now = Clock::now();
    if (waited_) futile_ = now - last_work_ < soon ? 0 : futile_ + 1;
    waited_ = false;
    last_work_ = now;
  }
  /// True if it has looked on: poll again. False: sleep.
  bool look_on() {
    waited_ = true;
    if (futile_ >= most_futile) return false;
    auto before = Clock::now();
    if (before - last_work_ >= look_for || before < not_before_) return false;
    ::sched_yield();
    auto after = Clock::now();
    if (after - before > slow_yield) {
      not_before_ = after + pause_;
      pause_ = std::min<Clock::duration>(pause_ * 2, longest_pause);
    } else {
      pause_ = std::max<Clock::duration>(pause_ / 2, shortest_pause);
    }
    return true;
  }

 private:
  static constexpr auto look_for = std::chrono::microseconds(300);
  static constexpr auto soon = 2 * look_for;  // what came is done by then, too
  static constexpr std::uint64_t most_futile = 8;
  static constexpr auto slow_yield = std::chrono::milliseconds(1);
  static constexpr auto shortest_pause = std::chrono::milliseconds(20);
  static constexpr auto longest_pause = std::chrono::seconds(2);
  Clock::time_point last_work_{}, not_before_{};
  Clock::duration pause_ = shortest_pause;
  bool waited_ = false;
  std::uint64_t futile_ = 0;  // waits in a row
};

}  // namespace

void Loop::run() {
  const auto guard = asio::make_work_guard(impl_->context);
  if (impl_->context.stopped()) impl_->context.restart();
  Patience patience;
  while (!impl_->context.stopped()) {
    try {
      if (impl_->context.poll() > 0) {
        patience.worked();
      } else if (!patience.look_on() && impl_->context.run_one() > 0) {
        patience.worked();
      }
    } catch (...) {
      report(std::current_exception(), "event loop");
    }
  }
}

void Loop::run_until_idle() {
  if (impl_->context.stopped()) impl_->context.restart();
  for (;;) {
    try {
      impl_->context.run();
      return;
    } catch (...) {
      report(std::current_exception(), "event loop");
    }
  }
}

void Loop::stop() { impl_->context.stop(); }
bool Loop::stopped() const { return impl_->context.stopped(); }
void Loop::post(std::function<void()> f) { asio::post(impl_->context, std::move(f)); }
void Loop::on_signal(int number, std::function<void(int)> f) {
  impl_->signals.emplace_back(impl_->context, number, std::move(f));
}
Executor Loop::executor() { return impl_->context.get_executor(); }
asio::io_context& Loop::context() { return impl_->context; }

void spawn(Loop& loop, Task<void> task, std::string what) {
  asio::co_spawn(loop.context(), std::move(task),
                 [what = std::move(what)](const std::exception_ptr& error) { report(error, what); });
}

// ---- TaskGroup

struct Entry {
  asio::cancellation_signal signal;
  bool running = true;
};

struct TaskGroup::State {
  explicit State(asio::io_context& c) : context(c) { idle.set(); }
  asio::io_context& context;
  std::list<std::shared_ptr<Entry>> running;
  // A task's cancellation signal must outlive the unwinding of its coroutine thread, which goes on after its
  // completion handler (Asio issue 1332): entries that ended are kept until the next spawn.
  std::list<std::shared_ptr<Entry>> ended;
  Event idle;

  static void cancel(std::shared_ptr<State> state) {
    auto& context = state->context;
    // Emitting outside the loop's thread would defer inside co_spawn's handler, which may be gone by then.
    asio::dispatch(context, [state = std::move(state)] {
      const std::vector<std::shared_ptr<Entry>> now(state->running.begin(), state->running.end());
      for (const auto& entry : now)
        if (entry->running) entry->signal.emit(asio::cancellation_type::terminal);
    });
  }
};

namespace {
/// A task that never suspends would make co_spawn's epilogue await, which throws if the task was cancelled
/// meanwhile, and the completion handler would be lost. So every task is on the loop once before it starts.
Task<void> on_loop(Task<void> task) {
  co_await asio::post(asio::use_awaitable);
  co_await std::move(task);
}
}  // namespace

TaskGroup::TaskGroup(Loop& loop) : state_(std::make_shared<State>(loop.context())) {}
TaskGroup::~TaskGroup() {
  if (!state_->running.empty()) State::cancel(state_);
}

void TaskGroup::spawn(Task<void> task, const char* what) {
  state_->ended.clear();
  state_->running.push_back(std::make_shared<Entry>());
  state_->idle.reset();
  const auto at = std::prev(state_->running.end());
  auto done = [state = state_, at, what](const std::exception_ptr& error) {
    (*at)->running = false;
    state->ended.splice(state->ended.end(), state->running, at);
    if (state->running.empty()) state->idle.set();
    report(error, what);
  };
  asio::co_spawn(state_->context, on_loop(std::move(task)),
                 asio::bind_cancellation_slot((*at)->signal.slot(), std::move(done)));
}

std::size_t TaskGroup::size() const { return state_->running.size(); }
void TaskGroup::cancel() { State::cancel(state_); }

namespace {
template <class S>
Task<bool> join_state(std::shared_ptr<S> state, milliseconds deadline) {
  const bool in_time = co_await state->idle.wait(deadline);
  if (in_time) co_return true;
  S::cancel(state);
  co_return co_await state->idle.wait(milliseconds(1000));
}
}  // namespace

Task<bool> TaskGroup::join(milliseconds deadline) { return join_state(state_, deadline); }

// ---- timers and events

Task<void> sleep_for(milliseconds duration) {
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  timer.expires_at(after(duration));
  error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  co_await timer.async_wait(token);
}

struct Waiter {
  Waiter(const Executor& executor, std::shared_ptr<std::list<Waiter*>> in)
      : timer(executor), list(std::move(in)), at(list->insert(list->end(), this)) {}
  ~Waiter() { leave(); }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  void leave() {
    if (linked) list->erase(at);
    linked = false;
  }
  void wake(bool how) {
    leave();
    result = how;
    timer.cancel();
  }
  asio::steady_timer timer;
  std::shared_ptr<std::list<Waiter*>> list;
  std::list<Waiter*>::iterator at;
  bool linked = true;
  bool result = false;
};

struct Event::State {
  bool set = false;
  bool dead = false;
  std::shared_ptr<std::list<Waiter*>> waiters = std::make_shared<std::list<Waiter*>>();

  void wake_all(bool how) {
    while (!waiters->empty()) waiters->front()->wake(how);
  }
  static Task<bool> wait(std::shared_ptr<State> state, milliseconds timeout) {
    if (state->set) co_return true;
    if (state->dead || timeout <= milliseconds(0)) co_return false;
    auto executor = co_await asio::this_coro::executor;
    Waiter waiter(executor, state->waiters);
    waiter.timer.expires_at(after(timeout));
    error_code ec;
    auto token = asio::redirect_error(asio::use_awaitable, ec);
    co_await waiter.timer.async_wait(token);
    co_return waiter.result;
  }
};

Event::Event() : state_(std::make_shared<State>()) {}
Event::~Event() {
  if (!state_) return;
  state_->dead = true;
  state_->wake_all(false);
}
Event::Event(Event&&) noexcept = default;
Event& Event::operator=(Event&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}
void Event::set() {
  state_->set = true;
  state_->wake_all(true);
}
void Event::reset() { state_->set = false; }
bool Event::is_set() const { return state_->set; }
void Event::pulse() { state_->wake_all(true); }
Task<bool> Event::wait(milliseconds timeout) { return State::wait(state_, timeout); }

}  // namespace myelin::async
