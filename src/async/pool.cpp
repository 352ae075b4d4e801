#include "async/pool.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.hpp"

namespace myelin::async {
namespace asio = boost::asio;

struct Pool::Impl {
  Impl(Loop& loop, std::size_t most) : context(loop.context()), bound(most) {}
  asio::io_context& context;
  const std::size_t bound;
  mutable std::mutex mutex;
  std::condition_variable ready;
  std::deque<std::function<void()>> queue;
  bool ending = false;
  std::vector<std::thread> threads;

  void push(std::function<void()> f) {
    {
      const std::lock_guard lock(mutex);
      queue.push_back(std::move(f));
    }
    ready.notify_one();
  }
  void work() {
    for (;;) {
      std::function<void()> job;
      {
        std::unique_lock lock(mutex);
        while (queue.empty() && !ending) ready.wait(lock);
        if (queue.empty()) return;
        job = std::move(queue.front());
        queue.pop_front();
      }
      try {
        job();
      } catch (const std::exception& e) {
        log::error(std::string("pool: ") + e.what());
      } catch (...) {
        log::error("pool: unknown exception");
      }
    }
  }
};

Pool::Pool(Loop& loop, std::size_t threads, std::size_t bound, int nice) : impl_(std::make_shared<Impl>(loop, bound)) {
  for (std::size_t i = 0; i < (threads ? threads : 1); ++i)
    impl_->threads.emplace_back([impl = impl_.get(), nice] {
      if (nice > 0) ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), nice);  // of this thread only
      impl->work();
    });
}

Pool::~Pool() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->ready.notify_all();
  for (auto& thread : impl_->threads) thread.join();
}

bool Pool::try_post(std::function<void()> f) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->ending || impl_->queue.size() >= impl_->bound) return false;
    impl_->queue.push_back(std::move(f));
  }
  impl_->ready.notify_one();
  return true;
}

std::size_t Pool::waiting() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->queue.size();
}

namespace {

/// A job and the coroutine that waits for it. Both end on the loop's thread.
template <class Handler>
struct Parked {
  std::function<void()> work;
  Handler handler;
};

template <class Impl>
struct Park {
  std::shared_ptr<Impl> impl;
  template <class Handler>
  void operator()(Handler handler, std::function<void()> work) const {
    // Tracked work keeps a loop that runs until idle alive while the job runs.
    auto executor = asio::prefer(impl->context.get_executor(), asio::execution::outstanding_work.tracked);
    auto parked = std::make_shared<Parked<Handler>>(Parked<Handler>{std::move(work), std::move(handler)});
    impl->push([parked = std::move(parked), executor]() mutable {
      parked->work();
      asio::post(executor, [last = std::move(parked)] {
        auto resume = std::move(last->handler);
        last->work = nullptr;
        resume();
      });
    });
  }
};

template <class Impl>
Task<void> park(std::shared_ptr<Impl> impl, std::function<void()> work) {
  Park<Impl> initiation{std::move(impl)};
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(std::move(initiation),
                                                                       asio::use_awaitable, std::move(work));
}

}  // namespace

Task<void> Pool::run_job(std::function<void()> f) { return park(impl_, std::move(f)); }

}  // namespace myelin::async
