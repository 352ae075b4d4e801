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

/// What a job does where that is no single call of a session that is there: a function's call, a sweep.
class Doing {
 public:
  virtual ~Doing() = default;
  /// The answer to keep. The run's id is for those who keep something beside it.
  virtual async::Task<Result<Answer>> run(std::string id) = 0;
  virtual void cancel(std::chrono::milliseconds grace) = 0;
  [[nodiscard]] virtual std::optional<Progress> progress() const = 0;
  [[nodiscard]] virtual std::string output() const = 0;
};

class Jobs {
 public:
  /// Makes of a kept run what is to be done again; null for a run that is a session's call, which Jobs repeats itself.
  using Again = std::function<async::Task<Result<std::shared_ptr<Doing>>>(User user, run::Record old)>;

  Jobs(async::Loop& loop, Manager& sessions, run::Runs& runs);
  ~Jobs();

  /// Starts the call as a run; its end and result are written down whoever waits. `what` needs kind, title, source or function; the rest
  /// is filled in here.
  async::Task<Result<run::Record>> start(User user, Session session, Call call, run::NewRun what);
  /// The same for other work: `what` needs its owner and engine too (which may be no engine's name).
  async::Task<Result<run::Record>> start(User user, run::NewRun what, std::shared_ptr<Doing> doing);
  /// Asked in turn; they must work as long as the loop runs.
  void add_again(Again again);
  [[nodiscard]] std::shared_ptr<Doing> doing(const std::string& id) const;
  /// Waits for the end of a run that was started here.
  async::Task<void> wait(std::string id);
  /// A new session that repeats the run's history and the run itself, as a run of its own.
  async::Task<Result<run::Record>> rerun(User user, std::string id, std::chrono::milliseconds kept_for);
  /// Asks a running or queued job to stop. conflict when it is over.
  async::Task<Result<void>> cancel(User user, std::string id, std::chrono::milliseconds grace);
  [[nodiscard]] std::vector<std::shared_ptr<Doing>> doings_of(const std::string& user_id) const;
  /// Cancels what belongs to a user who is no more; calls of sessions end with those.
  void end_all_of(const std::string& user_id);
  [[nodiscard]] std::optional<Progress> progress(const std::string& id) const;
  /// The newest output of its session while it runs.
  [[nodiscard]] std::string output(const std::string& id) const;

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::session
