#include <libpq-fe.h>
#include <poll.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <thread>

#include "base/log.hpp"
#include "store/backend.hpp"
#include "store/portable_sql.hpp"

namespace myelin::store {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Advisory locks are a database's own; the numbers are ours ("myelin" in ASCII, and a count).
constexpr const char* writer_lock = "120355302959469";
constexpr const char* server_lock = "120355302959470";

constexpr milliseconds connect_patience{5'000};    // from the first packet to the answer
constexpr milliseconds watcher_step{20};           // that a watcher waits at one call for it to go on
constexpr milliseconds between_attempts{300};
constexpr milliseconds answer_patience{30'000};    // of one statement
constexpr milliseconds watcher_patience{2'000};
constexpr milliseconds script_patience{3'600'000}; // of a migration
constexpr milliseconds takeover_patience{5'000};   // for a server that just ended to be gone

/// Transactions that this process committed, over all connections: what a notification tells a moment later is known here at once.
std::atomic<std::int64_t> committed_here{0};

struct Finish {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
struct Clear {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Connection = std::unique_ptr<PGconn, Finish>;
using Answer = std::unique_ptr<PGresult, Clear>;

std::string first_line(const char* text) {
  std::string line(text == nullptr ? "" : text);
  line.erase(std::min(line.find('\n'), line.size()));
  return line;
}

class PostgresRow final : public Row {
 public:
  PostgresRow(const PGresult* answer, int row) : answer_(answer), row_(row) {}
  ~PostgresRow() = default;
  Kind kind(int column) const override {
    if (PQgetisnull(answer_, row_, column) != 0) return Kind::null;
    switch (PQftype(answer_, column)) {
      case 16: case 20: case 21: case 23: case 1700: return Kind::integer;  // bool, int8, int2, int4, numeric (a sum)
      case 17: return Kind::blob;
      default: return Kind::text;
    }
  }
  std::int64_t integer(int column) const override {
    const std::string_view text = raw(column);
    if (text == "t") return 1;
    std::int64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
  }
  std::string text(int column) const override {
    const std::string_view text = raw(column);
    if (kind(column) != Kind::blob || text.substr(0, 2) != "\\x") return text_from_kept(text);
    std::string bytes;
    bytes.reserve(text.size() / 2);
    auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    for (std::size_t i = 2; i + 1 < text.size(); i += 2) bytes += static_cast<char>(digit(text[i]) * 16 + digit(text[i + 1]));
    return bytes;
  }

 private:
  std::string_view raw(int column) const {
    return {PQgetvalue(answer_, row_, column), static_cast<std::size_t>(PQgetlength(answer_, row_, column))};
  }
  const PGresult* answer_;
  int row_;
};

/// What a statement is given, as libpq wants it.
struct Parameters {
  std::vector<std::string> texts;
  std::vector<const char*> bytes;
  std::vector<int> lengths, formats;
  explicit Parameters(std::span<const Value> values) {
    texts.reserve(values.size());
    for (const Value& value : values)
      std::visit(
          [&](const auto& v) {
            using V = std::decay_t<decltype(v)>;
            if constexpr (std::is_same_v<V, std::nullptr_t>) add(nullptr, 0, 0);
            else if constexpr (std::is_same_v<V, std::int64_t>) own(std::to_string(v), 0);
            else if constexpr (std::is_same_v<V, std::string_view>) own(kept_text(v), 1);
            else add(v.bytes.data() ? v.bytes.data() : "", v.bytes.size(), 1);
          },
          value.get());
  }
  void own(std::string text, int format) {
    texts.push_back(std::move(text));
    add(texts.back().data(), texts.back().size(), format);
  }
  void add(const char* data, std::size_t size, int format) {
    bytes.push_back(data);
    lengths.push_back(static_cast<int>(size));
    formats.push_back(format);
  }
};

class Postgres final : public Backend {
 public:
  Postgres(std::string url, Use use) : url_(std::move(url)), use_(use) {}

  Result<std::int64_t> run(std::string_view sql, std::span<const Value> values, const std::function<void(const Row&)>* each) override {
    auto answer = ask(sql, values);
    // Between statements a server may have gone and come again; what only reads may be asked once more.
    if (!answer && answer.error().code == Code::unavailable && !in_transaction && use_ != Use::watcher && link_ == Link::down &&
        was_sent_ && sql.starts_with("SELECT")) {
      next_attempt_ = Clock::now();
      answer = ask(sql, values);
    }
    if (!answer) return answer.take_error();
    const PGresult* rows = answer->get();
    if (each != nullptr)
      for (int row = 0; row < PQntuples(rows); ++row) (*each)(PostgresRow(rows, row));
    const bool changed = PQresultStatus(rows) == PGRES_COMMAND_OK;  // a SELECT's number is of what it found
    return changed ? std::strtoll(PQcmdTuples(answer->get()), nullptr, 10) : std::int64_t{0};
  }

  Result<void> script(const char* sql) override {
    if (auto up = ready(); !up) return up;
    auto answer = simple(to_postgres(sql).sql.c_str(), script_patience);
    if (!answer) return answer.take_error();
    return {};
  }

  // The lock makes transactions follow one another, as BEGIN IMMEDIATE does: what one has read stays so until it is committed.
  Result<void> begin() override {
    static const std::string text = std::string("BEGIN; SELECT pg_advisory_xact_lock(") + writer_lock + ")";
    return begin_with(text.c_str());
  }
  Result<void> begin_reading() override { return begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); }

  Result<void> commit() override {
    if (!in_order()) return gone();
    auto answer = simple("NOTIFY myelin_changes; COMMIT", answer_patience);
    if (!answer) return answer.take_error();
    if (std::strcmp(PQcmdStatus(answer->get()), "COMMIT") != 0)
      return Error{Code::internal, where() + "a transaction was committed after one of its statements had failed", ""};
    ++own_;
    ++committed_here;
    return {};
  }

  void rollback() override {
    if (link_ == Link::up && PQtransactionStatus(handle_.get()) != PQTRANS_IDLE && !simple("ROLLBACK", answer_patience)) drop();
    broken_ = false;
  }

  Result<std::int64_t> data_version() override {
    if (auto up = ready(); !up) return up.take_error();
    if (use_ != Use::watcher && !listens_) {  // only a test's
      if (auto answer = simple("LISTEN myelin_changes", answer_patience); !answer) return answer.take_error();
      listens_ = true;
    }
    if (PQconsumeInput(handle_.get()) == 0) return lost();
    take_notifications();
    return heard_ + committed_here.load() - own_;
  }

  Result<std::vector<std::string>> tables() override {
    std::vector<std::string> names;
    const std::function<void(const Row&)> take = [&](const Row& row) { names.push_back(row.text(0)); };
    // Those of extensions are nobody's data.
    auto asked = run("SELECT c.relname FROM pg_class c WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) "
                     "AND c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') "
                     "ORDER BY c.relname", {}, &take);
    if (!asked) return asked.take_error();
    return names;
  }

  Result<void> copy_to(const std::filesystem::path&) override { throw std::logic_error("Database: copy_to is SQLite's"); }

  /// The first connection, which may wait longer and tells exactly what is wrong.
  Result<void> open() {
    const auto until = Clock::now() + takeover_patience;
    for (;;) {
      auto up = ready();
      opened_ = up.ok();
      if (up || up.error().code != Code::conflict || Clock::now() > until) return up;
      std::this_thread::sleep_for(milliseconds(200));
      next_attempt_ = Clock::now();
    }
  }

 private:
  enum class Link { down, connecting, up };

  // Whoever opens it is told where; users, later, are not.
  std::string where() const { return opened_ ? "the database: " : "database " + name + ": "; }
  Error gone() const { return {Code::unavailable, where() + "the connection was lost; try again", ""}; }

  Error unreachable() const {
    return {Code::unavailable, where() + "cannot be reached; try again in a few seconds", opened_ ? "" : last_failure_};
  }

  void drop() {
    if (opened_ && use_ != Use::watcher && !down_told_) {
      log::error("database " + name + ": the connection was lost" + (last_failure_.empty() ? "" : ": " + last_failure_));
      down_told_ = true;
    }
    handle_.reset();
    prepared_.clear();
    listens_ = false;
    link_ = Link::down;
    broken_ = broken_ || in_transaction;
    next_attempt_ = Clock::now() + between_attempts;
  }

  Error lost() {
    last_failure_ = first_line(PQerrorMessage(handle_.get()));
    drop();
    next_attempt_ = Clock::now();  // it was up a moment ago
    return gone();
  }

  bool in_order() const { return link_ == Link::up && !broken_; }

  Result<void> begin_with(const char* text) {
    if (auto up = ready(); !up) return up;
    auto answer = simple(text, answer_patience);
    if (!answer) {
      if (link_ == Link::up && PQtransactionStatus(handle_.get()) != PQTRANS_IDLE) (void)simple("ROLLBACK", answer_patience);
      return answer.take_error();
    }
    return {};
  }

  /// A connection that is up as far as can be seen without asking; else goes on making one.
  Result<void> ready() {
    if (link_ == Link::up) {
      // What came of itself: notifications, and the end of a server that was stopped.
      if (PQconsumeInput(handle_.get()) != 0 && PQstatus(handle_.get()) == CONNECTION_OK) {
        while (PQtransactionStatus(handle_.get()) == PQTRANS_IDLE) {
          pollfd at{PQsocket(handle_.get()), POLLIN, 0};
          if (::poll(&at, 1, 0) <= 0) return {};
          if (PQconsumeInput(handle_.get()) == 0 || PQstatus(handle_.get()) != CONNECTION_OK) break;
        }
        if (PQstatus(handle_.get()) == CONNECTION_OK) return {};
      }
      (void)lost();
    }
    if (in_transaction) return gone();  // the rest of a transaction must not run without its beginning
    if (link_ == Link::down) {
      if (Clock::now() < next_attempt_) return unreachable();
      if (auto begun = start(); !begun) return begun;
    }
    return go_on();
  }

  Result<void> start() {
    // The address comes last: what it says of these holds.
    const char* names[] = {"keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "fallback_application_name", "dbname",
                           "client_encoding", nullptr};
    const char* values[] = {"10", "5", "3", "20000", "myelin", url_.c_str(), "UTF8", nullptr};
    handle_.reset(PQconnectStartParams(names, values, 1));
    if (!handle_ || PQstatus(handle_.get()) == CONNECTION_BAD) return not_connected();
    PQsetNoticeProcessor(handle_.get(), [](void*, const char*) {}, nullptr);  // "already exists, skipping" is nobody's news
    link_ = Link::connecting;
    step_ = PGRES_POLLING_WRITING;
    until_ = Clock::now() + connect_patience;
    return {};
  }

  Error not_connected(const char* why = nullptr) {
    last_failure_ = why != nullptr ? why : handle_ ? first_line(PQerrorMessage(handle_.get())) : "out of memory";
    drop();
    return unreachable();
  }

  Result<void> go_on() {
    while (step_ != PGRES_POLLING_OK) {
      if (Clock::now() > until_) return not_connected("no answer");
      pollfd at{PQsocket(handle_.get()), static_cast<short>(step_ == PGRES_POLLING_READING ? POLLIN : POLLOUT), 0};
      const auto left = std::chrono::duration_cast<milliseconds>(until_ - Clock::now());
      const bool hurried = use_ == Use::watcher && opened_;
      const auto wait = hurried ? std::min(left, watcher_step) : left;
      if (::poll(&at, 1, static_cast<int>(std::max(wait, milliseconds(0)).count())) <= 0) {
        if (hurried && Clock::now() < until_) return gone();
        continue;
      }
      step_ = PQconnectPoll(handle_.get());
      if (step_ == PGRES_POLLING_FAILED) return not_connected();
    }
    link_ = Link::up;
    auto settled = settle();
    if (!settled) {
      const bool wrong = settled.error().code == Code::conflict;
      if (link_ == Link::up) drop();
      if (!wrong) last_failure_ = settled.error().message;
    }
    return settled;
  }

  Result<void> settle() {
    // A commit that is answered is on the disk, whatever the server's usual setting; a stricter one stays.
    auto set = simple("SET standard_conforming_strings = on; SET bytea_output = 'hex'; SET lock_timeout = '5s'; "
                      "SET idle_in_transaction_session_timeout = '5min'; "
                      "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
                      watcher_patience);
    if (!set) return set.take_error();
    if (use_ == Use::server) {
      auto locked = simple((std::string("SELECT pg_try_advisory_lock(") + server_lock + ")").c_str(), watcher_patience);
      if (!locked) return locked.take_error();
      if (std::strcmp(PQgetvalue(locked->get(), 0, 0), "t") != 0)
        return Error{opened_ ? Code::unavailable : Code::conflict, where() + "another server uses it: stop that one, or give each a database of its own", ""};
    }
    if (use_ == Use::watcher) {
      if (auto listen = simple("LISTEN myelin_changes", watcher_patience); !listen) return listen.take_error();
      listens_ = true;
    }
    if (down_told_) log::info("database " + name + ": connected again");
    down_told_ = false;
    ++heard_;  // what happened meanwhile was not heard
    return {};
  }

  void take_notifications() {
    for (;;) {
      std::unique_ptr<PGnotify, decltype(&PQfreemem)> told(PQnotifies(handle_.get()), &PQfreemem);
      if (!told) return;
      if (told->be_pid != PQbackendPID(handle_.get())) ++heard_;
    }
  }

  Result<Answer> simple(const char* sql, milliseconds patience) {
    was_sent_ = false;
    if (PQsendQuery(handle_.get(), sql) == 0) return lost();
    return last_answer(patience);
  }

  /// The last of the statement's answers, or its first error.
  Result<Answer> last_answer(milliseconds patience) {
    was_sent_ = true;
    const auto until = Clock::now() + patience;
    Answer last;
    std::optional<Error> failed;
    fatal_ = false;
    for (;;) {
      while (PQisBusy(handle_.get()) != 0) {
        const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now());
        pollfd at{PQsocket(handle_.get()), POLLIN, 0};
        if (left <= milliseconds(0) || ::poll(&at, 1, static_cast<int>(left.count())) == 0) {
          drop();
          return Error{Code::unavailable, where() + "no answer within " + std::to_string(patience.count() / 1000) + " s; try again", ""};
        }
        if (PQconsumeInput(handle_.get()) == 0) return lost();
      }
      Answer next(PQgetResult(handle_.get()));
      if (!next) break;
      const auto status = PQresultStatus(next.get());
      if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE) {
        const char* severity = PQresultErrorField(next.get(), PG_DIAG_SEVERITY_NONLOCALIZED);
        fatal_ = severity != nullptr && std::string_view(severity) != "ERROR";
        if (!failed) failed = failure(next.get());
      } else if (!failed) {
        last = std::move(next);
      }
    }
    if (PQstatus(handle_.get()) != CONNECTION_OK) return lost();
    if (failed) {
      if (fatal_) drop(), next_attempt_ = Clock::now();
      return std::move(*failed);
    }
    if (!last) return gone();
    return last;
  }

  Error failure(const PGresult* answer) const {
    const char* given = PQresultErrorField(answer, PG_DIAG_SQLSTATE);
    const char* primary = PQresultErrorField(answer, PG_DIAG_MESSAGE_PRIMARY);
    const std::string state = given == nullptr ? "" : given, text = primary == nullptr ? first_line(PQresultErrorMessage(answer)) : primary;
    const std::string_view kind = std::string_view(state).substr(0, 2);
    if (kind == "23") return {Code::conflict, where() + text, ""};
    if (state == "53100") return {Code::insufficient_storage, where() + "the disk is full", ""};
    if (state == "55P03" || kind == "40") return {Code::unavailable, where() + "in use by another process for too long; try again", ""};
    if (state == "25006" || state == "42501") return {Code::unavailable, where() + "not writable by this user", ""};
    // Of a server that stops, starts, or has too many connections.
    if (kind == "08" || kind == "53" || kind == "57" || kind == "58" || state == "25P03") return {Code::unavailable, where() + text, ""};
    return {Code::internal, where() + text, ""};
  }

  Result<Answer> ask(std::string_view sql, std::span<const Value> values) {
    was_sent_ = false;
    if (broken_) return gone();
    if (auto up = ready(); !up) return up.take_error();
    const auto patience = use_ == Use::watcher ? watcher_patience : answer_patience;
    auto known = prepared_.find(sql);
    if (known == prepared_.end()) {
      auto translated = to_postgres(sql);
      const std::string id = "m" + std::to_string(prepared_.size());
      if (PQsendPrepare(handle_.get(), id.c_str(), translated.sql.c_str(), 0, nullptr) == 0) return lost();
      auto made = last_answer(patience);
      if (!made) return made;
      known = prepared_.emplace(std::string(sql), std::pair(id, translated.values)).first;
    }
    const auto& [id, count] = known->second;
    if (count != static_cast<int>(values.size()))
      throw std::logic_error("Database: the statement takes another number of values: " + std::string(sql));
    const Parameters given(values);
    if (PQsendQueryPrepared(handle_.get(), id.c_str(), count, given.bytes.data(), given.lengths.data(), given.formats.data(), 0) == 0) return lost();
    return last_answer(patience);
  }

  const std::string url_;
  const Use use_;
  Connection handle_;
  Link link_ = Link::down;
  PostgresPollingStatusType step_ = PGRES_POLLING_WRITING;
  Clock::time_point until_, next_attempt_;
  std::string last_failure_;
  std::map<std::string, std::pair<std::string, int>, std::less<>> prepared_;
  bool listens_ = false, was_sent_ = false, opened_ = false, down_told_ = false;
  bool fatal_ = false;   // the server ended the connection with its last error
  bool broken_ = false;  // the connection of the running transaction was lost
  std::int64_t heard_ = 0, own_ = 0;
};

/// The address without what must not be shown; nothing for what is none.
std::optional<std::string> shown(const std::string& url) {
  char* error = nullptr;
  std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> parts(PQconninfoParse(url.c_str(), &error), &PQconninfoFree);
  if (error != nullptr) PQfreemem(error);  // it repeats the address
  if (!parts) return std::nullopt;
  std::map<std::string, std::string> given;
  for (const auto* part = parts.get(); part->keyword != nullptr; ++part)
    if (part->val != nullptr) given[part->keyword] = part->val;
  std::string text = "postgresql://";
  if (!given["user"].empty()) text += given["user"] + "@";
  text += given["host"].empty() ? given["hostaddr"] : given["host"];
  if (!given["port"].empty()) text += ":" + given["port"];
  return text + "/" + given["dbname"];
}

}  // namespace

Result<std::unique_ptr<Backend>> open_postgres(const std::string& url, Use use) {
  auto name = shown(url);
  if (!name) return Error{Code::bad_request, "the database's address is not of the form postgresql://user:password@host:port/name", ""};
  auto backend = std::make_unique<Postgres>(url, use);
  backend->name = *name;
  auto up = backend->open();
  if (!up) {
    auto error = up.take_error();
    if (!error.detail.empty()) error.message += " (" + error.detail + ")";
    return error;
  }
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace myelin::store
