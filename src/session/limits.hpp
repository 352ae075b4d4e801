#pragma once
// What a session may use. Zero means no limit unless said otherwise.

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace myelin::session {

struct Limits {
  std::uint64_t memory_bytes = 0;
  std::uint64_t processes = 512;
  std::uint64_t files = 1024;
  std::uint64_t cpu_weight = 100;                      // relative, as in cgroup v2
  std::chrono::milliseconds call_deadline{0};
  std::chrono::milliseconds idle{2 * 3600 * 1000};     // not for a token's own kernel
  std::size_t queue = 64;                              // calls that may wait; at least 1
  std::uint64_t stdout_bytes = 64ull << 20;            // captured output of one call
  std::uint64_t work_quota_bytes = 20ull << 30;        // of the user's ~/work
  std::size_t sessions_per_user = 64;
  std::uint64_t checkpoint_bytes = 2ull << 30;         // of all checkpoints of a user together
  std::size_t checkpoints_per_user = 64;
};

}  // namespace myelin::session
