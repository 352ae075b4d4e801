#include "store/run_records.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "store/migrate.hpp"
#include "store/test_support.hpp"

using namespace myelin;
using namespace myelin::store;
namespace fs = std::filesystem;

namespace {

struct RunStore : testing::Test {
  fs::path folder;
  std::optional<Database> db;
  std::optional<RunRecords> runs;
  RunStore() {
    std::string pattern = fs::temp_directory_path() / "myelin-runs-XXXXXX";
    folder = ::mkdtemp(pattern.data());
    auto opened = open_state(test::place_in(folder));
    EXPECT_TRUE(opened);
    db.emplace(std::move(*opened));
    runs.emplace(*db);
  }
  ~RunStore() override {
    db.reset();
    fs::remove_all(folder);
  }
  RunRecord add(const std::string& id, const std::string& owner = "u1", int second = 0) {
    RunRecord r;
    r.id = id;
    r.owner = owner;
    r.owner_name = "Somebody";
    r.title = "Title of " + id;
    r.engine = second % 2 ? "neuron" : "nest";
    r.session = "s_1";
    r.inputs = {"r_in", "a\"b"};
    r.source = "print('ä')";
    r.history = "[1,2]";
    r.history_count = 2;
    r.history_complete = false;
    r.bytes = 10;
    r.created = Time(std::chrono::seconds(second));
    EXPECT_TRUE(runs->add(r));
    return r;
  }
  std::string page(RunFilter filter) {
    auto found = runs->list(filter);
    if (!found) return found.error().message;
    std::string ids;
    for (const auto& r : *found) ids += r.id + " ";
    return ids;
  }
};

Time at(int seconds) { return Time(std::chrono::seconds(seconds)); }

RunEnd end_with(RunState state, int second, std::int64_t bytes = 0) {
  RunEnd end;
  end.state = state;
  end.when = at(second);
  end.added_bytes = bytes;
  return end;
}

}  // namespace

TEST_F(RunStore, ARecordComesBackAsItWas) {
  const RunRecord r = add("r_1", "u1", 5);
  EXPECT_EQ(runs->add(r).error().code, Code::conflict);
  auto found = *runs->find("r_1");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->source, r.source);
  EXPECT_FALSE(found->function);
  EXPECT_FALSE(found->parent_session);
  EXPECT_EQ(found->inputs, r.inputs);
  EXPECT_EQ(found->history, "[1,2]");
  EXPECT_FALSE(found->history_complete);
  EXPECT_EQ(found->created, at(5));
  EXPECT_EQ(found->state, RunState::queued);
  EXPECT_FALSE(*runs->find("r_2"));
  EXPECT_FALSE(*runs->find("' OR 1=1 --"));
}

TEST_F(RunStore, StatesGoOneWay) {
  add("r_1");
  EXPECT_TRUE(*runs->started("r_1", at(1)));
  EXPECT_FALSE(*runs->started("r_1", at(2)));
  EXPECT_FALSE(*runs->remove("r_1"));
  auto end = end_with(RunState::failed, 3, 5);
  end.error = "{}";
  end.stdout_text = std::string("a\0\xff", 3);
  EXPECT_TRUE(*runs->ended("r_1", end));
  EXPECT_FALSE(*runs->ended("r_1", end_with(RunState::done, 4)));
  auto found = *runs->find("r_1");
  EXPECT_EQ(found->state, RunState::failed);
  EXPECT_EQ(found->ended, at(3));
  EXPECT_EQ(found->stdout_text, end.stdout_text);
  EXPECT_EQ(found->bytes, 15);
  EXPECT_TRUE(*runs->remove("r_1"));
  EXPECT_FALSE(*runs->remove("r_1"));
}

TEST_F(RunStore, WhatWasUnfinishedIsLost) {
  for (const char* id : {"r_1", "r_2", "r_3"}) add(id);
  EXPECT_TRUE(*runs->started("r_2", at(1)));
  EXPECT_TRUE(*runs->ended("r_3", end_with(RunState::done, 2)));
  EXPECT_EQ(*runs->mark_unfinished_as_lost("{\"code\":\"gone\"}", at(9)), 2);
  EXPECT_EQ((*runs->find("r_1"))->state, RunState::lost);
  EXPECT_EQ((*runs->find("r_2"))->error, "{\"code\":\"gone\"}");
  EXPECT_EQ((*runs->find("r_3"))->state, RunState::done);
  ASSERT_EQ((*runs->all_done()).size(), 1U);
}

TEST_F(RunStore, ListsAreFilteredAndPaged) {
  for (int i = 0; i < 6; ++i) add("r_" + std::to_string(i), i < 4 ? "u1" : "u2", i);
  EXPECT_EQ(page({}), "r_5 r_4 r_3 r_2 r_1 r_0 ");
  RunFilter f;
  f.owner = "u1";
  f.limit = 2;
  EXPECT_EQ(page(f), "r_3 r_2 ");
  f.after = "r_2";
  EXPECT_EQ(page(f), "r_1 r_0 ");
  f.after = "r_5";  // somebody else's
  EXPECT_NE(page(f).find("does not exist"), std::string::npos);
  f = {};
  f.engine = "neuron";
  EXPECT_EQ(page(f), "r_5 r_3 r_1 ");
  f = {};
  f.title = "OF R_4";
  EXPECT_EQ(page(f), "r_4 ");
  f.title = "%";
  EXPECT_EQ(page(f), "");
  f = {};
  f.since = at(2);
  f.until = at(4);
  EXPECT_EQ(page(f), "r_3 r_2 ");
  f = {};
  EXPECT_TRUE(*runs->ended("r_0", end_with(RunState::done, 9)));
  EXPECT_TRUE(*runs->ended("r_1", end_with(RunState::done, 9)));
  EXPECT_TRUE(runs->set_expiry("r_1", at(100)));
  f.state = RunState::done;
  EXPECT_EQ(page(f), "r_1 r_0 ");
  f = {};
  f.jobs = true;
  EXPECT_EQ(page(f), "r_5 r_4 r_3 r_2 r_1 ");
  f = {};
  f.session = "s_2";
  EXPECT_EQ(page(f), "");
}

TEST_F(RunStore, TheQuotaIsCheckedWithTheEnd) {
  add("r_1");
  add("r_2");
  add("r_3", "u2");
  auto end = end_with(RunState::done, 1, 70);
  end.quota_bytes = 100;
  EXPECT_TRUE(*runs->ended("r_1", end));  // 10 + 70, and 10 of the other
  EXPECT_EQ(*runs->bytes_of("u1"), 90);
  auto refused = runs->ended("r_2", end);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::quota);
  EXPECT_EQ((*runs->find("r_2"))->state, RunState::queued);
  EXPECT_TRUE(*runs->ended("r_3", end));
}

TEST_F(RunStore, RunsExpireWhenTheyHaveEnded) {
  for (const char* id : {"r_1", "r_2", "r_3"}) add(id);
  EXPECT_TRUE(runs->set_expiry("r_1", at(10)));
  RunRecord kept;
  kept.id = "r_4";
  kept.owner = "u1";
  kept.kept_for_ms = 5000;
  EXPECT_TRUE(runs->add(kept));
  EXPECT_TRUE(*runs->ended("r_4", end_with(RunState::done, 4)));
  EXPECT_EQ((*runs->find("r_4"))->expires, at(9));
  auto past = *runs->expired(at(20), 10);
  ASSERT_EQ(past.size(), 1U);  // r_1 still waits
  EXPECT_EQ(past[0].first, "r_4");
  EXPECT_TRUE(*runs->ended("r_1", end_with(RunState::done, 15)));
  EXPECT_EQ((*runs->expired(at(20), 10)).size(), 2U);
  EXPECT_EQ((*runs->expired(at(20), 1)).size(), 1U);
  EXPECT_TRUE(runs->set_expiry("r_1", std::nullopt));
  EXPECT_EQ((*runs->expired(at(20), 10)).size(), 1U);
  EXPECT_EQ(runs->set_title("r_9", "x").error().code, Code::not_found);
}

TEST_F(RunStore, AnOlderDatabaseGetsTheTable) {
  auto old = test::open_in(folder, "old");
  ASSERT_TRUE(old);
  auto steps = migrations();
  ASSERT_GE(steps.size(), 2U);
  steps.resize(1);
  ASSERT_TRUE(migrate(*old, steps));
  ASSERT_TRUE(migrate(*old, migrations()));
  EXPECT_TRUE(RunRecords(*old).list({}));
}
