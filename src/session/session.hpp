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
#include <string_view>
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
  std::chrono::milliseconds timeout{0};  // 0: the session's own deadline
  bool facts = false;  // the answer is to tell the seeds in force
};

/// The calls that made a session what it is, to make it again.
struct History {
  std::vector<std::string> calls;  // JSON objects {"meta","body"}, oldest first
  std::size_t bytes = 0;
  bool complete = true;            // false: too long, or something in it can't be repeated (an interrupt, a file that was put)
  std::uint64_t seed = 0;          // of Python's and numpy's global generators at its start, below 2^32
  void add(const Call& call);
  void spoil();                    // it can't be repeated from here on
};

/// A result: the rope, and the memory file that holds its large data.
struct Answer {
  codec::Rope rope;
  std::shared_ptr<os::UniqueFd> memfd;  // null if all data is inline
  std::string facts;                    // JSON object {"seeds":{…}}, if asked for
};

struct PendingCall;
/// A call in a session's queue.
struct Ticket {
  std::shared_ptr<PendingCall> call;
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
  bool saved = false;    // what the globals held; else a copy of the process
  std::string left_out;  // of a saved one: JSON array of {"name","why"}, what is not in it
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

/// Who hears what a session does, as it happens. Called on the loop's thread.
class Listener {
 public:
  virtual ~Listener() = default;
  /// A rope's body: one event of the engine's recorders. The session waits until it returns.
  virtual async::Task<void> data(std::string rope_body) = 0;
  virtual void output(std::string_view text) = 0;
  virtual void progress(const Progress& progress) = 0;
  /// busy, idle, reset, rewound, ended; `members`: more of the event, a JSON object's text.
  virtual void state(std::string_view name, std::string members) = 0;
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
  /// The same in two steps.
  [[nodiscard]] Result<Ticket> enqueue(Call call);
  async::Task<Result<Answer>> wait(Ticket ticket);
  /// Whether its answer is there within `patience`; wait() gives it.
  static async::Task<bool> finished(Ticket ticket, std::chrono::milliseconds patience);
  /// Takes a waiting call out of the queue, or interrupts it when it runs (and kills the session when it has not ended after `grace`).
  void cancel(const Ticket& ticket, std::chrono::milliseconds grace);
  [[nodiscard]] bool is_running(const Ticket& ticket) const;
  [[nodiscard]] const History& history() const;
  /// Asks the running call to stop; kills the session when it has not after `grace`. conflict if no call runs.
  [[nodiscard]] Result<void> interrupt(std::chrono::milliseconds grace);
  /// Ends the session now, with this cause.
  void end(std::string code, std::string text);
  /// Waits until it has ended and its name is free again.
  async::Task<void> ended(std::chrono::milliseconds patience);
  [[nodiscard]] std::string output_tail(std::size_t bytes) const;

  /// At most one; the former is forgotten.
  void listen(std::shared_ptr<Listener> listener);
  /// Asks the worker to send what its recorders record, at slices: first what they hold. Returns at once.
  void follow();

  [[nodiscard]] std::vector<CheckpointStatus> checkpoints() const;
  /// not_found if there is none of that id.
  [[nodiscard]] Result<void> remove_checkpoint(const std::string& id);
  /// Queued like a call: then the session goes on from the checkpoint, with its own id, name and address.
  async::Task<Result<void>> rewind(std::string checkpoint_id);

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::session
