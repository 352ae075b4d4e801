#pragma once
// The one Asio header that other rooms see, and what a coroutine needs to live: a loop, groups, timers,
// events.
//
// Threads: everything here belongs to the loop's thread, but for Loop::post and Loop::stop, which any thread
// may call. Parameters of coroutines go by value or by a pointer that the coroutine owns; no coroutine is a
// capturing lambda; an object that is awaited on (Event, Queue, FdWatch) may die while a task waits: the
// waiter then wakes and sees `false`. Cancelling a task makes its present wait return early (false), and each
// later co_await in it throw.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <string>

namespace boost::asio {
class io_context;
}

namespace myelin::async {

template <class T>
using Task = boost::asio::awaitable<T>;
using Executor = boost::asio::any_io_executor;
using std::chrono::milliseconds;

/// "No deadline". Only for waits that something else bounds (a sweep, a cancel at shutdown).
inline constexpr milliseconds forever = milliseconds::max();
/// The time when so much has passed; the clock's last for more than a year, which may be beyond what it can count.
[[nodiscard]] std::chrono::steady_clock::time_point after(milliseconds duration);

/// One thread's event loop.
class Loop {
 public:
  Loop();
  ~Loop();  // destroys what still waits; the tasks' frames go with it
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Runs until stop(). An exception that escapes a handler is logged, and the loop goes on.
  void run();
  /// Runs until nothing is left to do, or stop().
  void run_until_idle();
  void stop();
  [[nodiscard]] bool stopped() const;
  /// Runs `f` on the loop's thread, later. From any thread.
  void post(std::function<void()> f);
  /// Runs `f` on the loop's thread each time that the process gets this signal.
  void on_signal(int signal_number, std::function<void(int)> f);
  [[nodiscard]] Executor executor();
  [[nodiscard]] boost::asio::io_context& context();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Starts a task that nobody joins: what escapes it is logged under `what`. Prefer a TaskGroup.
void spawn(Loop& loop, Task<void> task, std::string what);

/// Tasks that are counted, cancelled and joined together. Destroying a group cancels what still runs.
class TaskGroup {
 public:
  explicit TaskGroup(Loop& loop);
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  /// What escapes the task is logged under `what` (a string that outlives the group).
  void spawn(Task<void> task, const char* what);
  [[nodiscard]] std::size_t size() const;
  /// Cancels the tasks that run now; later ones are not touched.
  void cancel();
  /// Waits until no task runs; at the deadline cancels them and waits once more, for a second. False if some
  /// still run.
  [[nodiscard]] Task<bool> join(milliseconds deadline);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

Task<void> sleep_for(milliseconds duration);

/// A flag to wait for. set() wakes all who wait and stays set until reset().
class Event {
 public:
  Event();
  ~Event();
  Event(Event&&) noexcept;
  Event& operator=(Event&&) noexcept;

  void set();
  void reset();
  [[nodiscard]] bool is_set() const;
  /// Wakes all who wait now without setting the flag: they see `true`. For "something changed, look again".
  void pulse();
  /// True once set (at once if it is) or pulsed; false at the timeout, on cancel, or when the event dies.
  [[nodiscard]] Task<bool> wait(milliseconds timeout = forever);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace myelin::async
