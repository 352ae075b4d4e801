#pragma once
// What this host gives for isolation, tried rather than guessed. `myelin doctor` prints it, `myelin serve` acts on it.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace myelin::os {

enum class IsolationLevel { full, no_cgroup, reduced };
[[nodiscard]] const char* name_of(IsolationLevel level);

struct Finding {
  std::string name;
  bool ok = false;
  std::string text;
  std::string repair;  // the exact step, if it is not ok
};

struct Host {
  IsolationLevel level = IsolationLevel::reduced;
  std::vector<Finding> findings;
};

struct ProbeOptions {
  std::string sandbox_binary;
  std::optional<uid_t> uid;  // a root server's sessions
};

/// Makes a sandbox and a control group, and removes them again. Blocks for some 10 ms: at start only.
[[nodiscard]] Host probe_host(const ProbeOptions& options);

/// "AMD EPYC", say; "unknown" where the kernel does not tell.
[[nodiscard]] std::string cpu_model();

}  // namespace myelin::os
