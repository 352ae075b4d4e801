#include "run/runs.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <map>
#include <set>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "base/time.hpp"
#include "codec/json_check.hpp"
#include "codec/json_walk.hpp"
#include "os/failure.hpp"
#include "run/compare.hpp"
#include "run/describe.hpp"
#include "run/exports.hpp"
#include "run/result_writer.hpp"

namespace myelin::run {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using async::Task;
using store::RunRecords;

constexpr std::int64_t most_listed = 500;
constexpr std::size_t longest_title = 200;
constexpr std::size_t most_inputs = 100;
constexpr std::chrono::seconds database_patience{30};  // for the end of a run to be written
constexpr std::size_t at_once = 64;  // runs that one round of expiry removes

Error unknown(const std::string& id) { return {Code::not_found, "no run " + id, ""}; }

// Ids come from here and owners from the accounts; both become names of directories.
bool is_name(const std::string& text) {
  if (text.empty() || text.size() > 128 || text.front() == '.') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == '@';
  });
}

std::string cut(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return text.substr(0, most);
}

std::string last_part(std::string text) {
  if (text.size() > max_stdout_bytes) text.erase(0, text.size() - max_stdout_bytes);
  return text;
}

std::string title_of(const NewRun& what) {
  if (!what.title.empty()) return cut(what.title, longest_title);
  if (what.function) return cut(*what.function, longest_title);
  // The first line of the script that says something.
  const std::string source = what.source.value_or("");
  for (std::size_t at = 0; at < source.size();) {
    const std::size_t end = std::min(source.find('\n', at), source.size());
    std::string line = source.substr(at, end - at);
    const auto from = line.find_first_not_of(" \t\r#\"'");
    if (from != std::string::npos) {
      line = line.substr(from, line.find_last_not_of(" \t\r\"'") + 1 - from);
      return cut(line, 80);
    }
    at = end + 1;
  }
  return what.engine;
}

Result<void> check_member(const char* name, const std::string& text, char first) {
  if (auto valid = codec::check_json(text, {64, true}); !valid)
    return Error{Code::bad_request, std::string(name) + ": " + valid.error().message, ""};
  const auto at = text.find_first_not_of(" \t\r\n");
  if (first != 0 && text[at] != first)
    return Error{Code::bad_request,
                 std::string(name) + " must be a JSON " + (first == '[' ? "list" : "object"), ""};
  return {};
}

// Of a JSON list; Boost.JSON would stop at a NaN among a call's arguments.
struct MemberCount : codec::JsonVisitor {
  std::int64_t count = 0;
  int depth = 0;
  void value() { count += depth == 1 ? 1 : 0; }
  void raw(std::string_view) override {}
  void key(std::string_view) override {}
  void string_end() override {}
  void string_begin() override { value(); }
  void scalar(std::string_view) override { value(); }
  void begin(bool) override {
    value();
    ++depth;
  }
  void end(bool) override { --depth; }
};

// What a function declared of its results, and which simulator it was.
Expected expected_of(const Record& record) {
  Expected expected;
  const json::value versions = parse_member(record.versions), options = parse_member(record.options);
  expected.nest = versions.is_object() && versions.get_object().contains("nest");
  const auto* results = options.is_object() ? options.get_object().if_contains("results") : nullptr;
  if (!results || !results->is_object()) return expected;
  for (const auto& [path, said] : results->get_object()) {
    if (!said.is_object()) continue;
    auto& value = expected.values[std::string(path)];
    const auto& o = said.get_object();
    if (const auto* unit = o.if_contains("unit"); unit && unit->is_string() && !unit->get_string().empty()) value.unit = unit->get_string().c_str();
    if (const auto* dims = o.if_contains("dims"); dims && dims->is_array())
      for (const auto& dim : dims->get_array())
        if (dim.is_string()) value.dims.emplace_back(dim.get_string().c_str());
  }
  return expected;
}

std::int64_t count_members(const std::string& list) {
  MemberCount counter;
  codec::JsonWalk walk(counter);
  walk.feed(list);
  walk.pause();
  return counter.count;
}

std::string mebibytes(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

void remove_tree(const fs::path& path) {
  std::error_code failed;
  fs::remove_all(path, failed);
  if (failed && failed != std::errc::no_such_file_or_directory)
    log::warning("can't remove " + path.string() + ": " + failed.message());
}

class PoolSource : public Source {
 public:
  PoolSource(async::Pool& pool, std::unique_ptr<Maker> maker) : pool_(pool), maker_(std::move(maker)) {}
  [[nodiscard]] std::optional<std::uint64_t> length() const override { return maker_->length(); }
  Task<Result<bool>> next(std::string& chunk) override {
    struct Made {
      std::string bytes;
      bool more = false;
    };
    auto maker = maker_;
    std::string buffer = std::move(chunk);
    buffer.clear();
    auto make = [maker, buffer = std::move(buffer)]() mutable -> Result<Made> {
      auto more = maker->make(buffer);
      if (!more) return more.take_error();
      return Made{std::move(buffer), *more};
    };
    auto made = co_await async::on_pool(pool_, std::move(make));
    if (!made) co_return made.take_error();
    chunk = std::move(made->bytes);
    co_return made->more;
  }

 private:
  async::Pool& pool_;
  std::shared_ptr<Maker> maker_;
};

}  // namespace

struct Runs::Impl {
  Impl(async::Loop& l, async::Pool& p, async::Pool& dp, store::Database& d, RunsOptions o)
      : pool(p), database_pool(dp), database(d), options(std::move(o)), tasks(l) {}
  async::Pool& pool;
  async::Pool& database_pool;
  store::Database& database;
  RunsOptions options;
  async::Event opened;     // what the last server left is marked and tidied: before, a new run would be taken for one of its
  async::TaskGroup tasks;  // last: ends first

  static Task<void> wait_until_open(std::shared_ptr<Impl> self) {
    if (!self->opened.is_set()) (void)co_await self->opened.wait(std::chrono::milliseconds(30'000));
  }
  [[nodiscard]] fs::path directory_of(const std::string& owner, const std::string& id) const {
    return fs::path(options.directory) / owner / id;
  }
  [[nodiscard]] Place place_of(const Record& r) const { return {directory_of(r.owner, r.id), r.id}; }

  /// `work(RunRecords&)` on the database's thread.
  template <class F>
  Task<std::invoke_result_t<F, RunRecords&>> on_database(F&& work) {  // no coroutine, as async::on_pool
    store::Database* db = &database;
    auto job = [db, work = std::forward<F>(work)] {
      RunRecords records(*db);
      return work(records);
    };
    return async::on_pool(database_pool, std::move(job));
  }

  static Task<Result<Record>> find(std::shared_ptr<Impl> self, std::string id) {
    co_await wait_until_open(self);
    auto look = [id](RunRecords& records) { return records.find(id); };
    auto found = co_await self->on_database(std::move(look));
    if (!found) co_return found.take_error();
    if (!*found) co_return unknown(id);
    co_return std::move(**found);
  }

  static Task<Result<Record>> find_for(std::shared_ptr<Impl> self, Asker asker, std::string id) {
    auto found = co_await find(self, id);
    if (found && !asker.is_operator && found->owner != asker.user) co_return unknown(id);
    co_return found;
  }

  /// A run that has a result.
  static Task<Result<std::pair<Record, Kept>>> find_done(std::shared_ptr<Impl> self, Asker asker,
                                                         std::string id) {
    auto found = co_await find_for(self, std::move(asker), id);
    if (!found) co_return found.take_error();
    if (found->state == State::failed)
      co_return Error{Code::call_failed, "run " + id + " failed", found->error.value_or("{}")};
    if (found->state == State::cancelled || found->state == State::lost) {
      std::string why = "run " + id + " was " + std::string(name_of(found->state)) + ": it has no result";
      co_return Error{Code::gone, std::move(why), found->error.value_or("{}")};
    }
    if (found->state != State::done)
      co_return Error{Code::conflict,
                      "run " + id + " is " + std::string(name_of(found->state)) + ": wait until it is done",
                      ""};
    // There may be thousands of datasets.
    auto record = std::make_shared<Record>(std::move(*found));
    auto work = [record] { return parse_layout(record->datasets, record->layout); };
    auto kept = co_await async::on_pool(self->pool, std::move(work));
    if (!kept) co_return kept.take_error();
    co_return std::pair<Record, Kept>(std::move(*record), std::move(*kept));
  }

  static Task<void> remove_files(std::shared_ptr<Impl> self, std::vector<fs::path> paths) {
    auto work = [paths = std::move(paths)] {
      for (const auto& path : paths) remove_tree(path);
    };
    co_await async::on_pool(self->pool, std::move(work));
  }

  /// What was computed is not thrown away because the database is away for a moment. After an answer that was lost the row tells
  /// whether it had been written.
  static Task<Result<bool>> write_end(std::shared_ptr<Impl> self, std::string id, store::RunEnd what) {
    const auto until = std::chrono::steady_clock::now() + database_patience;
    for (bool again = false;; again = true) {
      auto work = [id, what, again](RunRecords& records) -> Result<bool> {
        auto ended = records.ended(id, what);
        if (!again || !ended || *ended) return ended;
        auto record = records.find(id);
        if (!record) return record.take_error();
        return *record && (*record)->state == what.state && (*record)->ended == what.when;
      };
      auto ended = co_await self->on_database(std::move(work));
      if (ended || ended.error().code != Code::unavailable || std::chrono::steady_clock::now() > until) co_return ended;
      co_await async::sleep_for(std::chrono::milliseconds(500));
    }
  }

  static Task<Result<Record>> end(std::shared_ptr<Impl> self, std::string id, store::RunEnd what) {
    auto ended = co_await write_end(self, id, std::move(what));
    if (!ended) co_return ended.take_error();
    auto record = co_await find(self, id);
    if (record && !*ended)
      co_return Error{Code::conflict, "run " + id + " is " + std::string(name_of(record->state)) + " already",
                      ""};
    co_return record;
  }

  static Task<Result<Record>> end_badly(std::shared_ptr<Impl> self, std::string id, State state,
                                        std::string problem, std::string stdout_text) {
    if (auto valid = check_member("the problem", problem, '{'); !valid) co_return valid.take_error();
    store::RunEnd what;
    what.state = state;
    what.error = std::move(problem);
    what.stdout_text = last_part(std::move(stdout_text));
    what.added_bytes = static_cast<std::int64_t>(what.stdout_text.size());
    what.when = store::now();
    co_return co_await end(self, std::move(id), std::move(what));
  }

  /// The files are written and the row says so; or an error, and nothing is left.
  static Task<Result<Record>> write(std::shared_ptr<Impl> self, Record record, codec::Rope rope,
                                    std::shared_ptr<os::UniqueFd> memfd,
                                    std::optional<std::string> stdout_text, std::optional<std::string> seeds) {
    const std::string owner = record.owner, id = record.id;
    auto look = [owner](RunRecords& records) { return records.bytes_of(owner); };
    auto used = co_await self->on_database(std::move(look));
    if (!used) co_return used.take_error();
    WriteContext context;
    context.fault = self->options.fault;
    const std::uint64_t quota = self->options.quota_bytes;
    if (quota > 0) {
      context.budget = quota - std::min<std::uint64_t>(quota, static_cast<std::uint64_t>(*used));
      if (rope.data_bytes() > context.budget)
        co_return Error{Code::quota,
                        "the result has " + mebibytes(rope.data_bytes()) + ", but of your quota of " +
                            mebibytes(quota) + " for runs only " + mebibytes(context.budget) +
                            " are left. Delete runs that you no longer need",
                        ""};
    }
    const fs::path target = self->directory_of(owner, id);
    const fs::path part = target.parent_path() / (".new-" + id);
    const fs::path top = self->options.directory;
    auto writer = std::make_shared<ResultWriter>(part, std::move(rope), std::move(memfd), std::move(context), expected_of(record));
    // The owner's directory must be on the disk before what is in it.
    auto begin = [top, target, part]() -> Result<void> {
      remove_tree(part);
      if (::mkdir(target.parent_path().c_str(), 0700) != 0 && errno != EEXIST)
        return os::failure("can't make the user's directory for runs");
      return sync_directory(top, WriteContext{});
    };
    auto ready = co_await async::on_pool(self->pool, std::move(begin));
    if (!ready) co_return ready.take_error();
    for (;;) {
      auto step = [writer] { return writer->step(); };
      auto more = co_await async::on_pool(self->pool, std::move(step));
      if (!more) {
        std::vector<fs::path> paths(1, part);
        co_await remove_files(self, std::move(paths));
        co_return more.take_error();
      }
      if (!*more) break;
    }
    store::RunEnd what;
    what.state = State::done;
    what.when = store::now();
    auto& written = writer->written();
    what.stdout_text = last_part(stdout_text ? std::move(*stdout_text) : written.stdout_text.value_or(""));
    what.datasets = datasets_text(written.datasets);
    what.seeds = seeds;
    if (seeds) record.seeds = *seeds;
    record.state = State::done;
    record.ended = what.when;
    record.stdout_text = what.stdout_text;
    record.datasets = what.datasets;
    auto commit = [writer, record, target]() -> Result<std::uint64_t> {
      return writer->commit(record_text(record), target);
    };
    auto bytes = co_await async::on_pool(self->pool, std::move(commit));
    Error failure;
    if (bytes) {
      what.layout = layout_text(written.layout, written.datasets);
      what.added_bytes = static_cast<std::int64_t>(*bytes);
      what.quota_bytes = static_cast<std::int64_t>(std::min<std::uint64_t>(quota, INT64_MAX));
      auto ended = co_await write_end(self, id, std::move(what));
      if (ended && *ended) co_return co_await find(self, id);
      failure = ended ? Error{Code::conflict, "run " + id + " was ended before its result was there", ""}
                      : ended.take_error();
    } else {
      failure = bytes.take_error();
    }
    std::vector<fs::path> paths;
    paths.push_back(part);
    paths.push_back(target);
    co_await remove_files(self, std::move(paths));
    co_return failure;
  }

  static Task<Result<std::size_t>> expire(std::shared_ptr<Impl> self, Time now) {
    std::size_t removed = 0;
    for (;;) {
      auto work = [now](RunRecords& records) -> Result<std::vector<std::pair<std::string, std::string>>> {
        auto past = records.expired(now, at_once);
        if (!past) return past;
        for (const auto& [id, owner] : *past)
          if (auto gone = records.remove(id); !gone) return gone.take_error();
        return past;
      };
      auto past = co_await self->on_database(std::move(work));
      if (!past) co_return past.take_error();
      std::vector<fs::path> paths;
      for (const auto& [id, owner] : *past) paths.push_back(self->directory_of(owner, id));
      removed += paths.size();
      const bool all = paths.size() < at_once;
      co_await remove_files(self, std::move(paths));
      if (all) co_return removed;
    }
  }

  static Task<void> watch(std::shared_ptr<Impl> self) {
    for (;;) {
      co_await async::sleep_for(self->options.expire_every);
      auto removed = co_await expire(self, store::now());
      if (!removed) log::warning("expired runs can't be removed: " + removed.error().message);
    }
  }

  Download download(Export what) {
    return {std::make_unique<PoolSource>(pool, std::move(what.maker)), std::move(what.type), std::move(what.filename)};
  }
};

Runs::Runs(async::Loop& loop, async::Pool& pool, async::Pool& database_pool, store::Database& database,
           RunsOptions options)
    : impl_(std::make_shared<Impl>(loop, pool, database_pool, database, std::move(options))) {}

Runs::~Runs() { impl_->tasks.cancel(); }

Task<Result<void>> Runs::open() {
  auto self = impl_;
  const std::string directory = self->options.directory;
  auto make = [directory]() -> Result<void> {
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
      return os::failure("can't make " + directory);
    return sync_directory(fs::path(directory).parent_path(), WriteContext{});
  };
  auto made = co_await async::on_pool(self->pool, std::move(make));
  if (!made) co_return made.take_error();
  const Error lost{
      Code::gone,
      "the server restarted at " + iso_time(store::now()) + " before the run was done: run it again", ""};
  auto mark = [problem = problem_text(lost)](
                  RunRecords& records) -> Result<std::vector<std::pair<std::string, std::string>>> {
    if (auto marked = records.mark_unfinished_as_lost(problem, store::now()); !marked)
      return marked.take_error();
    return records.all_done();
  };
  auto done = co_await self->on_database(std::move(mark));
  if (!done) co_return done.take_error();
  // A directory without its row is what an interrupted finish or removal left.
  auto sweep = [directory, kept = std::set<std::pair<std::string, std::string>>(done->begin(), done->end())] {
    std::error_code failed;
    for (const auto& owner : fs::directory_iterator(directory, failed)) {
      std::error_code ignored;
      if (!owner.is_directory(ignored) || owner.is_symlink(ignored)) continue;
      for (const auto& run : fs::directory_iterator(owner.path(), ignored))
        if (!kept.count({owner.path().filename().string(), run.path().filename().string()}))
          remove_tree(run.path());
    }
  };
  co_await async::on_pool(self->pool, std::move(sweep));
  self->opened.set();
  auto expired = co_await Impl::expire(self, store::now());
  if (!expired) co_return expired.take_error();
  self->tasks.spawn(Impl::watch(self), "expiry of runs");
  co_return Result<void>{};
}

Task<Result<Record>> Runs::create(NewRun what) {
  auto self = impl_;
  co_await Impl::wait_until_open(self);
  if (!is_name(what.owner)) co_return Error{Code::internal, "a run without a proper owner", ""};
  if (what.inputs.size() > most_inputs || !std::all_of(what.inputs.begin(), what.inputs.end(), [](auto& input) { return is_name(input) || file_of(input); }))
    co_return Error{Code::bad_request, "inputs are at most " + std::to_string(most_inputs) + " ids of runs",
                    ""};
  if (what.history.size() > max_history_bytes)
    co_return Error{Code::bad_request, "the history has more than 1 MiB: leave out its oldest calls", ""};
  for (const auto& [name, text, first] :
       {std::tuple<const char*, const std::string&, char>{"history", what.history, '['},
        {"versions", what.versions, '{'},
        {"machine", what.machine, '{'},
        {"seeds", what.seeds, '{'},
        {"options", what.options, '{'}})
    if (auto valid = check_member(name, text, first); !valid) co_return valid.take_error();
  if (what.arguments)
    if (auto valid = check_member("arguments", *what.arguments, 0); !valid) co_return valid.take_error();
  Record record;
  record.id = make_id("r_");
  record.title = title_of(what);
  record.owner = std::move(what.owner);
  record.owner_name = std::move(what.owner_name);
  record.kind = what.kind;
  record.session = std::move(what.session);
  record.engine = std::move(what.engine);
  record.parent_session = std::move(what.parent_session);
  record.inputs = std::move(what.inputs);
  record.source = std::move(what.source);
  record.function = std::move(what.function);
  record.arguments = std::move(what.arguments);
  record.history_count = count_members(what.history);
  record.history = std::move(what.history);
  record.history_complete = what.history_complete;
  record.versions = std::move(what.versions);
  record.machine = std::move(what.machine);
  record.seeds = std::move(what.seeds);
  record.options = std::move(what.options);
  record.expires = what.expires_at;
  if (what.kept_for) record.kept_for_ms = what.kept_for->count();
  record.created = store::now();
  // What the row itself takes.
  record.bytes =
      static_cast<std::int64_t>(record.source.value_or("").size() + record.arguments.value_or("").size() +
                                record.history.size() + record.options.size());
  const std::uint64_t quota = self->options.quota_bytes;
  auto add = [record, quota](RunRecords& records) -> Result<void> {
    auto used = records.bytes_of(record.owner);
    if (!used) return used.take_error();
    const auto bytes = static_cast<std::uint64_t>(*used);
    if (quota > 0 && bytes + static_cast<std::uint64_t>(record.bytes) > quota)
      return Error{Code::quota,
                   "your runs hold " + mebibytes(bytes) + ", your quota of " + mebibytes(quota) +
                       " is used up. Delete runs that you no longer need (the largest first)",
                   ""};
    return records.add(record);
  };
  auto added = co_await self->on_database(std::move(add));
  if (!added) co_return added.take_error();
  co_return record;
}

Task<Result<void>> Runs::start(std::string id, std::optional<std::pair<std::string, bool>> history) {
  auto self = impl_;
  std::optional<store::RunHistory> known;
  if (history && history->first.size() <= max_history_bytes) {
    const auto count = count_members(history->first);
    known.emplace(std::move(history->first), count, history->second);
  }
  auto work = [id, known](RunRecords& records) { return records.started(id, store::now(), known); };
  auto started = co_await self->on_database(std::move(work));
  if (!started) co_return started.take_error();
  if (*started) co_return Result<void>{};
  auto record = co_await Impl::find(self, id);
  if (!record) co_return record.take_error();
  co_return Error{Code::conflict, "run " + id + " is " + std::string(name_of(record->state)) + " already",
                  ""};
}

Task<Result<Record>> Runs::finish(std::string id, codec::Rope rope, std::shared_ptr<os::UniqueFd> memfd,
                                  std::optional<std::string> stdout_text, std::optional<std::string> seeds) {
  auto self = impl_;
  auto record = co_await Impl::find(self, id);
  if (!record) co_return record.take_error();
  if (record->ended_by_now())
    co_return Error{Code::conflict, "run " + id + " is " + std::string(name_of(record->state)) + " already",
                    ""};
  const std::string printed = stdout_text.value_or("");
  auto written = co_await Impl::write(self, std::move(*record), std::move(rope), std::move(memfd),
                                      std::move(stdout_text), std::move(seeds));
  if (written || written.error().code == Code::conflict) co_return written;
  std::string problem = problem_text(written.error());
  auto failed = co_await Impl::end_badly(self, id, State::failed, std::move(problem), printed);
  if (!failed) log::error("run " + id + " can't be marked as failed: " + failed.error().message);
  co_return written;
}

Task<Result<Record>> Runs::fail(std::string id, std::string problem, std::string stdout_text) {
  return Impl::end_badly(impl_, std::move(id), State::failed, std::move(problem), std::move(stdout_text));
}

Task<Result<Record>> Runs::cancel(std::string id, std::string problem, std::string stdout_text) {
  return Impl::end_badly(impl_, std::move(id), State::cancelled, std::move(problem), std::move(stdout_text));
}

Task<Result<Record>> Runs::get(Asker asker, std::string id) {
  return Impl::find_for(impl_, std::move(asker), std::move(id));
}

Task<Result<Page>> Runs::list(Asker asker, Filter filter) {
  auto self = impl_;
  co_await Impl::wait_until_open(self);
  if (filter.limit < 1 || filter.limit > most_listed)
    co_return Error{Code::bad_request, "'limit' must be 1 to " + std::to_string(most_listed), ""};
  store::RunFilter wanted;
  if (!filter.all_users || !asker.is_operator) wanted.owner = asker.user;
  wanted.engine = std::move(filter.engine);
  wanted.session = std::move(filter.session);
  wanted.title = std::move(filter.title);
  wanted.state = filter.state;
  wanted.since = filter.since;
  wanted.until = filter.until;
  wanted.jobs = filter.jobs;
  wanted.after = std::move(filter.after);
  wanted.limit = filter.limit + 1;  // one more tells whether there is a next page
  auto work = [wanted = std::move(wanted)](RunRecords& records) { return records.list(wanted); };
  auto found = co_await self->on_database(std::move(work));
  if (!found) co_return found.take_error();
  Page page;
  page.runs = std::move(*found);
  if (page.runs.size() > static_cast<std::size_t>(filter.limit)) {
    page.runs.resize(static_cast<std::size_t>(filter.limit));
    page.next = page.runs.back().id;
  }
  co_return page;
}

Task<Result<Record>> Runs::update(Asker asker, std::string id, Change change) {
  auto self = impl_;
  auto record = co_await Impl::find_for(self, std::move(asker), id);
  if (!record) co_return record.take_error();
  if (change.title && (change.title->empty() || change.title->size() > longest_title))
    co_return Error{Code::bad_request, "a title has 1 to " + std::to_string(longest_title) + " bytes", ""};
  auto work = [id, change = std::move(change)](RunRecords& records) -> Result<void> {
    if (change.title)
      if (auto set = records.set_title(id, *change.title); !set) return set;
    if (change.expires_at)
      if (auto set = records.set_expiry(id, *change.expires_at); !set) return set;
    return {};
  };
  auto changed = co_await self->on_database(std::move(work));
  if (!changed) co_return changed.take_error();
  co_return co_await Impl::find(self, id);
}

Task<Result<void>> Runs::remove(Asker asker, std::string id) {
  auto self = impl_;
  auto record = co_await Impl::find_for(self, std::move(asker), id);
  if (!record) co_return record.take_error();
  auto work = [id](RunRecords& records) { return records.remove(id); };
  auto removed = co_await self->on_database(std::move(work));
  if (!removed) co_return removed.take_error();
  if (!*removed)
    co_return Error{Code::conflict,
                    "run " + id + " is " + std::string(name_of(record->state)) + ": cancel it first", ""};
  std::vector<fs::path> paths(1, self->directory_of(record->owner, id));
  co_await Impl::remove_files(self, std::move(paths));
  co_return Result<void>{};
}

// The files stay where they were until the row says otherwise: at first they have two names.
Task<Result<void>> Runs::pass_on(std::string from, std::string to, std::string to_name) {
  const auto self = impl_;
  if (!is_name(from) || !is_name(to)) co_return Error{Code::internal, "a run without a proper owner", ""};
  auto list = [from](RunRecords& records) { return records.ended_of(from); };
  auto ids = co_await self->on_database(std::move(list));
  if (!ids) co_return ids.take_error();
  for (const auto& id : *ids) {
    const fs::path old_place = self->directory_of(from, id), new_place = self->directory_of(to, id);
    auto link = [old_place, new_place]() -> Result<void> {
      std::error_code failed;
      if (!fs::exists(old_place, failed)) return {};
      fs::create_directories(new_place.parent_path(), failed);
      fs::permissions(new_place.parent_path(), fs::perms::owner_all, failed);
      fs::copy(old_place, new_place, fs::copy_options::recursive | fs::copy_options::create_hard_links | fs::copy_options::skip_existing, failed);
      if (failed) return Error{Code::internal, "can't pass on " + old_place.filename().string() + ": " + failed.message(), ""};
      return sync_directory(new_place.parent_path(), WriteContext{});
    };
    auto linked = co_await async::on_pool(self->pool, std::move(link));
    if (!linked) co_return linked.take_error();
    auto change = [id, to, to_name](RunRecords& records) { return records.set_owner(id, to, to_name); };
    auto changed = co_await self->on_database(std::move(change));
    if (!changed) co_return changed.take_error();
    auto remove = [old_place] { remove_tree(old_place); };
    co_await async::on_pool(self->pool, std::move(remove));
  }
  co_return Result<void>{};
}

Task<Result<std::uint64_t>> Runs::bytes_of(std::string owner) {
  auto self = impl_;
  auto work = [owner](RunRecords& records) { return records.bytes_of(owner); };
  auto bytes = co_await self->on_database(std::move(work));
  if (!bytes) co_return bytes.take_error();
  co_return static_cast<std::uint64_t>(*bytes);
}

Task<Result<std::size_t>> Runs::expire(Time now) { return Impl::expire(impl_, now); }

// ---- results
// -------------------------------------------------------------------------------------------------------

Task<Result<StoredResult>> Runs::result(Asker asker, std::string id, codec::Nonfinite nonfinite) {
  auto self = impl_;
  auto found = co_await Impl::find_done(self, std::move(asker), id);
  if (!found) co_return found.take_error();
  auto work = [place = self->place_of(found->first), kept = std::move(found->second),
               nonfinite]() -> Result<StoredResult> {
    StoredRope rope(place);
    std::vector<const Dataset*> arrays;
    for (const auto index : kept.layout.arrays) arrays.push_back(&kept.datasets[index]);
    const bool bare = nonfinite == codec::Nonfinite::bare && kept.layout.bare;
    auto text = bare ? rope.text_file("result.bare.json", *kept.layout.bare, arrays)
                     : rope.text_file("result.json", kept.layout.text, arrays);
    if (!text) return text.take_error();
    auto parts = rope.finish();
    if (!parts) return parts.take_error();
    return StoredResult{std::move(parts->rope), std::move(parts->reader)};
  };
  co_return co_await async::on_pool(self->pool, std::move(work));
}

Task<Result<void>> Runs::verify(Asker asker, std::string id) {
  auto self = impl_;
  auto found = co_await Impl::find_done(self, std::move(asker), id);
  if (!found) co_return found.take_error();
  const Place place = self->place_of(found->first);
  const Kept& kept = found->second;
  std::vector<CheckedFile> files;
  files.push_back(place.open("run.json", kept.layout.record_bytes, kept.layout.record_sha256));
  files.push_back(place.open("result.json", kept.layout.text.bytes, kept.layout.text.sha256));
  if (kept.layout.bare)
    files.push_back(place.open("result.bare.json", kept.layout.bare->bytes, kept.layout.bare->sha256));
  for (const auto& set : kept.datasets) files.push_back(place.open(set));
  for (auto& file : files) {
    std::shared_ptr<Maker> reading = make_file(std::move(file));
    for (bool more = true; more;) {
      auto work = [reading]() -> Result<bool> {
        std::string piece;
        for (int i = 0; i < 16; ++i) {
          piece.clear();
          auto next = reading->make(piece);
          if (!next || !*next) return next;
        }
        return true;
      };
      auto next = co_await async::on_pool(self->pool, std::move(work));
      if (!next) co_return next.take_error();
      more = *next;
    }
  }
  co_return Result<void>{};
}

Task<Result<Download>> Runs::dataset(Asker asker, std::string id, std::string name, DatasetFormat format) {
  auto self = impl_;
  auto found = co_await Impl::find_done(self, std::move(asker), id);
  if (!found) co_return found.take_error();
  const Place place = self->place_of(found->first);
  const auto& sets = found->second.datasets;
  const auto set = std::find_if(sets.begin(), sets.end(), [&](const Dataset& d) { return d.name == name; });
  if (set == sets.end()) {
    std::string known;
    for (std::size_t i = 0; i < sets.size() && i < 20; ++i) known += (i ? ", " : "") + sets[i].name;
    co_return Error{
        Code::not_found,
        "run " + id + " has no dataset '" + cut(name, 100) + "'" +
            (known.empty() ? ": it has none" : "; there are: " + known + (sets.size() > 20 ? ", …" : "")),
        ""};
  }
  auto made = export_dataset(place, *set, format);
  if (!made) co_return made.take_error();
  co_return self->download(std::move(*made));
}

Task<Result<Download>> Runs::export_as(Asker asker, std::string id, ExportFormat format) {
  auto self = impl_;
  auto found = co_await Impl::find_done(self, std::move(asker), id);
  if (!found) co_return found.take_error();
  auto made = export_run(self->place_of(found->first), found->first, found->second, format);
  if (!made) co_return made.take_error();
  co_return self->download(std::move(*made));
}

Task<Result<json::object>> Runs::compare(Asker asker, std::string a, std::string b) {
  auto self = impl_;
  auto first = co_await Impl::find_done(self, asker, a);
  if (!first) co_return first.take_error();
  auto second = co_await Impl::find_done(self, asker, b);
  if (!second) co_return second.take_error();
  const Place place_a = self->place_of(first->first), place_b = self->place_of(second->first);
  auto comparison =
      std::make_shared<Comparison>(std::move(first->first), std::move(first->second), place_a,
                                   std::move(second->first), std::move(second->second), place_b);
  for (;;) {
    auto work = [comparison] { return comparison->step(); };
    auto more = co_await async::on_pool(self->pool, std::move(work));
    if (!more) co_return more.take_error();
    if (!*more) break;
  }
  co_return comparison->take();
}

}  // namespace myelin::run
