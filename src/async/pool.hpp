#pragma once
// Threads for what blocks or burns: hashing, SQLite, fsync, array encoding, compression.
// A job must own what it touches (move it in): it runs on another thread while the loop goes on. A task that
// waits for its job can't be cancelled in between, so that the job's captures stay valid; jobs must be
// finite. When the queue is full, callers of on_pool wait in turn; try_post refuses.

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "async/task.hpp"

namespace myelin::async {

class Pool {
 public:
  /// `bound` jobs may wait for a thread. `nice` above 0: others' threads come first.
  Pool(Loop& loop, std::size_t threads, std::size_t bound = 1024, int nice = 0);
  ~Pool();  // runs what is queued, then joins. Destroy it before its loop.
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Fire and forget; false when the queue is full. What escapes `f` is logged.
  [[nodiscard]] bool try_post(std::function<void()> f);
  [[nodiscard]] std::size_t waiting() const;

  /// Runs `f` on a pool thread (it must not throw) and resumes on the loop. on_pool is the typed form.
  Task<void> run_job(std::function<void()> f);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

namespace detail {
template <class R>
struct Outcome {
  std::optional<R> value;
  std::exception_ptr error;
};
template <>
struct Outcome<void> {
  std::exception_ptr error;
};
template <class F, class R>
struct Job {
  explicit Job(F f) : work(std::move(f)) {}
  F work;
  Outcome<R> outcome;
};
}  // namespace detail

namespace detail {
template <class Job, class R>
Task<R> run_on_pool(Pool* pool, std::shared_ptr<Job> job) {
  std::function<void()> run = [job] {
    try {
      if constexpr (std::is_void_v<R>) {
        job->work();
      } else {
        job->outcome.value.emplace(job->work());
      }
    } catch (...) {
      job->outcome.error = std::current_exception();
    }
  };
  co_await pool->run_job(std::move(run));
  if (job->outcome.error) std::rethrow_exception(job->outcome.error);
  if constexpr (!std::is_void_v<R>) co_return std::move(*job->outcome.value);
}
}  // namespace detail

/// What `f()` returns or throws, computed on a pool thread. Not a coroutine itself: g++ 12 destroys a lambda
/// twice that is passed by value to a coroutine inside a co_await expression.
template <class F, class R = std::invoke_result_t<std::decay_t<F>&>>
Task<R> on_pool(Pool& pool, F&& f) {
  auto job = std::make_shared<detail::Job<std::decay_t<F>, R>>(std::forward<F>(f));
  return detail::run_on_pool<detail::Job<std::decay_t<F>, R>, R>(&pool, std::move(job));
}

}  // namespace myelin::async
