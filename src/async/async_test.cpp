#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "async/fd_watch.hpp"
#include "async/pool.hpp"
#include "async/queue.hpp"
#include "async/task.hpp"

namespace myelin::async {
namespace {

using namespace std::chrono_literals;

/// Runs one task to its end on a fresh loop's time.
void run(Loop& loop, Task<void> task) {
  spawn(loop, std::move(task), "test");
  loop.run_until_idle();
}

Task<void> wait_for(Event* event, milliseconds timeout, std::vector<int>* out) {
  const bool seen = co_await event->wait(timeout);
  out->push_back(seen ? 1 : 0);
}

TEST(Async, EventWakesAllAndStays) {
  Loop loop;
  Event event;
  std::vector<int> out;
  spawn(loop, wait_for(&event, forever, &out), "a");
  spawn(loop, wait_for(&event, 5s, &out), "b");
  loop.post([&] { event.set(); });
  loop.run_until_idle();
  EXPECT_EQ(out, (std::vector<int>{1, 1}));
  run(loop, wait_for(&event, 1ms, &out));
  EXPECT_EQ(out.back(), 1);
  event.reset();
  run(loop, wait_for(&event, 1ms, &out));
  EXPECT_EQ(out.back(), 0);
}

TEST(Async, EventPulseWakesWithoutSetting) {
  Loop loop;
  Event event;
  std::vector<int> out;
  spawn(loop, wait_for(&event, forever, &out), "a");
  loop.post([&] { event.pulse(); });
  loop.run_until_idle();
  EXPECT_EQ(out, (std::vector<int>{1}));
  EXPECT_FALSE(event.is_set());
}

TEST(Async, EventMayDieWhileWaitedFor) {
  Loop loop;
  auto event = std::make_unique<Event>();
  std::vector<int> out;
  spawn(loop, wait_for(event.get(), forever, &out), "a");
  loop.post([&] { event.reset(); });
  loop.run_until_idle();
  EXPECT_EQ(out, (std::vector<int>{0}));
}

TEST(Async, LoopMayDieWhileTasksWait) {
  std::vector<int> out;
  Event event;
  {
    Loop loop;
    TaskGroup group(loop);
    group.spawn(wait_for(&event, forever, &out), "a");
    loop.post([&] { loop.stop(); });
    loop.run();
  }
  EXPECT_TRUE(out.empty());
}

Task<void> take(Queue<int>* queue, std::vector<int>* out) {
  for (;;) {
    auto item = co_await queue->pop();
    if (!item) co_return;
    out->push_back(*item);
  }
}

TEST(Async, QueueIsBoundedAndOrdered) {
  Loop loop;
  Queue<int> queue(2);
  EXPECT_TRUE(queue.try_push(1));
  EXPECT_TRUE(queue.try_push(2));
  EXPECT_FALSE(queue.try_push(3));
  std::vector<int> out;
  spawn(loop, take(&queue, &out), "take");
  loop.post([&] {
    EXPECT_TRUE(queue.try_push(4));
    queue.close();
    EXPECT_FALSE(queue.try_push(5));
  });
  loop.run_until_idle();
  EXPECT_EQ(out, (std::vector<int>{1, 2, 4}));
}

Task<void> pop_once(Queue<int>* queue, milliseconds timeout, bool* got) {
  auto item = co_await queue->pop(timeout);
  *got = item.has_value();
}

TEST(Async, QueuePopTimesOutAndSurvivesTheQueue) {
  Loop loop;
  auto queue = std::make_unique<Queue<int>>(1);
  bool got = true;
  run(loop, pop_once(queue.get(), 2ms, &got));
  EXPECT_FALSE(got);
  got = true;
  spawn(loop, pop_once(queue.get(), forever, &got), "pop");
  loop.post([&] { queue.reset(); });
  loop.run_until_idle();
  EXPECT_FALSE(got);
}

Task<void> fail() {
  throw std::runtime_error("expected in this test");
  co_return;
}
Task<void> sleep_long(int* ended) {
  struct End {
    int* n;
    ~End() { ++*n; }
  } const end{ended};
  co_await sleep_for(1h);
  co_await sleep_for(1h);
}
Task<void> join(TaskGroup* group, milliseconds deadline, bool* joined) {
  const bool ok = co_await group->join(deadline);
  *joined = ok;
}

TEST(Async, GroupCancelsAndJoins) {
  Loop loop;
  TaskGroup group(loop);
  int ended = 0;
  bool joined = false;
  for (int i = 0; i < 100; ++i) group.spawn(sleep_long(&ended), "sleeper");
  group.spawn(fail(), "failing");
  EXPECT_EQ(group.size(), 101u);
  run(loop, join(&group, 5ms, &joined));
  EXPECT_TRUE(joined);
  EXPECT_EQ(ended, 100);
  EXPECT_EQ(group.size(), 0u);
}

Task<void> cancel_own(TaskGroup* group) {
  group->cancel();
  co_return;
}

TEST(Async, TaskThatCancelsItsOwnGroupIsJoined) {
  Loop loop;
  TaskGroup group(loop);
  bool joined = false;
  group.spawn(cancel_own(&group), "self");
  run(loop, join(&group, 1s, &joined));
  EXPECT_TRUE(joined);
}

Task<void> destroy_soon(std::unique_ptr<TaskGroup>* group) {
  co_await sleep_for(2ms);
  group->reset();
}

TEST(Async, GroupMayDieBeforeItsTasks) {
  Loop loop;
  int ended = 0;
  auto group = std::make_unique<TaskGroup>(loop);
  group->spawn(sleep_long(&ended), "sleeper");
  run(loop, destroy_soon(&group));
  EXPECT_EQ(ended, 1);
}

Task<void> compute(Pool* pool, std::vector<int>* out, int n) {
  const auto value = co_await on_pool(*pool, [n] { return std::make_unique<int>(n * n); });
  out->push_back(*value);
}
Task<void> compute_failing(Pool* pool, bool* caught, std::thread::id* where) {
  auto work = [where] {
    *where = std::this_thread::get_id();
    throw std::runtime_error("no");
  };
  try {
    co_await on_pool(*pool, work);
  } catch (const std::runtime_error&) {
    *caught = true;
  }
}

TEST(Async, PoolComputesElsewhere) {
  Loop loop;
  Pool pool(loop, 3);
  std::vector<int> out;
  for (int i = 0; i < 200; ++i) spawn(loop, compute(&pool, &out, i), "compute");
  loop.run_until_idle();
  ASSERT_EQ(out.size(), 200u);
  bool caught = false;
  std::thread::id where;
  run(loop, compute_failing(&pool, &caught, &where));
  EXPECT_TRUE(caught);
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(Async, PoolQueueIsBounded) {
  Loop loop;
  Pool pool(loop, 1, 2);
  std::atomic<bool> go = false;
  std::atomic<bool> started = false;
  std::atomic<int> ran = 0;
  ASSERT_TRUE(pool.try_post([&] {
    started = true;
    while (!go) std::this_thread::yield();
  }));
  while (!started) std::this_thread::yield();
  EXPECT_TRUE(pool.try_post([&] { ++ran; }));
  EXPECT_TRUE(pool.try_post([&] { ++ran; }));
  EXPECT_FALSE(pool.try_post([&] { ++ran; }));
  go = true;
  while (ran < 2) std::this_thread::yield();
}

Task<void> watch(FdWatch* fd, milliseconds timeout, std::vector<int>* out) {
  const bool ready = co_await fd->readable(timeout);
  out->push_back(ready ? 1 : 0);
}
Task<void> watch_writable(FdWatch* fd, milliseconds timeout, std::vector<int>* out) {
  const bool ready = co_await fd->writable(timeout);
  out->push_back(ready ? 11 : 10);
}

TEST(Async, FdWatch) {
  Loop loop;
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  FdWatch near(loop, fds[0]);
  std::vector<int> out;
  run(loop, watch(&near, 3ms, &out));
  ASSERT_EQ(out, (std::vector<int>{0}));  // timeout
  ASSERT_EQ(write(fds[1], "x", 1), 1);
  run(loop, watch(&near, 20ms, &out));
  ASSERT_EQ(out.back(), 1);
  run(loop, watch(&near, forever, &out));  // still unread: at once
  ASSERT_EQ(out.back(), 1);
  char c;
  ASSERT_EQ(read(fds[0], &c, 1), 1);
  run(loop, watch_writable(&near, 20ms, &out));
  ASSERT_EQ(out.back(), 11);

  // The writer's timeout must not wake the reader.
  const std::string much(1 << 20, 'x');
  while (write(fds[0], much.data(), much.size()) > 0) {
  }
  out.clear();
  spawn(loop, watch(&near, 40ms, &out), "read");
  spawn(loop, watch_writable(&near, 5ms, &out), "write");
  loop.run_until_idle();
  ASSERT_EQ(out, (std::vector<int>{10, 0}));

  out.clear();
  spawn(loop, watch(&near, forever, &out), "read");
  loop.post([&] { near.close(); });
  loop.run_until_idle();
  EXPECT_EQ(out, (std::vector<int>{0}));
  close(fds[1]);
}

TEST(Async, SignalsAndPosts) {
  Loop loop;
  int seen = 0;
  loop.on_signal(SIGUSR1, [&](int) {
    if (++seen == 2)
      loop.stop();
    else
      std::raise(SIGUSR1);
  });
  std::thread other([&] { loop.post([] { std::raise(SIGUSR1); }); });
  loop.run();
  other.join();
  EXPECT_EQ(seen, 2);
}

TEST(Async, LoopOutlivesThrowingHandlers) {
  Loop loop;
  bool after = false;
  loop.post([] { throw std::runtime_error("expected in this test"); });
  loop.post([&] { after = true; });
  loop.run_until_idle();
  EXPECT_TRUE(after);
}

}  // namespace
}  // namespace myelin::async
