#pragma once
// One engine (nest, neuron, …): its keeper, its zygote, and its pool of prepared namespaces. Started at the first need, again
// when a part dies. Belongs to the loop's thread.
//
// What fails: a missing interpreter, a sandbox that this host refuses, an import error. The Error's message says which and
// what to do. A zygote that dies is replaced; sessions that it made live on. A keeper that dies takes its sessions along.

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/task.hpp"
#include "base/result.hpp"
#include "os/fd.hpp"
#include "worker/options.hpp"

namespace myelin::worker {

/// A session's process, just born: it has entered its sandbox and waits for `go` on its channel.
struct Born {
  pid_t pid = -1;          // as the server sees it
  os::UniqueFd pidfd;
  pid_t init_pid = -1;     // what the session leaves behind hangs below it; -1 in reduced mode
  os::UniqueFd init;       // pidfd of its namespaces' init: killing that ends everything inside; empty in reduced mode
  os::UniqueFd channel;    // SOCK_STREAM, frames
  os::UniqueFd output;     // read end of stdout and stderr
};

/// What the zygote said of itself.
struct EngineInfo {
  std::string version;                      // the engine's own, e.g. "3.10.0"
  std::map<std::string, std::string> versions;
  double import_ms = 0;
  std::string why_no_branches;              // empty: its sessions can branch
  bool saves = false;                       // checkpoints and branches are made of what a session's globals hold
  bool cold = false;                        // each session imports it: it runs threads after its import
  std::string thread_by;                    // the module whose import started the first of them, if known
  std::vector<std::string> openmp;          // OpenMP runtimes whose threads can't be paused, as paths
};

class Engine {
 public:
  /// `on_exit` hears of each session's end: the wait status as of waitpid.
  using OnExit = std::function<void(pid_t pid, int status)>;

  Engine(async::Loop& loop, EngineOptions options, std::string seccomp_program, OnExit on_exit);
  ~Engine();  // kills all that belongs to it
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Makes sure that the zygote is ready; at once if it is.
  async::Task<Result<EngineInfo>> ready();
  /// A new session process. Tries once more when the zygote dies on the way.
  async::Task<Result<Born>> start(SessionOptions options);
  /// A branch is a child of the zygote: it is to tell of its end.
  void adopt(pid_t pid);
  /// Ends keeper, zygote and all sessions.
  void stop();
  [[nodiscard]] bool running() const;
  [[nodiscard]] const EngineInfo* info() const;  // nullptr until ready once
  [[nodiscard]] const EngineOptions& options() const;
  [[nodiscard]] pid_t zygote_pid() const;        // -1 when there is none

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::worker
