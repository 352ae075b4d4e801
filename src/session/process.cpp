#include "session/process.hpp"

#include "session/session.hpp"

#include <csignal>
#include <vector>

#include "os/process.hpp"
#include "os/stream.hpp"

namespace myelin::session {

using async::milliseconds;
using async::Task;

constexpr milliseconds exit_patience{3'000};  // between SIGKILL and the wait status

Sandbox::~Sandbox() {
  if (init) (void)os::send_signal(init.get(), SIGKILL);
  if (over) over();
}

void Process::kill() {
  if (sandbox && sandbox->init && sandbox.use_count() == 1) (void)os::send_signal(sandbox->init.get(), SIGKILL);
  if (pidfd) (void)os::send_signal(pidfd.get(), SIGKILL);
}

void Process::interrupt() {
  if (pidfd) (void)os::send_signal(pidfd.get(), SIGINT);
}

void Process::was_reaped(int status) {
  exit_status = status;
  exited_at = std::chrono::steady_clock::now();
  exited.set();
  if (on_exit) on_exit();
}

os::Use Process::use() const {
  std::vector<pid_t> roots{pid};
  // What it left behind hangs below the init; where others share that, it can't be told whose it is.
  if (sandbox && sandbox->init_pid > 0 && sandbox.use_count() == 1) roots.push_back(sandbox->init_pid);
  return os::tree_use(roots);
}

std::uint64_t Process::memory_bytes() const {
  if (group) {
    auto used = group->memory_used();
    return used ? *used : 0;
  }
  return pid > 0 ? use().resident_bytes : 0;
}

void Process::drain_output(OutputRing& ring, Listener* listener) {
  char buffer[65536];
  for (int rounds = 0; rounds < 32 && output.fd() >= 0; ++rounds) {
    auto got = os::read_some(output.fd(), buffer, sizeof buffer);
    if (got.state != os::Io::done || got.bytes == 0) return;
    ring.append({buffer, got.bytes});
    if (listener) listener->output({buffer, got.bytes});
  }
}

Task<Process::OutOfMemory> Process::end(std::shared_ptr<Process> self, async::Pool& pool, milliseconds own_exit) {
  if (self->pid > 0 && !self->exit_status) {
    if (own_exit.count() > 0) co_await self->exited.wait(own_exit);
    self->kill();
    co_await self->exited.wait(exit_patience);
  } else {
    self->kill();
  }
  auto out_of_memory = OutOfMemory::no;
  if (self->group) {
    auto group = std::make_shared<os::CgroupGroup>(std::move(*self->group));
    self->group.reset();
    auto close_group = [group] {
      auto oom = OutOfMemory::no;
      if (group->oom_killed()) oom = group->reached_limit() ? OutOfMemory::own : OutOfMemory::all;
      (void)group->kill();
      (void)group->remove();
      return oom;
    };
    out_of_memory = co_await async::on_pool(pool, std::move(close_group));
  }
  co_return out_of_memory;
}

}  // namespace myelin::session
