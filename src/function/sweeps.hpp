#pragma once
// Sweeps: one function, or a script on branches of one session, with many parameters. A sweep is one job; its points run a few at a time,
// below the calls that somebody waits for. What the points give becomes one result (columns.hpp). Belongs to the loop's thread.

#include <memory>
#include <string>
#include <vector>

#include "function/functions.hpp"

namespace myelin::function {

struct SweepState {
  std::size_t points = 0, done = 0, failed = 0;  // done: with the failed ones
  json::array errors;                            // the first 100: {"point","parameters","code","detail"}
  json::object axes;
};

class Sweeps {
 public:
  /// `scratch`: where files without a name are made.
  Sweeps(async::Loop& loop, async::Pool& pool, session::Manager& sessions, session::Jobs& jobs, Functions& functions, std::string scratch);

  /// `body`: the request's JSON. Errors: bad_request, invalid with the fields, not_found, too_large for too many points.
  async::Task<Result<run::Record>> start(session::User user, std::string body);
  /// How far a sweep is; nothing when it is over, or no sweep.
  [[nodiscard]] std::optional<SweepState> state(const std::string& id) const;
  /// What its points gave so far.
  async::Task<Result<session::Answer>> partial(std::string id, bool bare);

 private:
  class Sweep;
  static async::Task<Result<std::shared_ptr<Sweep>>> make(Sweeps* self, session::User user, json::object spec);

  async::Loop& loop_;
  async::Pool& pool_;
  session::Manager& sessions_;
  session::Jobs& jobs_;
  Functions& functions_;
  std::string scratch_;
};

}  // namespace myelin::function
