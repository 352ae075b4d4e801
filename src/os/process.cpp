#include "os/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>

#include "os/cgroup.hpp"
#include "os/failure.hpp"
#include "os/memfd.hpp"
#include "os/socket.hpp"

namespace myelin::os {
namespace {

struct Actions {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  Actions() {
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
  }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
  ~Actions() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
};

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const auto& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

void collect(pid_t pid, std::set<pid_t>& seen) {
  if (!seen.insert(pid).second) return;
  std::error_code code;
  auto tasks = std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", code);
  if (code) return;
  for (; tasks != std::filesystem::directory_iterator(); tasks.increment(code)) {
    if (code) return;
    auto text = read_text(tasks->path().string() + "/children");
    if (!text) continue;
    const char* at = text->c_str();
    char* end = nullptr;
    for (long child = std::strtol(at, &end, 10); end != at; child = std::strtol(at, &end, 10)) {
      collect(static_cast<pid_t>(child), seen);
      at = end;
    }
  }
}

}  // namespace

Result<Child> spawn(const SpawnOptions& options) {
  if (options.arguments.empty()) throw std::logic_error("spawn: no arguments");
  Actions actions;
  // Copies far above the wanted numbers: any given descriptor may have a number that is wanted for another.
  std::vector<UniqueFd> copies;
  auto map = [&](int fd, int number) -> Result<void> {
    int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 100);
    if (copy < 0) return failure("copy a descriptor for " + options.arguments[0]);
    copies.emplace_back(copy);
    posix_spawn_file_actions_adddup2(&actions.files, copy, number);
    return {};
  };
  posix_spawn_file_actions_addopen(&actions.files, 0, "/dev/null", O_RDONLY, 0);
  if (options.stdout_fd >= 0)
    if (auto done = map(options.stdout_fd, 1); !done) return done.take_error();
  if (options.stderr_fd >= 0)
    if (auto done = map(options.stderr_fd, 2); !done) return done.take_error();
  int number = 3;
  for (int fd : options.fds) {
    if (fd >= 0) {
      if (auto done = map(fd, number); !done) return done.take_error();
    } else {
      // Open and close: closing a number that is not open is an error for posix_spawn.
      posix_spawn_file_actions_addopen(&actions.files, number, "/dev/null", O_RDONLY, 0);
      posix_spawn_file_actions_addclose(&actions.files, number);
    }
    number++;
  }
  posix_spawn_file_actions_addclosefrom_np(&actions.files, number);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&actions.attributes, &none);
  posix_spawnattr_setsigdefault(&actions.attributes, &all);
  posix_spawnattr_setflags(&actions.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  auto arguments = pointers(options.arguments);
  auto environment = pointers(options.environment);
  Child child;
  int result = ::posix_spawn(&child.pid, arguments[0], &actions.files, &actions.attributes, arguments.data(), environment.data());
  if (result != 0) return failure("start " + options.arguments[0], result);
  auto pidfd = open_pidfd(child.pid);
  if (!pidfd) {
    ::kill(child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, 0);
    return pidfd.take_error();
  }
  child.pidfd = std::move(*pidfd);
  return child;
}

Result<UniqueFd> open_pidfd(pid_t pid) {
  int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));  // close-on-exec by itself
  if (fd < 0) return failure("pidfd_open");
  return UniqueFd(fd);
}

Result<bool> send_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0) return true;
  if (errno == ESRCH) return false;
  return failure("pidfd_send_signal");
}

std::optional<int> try_reap(pid_t pid) {
  int status = 0;
  pid_t got;
  while ((got = ::waitpid(pid, &status, WNOHANG)) < 0 && errno == EINTR) continue;
  if (got != pid) return std::nullopt;
  return status;
}

std::optional<int> wait_and_reap(const Child& child, int timeout_ms) {
  if (!wait_readable(child.pidfd.get(), timeout_ms)) return std::nullopt;
  return try_reap(child.pid);
}

std::string describe_wait_status(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) {
    const char* name = ::sigdescr_np(WTERMSIG(status));
    return "signal " + std::to_string(WTERMSIG(status)) + " (" + (name ? name : "unknown") + ")";
  }
  return "wait status " + std::to_string(status);
}

Result<void> set_subreaper() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return failure("PR_SET_CHILD_SUBREAPER");
  return {};
}

Result<Use> process_use(pid_t pid) {
  auto text = read_text("/proc/" + std::to_string(pid) + "/stat");
  if (!text) return text.take_error();
  // The name in parentheses may hold anything; the fields begin after the last one. The first is number 3 of proc(5).
  auto mark = text->rfind(')');
  if (mark == std::string::npos) return Error{Code::internal, "/proc stat can't be read", {}};
  std::vector<std::uint64_t> fields;
  const char* at = text->c_str() + mark + 3;
  char* end = nullptr;
  fields.push_back(0);  // the state, a letter
  at++;
  for (;;) {
    long long value = std::strtoll(at, &end, 10);
    if (end == at) break;
    fields.push_back(static_cast<std::uint64_t>(value));
    at = end;
  }
  if (fields.size() < 22) return Error{Code::internal, "/proc stat is too short", {}};
  static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  static const auto ticks = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  Use use;
  use.processes = 1;
  use.threads = static_cast<unsigned>(fields[20 - 3]);
  use.resident_bytes = fields[24 - 3] * page_bytes;
  use.cpu_ms = (fields[14 - 3] + fields[15 - 3]) * 1000 / ticks;
  return use;
}

Use tree_use(std::span<const pid_t> roots) {
  std::set<pid_t> all;
  for (pid_t root : roots) collect(root, all);
  Use sum;
  for (pid_t pid : all) {
    auto one = process_use(pid);
    if (!one) continue;
    sum.processes++;
    sum.threads += one->threads;
    sum.resident_bytes += one->resident_bytes;
    sum.cpu_ms += one->cpu_ms;
  }
  return sum;
}

std::uint64_t proportional_bytes(pid_t pid) {
  auto text = read_text("/proc/" + std::to_string(pid) + "/smaps_rollup");
  if (text) {
    auto at = text->find("\nPss:");
    if (at != std::string::npos) return std::strtoull(text->c_str() + at + 5, nullptr, 10) * 1024;
  }
  auto use = process_use(pid);
  return use ? use->resident_bytes : 0;
}

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

std::uint64_t total_memory_bytes() {
  struct sysinfo info {};
  ::sysinfo(&info);
  std::uint64_t total = static_cast<std::uint64_t>(info.totalram) * info.mem_unit;
  auto limit = own_memory_limit_bytes();
  return limit ? std::min(total, *limit) : total;
}

unsigned usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) < 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace myelin::os
