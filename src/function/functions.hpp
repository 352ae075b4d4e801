#pragma once
// Calls of functions: from a request's parameters to a result. Each call of a package's function runs in a fresh process of its engine
// that sees the package and the parameters, neither its author's files nor its caller's. Belongs to the loop's thread.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "function/cache.hpp"
#include "function/catalog.hpp"
#include "function/check.hpp"
#include "function/runner.hpp"
#include "run/runs.hpp"
#include "session/jobs.hpp"

namespace myelin::function {

struct Options {
  std::filesystem::path folder;    // the operator's functions
  std::filesystem::path packages;  // DIR/packages
  std::uint64_t cache_bytes = 256ull << 20;
  std::chrono::seconds deadline{3600};  // of a call, where nothing else bounds it
  std::size_t sweep_points = 10'000;
  bool scripts = true;             // false: no package is read or called, only the server's own functions
  RunnerOptions runner;
};

/// A call that was asked for, before it is checked.
struct Asked {
  session::User user;
  FunctionPtr function;
  std::string body;               // JSON: an object with the member "parameters", or nothing
  json::object given;             // its parameters, as far as the server can read them
  bool exact = true;              // `given` is all of it: no number in it was too large
  std::string nonfinite = "null"; // of the result's text
  std::string picture;            // the media type of the picture that is wanted, instead of values
  std::chrono::milliseconds timeout{0};
  std::uint64_t memory_bytes = 0; // at most, where not 0
  bool in_public = false;         // by somebody without a token: bounded further
  std::optional<std::uint64_t> seed;
  json::object more;              // parameters on top: a sweep's point
  bool bare = false;              // the value alone, without {"data": …}
  bool batch = false;
};

struct Answered {
  session::Answer answer;
  bool hit = false;        // it was remembered
  bool cacheable = false;  // such calls are
};

class Functions {
 public:
  Functions(async::Loop& loop, async::Pool& pool, session::Manager& sessions, run::Runs& runs, session::Jobs& jobs, Options options);

  /// Makes the directories; before the first request and the first engine.
  [[nodiscard]] Result<void> open() { return reader_.open(); }
  /// Looks at the folder for ever.
  async::Task<void> watch();
  [[nodiscard]] Result<void> add(Native native) { return catalog_->add(std::move(native)); }

  [[nodiscard]] const std::shared_ptr<Catalog>& catalog() const { return catalog_; }
  [[nodiscard]] Reader& reader() { return reader_; }
  [[nodiscard]] Runner& runner() { return runner_; }
  [[nodiscard]] const Options& options() const { return options_; }

  /// Errors beside those of a session's call: invalid, with the fields.
  async::Task<Result<Answered>> call(Asked asked, std::shared_ptr<Handle> handle);
  /// Calls of a native function that takes many at once: `asked` with each of `points` on top; checked before. An answer for each of the
  /// first of them, at least one.
  async::Task<Result<std::vector<Result<session::Answer>>>> call_many(Asked asked, std::vector<json::object> points, std::shared_ptr<Handle> handle);
  /// A computation of the server's own that is no catalogued function, in its user's turn among the calls. Errors: too_many, and `work`'s.
  async::Task<Result<std::string>> compute(std::string user, std::function<Result<std::string>()> work);
  /// Cancels this user's calls, those that wait too.
  void end_all_of(const std::string& user) { runner_.end_all_of(user); }
  /// What is wrong with the parameters, without a call.
  [[nodiscard]] static Result<void> check(const Asked& asked);
  /// What is wrong with these of its parameters, whatever the others are.
  [[nodiscard]] static Result<void> check_some(const Function& function, const json::object& some);
  /// The call as a run of kind `function`. `what` needs title and how long it is kept.
  async::Task<Result<run::Record>> start(Asked asked, run::NewRun what);

 private:
  struct Blob {
    std::string name, kind, id, bytes;
  };
  async::Task<Result<std::vector<Blob>>> references(const Asked& asked, std::shared_ptr<Handle> handle, std::chrono::milliseconds deadline);
  async::Task<Result<session::Answer>> native(Asked asked, std::shared_ptr<Handle> handle, std::chrono::milliseconds deadline);
  [[nodiscard]] std::optional<std::string> key_of(const Asked& asked) const;
  static async::Task<Result<std::shared_ptr<session::Doing>>> again(Functions* self, session::User user, run::Record old);

  async::Pool& pool_;
  // Of their own: long computations must not keep those who encode and write waiting, nor sweeps those who wait for one call.
  async::Pool native_pool_, batch_pool_;
  session::Manager& sessions_;
  run::Runs& runs_;
  session::Jobs& jobs_;
  Options options_;
  Runner runner_;
  Reader reader_;
  std::shared_ptr<Catalog> catalog_;
  Cache cache_;
};

/// Reads a call's body: an object whose members are among parameters, keep, title, timeout_s, seed.
struct Terms {
  json::object given;
  bool exact = true;
  bool keep = false;
  std::string title;
  std::chrono::milliseconds timeout{0};
  std::optional<std::uint64_t> seed;
};
[[nodiscard]] Result<Terms> read_terms(const std::string& body);

}  // namespace myelin::function
