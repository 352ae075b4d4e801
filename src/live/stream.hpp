#pragma once
// What a session does, as a numbered sequence of events that any number of readers follow, each at its own pace. The newest events
// are in memory, all of them in a file, up to a budget: a slow reader slows nobody, and one that comes back goes on where it was.
// Belongs to the loop's thread; files are written and read on the pool.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/pool.hpp"
#include "async/task.hpp"
#include "codec/rope.hpp"
#include "os/fd.hpp"
#include "session/manager.hpp"

namespace myelin::live {

enum class Topic : std::uint8_t { spikes, samples, output, progress, state, note, gap };
[[nodiscard]] const char* name_of(Topic topic);

struct Event {
  std::uint64_t seq = 0;
  Topic topic = Topic::note;
  std::int64_t recorder = -1;
  std::shared_ptr<const std::string> rope;  // body of a rope (worker protocol, section 5), inline
};

/// What a reader wants.
struct Filter {
  std::vector<Topic> topics;            // empty: all
  std::vector<std::int64_t> recorders;  // of spikes and samples; empty: all
  [[nodiscard]] bool passes(Topic topic, std::int64_t recorder) const;
};

class Stream : public session::Listener, public std::enable_shared_from_this<Stream> {
 public:
  /// `path`: of a file that is made at the first event and removed with the stream.
  Stream(async::Loop& loop, async::Pool& pool, std::string path, std::uint64_t budget_bytes);
  ~Stream() override;

  async::Task<void> data(std::string rope_body) override;
  void output(std::string_view text) override;
  void progress(const session::Progress& progress) override;
  void state(std::string_view name, std::string members) override;

  /// The first event after `after` that passes, or a `gap` where events are no longer kept; waits for one. Nothing when none came within
  /// the time, or none can come any more (see over()).
  static async::Task<Result<std::optional<Event>>> next(std::shared_ptr<Stream> self, std::uint64_t after, Filter filter, async::milliseconds patience);
  /// The number of the newest event; 0 before the first.
  [[nodiscard]] std::uint64_t newest() const { return next_seq_ - 1; }
  [[nodiscard]] bool ended() const { return ended_; }
  /// The stream has ended, and nothing after `after` passes.
  [[nodiscard]] bool over(std::uint64_t after, const Filter& filter) const;
  /// What its file and its list of events hold.
  [[nodiscard]] std::uint64_t kept_bytes() const { return (entries_.empty() ? 0 : end_ - entries_.front().offset) + entries_.size() * sizeof(Entry); }

  /// An event of this stream's own, for one reader: it has no number.
  [[nodiscard]] static Event make(Topic topic, std::string json_object);

  std::string owner;  // a user's id
  int readers = 0;
  std::chrono::steady_clock::time_point left{};  // when the last reader did

 private:
  struct Entry {
    Topic topic;
    std::int32_t recorder;
    std::uint32_t bytes;
    std::uint64_t offset;
    std::shared_ptr<const std::string> rope;  // null once only the file has it
  };
  void append(Topic topic, std::int64_t recorder, std::string rope);
  [[nodiscard]] std::uint64_t first_that_passes(std::uint64_t seq, const Filter& filter) const;  // from `seq` on, which is kept; else next_seq_
  static async::Task<void> write(std::shared_ptr<Stream> self);
  static async::Task<void> flush_output(std::shared_ptr<Stream> self);
  void trim();
  void say(std::size_t bytes);  // so much of what was printed
  void say_all();

  async::Pool& pool_;
  std::string path_;
  std::uint64_t budget_;
  std::shared_ptr<os::UniqueFd> file_;
  std::deque<Entry> entries_;          // [first_seq_, next_seq_)
  std::uint64_t first_seq_ = 1, next_seq_ = 1;
  std::uint64_t written_seq_ = 1;      // those before are in the file
  std::uint64_t end_ = 0;              // of the file, with what is still to be written
  std::uint64_t unwritten_bytes_ = 0, cached_bytes_ = 0;
  std::uint64_t cached_seq_ = 1;       // those before have no copy in memory
  std::uint64_t punched_ = 0;          // the file holds nothing before
  unsigned burst_ = 0;
  bool writing_ = false, broken_ = false, ended_ = false, output_waits_ = false, read_failed_ = false;
  std::string output_;                  // printed, not said yet
  std::size_t window_used_ = 0;         // bytes of this window
  std::uint64_t skipped_bytes_ = 0;
  async::Event changed_, room_;
  async::TaskGroup tasks_;
};

/// The event's rope with its number in front: `{"seq":N,…`.
[[nodiscard]] Result<codec::Rope> numbered(const Event& event);

/// The streams of all sessions: made at the first reader, kept for a while after the last one left or the session ended.
class Streams {
 public:
  Streams(async::Loop& loop, async::Pool& pool, std::string directory, std::uint64_t budget_bytes);
  /// Removes what a former server left.
  Result<void> open();
  /// The session's stream; the session is followed from now on.
  std::shared_ptr<Stream> of(session::Session session);
  /// What is left of a session that has ended; null if nobody had followed it, or it is too long ago.
  std::shared_ptr<Stream> left_by(const std::string& session_id);
  void sweep();

 private:
  static async::Task<void> sweep_for_ever(Streams* self);
  async::Loop& loop_;
  async::Pool& pool_;
  std::string directory_;
  std::uint64_t budget_;
  std::map<std::string, std::shared_ptr<Stream>> streams_;
  async::TaskGroup tasks_;
};

}  // namespace myelin::live
