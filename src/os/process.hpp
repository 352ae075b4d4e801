#pragma once
// Starting, watching and killing processes. A child dies with the *thread* that spawned it if it asks for that
// (PR_SET_PDEATHSIG, as myelin-sandbox does): spawn keepers from a thread that lives as long as the server.
// Pids are only for messages and for /proc; signals go by pidfd, which can't hit a stranger.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "os/fd.hpp"

namespace myelin::os {

struct SpawnOptions {
  std::vector<std::string> arguments;    // the first is the executable's path
  std::vector<std::string> environment;  // KEY=VALUE; nothing else is inherited
  std::vector<int> fds;                  // become 3, 4, …; -1 leaves a number closed. They stay the caller's
  int stdout_fd = -1;                    // -1: the server's own
  int stderr_fd = -1;                    // -1: the server's own
};
struct Child {
  pid_t pid = -1;
  UniqueFd pidfd;
};
/// Starts a program: stdin is /dev/null, signals are unblocked and have their defaults, no other descriptor is open in it.
[[nodiscard]] Result<Child> spawn(const SpawnOptions& options);

[[nodiscard]] Result<UniqueFd> open_pidfd(pid_t pid);
/// False: the process is gone already. Other failures (no permission) are errors.
[[nodiscard]] Result<bool> send_signal(int pidfd, int signal);
/// The wait status of an own child that ended, without waiting. Reaps it.
[[nodiscard]] std::optional<int> try_reap(pid_t pid);
/// The same, waiting for at most this long. Blocks: for tests, start-up and pool threads.
[[nodiscard]] std::optional<int> wait_and_reap(const Child& child, int timeout_ms);
/// A wait status in words: "exit code 3", "signal 9 (Killed)".
[[nodiscard]] std::string describe_wait_status(int status);
/// Orphans below this process become its children.
[[nodiscard]] Result<void> set_subreaper();

struct Use {
  std::uint64_t resident_bytes = 0;  // sum of RSS; pages shared with the zygote count in each process
  unsigned processes = 0;
  unsigned threads = 0;
  std::uint64_t cpu_ms = 0;  // user and system
};
/// Of one process, from /proc. not_found when it is gone.
[[nodiscard]] Result<Use> process_use(pid_t pid);
/// Of these processes and all that descend from them. For a session pass it and its init: what the session left behind
/// hangs below the init. Processes that end meanwhile are left out.
[[nodiscard]] Use tree_use(std::span<const pid_t> roots);

/// A process's share of the memory it has mapped (PSS): pages that n processes share count by 1/n. Reads a large file of /proc: may
/// take milliseconds. Falls back to the resident size; 0 when the process is gone.
[[nodiscard]] std::uint64_t proportional_bytes(pid_t pid);

/// Sets the soft limit of open files to the hard one, for this process and what it starts later; the limit that holds now.
/// The kernel compares it with the descriptors in flight of all that share a uid, too.
std::uint64_t raise_descriptor_limit();

/// Bytes of RAM this process may count on: the machine's, or the smallest limit of the cgroups it is in.
[[nodiscard]] std::uint64_t total_memory_bytes();
/// CPUs this process may run on (its affinity).
[[nodiscard]] unsigned usable_cpus();

}  // namespace myelin::os
