#pragma once
// Work in sandboxes of its own: one bare session for each piece, ended afterwards. How many run at once is bounded; who waits is served
// fairly, by user, and a sweep's points only when no caller waits. Belongs to the loop's thread.

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "session/manager.hpp"

namespace myelin::function {

struct Work {
  session::User user;
  std::string engine;
  std::vector<std::pair<std::string, std::string>> packages;  // directories below the store, and where they are shown
  session::Limits limits;
  session::Call call;
  std::string prepare;  // meta of a call that a process may do ahead of this one; empty: none
  bool batch = false;  // below the calls that somebody waits for
};

/// One piece of work, seen from outside while it waits or runs.
struct Handle {
  bool cancelled = false;
  std::atomic<bool> stop{false};  // the same, for a pool's thread
  async::Event changed;  // pulsed when a place is free, or it was cancelled
  bool admitted = false;
  std::optional<session::Session> session;
  session::Ticket ticket;
  void cancel(std::chrono::milliseconds grace);
  [[nodiscard]] std::optional<session::Progress> progress() const;
  [[nodiscard]] std::string output() const;
};

struct RunnerOptions {
  std::size_t calls = 8;      // that run at once
  std::size_t batch = 2;      // of these, at most so many points of sweeps
  std::size_t waiting = 1024; // callers that wait
  std::size_t spares = 4;     // processes kept ready for the next call of the same user and package
};

class Runner {
 public:
  Runner(session::Manager& sessions, RunnerOptions options) : sessions_(sessions), options_(options) {}

  /// The call's answer. Errors: as of a session's call; what ended the sandbox (memory, a crash) is call_failed, a deadline deadline.
  async::Task<Result<session::Answer>> run(Work work, std::shared_ptr<Handle> handle);
  /// A place among those that run at once, for work that needs no sandbox.
  async::Task<Result<void>> enter(std::string user, bool batch, std::shared_ptr<Handle> handle);
  void leave(const std::shared_ptr<Handle>& handle);
  /// Cancels what this user has waiting or running.
  void end_all_of(const std::string& user);
  /// Ends spares that nobody needed for a while.
  void tidy();
  [[nodiscard]] const RunnerOptions& options() const { return options_; }

 private:
  struct Place {
    std::string user;
    bool batch = false;
    std::shared_ptr<Handle> handle;
  };
  // A process that has begun, imported the package, and was given no parameters yet.
  struct Spare {
    std::string key;
    session::Session session;
    std::chrono::steady_clock::time_point made;
  };
  void admit();
  [[nodiscard]] static std::string key_of(const Work& work);
  [[nodiscard]] Result<session::Session> begin(const Work& work);
  void keep_spare(const Work& work);

  session::Manager& sessions_;
  RunnerOptions options_;
  std::vector<Place> running_;
  std::deque<Place> waiting_;
  std::deque<Spare> spares_;  // the oldest first
};

}  // namespace myelin::function
