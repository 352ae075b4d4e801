#pragma once
// Control groups: the kernel's own limits on a session's memory, processes and share of the CPU. Version 2 where a subtree is
// delegated to this process, version 1 where its hierarchies are writable. Every call may block for milliseconds: call them on
// a pool thread. A tree is one server's; its name must differ between servers of one machine.

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/result.hpp"

namespace myelin::os {

struct CgroupLimits {
  std::uint64_t memory_bytes = 0;  // 0: none
  std::uint64_t pids = 0;          // 0: none
  std::uint64_t cpu_weight = 100;  // 1…10000, as in version 2
};

class CgroupGroup {
 public:
  /// Waits for what the next add(), of any group, would wait for: the kernel lets a first move in a while pass only after an RCU
  /// grace period (10 ms), and those soon after it at once. `member`: of this group already; it stays.
  void expect_add(pid_t member) const;
  /// Moves a process; what it starts later is born inside.
  Result<void> add(pid_t pid);
  /// Anonymous and shared memory in bytes; page cache does not count.
  [[nodiscard]] Result<std::uint64_t> memory_used() const;
  /// True if the kernel killed a process of this group because memory was out: the group's own, or that of all.
  [[nodiscard]] bool oom_killed() const;
  /// True if the group was ever at its own limit of memory.
  [[nodiscard]] bool reached_limit() const;
  Result<void> kill();
  /// Waits up to 2 s for the last process to be gone.
  Result<void> remove();

 private:
  friend class CgroupTree;
  Result<void> set_limits(const CgroupLimits& limits);
  int version_ = 2;
  std::map<std::string, std::string> paths_;  // controller → directory; in version 2 all the same
};

class CgroupTree {
 public:
  /// Finds a place, makes the subtree `name`, and removes what a former server of that name left (killing it). In version 2
  /// this process itself moves to a leaf beside the subtree. unavailable, with the repair in `detail`, where there is none.
  [[nodiscard]] static Result<CgroupTree> open(const std::string& name);
  /// A group with its limits; nothing is left of one that can't be made whole.
  [[nodiscard]] Result<CgroupGroup> create(const std::string& id, const CgroupLimits& limits) const;
  /// A limit for all groups of the tree together.
  Result<void> set_memory_limit(std::uint64_t bytes) const;
  /// Removes the tree, killing what is left in it, and the leaf, once no other tree is beside it.
  void close() const;
  [[nodiscard]] int version() const { return version_; }

 private:
  int version_ = 2;
  std::map<std::string, std::string> paths_;
};

/// A tree's name for a data directory: the same at each start.
[[nodiscard]] std::string cgroup_name(const std::string& data_directory);
/// The smallest memory limit of the groups that this process is in.
[[nodiscard]] std::optional<std::uint64_t> own_memory_limit_bytes();

}  // namespace myelin::os
