#pragma once
// A session: one worker process that runs one user's calls, one at a time, in order. It belongs to the loop's thread. Who calls
// and goes away leaves the call running. A session that ends says why, to every later call; it never comes back empty.

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/task.hpp"
#include "base/result.hpp"
#include "codec/rope.hpp"
#include "os/fd.hpp"
#include "session/limits.hpp"

namespace myelin::session {

/// Why a session ended. `code` is stable: exited, signal, memory, deadline, interrupt, deleted, idle, pressure, quota,
/// protocol, failed, stopping, restart.
struct Cause {
  std::string code;
  std::string text;   // a sentence
  std::string tail;   // the last lines of stdout and stderr
  std::chrono::system_clock::time_point at{};
};

enum class State { starting, idle, busy, ended };
[[nodiscard]] const char* name_of(State state);

/// One call as the worker sees it (worker protocol, section 4).
struct Call {
  std::string meta;  // JSON
  std::string body;  // the request's body, raw
  bool reads = false;  // it changes nothing in the session: an end of the session during it loses nothing
};

/// A result: the rope, and the memory file that holds its large data.
struct Answer {
  codec::Rope rope;
  std::shared_ptr<os::UniqueFd> memfd;  // null if all data is inline
};

struct Progress {
  std::optional<double> done;       // 0 … 1
  std::optional<double> time_ms, of_ms;  // simulated
  bool interruptible = true;
};

/// A picture of a checkpoint.
struct CheckpointStatus {
  std::string id, name, session;
  std::uint64_t memory_bytes = 0;
  std::chrono::system_clock::time_point created{};
};

/// A picture of a session for listings.
struct Status {
  std::string id, owner, owner_name, name, engine;
  std::string parent;  // the session that it branched from; may be empty
  State state = State::starting;
  std::size_t queued = 0;
  std::optional<Progress> progress;       // of the running call
  double call_s = 0;                      // how long the running call has taken
  std::uint64_t memory_bytes = 0;
  std::chrono::system_clock::time_point created{}, last_used{};
  std::optional<Cause> cause;
};

class Session {
 public:
  struct Impl;
  explicit Session(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

  [[nodiscard]] const std::string& id() const;
  [[nodiscard]] const std::string& owner() const;
  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] const std::string& engine() const;
  [[nodiscard]] State state() const;
  [[nodiscard]] Status status() const;
  [[nodiscard]] const std::optional<Cause>& cause() const;

  /// Queues the call and waits for its answer. Errors: too_many (queue full), gone (ended: the cause's text), call_failed
  /// (detail: the worker's error as JSON), interrupted, deadline, unavailable.
  async::Task<Result<Answer>> call(Call call);
  /// Asks the running call to stop; kills the session when it has not after `grace`. conflict if no call runs.
  [[nodiscard]] Result<void> interrupt(std::chrono::milliseconds grace);
  /// Ends the session now, with this cause.
  void end(std::string code, std::string text);
  [[nodiscard]] std::string output_tail(std::size_t bytes) const;

  [[nodiscard]] std::vector<CheckpointStatus> checkpoints() const;
  /// not_found if there is none of that id.
  [[nodiscard]] Result<void> remove_checkpoint(const std::string& id);
  /// Queued like a call: then the session goes on from the checkpoint, with its own id, name and address.
  async::Task<Result<void>> rewind(std::string checkpoint_id);

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::session
