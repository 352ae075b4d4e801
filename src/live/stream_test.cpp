// A stream by itself: numbers, readers at different places, the budget, a disk that fails.

#include "live/stream.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>

#include "codec/encode.hpp"

using namespace myelin;
using namespace myelin::live;
using async::milliseconds;
using async::Task;

namespace {

constexpr milliseconds patience{20'000};

std::string spike_event(int recorder, const std::string& padding = "") {
  return codec::text_rope(R"({"topic":"spikes","recorder":)" + std::to_string(recorder) + R"(,"times":[1.5],"senders":[2],"label":")" + padding + "\"}");
}

std::string text_of(const Event& event) {
  auto rope = numbered(event);
  if (!rope) return "not a rope";
  auto text = codec::encode_all(*rope, codec::Format::json, codec::Nonfinite::null, [](std::uint64_t, std::span<char>) -> Result<std::size_t> { return std::size_t{0}; });
  return text ? *text : "not JSON";
}

class StreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string made = (std::filesystem::temp_directory_path() / "myelin-stream-XXXXXX").string();
    ASSERT_NE(::mkdtemp(made.data()), nullptr);
    directory_ = made;
    pool_.emplace(loop_, 2);
  }
  void TearDown() override {
    stream_.reset();
    pool_.reset();
    std::filesystem::remove_all(directory_);
  }

  void open(std::uint64_t budget = 1 << 30, const std::string& path = "file") {
    stream_ = std::make_shared<Stream>(loop_, *pool_, directory_ + "/" + path, budget);
  }
  /// Runs to the end; the loop then has nothing left to do.
  void run(Task<void> task) {
    async::spawn(loop_, std::move(task), "test");
    loop_.run_until_idle();
  }
  static Task<void> feed(std::shared_ptr<Stream> stream, std::vector<std::string> ropes) {
    for (auto& rope : ropes) {
      std::string body = rope;
      co_await stream->data(std::move(body));
    }
  }
  /// All events after `after`, until none comes within `wait`.
  static Task<void> read(std::shared_ptr<Stream> stream, std::uint64_t after, Filter filter, std::vector<Event>* out, std::size_t most = 1'000'000,
                         milliseconds wait = milliseconds(0)) {
    while (out->size() < most) {
      Filter mine = filter;
      auto event = co_await Stream::next(stream, after, std::move(mine), wait);
      EXPECT_TRUE(event) << event.error().message;
      if (!event || !*event) co_return;
      after = (*event)->seq;
      out->push_back(**event);
    }
  }
  std::vector<Event> all(std::uint64_t after = 0, Filter filter = {}) {
    std::vector<Event> out;
    run(read(stream_, after, std::move(filter), &out));
    return out;
  }
  std::uint64_t disk_bytes() {
    struct stat status {};
    return ::stat((directory_ + "/file").c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
  }

  std::string directory_;
  async::Loop loop_;
  std::optional<async::Pool> pool_;
  std::shared_ptr<Stream> stream_;
};

}  // namespace

TEST_F(StreamTest, NumbersRiseByOneAndReadersChoose) {
  open();
  run(feed(stream_, {spike_event(3), spike_event(4)}));
  stream_->state("busy", R"({"call":7})");
  stream_->progress({0.5, 10.0, 20.0, true});
  run(feed(stream_, {spike_event(3), codec::text_rope(R"({"topic":"note","text":"x"})")}));
  stream_->output("h\xC3\xA9\n");
  stream_->state("idle", R"({"ok":true})");
  auto events = all();
  ASSERT_EQ(events.size(), 8u);
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].seq, i + 1);
  EXPECT_EQ(text_of(events[0]), R"({"seq":1,"topic":"spikes","recorder":3,"times":[1.5],"senders":[2],"label":""})");
  EXPECT_EQ(text_of(events[2]), R"({"seq":3,"topic":"state","state":"busy","call":7})");
  EXPECT_EQ(boost::json::parse(text_of(events[3])).at("done").to_number<double>(), 0.5);
  EXPECT_EQ(text_of(events[6]), "{\"seq\":7,\"topic\":\"stdout\",\"text\":\"h\xC3\xA9\\n\"}");
  EXPECT_EQ(stream_->newest(), 8u);

  Filter spikes{{Topic::spikes}, {3}};
  auto some = all(0, spikes);
  ASSERT_EQ(some.size(), 3u);  // a note is for everybody
  EXPECT_EQ(some[0].seq, 1u);
  EXPECT_EQ(some[1].seq, 5u);
  EXPECT_EQ(some[2].topic, Topic::note);
  EXPECT_EQ(all(5).size(), 3u);
  EXPECT_TRUE(all(8).empty());
}

TEST_F(StreamTest, AReaderWaitsForTheNextEvent) {
  open();
  std::vector<Event> early, late;
  async::spawn(loop_, read(stream_, 0, {}, &early, 2, patience), "early");
  async::spawn(loop_, read(stream_, 1, {}, &late, 1, patience), "late");
  run(feed(stream_, {spike_event(1), spike_event(2)}));
  ASSERT_EQ(early.size(), 2u);
  ASSERT_EQ(late.size(), 1u);
  EXPECT_EQ(late[0].seq, 2u);
  EXPECT_EQ(early[1].rope, late[0].rope);  // one copy for all
}

TEST_F(StreamTest, WhatIsNoLongerInMemoryIsReadFromTheFile) {
  open();
  std::vector<std::string> ropes;
  const std::string padding(200'000, 'x');
  for (int i = 0; i < 100; ++i) ropes.push_back(spike_event(i, padding + std::to_string(i)));
  run(feed(stream_, ropes));
  EXPECT_GE(disk_bytes(), 20'000'000u);
  auto events = all();
  ASSERT_EQ(events.size(), ropes.size());
  for (std::size_t i = 0; i < ropes.size(); ++i) {
    EXPECT_EQ(*events[i].rope, ropes[i]);
    EXPECT_EQ(events[i].recorder, static_cast<std::int64_t>(i));
  }
  std::string path = directory_ + "/file";
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  stream_.reset();
  loop_.run_until_idle();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(StreamTest, BeyondTheBudgetTheOldestGoAndAGapSaysSo) {
  const std::uint64_t budget = 10 << 20;
  open(budget);
  std::vector<std::string> ropes;
  for (int i = 0; i < 100; ++i) ropes.push_back(spike_event(i, std::string(300'000, 'x')));
  run(feed(stream_, ropes));
  auto events = all();
  ASSERT_GT(events.size(), 20u);
  EXPECT_EQ(events[0].topic, Topic::gap);
  const auto first = events[1].seq;
  EXPECT_EQ(text_of(events[0]), "{\"seq\":" + std::to_string(first - 1) + R"(,"topic":"gap","from":1,"to":)" + std::to_string(first - 1) + "}");
  EXPECT_EQ(events.size() - 1, 100 - first + 1);
  EXPECT_LE((events.size() - 1) * 300'000, budget);
  EXPECT_EQ(*events[1].rope, ropes[first - 1]);
  EXPECT_LE(disk_bytes(), budget + (8u << 20));
  EXPECT_EQ(all(first - 1).size(), events.size() - 1);  // who has read so far misses nothing
  auto behind = all(first - 2);
  const std::string edge = std::to_string(first - 1);
  EXPECT_EQ(text_of(behind[0]), "{\"seq\":" + edge + R"(,"topic":"gap","from":)" + edge + R"(,"to":)" + edge + "}");
}

TEST_F(StreamTest, SmallEventsCountForThePlaceTheyTake) {
  open(1 << 20);
  std::vector<std::string> ropes(5000, spike_event(1));
  run(feed(stream_, ropes));
  auto events = all();
  EXPECT_EQ(events[0].topic, Topic::gap);
  EXPECT_LE(events.size(), 1025u + 1);
  EXPECT_EQ(events.back().seq, 5000u);
}

TEST_F(StreamTest, ADiskThatTakesNothingLosesTheOldestOnly) {
  open(1 << 30, "missing/file");
  std::vector<std::string> ropes;
  for (int i = 0; i < 300; ++i) ropes.push_back(spike_event(i, std::string(300'000, 'x')));
  run(feed(stream_, ropes));
  auto events = all();
  ASSERT_GT(events.size(), 3u);
  EXPECT_EQ(events[0].topic, Topic::gap);
  for (std::size_t i = 2; i < events.size(); ++i) EXPECT_EQ(events[i].seq, events[i - 1].seq + 1);
  EXPECT_EQ(stream_->newest(), 301u);  // and a note
  EXPECT_EQ(events.back().seq, 301u);
  EXPECT_LE(events.size() * 300'000, 12u << 20);
}

TEST_F(StreamTest, AFileThatLosesDataMakesAGap) {
  open();
  std::vector<std::string> ropes;
  for (int i = 0; i < 100; ++i) ropes.push_back(spike_event(i, std::string(200'000, 'x')));
  run(feed(stream_, ropes));
  ASSERT_EQ(::truncate((directory_ + "/file").c_str(), 100'000), 0);
  auto events = all();
  ASSERT_EQ(events.size(), 100u);
  EXPECT_EQ(events[0].topic, Topic::gap);
  EXPECT_EQ(text_of(events[0]), R"({"seq":1,"topic":"gap","from":1,"to":1})");
  EXPECT_EQ(*events[99].rope, ropes[99]);  // still in memory
}

TEST_F(StreamTest, BrokenEventsAreNone) {
  open();
  std::vector<std::string> ropes = {"", "x", std::string(64, '\xFF'), codec::text_rope("{}"), codec::text_rope(R"({"topic":"state","state":"ended"})"),
                                    codec::text_rope(R"({"topic":"gap"})"), codec::text_rope("")};
  run(feed(stream_, ropes));
  EXPECT_EQ(stream_->newest(), 0u);
  run(feed(stream_, {codec::text_rope(R"({"topic":"spikes","recorder":99999999999999999999})")}));
  EXPECT_EQ(stream_->newest(), 1u);
}

TEST_F(StreamTest, CharactersAreNotCutInTwo) {
  open();
  stream_->output("a\xE2\x82");
  loop_.run_until_idle();
  stream_->output("\xAC");
  loop_.run_until_idle();
  std::string said;
  for (auto& event : all()) said += boost::json::parse(text_of(event)).at("text").as_string().c_str();
  EXPECT_EQ(said, "a\xE2\x82\xAC");
}

TEST_F(StreamTest, MuchOutputAtOnceComesWholeOrSaysWhatIsMissing) {
  open();
  auto said = [this](std::uint64_t after) {
    std::string text;
    for (auto& event : all(after)) {
      auto part = boost::json::parse(text_of(event)).at("text").as_string();
      EXPECT_LE(part.size(), 65536u);
      text.append(part.begin(), part.end());
    }
    return text;
  };
  std::string umlauts;
  for (int i = 0; i < 40'000; ++i) umlauts += "\xC3\xA9";
  stream_->output(std::string_view(umlauts).substr(0, 65536));  // as a full pipe is read, and the rest a moment later
  stream_->output(std::string_view(umlauts).substr(65536));
  loop_.run_until_idle();
  EXPECT_EQ(said(0), umlauts);
  auto before = stream_->newest();
  std::string flood(300 << 10, 'x');
  stream_->output(flood);
  loop_.run_until_idle();
  EXPECT_EQ(said(before), flood.substr(0, 256 << 10) + "\n[45056 bytes of output skipped]\n");
  before = stream_->newest();
  stream_->output("a new window");
  loop_.run_until_idle();
  EXPECT_EQ(said(before), "a new window");
}

TEST_F(StreamTest, AfterTheEndNothingIsWaitedFor) {
  open();
  stream_->output("last words");
  stream_->state("ended", R"({"cause":{"code":"exited"}})");
  std::vector<Event> out;
  run(read(stream_, 0, {}, &out, 100, async::forever));
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].topic, Topic::output);
  EXPECT_EQ(text_of(out[1]), R"({"seq":2,"topic":"state","state":"ended","cause":{"code":"exited"}})");
  EXPECT_TRUE(stream_->ended());
  EXPECT_TRUE(stream_->over(2, {}));
  EXPECT_FALSE(stream_->over(1, {}));
  // Whoever wants other topics than the last event's is through, too.
  Filter spikes;
  spikes.topics = {Topic::spikes};
  EXPECT_TRUE(stream_->over(0, spikes));
  out.clear();
  run(read(stream_, 0, spikes, &out, 100, async::forever));
  EXPECT_TRUE(out.empty());
}
