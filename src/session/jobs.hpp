#pragma once
// Calls that are kept as runs, and those that nobody waits for. A job is a run that is not over: it has a session, a place in that
// session's queue, progress, and can be cancelled. Belongs to the loop's thread.

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "run/runs.hpp"
#include "session/manager.hpp"

namespace myelin::session {

class Jobs {
 public:
  Jobs(async::Loop& loop, Manager& sessions, run::Runs& runs);
  ~Jobs();

  /// Starts the call as a run; its end and result are written down whoever waits. `what` needs kind, title, source or function; the rest
  /// is filled in here.
  async::Task<Result<run::Record>> start(User user, Session session, Call call, run::NewRun what);
  /// Waits for the end of a run that was started here.
  async::Task<void> wait(std::string id);
  /// A new session that repeats the run's history and the run itself, as a run of its own.
  async::Task<Result<run::Record>> rerun(User user, std::string id, std::chrono::milliseconds kept_for);
  /// Asks a running or queued job to stop. conflict when it is over.
  async::Task<Result<void>> cancel(User user, std::string id, std::chrono::milliseconds grace);
  [[nodiscard]] std::optional<Progress> progress(const std::string& id) const;
  /// The newest output of its session while it runs.
  [[nodiscard]] std::string output(const std::string& id) const;

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::session
