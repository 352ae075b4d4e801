#pragma once
// One worker process: what it takes to talk to it, to watch it and to end it. A session has one, so has a checkpoint. Processes
// that branched from each other share a sandbox, which ends with the last of them.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "async/fd_watch.hpp"
#include "async/pool.hpp"
#include "async/task.hpp"
#include "os/cgroup.hpp"
#include "os/fd.hpp"
#include "os/process.hpp"
#include "session/output_ring.hpp"
#include "worker/channel.hpp"

namespace myelin::session {

class Listener;

/// What processes share: the namespaces; in reduced mode none, but the folder in which they work.
struct Sandbox {
  pid_t init_pid = -1;
  os::UniqueFd init;  // pidfd; killing it ends everything inside
  std::function<void()> over;  // called once, after the last of them
  ~Sandbox();
};

struct Process : std::enable_shared_from_this<Process> {
  pid_t pid = -1;
  os::UniqueFd pidfd;
  std::shared_ptr<Sandbox> sandbox;
  std::unique_ptr<worker::Channel> channel;
  async::FdWatch output;  // of stdout and stderr
  std::optional<os::CgroupGroup> group;
  std::optional<int> exit_status;  // as of waitpid
  std::chrono::steady_clock::time_point exited_at{};
  async::Event exited;
  std::function<void()> on_exit;  // the session hears of it

  /// Kills it; with the last process of its sandbox, all that is left there.
  void kill();
  void interrupt();  // SIGINT
  void was_reaped(int status);
  /// Of it and of what it left behind.
  [[nodiscard]] os::Use use() const;
  /// Anonymous memory in bytes: of its group, else of its processes.
  [[nodiscard]] std::uint64_t memory_bytes() const;
  /// What it wrote and nobody read yet.
  void drain_output(OutputRing& ring, Listener* listener = nullptr);
  enum class OutOfMemory { no, own, all };  // whose limit it was: its group's, or one above
  /// Kills it and waits until it is gone; removes its group. Says if the kernel had killed it for memory.
  static async::Task<OutOfMemory> end(std::shared_ptr<Process> self, async::Pool& pool, async::milliseconds own_exit);
};

}  // namespace myelin::session
