#pragma once
// Runs: what was computed and is kept. The record is a row of the store, the result plain files below
// DIR/<owner>/<id>/ (see result_writer.hpp), readable without Myelin. A run that is said to be `done` is on
// the disk: files, their directories and then the row are synced before. Belongs to the loop's thread; the
// database and the files are used on pools, a few MiB at a time. A run is seen by its owner and the operator;
// to others it does not exist.

#include <boost/json/fwd.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/pool.hpp"
#include "async/task.hpp"
#include "base/result.hpp"
#include "codec/encode.hpp"
#include "codec/rope.hpp"
#include "os/fd.hpp"
#include "run/source.hpp"
#include "store/run_records.hpp"

namespace myelin::run {

using Record = store::RunRecord;
using Kind = store::RunKind;
using State = store::RunState;
using store::Time;

inline constexpr std::size_t max_history_bytes = 1 << 20;
inline constexpr std::size_t max_stdout_bytes = 1 << 20;  // more is cut at the front

struct Asker {
  std::string user;  // id
  bool is_operator = false;
};

struct NewRun {
  std::string owner, owner_name;  // user id and name
  std::string title;              // "" gives one from the source or function
  Kind kind = Kind::exec;
  std::string session, engine;
  std::optional<std::string> parent_session;
  std::vector<std::string> inputs;    // ids of runs, and files (file_input in describe.hpp)
  std::optional<std::string> source;  // or:
  std::optional<std::string> function;
  std::optional<std::string> arguments;  // JSON
  std::string history = "[]";    // JSON list of the session's earlier calls; at most max_history_bytes
  bool history_complete = true;  // false when older ones were left out
  std::string versions = "{}", machine = "{}", seeds = "{}", options = "{}";  // JSON objects
  std::optional<Time> expires_at;
  std::optional<std::chrono::milliseconds>
      kept_for;  // expires so long after its end (jobs not to be kept: 24 h)
};

struct Filter {
  bool all_users = false;  // only the operator's wish counts; else the asker's own
  std::optional<std::string> engine, session, title;
  std::optional<State> state;
  std::optional<Time> since, until;
  bool jobs = false;        // not ended, or with an expiry
  std::int64_t limit = 50;  // 1 … 500
  std::optional<std::string> after;
};

struct Page {
  std::vector<Record> runs;         // newest first, without source, history, stdout
  std::optional<std::string> next;  // `after` of the next page
};

struct Change {
  std::optional<std::string> title;
  std::optional<std::optional<Time>> expires_at;  // an inner nullopt: kept for good
};

/// The result as the call answered, for codec::Encoder. The reader checks each array's checksum as it is
/// read. One thread at a time. Keeps working when the store changes, but not when the run is deleted
/// meanwhile.
struct StoredResult {
  codec::Rope rope;
  codec::Reader reader;
};

enum class DatasetFormat { json, csv, cbor, npy };
enum class ExportFormat { npz, csv, cbor, rocrate };
[[nodiscard]] std::optional<DatasetFormat> dataset_format_of(std::string_view name);
[[nodiscard]] std::optional<ExportFormat> export_format_of(std::string_view name);

struct RunsOptions {
  std::string directory;                    // DIR/runs
  std::uint64_t quota_bytes = 10ULL << 30;  // a user; 0: none
  std::chrono::seconds expire_every{60};
  std::function<int(const char* step)>
      fault{};  // tests: an errno instead of the step ("write", "sync", "rename", …)
};

enum class Detail { full, brief };  // brief: without source, arguments, stdout

/// The run object of the API (without `progress`, which only a running session knows).
[[nodiscard]] boost::json::object describe(const Record& record, Detail detail);
/// The problem (RFC 9457) that a run which did not succeed keeps, as JSON text.
[[nodiscard]] std::string problem_text(const Error& error);

class Runs {
 public:
  /// All references outlive it; `database` is used on `database_pool` only.
  Runs(async::Loop& loop, async::Pool& pool, async::Pool& database_pool, store::Database& database,
       RunsOptions options);
  ~Runs();
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;

  /// Makes the directory, marks what a former server left unfinished as lost, removes what belongs to no run
  /// or is expired, and from then on removes what expires.
  async::Task<Result<void>> open();

  /// A queued run. quota when the owner's is used up; bad_request for JSON that is none, or too much history.
  async::Task<Result<Record>> create(NewRun what);
  /// `history`: what its session had done until now, and whether that is all, where that is more than was said at first.
  async::Task<Result<void>> start(std::string id, std::optional<std::pair<std::string, bool>> history = std::nullopt);
  /// Writes the result and ends the run: `done` when this returns ok. Without `stdout_text`, it is taken from
  /// the result's member "stdout". On an error (quota, insufficient_storage, worker_lost for a broken result)
  /// the run is `failed` with it; conflict if it had ended (was cancelled) before, and then nothing is kept.
  /// `seeds`: those in force at the end, a JSON object. The result's text should have been asked for with bare non-finite numbers: both forms can be given again
  /// then.
  async::Task<Result<Record>> finish(std::string id, codec::Rope rope, std::shared_ptr<os::UniqueFd> memfd,
                                     std::optional<std::string> stdout_text,
                                     std::optional<std::string> seeds = std::nullopt);
  /// `problem`: JSON object. conflict if it had ended before.
  async::Task<Result<Record>> fail(std::string id, std::string problem, std::string stdout_text);
  async::Task<Result<Record>> cancel(std::string id, std::string problem, std::string stdout_text);

  async::Task<Result<Record>> get(Asker asker, std::string id);
  /// All that ended of user `from` becomes `to`'s, whose quota is not asked. A crash on the way leaves each run with one of them, whole.
  async::Task<Result<void>> pass_on(std::string from, std::string to, std::string to_name);
  async::Task<Result<Page>> list(Asker asker, Filter filter);
  async::Task<Result<Record>> update(Asker asker, std::string id, Change change);
  /// conflict while it is queued or running.
  async::Task<Result<void>> remove(Asker asker, std::string id);
  async::Task<Result<std::uint64_t>> bytes_of(std::string owner);
  /// How many runs that expired before `now` were removed.
  async::Task<Result<std::size_t>> expire(Time now);

  /// `nonfinite`: which text is wanted; bare also for CBOR. conflict while it runs; for a run that failed,
  /// Code::call_failed with the problem as detail (gone when it was lost or cancelled).
  async::Task<Result<StoredResult>> result(Asker asker, std::string id, codec::Nonfinite nonfinite);
  /// Reads every file of the run; internal, naming the file, when a checksum is wrong.
  async::Task<Result<void>> verify(Asker asker, std::string id);
  async::Task<Result<Download>> dataset(Asker asker, std::string id, std::string name, DatasetFormat format);
  async::Task<Result<Download>> export_as(Asker asker, std::string id, ExportFormat format);
  /// {"identical","datasets":[…],"differs":[…]} as the contract has it; `a` is the older, say.
  async::Task<Result<boost::json::object>> compare(Asker asker, std::string a, std::string b);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace myelin::run
