#include "live/stream.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/log.hpp"
#include "codec/json_value.hpp"
#include "os/memfd.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace myelin::live {
namespace {

namespace json = boost::json;
using async::milliseconds;
using async::Task;

constexpr std::uint64_t cache_bytes = 8 << 20;       // newest events, in memory too
constexpr std::uint64_t unwritten_bytes = 32 << 20;  // beyond, the session waits for the disk
constexpr milliseconds output_window{50};            // what a script prints in so short a time is one event,
constexpr std::size_t output_bytes = 64 << 10;       // or several of so many bytes,
constexpr std::size_t window_bytes = 256 << 10;      // and no more than these
constexpr std::uint64_t least_bytes = 1024;          // that an event counts for, however small: each has a place in memory
constexpr std::uint64_t punch_bytes = 4 << 20;       // the file gives back so much at a time
constexpr int burst = 64;                            // events of a session at once; then others have their turn
constexpr std::chrono::minutes kept_after{10};
constexpr std::size_t most_left = 32;  // streams of a user's ended sessions

// Which topic and recorder an event has, by the texts of its rope. The worker is hostile: what does not fit is no event.
struct Head {
  std::optional<Topic> topic;
  std::int64_t recorder = -1;
};

Head head_of(const codec::Rope& rope) {
  Head head;
  for (const auto& piece : rope.pieces()) {
    if (piece.kind != codec::PieceKind::text) continue;
    std::string_view text = rope.inline_data(piece);
    auto after = [text](std::string_view key) {
      auto at = text.find(key);
      return at == std::string_view::npos ? std::string_view{} : text.substr(at + key.size());
    };
    auto topic = after("\"topic\":\"");
    if (topic.starts_with("spikes\"")) head.topic = Topic::spikes;
    if (topic.starts_with("samples\"")) head.topic = Topic::samples;
    if (topic.starts_with("note\"")) head.topic = Topic::note;
    auto recorder = after("\"recorder\":");
    std::int64_t value = 0;
    std::size_t digits = 0;
    while (digits < recorder.size() && digits < 10 && recorder[digits] >= '0' && recorder[digits] <= '9')
      value = value * 10 + (recorder[digits++] - '0');
    if (digits > 0) head.recorder = value;
  }
  return head;
}

// Bytes at the end that begin a character whose rest is still to come.
std::size_t open_end(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto c = static_cast<unsigned char>(text[text.size() - back]);
    if ((c & 0xC0) == 0x80) continue;
    const std::size_t wanted = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
    return wanted > back ? back : 0;
  }
  return 0;
}

bool inline_only(const codec::Rope& rope) {
  return std::all_of(rope.pieces().begin(), rope.pieces().end(), [](auto& piece) { return piece.where == codec::Where::inline_data; });
}

}  // namespace

const char* name_of(Topic topic) {
  switch (topic) {
    case Topic::spikes: return "spikes";
    case Topic::samples: return "samples";
    case Topic::output: return "stdout";
    case Topic::progress: return "progress";
    case Topic::state: return "state";
    case Topic::note: return "note";
    case Topic::gap: return "gap";
  }
  return "note";
}

bool Filter::passes(Topic topic, std::int64_t recorder) const {
  if (!topics.empty() && topic != Topic::gap && topic != Topic::note && std::find(topics.begin(), topics.end(), topic) == topics.end()) return false;
  if (recorders.empty() || (topic != Topic::spikes && topic != Topic::samples)) return true;
  return std::find(recorders.begin(), recorders.end(), recorder) != recorders.end();
}

Stream::Stream(async::Loop& loop, async::Pool& pool, std::string path, std::uint64_t budget_bytes)
    : pool_(pool), path_(std::move(path)), budget_(budget_bytes), tasks_(loop) {}

Stream::~Stream() { ::unlink(path_.c_str()); }

Result<codec::Rope> numbered(const Event& event) {
  return codec::with_member_in_front(*event.rope, "\"seq\":" + std::to_string(event.seq));
}

Event Stream::make(Topic topic, std::string json_object) {
  Event event;
  event.topic = topic;
  event.rope = std::make_shared<const std::string>(codec::text_rope(json_object));
  return event;
}

void Stream::append(Topic topic, std::int64_t recorder, std::string rope) {
  Entry entry;
  entry.topic = topic;
  entry.recorder = static_cast<std::int32_t>(recorder);
  entry.bytes = static_cast<std::uint32_t>(rope.size());
  entry.offset = end_;
  end_ += rope.size();
  unwritten_bytes_ += rope.size();
  cached_bytes_ += std::max(rope.size(), least_bytes);
  entry.rope = std::make_shared<const std::string>(std::move(rope));
  entries_.push_back(std::move(entry));
  ++next_seq_;
  trim();
  if (!writing_ && !broken_) {
    writing_ = true;
    tasks_.spawn(write(shared_from_this()), "stream file");
  }
  changed_.pulse();
}

// Memory: copies go oldest first once the file has them. The file: its oldest part goes when the budget is reached.
void Stream::trim() {
  while (cached_bytes_ > cache_bytes && cached_seq_ < (broken_ ? next_seq_ : written_seq_)) {
    if (cached_seq_ >= first_seq_) {
      auto& entry = entries_[cached_seq_ - first_seq_];
      cached_bytes_ -= std::max<std::uint64_t>(entry.bytes, least_bytes);
      entry.rope.reset();
    }
    ++cached_seq_;
    for (; broken_ && first_seq_ < cached_seq_; ++first_seq_) entries_.pop_front();
  }
  std::uint64_t cut = 0;
  auto too_much = [this] { return end_ - entries_.front().offset > budget_ || entries_.size() * least_bytes > budget_; };
  while (!entries_.empty() && first_seq_ < written_seq_ && too_much()) {
    if (entries_.front().rope) cached_bytes_ -= std::max<std::uint64_t>(entries_.front().bytes, least_bytes);
    cut = entries_.front().offset + entries_.front().bytes;
    entries_.pop_front();
    ++first_seq_;
    cached_seq_ = std::max(cached_seq_, first_seq_);
  }
  if (file_ && cut >= punched_ + punch_bytes) {
    punched_ = cut;
    auto file = file_;
    auto punch = [file, cut]() -> Result<void> {
      ::fallocate(file->get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(cut));
      return {};
    };
    auto run = [](async::Pool* pool, decltype(punch) work) -> Task<void> { (void)co_await async::on_pool(*pool, std::move(work)); };
    tasks_.spawn(run(&pool_, std::move(punch)), "stream file");
  }
}

Task<void> Stream::write(std::shared_ptr<Stream> self) {
  while (self->written_seq_ < self->next_seq_) {
    std::vector<std::shared_ptr<const std::string>> batch;
    std::uint64_t bytes = 0, seq = self->written_seq_;
    const std::uint64_t offset = self->entries_[seq - self->first_seq_].offset;
    while (seq < self->next_seq_ && bytes < (4u << 20)) {
      batch.push_back(self->entries_[seq - self->first_seq_].rope);
      bytes += batch.back()->size();
      ++seq;
    }
    auto file = self->file_;
    std::string path = self->path_;
    auto work = [batch, offset, file, path]() mutable -> Result<std::shared_ptr<os::UniqueFd>> {
      if (!file) {
        file = std::make_shared<os::UniqueFd>(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!*file) return Error{Code::insufficient_storage, "the stream's file can't be made: " + std::string(std::strerror(errno)), ""};
      }
      std::uint64_t at = offset;
      for (auto& rope : batch) {
        std::string_view rest = *rope;
        while (!rest.empty()) {
          ssize_t n = ::pwrite(file->get(), rest.data(), rest.size(), static_cast<off_t>(at));
          if (n < 0 && errno == EINTR) continue;
          if (n <= 0) return Error{Code::insufficient_storage, "the stream's file can't be written: " + std::string(std::strerror(errno)), ""};
          rest.remove_prefix(static_cast<std::size_t>(n));
          at += static_cast<std::uint64_t>(n);
        }
      }
      return file;
    };
    auto written = co_await async::on_pool(self->pool_, std::move(work));
    if (!written) {
      log::error(written.error().message);
      self->broken_ = true;
      self->writing_ = false;
      self->unwritten_bytes_ = 0;
      self->room_.pulse();
      std::string note = "{\"topic\":\"note\",\"text\":\"the server's disk takes no more: older events are no longer kept\"}";
      self->append(Topic::note, -1, codec::text_rope(note));
      co_return;
    }
    self->file_ = *written;
    self->written_seq_ = seq;
    self->unwritten_bytes_ -= std::min(bytes, self->unwritten_bytes_);
    self->trim();
    self->room_.pulse();
  }
  self->writing_ = false;
}

Task<void> Stream::data(std::string rope_body) {
  auto self = shared_from_this();
  if (++self->burst_ % burst == 0) co_await async::sleep_for(milliseconds(1));
  std::string copy = rope_body;
  auto rope = codec::parse_rope(std::move(copy), false, 0);
  if (!rope || !inline_only(*rope)) co_return;
  auto head = head_of(*rope);
  if (!head.topic) co_return;
  append(*head.topic, head.recorder, std::move(rope_body));
  while (!self->broken_ && self->unwritten_bytes_ > unwritten_bytes) {
    bool woken = co_await self->room_.wait(milliseconds(1000));
    (void)woken;
  }
}

void Stream::output(std::string_view text) {
  // Beyond the window's bound it is lost here, and that is said: the whole is in the call's answer.
  const auto taken = std::min(text.size(), window_bytes - window_used_);
  window_used_ += taken;
  skipped_bytes_ += text.size() - taken;
  for (text = text.substr(0, taken); !text.empty();) {
    auto piece = text.substr(0, output_bytes - output_.size());
    output_ += piece;
    text.remove_prefix(piece.size());
    if (output_.size() == output_bytes) say(output_.size() - open_end(output_));
  }
  if (output_waits_) return;
  output_waits_ = true;
  tasks_.spawn(flush_output(shared_from_this()), "stream output");
}

Task<void> Stream::flush_output(std::shared_ptr<Stream> self) {
  co_await async::sleep_for(output_window);
  self->output_waits_ = false;
  self->window_used_ = 0;
  if (self->ended_) co_return;
  if (self->skipped_bytes_ > 0) self->say_all();
  else self->say(self->output_.size() - open_end(self->output_));
}

void Stream::say(std::size_t bytes) {
  if (bytes == 0) return;
  std::string text = "{\"topic\":\"stdout\",\"text\":";
  codec::append_quoted(text, std::string_view(output_).substr(0, bytes));
  output_.erase(0, bytes);
  append(Topic::output, -1, codec::text_rope(text + "}"));
}

void Stream::say_all() {
  if (skipped_bytes_ > 0) output_ += "\n[" + std::to_string(skipped_bytes_) + " bytes of output skipped]\n";
  skipped_bytes_ = 0;
  say(output_.size());
}

void Stream::progress(const session::Progress& progress) {
  json::object o{{"topic", "progress"}};
  if (progress.done) o["done"] = *progress.done;
  if (progress.time_ms) o["time_ms"] = *progress.time_ms;
  if (progress.of_ms) o["of_ms"] = *progress.of_ms;
  if (!progress.interruptible) o["interruptible"] = false;
  append(Topic::progress, -1, codec::text_rope(json::serialize(o)));
}

void Stream::state(std::string_view name, std::string members) {
  // What was printed before comes before.
  if (name == "idle" || name == "ended") say_all();
  std::string text = "{\"topic\":\"state\",\"state\":\"" + std::string(name) + "\"";
  if (members.size() > 2) text += "," + members.substr(1);
  else text += "}";
  append(Topic::state, -1, codec::text_rope(text));
  if (name == "ended") {
    ended_ = true;
    left = std::chrono::steady_clock::now();
    changed_.pulse();
  }
}

std::uint64_t Stream::first_that_passes(std::uint64_t seq, const Filter& filter) const {
  while (seq < next_seq_ && !filter.passes(entries_[seq - first_seq_].topic, entries_[seq - first_seq_].recorder)) ++seq;
  return seq;
}

bool Stream::over(std::uint64_t after, const Filter& filter) const {
  return ended_ && after + 1 >= first_seq_ && first_that_passes(after + 1, filter) >= next_seq_;
}

Task<Result<std::optional<Event>>> Stream::next(std::shared_ptr<Stream> self, std::uint64_t after, Filter filter, milliseconds patience) {
  const auto deadline = async::after(patience);
  std::uint64_t seq = after + 1;
  for (;;) {
    if (seq < self->first_seq_) {
      Event gap = make(Topic::gap, "{\"topic\":\"gap\",\"from\":" + std::to_string(seq) + ",\"to\":" + std::to_string(self->first_seq_ - 1) + "}");
      gap.seq = self->first_seq_ - 1;
      co_return gap;
    }
    seq = self->first_that_passes(seq, filter);
    if (seq < self->next_seq_) {
      const auto& entry = self->entries_[seq - self->first_seq_];
      Event event{seq, entry.topic, entry.recorder, entry.rope};
      if (event.rope) co_return event;
      auto file = self->file_;
      auto offset = entry.offset;
      auto bytes = entry.bytes;
      auto read = [file, offset, bytes]() -> Result<std::string> {
        std::string out(bytes, '\0');
        auto done = os::read_exactly_at(file->get(), out.data(), bytes, offset);
        if (!done) return done.take_error();
        return out;
      };
      auto rope = co_await async::on_pool(self->pool_, std::move(read));
      if (seq < self->first_seq_) continue;  // cut while it was read
      if (!rope) {
        if (!std::exchange(self->read_failed_, true)) log::error("a stream's file can't be read: " + rope.error().message);
        event = make(Topic::gap, "{\"topic\":\"gap\",\"from\":" + std::to_string(seq) + ",\"to\":" + std::to_string(seq) + "}");
        event.seq = seq;
        co_return event;
      }
      event.rope = std::make_shared<const std::string>(std::move(*rope));
      co_return event;
    }
    if (self->ended_) co_return std::optional<Event>();
    auto left = std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) co_return std::optional<Event>();
    bool woken = co_await self->changed_.wait(left);
    if (!woken && std::chrono::steady_clock::now() < deadline) co_return std::optional<Event>();  // cancelled
  }
}

// ---- all sessions

Streams::Streams(async::Loop& loop, async::Pool& pool, std::string directory, std::uint64_t budget_bytes)
    : loop_(loop), pool_(pool), directory_(std::move(directory)), budget_(budget_bytes), tasks_(loop) {}

Result<void> Streams::open() {
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
  std::filesystem::create_directories(directory_, error);
  if (!error) std::filesystem::permissions(directory_, std::filesystem::perms::owner_all, error);
  if (error) return Error{Code::insufficient_storage, "can't make " + directory_ + ": " + error.message(), ""};
  tasks_.spawn(sweep_for_ever(this), "old streams");
  return {};
}

Task<void> Streams::sweep_for_ever(Streams* self) {
  for (;;) {
    co_await async::sleep_for(std::chrono::seconds(10));
    self->sweep();
  }
}

std::shared_ptr<Stream> Streams::of(session::Session session) {
  sweep();
  auto& stream = streams_[session.id()];
  if (!stream) {
    stream = std::make_shared<Stream>(loop_, pool_, directory_ + "/" + session.id(), budget_);
    stream->owner = session.owner();
    if (session.state() == session::State::ended) stream->state("ended", "{}");
    else session.listen(stream);
  }
  session.follow();
  return stream;
}

std::shared_ptr<Stream> Streams::left_by(const std::string& session_id) {
  auto found = streams_.find(session_id);
  return found == streams_.end() ? nullptr : found->second;
}

void Streams::sweep() {
  auto now = std::chrono::steady_clock::now();
  std::erase_if(streams_, [now](auto& entry) { return entry.second->ended() && entry.second->readers == 0 && now - entry.second->left > kept_after; });
  // Those of ended sessions are for who comes back: of a user together as much as one may hold, the oldest go first.
  std::map<std::string, std::vector<std::pair<std::chrono::steady_clock::time_point, std::string>>> of_user;
  for (auto& [id, stream] : streams_)
    if (stream->ended() && stream->readers == 0) of_user[stream->owner].emplace_back(stream->left, id);
  for (auto& [user, left] : of_user) {
    std::sort(left.rbegin(), left.rend());
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < left.size(); ++i) {
      auto found = streams_.find(left[i].second);
      sum += found->second->kept_bytes();
      if (i >= most_left || (i > 0 && sum > budget_)) streams_.erase(found);
    }
  }
}

}  // namespace myelin::live
