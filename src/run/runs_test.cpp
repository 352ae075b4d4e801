#include "run/runs.hpp"

#include <atomic>
#include <limits>

#include "base/time.hpp"
#include "run/test_support.hpp"

using namespace myelin;
using namespace myelin::run;
using namespace myelin::run::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double nan_ = std::numeric_limits<double>::quiet_NaN();

RopeBuilder simple(std::vector<double> v = {1, 2.5, -65}) {
  RopeBuilder b;
  b.text(R"({"data":{"v":)").array(Dtype::f64, {v.size()}, raw(v)).text(R"(,"n":3},"stdout":"hé\n\"x\""})");
  return b;
}

}  // namespace

// ---- round trips
// ---------------------------------------------------------------------------------------------------

TEST_F(RunTest, EveryKindOfArrayComesBackExactly) {
  start();
  for (const bool memfd : {false, true}) {
    RopeBuilder b;
    b.text("{ \"data\" : {\"i8\":", memfd)
        .array(Dtype::i8, {3}, raw<std::int8_t>({-128, 0, 127}), memfd)
        .text(",\"i16\":")
        .array(Dtype::i16, {2}, raw<std::int16_t>({-32768, 5}), memfd)
        .text(",\"i32\":")
        .array(Dtype::i32, {2, 1}, raw<std::int32_t>({INT32_MIN, 5}), memfd)
        .text(",\"i64\":")
        .array(Dtype::i64, {1}, raw<std::int64_t>({INT64_MIN}), memfd)
        .text(",\"u8\":")
        .array(Dtype::u8, {2}, raw<std::uint8_t>({0, 255}), memfd)
        .text(",\"u16\":")
        .array(Dtype::u16, {1}, raw<std::uint16_t>({65535}), memfd)
        .text(",\"u32\":")
        .array(Dtype::u32, {1}, raw<std::uint32_t>({UINT32_MAX}), memfd)
        .text(",\"u64\":")
        .array(Dtype::u64, {1}, raw<std::uint64_t>({UINT64_MAX}), memfd)
        .text(",\"f32\":")
        .array(Dtype::f32, {2}, raw<float>({0.1F, static_cast<float>(nan_)}), memfd)
        .text(",\"f64\":")
        .array(Dtype::f64, {2, 2, 2}, raw<double>({1, -0.0, infinity, -infinity, nan_, 1e300, 1.0 / 3, 5}),
               memfd)
        .text(",\"b\":")
        .array(Dtype::boolean, {3}, std::string("\0\1\7", 3), memfd)
        .text(",\"none\":")
        .array(Dtype::f64, {3, 0}, "", memfd)
        .text(",\"empty\":")
        .array(Dtype::i32, {0}, "", memfd)
        .text(",\"x\":NaN,\"y\":[-Infinity,\"NaN\"]},\"stdout\":\"\"}\n", memfd);
    const std::string id = done(b);
    const auto rope = b.rope();
    for (const auto format : {codec::Format::json, codec::Format::cbor}) {
      auto live = codec::encode_all(rope, format, codec::Nonfinite::bare, b.reader());
      auto stored = answer(id, format, codec::Nonfinite::bare);
      ASSERT_TRUE(live && stored) << stored.error().message;
      EXPECT_EQ(*stored, *live);
    }
    // As null, the text has none of the bare names either.
    auto strict = answer(id, codec::Format::json, codec::Nonfinite::null);
    ASSERT_TRUE(strict);
    boost::system::error_code failed;
    const auto value = boost::json::parse(*strict, failed);
    ASSERT_FALSE(failed);
    EXPECT_TRUE(value.at("data").at("x").is_null());
    EXPECT_EQ(boost::json::serialize(value.at("data").at("y")), "[null,\"NaN\"]");
    EXPECT_EQ(boost::json::serialize(value.at("data").at("b")), "[false,true,true]");
    auto checked = server->get(runs().verify(me, id));
    EXPECT_TRUE(checked) << (checked ? "" : checked.error().message);
  }
}

TEST_F(RunTest, LargeResultsAreWrittenAndReadInPieces) {
  start();
  std::vector<double> v(3'000'000);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>(i) * 0.1;
  std::vector<std::int64_t> senders(v.size(), 7);
  RopeBuilder b;
  b.text(R"({"data":{"events":{"times":)").array(Dtype::f64, {v.size()}, raw(v), true);
  b.text(R"(,"senders":)").array(Dtype::i64, {v.size()}, raw(senders), true).text("}}}");
  const std::string id = done(b);
  EXPECT_EQ(names(id), "events.times:float64[3000000] events.senders:int64[3000000] ");
  auto live = codec::encode_all(b.rope(), codec::Format::cbor, codec::Nonfinite::null, b.reader());
  auto stored = answer(id, codec::Format::cbor, codec::Nonfinite::null);
  ASSERT_TRUE(stored);
  EXPECT_TRUE(*stored == *live);
}

TEST_F(RunTest, ADocumentThatIsOneArrayOrOneNumber) {
  start();
  const std::string id = done(RopeBuilder().array(Dtype::i32, {2}, raw<std::int32_t>({1, 2})));
  EXPECT_EQ(names(id), "data:int32[2] ");
  EXPECT_EQ(*answer(id, codec::Format::json, codec::Nonfinite::null), "[1,2]");
  const std::string number = done(RopeBuilder().text("3.5"));
  EXPECT_EQ(names(number), "");
  EXPECT_EQ(*answer(number, codec::Format::json, codec::Nonfinite::null), "3.5");
}

TEST_F(RunTest, FilesCanBeReadWithoutMyelin) {
  start();
  const std::string id = done(simple());
  EXPECT_EQ(read_file(directory(id) / "result.json"),
            R"({"data":{"v":{"$npy":"data/v.npy"},"n":3},"stdout":"hé\n\"x\""})");
  const auto record = boost::json::parse(read_file(directory(id) / "run.json"));
  EXPECT_EQ(record.at("state").as_string(), "done");
  EXPECT_EQ(record.at("stdout").as_string(), "hé\n\"x\"");
  EXPECT_TRUE(record.at("datasets").at(0).at("unit").is_null());
  EXPECT_EQ(record.at("source").as_string(), "print(1)");
  const std::string check = "cd '" + directory(id).string() + "' && sha256sum --quiet -c SHA256SUMS";
  EXPECT_EQ(std::system(check.c_str()), 0);
}

// ---- datasets
// ------------------------------------------------------------------------------------------------------

TEST_F(RunTest, DatasetsHaveTheNamesOfTheirPaths) {
  start();
  const auto data = raw<std::int8_t>({1});
  RopeBuilder b;
  b.text(R"({"data":[{"events":{"times":)").array(Dtype::i8, {1}, data);
  b.text(R"(,"../../etc/passwd":)").array(Dtype::i8, {1}, data);
  b.text(R"(,"a b":)").array(Dtype::i8, {1}, data);
  b.text(R"(,"a_b":)").array(Dtype::i8, {1}, data);
  b.text(R"(,"A_b":)").array(Dtype::i8, {1}, data);
  b.text(R"(,"":)").array(Dtype::i8, {1}, data);
  b.text(R"(}},)").array(Dtype::i8, {1}, data).text("]}");
  const std::string id = done(b);
  EXPECT_EQ(names(id),
            "0.events.times:int8[1] 0.events..._.._etc_passwd:int8[1] 0.events.a_b:int8[1] "
            "0.events.a_b_2:int8[1] 0.events.A_b_3:int8[1] 0.events.:int8[1] 1:int8[1] ");
  RopeBuilder dots;
  dots.text(R"({"data":{"..":)").array(Dtype::i8, {1}, data).text(R"(,"/":)").array(Dtype::i8, {1}, data);
  dots.text(R"(,"é)" + std::string(500, 'x') + R"(":)").array(Dtype::i8, {1}, data).text("}}");
  const std::string other = done(dots);
  for (const auto& entry : fs::recursive_directory_iterator(folder / "runs"))
    EXPECT_LE(entry.path().filename().string().size(), 128U);
  EXPECT_EQ(names(other).substr(0, 24), "_..:int8[1] _:int8[1] __");
  EXPECT_TRUE(server->get(runs().verify(me, other)));
}

TEST_F(RunTest, UnitsDimsAndCoordinatesAreSaidOrFixedNeverGuessed) {
  start();
  const auto shown = [&](const std::string& text, NewRun what) {
    const std::string id = done(RopeBuilder().text(text), std::move(what));
    std::string out;
    const auto list = boost::json::parse(server->get(runs().get(me, id))->datasets);
    for (const auto& d : list.as_array())
      out += std::string(d.at("name").as_string()) + boost::json::serialize(d.at("dims")) + boost::json::serialize(d.at("unit")) +
             (d.as_object().contains("coordinates") ? boost::json::serialize(d.at("coordinates")) : "") + " ";
    return out;
  };
  const std::string events = R"({"data":{"e":{"senders":[1,1],"times":[0.5,1.5],"V_m":[-70.0,-69.5],"x":[1,2]},"t":[0.5],"V_m":[1.0],"times":[1.5]}})";
  EXPECT_EQ(shown(events, script()), R"(e.senders["dim_0"]null["e.times"] e.times["dim_0"]"ms" e.V_m["dim_0"]"mV"["e.times"] e.x["dim_0"]null["e.times"] )"
                                     R"(t["dim_0"]null V_m["dim_0"]null times["dim_0"]null )");
  NewRun plain = script();
  plain.versions = R"({"python":"3.11"})";
  EXPECT_EQ(shown(events, plain), R"(e.senders["dim_0"]null e.times["dim_0"]null e.V_m["dim_0"]null e.x["dim_0"]null t["dim_0"]null V_m["dim_0"]null times["dim_0"]null )");
  EXPECT_EQ(shown(R"({"data":{"senders":[1],"times":[5]}})", script()), R"(senders["dim_0"]null times["dim_0"]null )");  // steps
  plain.options = R"~({"results":{"t":{"unit":"ms","dims":[]},"v":{"unit":"mV, \"x\"","dims":["cell","t"]},"n":{"unit":"","dims":["a","b"]}}})~";
  EXPECT_EQ(shown(R"({"data":{"v":[[1.5,2,3],[4,5,6]],"t":[0.5,1,2],"n":[1],"u":[1,2,3]}})", plain),
            R"(v["cell","t"]"mV, \"x\""["t"] t["t"]"ms" n["dim_0"]null u["dim_0"]null )");
  const std::string id = done(RopeBuilder().text(R"({"data":{"v":[[[1.5]]],"t":[0.5]}})"), plain);
  EXPECT_EQ(get_dataset(id, "v", DatasetFormat::csv), "cell,t,dim_2,\"v [mV, \"\"x\"\"]\"\n0,0,0,1.5\n");
}

TEST_F(RunTest, ListsOfNumbersBecomeDatasets) {
  start();
  const std::string text =
      R"({"data":{"a":[1,2,3],"b":[[1,2.5],[3,4]],"c":[true,false],"d":[1,"x",2],"e":[[1],[2,3]],"f":[],"g":[NaN,1,-Infinity],)"
      R"("h":[{"times":[0.5]},{"times":[1]}],"i":[1,null],"j":[true,1],"k":[[[1,2]],[[3,4]]],"l":[[],[]],"m":[[1,2],3],"n":[9223372036854775808,1],)"
      R"("o":[1,[2]],"p":[-0,0]},"stdout":"[1,2]"})";
  for (const bool memfd : {false, true}) {
    const std::string id = done(RopeBuilder().text(text, memfd));
    EXPECT_EQ(names(id),
              "a:int64[3] b:float64[2,2] c:bool[2] g:float64[3] h.0.times:float64[1] h.1.times:int64[1] "
              "k:int64[2,1,2] n:float64[2] p:float64[2] ");
    EXPECT_EQ(get_dataset(id, "b", DatasetFormat::json), "[[1.0,2.5],[3.0,4.0]]");
    EXPECT_EQ(get_dataset(id, "g", DatasetFormat::csv), "g\nnan\n1.0\n-inf\n");
    EXPECT_EQ(get_dataset(id, "k", DatasetFormat::json), "[[[1,2]],[[3,4]]]");
    EXPECT_EQ(*answer(id, codec::Format::json, codec::Nonfinite::bare), text);
  }
}

TEST_F(RunTest, ThousandsOfArraysOfOneNameStayFast) {
  start();
  RopeBuilder b;
  b.text("{\"data\":{\"x\":0");
  for (int i = 0; i < 1200; ++i) b.text(",\"v\":").array(Dtype::i8, {1}, "\1");
  b.text("}}");
  const std::string id = done(b);
  EXPECT_TRUE(fs::exists(directory(id) / "data" / "v_1200.npy"));
  EXPECT_TRUE(server->get(runs().verify(me, id)));
  auto page = server->get(runs().list(me, Filter{}));
  EXPECT_TRUE(page->runs[0].datasets_left_out);
  EXPECT_TRUE(server->get(runs().compare(me, id, id))->at("identical").as_bool());
}

TEST_F(RunTest, LongListsGoByAFile) {
  start();
  std::string text = R"({"data":{"v":[)", csv = "v\n";
  for (int i = 0; i < 400'000; ++i) text += std::to_string(i) + ",";
  text += "0.5],\"w\":[";
  for (int i = 0; i < 400'000; ++i) text += "1,";
  text += "\"no\"]}}";
  for (int i = 0; i < 400'000; ++i) csv += std::to_string(i) + ".0\n";
  const std::string id = done(RopeBuilder().text(text, true));
  EXPECT_EQ(names(id), "v:float64[400001] ");
  EXPECT_TRUE(get_dataset(id, "v", DatasetFormat::csv) == csv + "0.5\n");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory(id) / "data"), fs::directory_iterator()), 1);
  EXPECT_TRUE(server->get(runs().verify(me, id)));
}

TEST_F(RunTest, ManyListsMakeABoundedNumberOfFiles) {
  start();
  std::string text = R"({"data":{)";
  for (int i = 0; i < 5000; ++i) text += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":[1]";
  const std::string id = done(RopeBuilder().text(text + "}}"));
  EXPECT_EQ(std::distance(fs::directory_iterator(directory(id) / "data"), fs::directory_iterator()), 1024);
  EXPECT_TRUE(server->get(runs().verify(me, id)));
}

TEST_F(RunTest, AResultThatIsNotJsonFailsTheRun) {
  start();
  for (const char* text : {"{\"data\":[1,2}", "[1,2", "nonsense", "", "[1]]", "{\"a\" 1}"}) {
    const std::string id = begin();
    auto record = finish(id, RopeBuilder().text(text), "out");
    ASSERT_FALSE(record) << text;
    EXPECT_EQ(record.error().code, Code::worker_lost) << text;
    auto now = server->get(runs().get(me, id));
    EXPECT_EQ(now->state, State::failed);
    EXPECT_EQ(now->stdout_text, "out");
    EXPECT_FALSE(fs::exists(directory(id)));
  }
  const std::string id = begin();
  RopeBuilder b;
  b.text("[").array(Dtype::f64, {2}, raw<double>({1, 2}), true).text("]");
  auto short_memory = os::make_sealed_memfd("test", "12345678");
  auto record = server->get(
      runs().finish(id, b.rope(), std::make_shared<os::UniqueFd>(std::move(*short_memory)), std::nullopt));
  ASSERT_FALSE(record);
  EXPECT_EQ(record.error().code, Code::worker_lost);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "runs" / "u1"), fs::directory_iterator()), 0);
}

// ---- life
// ----------------------------------------------------------------------------------------------------------

TEST_F(RunTest, ARunLives) {
  start();
  auto what = script("# A network\nimport nest");
  what.history = R"([{"source":"a=1","x":[NaN,2]}])";
  what.seeds = R"({"rng_seed":7})";
  what.inputs = {"r_before"};
  auto made = server->get(runs().create(what));
  ASSERT_TRUE(made);
  EXPECT_EQ(made->title, "A network");
  EXPECT_EQ(made->id.substr(0, 2), "r_");
  EXPECT_EQ(made->state, State::queued);
  EXPECT_EQ(server->get(runs().result(me, made->id, codec::Nonfinite::null)).error().code, Code::conflict);
  EXPECT_TRUE(server->get(runs().start(made->id)));
  EXPECT_EQ(server->get(runs().start(made->id)).error().code, Code::conflict);
  EXPECT_EQ(server->get(runs().remove(me, made->id)).error().code, Code::conflict);
  auto record = finish(made->id, simple());
  ASSERT_TRUE(record);
  EXPECT_EQ(record->state, State::done);
  EXPECT_EQ(record->stdout_text, "hé\n\"x\"");
  const auto object = run::describe(*record, Detail::full);
  EXPECT_EQ(object.at("history").as_int64(), 1);
  EXPECT_EQ(object.at("seeds").at("rng_seed").as_int64(), 7);
  EXPECT_EQ(object.at("datasets").at(0).at("dims").at(0).as_string(), "dim_0");
  EXPECT_FALSE(run::describe(*record, Detail::brief).contains("source"));
  EXPECT_EQ(finish(made->id, simple()).error().code, Code::conflict);
  EXPECT_TRUE(fs::exists(directory(made->id) / "data" / "v.npy"));

  Change change;
  change.title = "Better";
  change.expires_at.emplace(Time(std::chrono::seconds(5)));
  auto changed = server->get(runs().update(me, made->id, change));
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->title, "Better");
  EXPECT_EQ(iso_time(*changed->expires), "1970-01-01T00:00:05.000Z");
  const Asker other{"u2", false}, boss{"u3", true};
  EXPECT_EQ(server->get(runs().get(other, made->id)).error().code, Code::not_found);
  EXPECT_EQ(server->get(runs().remove(other, made->id)).error().code, Code::not_found);
  EXPECT_EQ(server->get(runs().update(other, made->id, change)).error().code, Code::not_found);
  EXPECT_EQ(server->get(runs().result(other, made->id, codec::Nonfinite::null)).error().code,
            Code::not_found);
  EXPECT_EQ(server->get(runs().compare(other, made->id, made->id)).error().code, Code::not_found);
  EXPECT_TRUE(server->get(runs().get(boss, made->id)));
  for (const char* id : {"../u1", "..", "", "r_0", "r_0/../../x"}) {
    EXPECT_EQ(server->get(runs().get(boss, id)).error().code, Code::not_found);
    EXPECT_EQ(server->get(runs().dataset(me, made->id, id, DatasetFormat::npy)).error().code,
              Code::not_found);
  }
  EXPECT_EQ(*server->get(runs().expire(Time(std::chrono::seconds(4)))), 0U);
  EXPECT_EQ(*server->get(runs().expire(Time(std::chrono::seconds(5)))), 1U);
  EXPECT_EQ(server->get(runs().get(me, made->id)).error().code, Code::not_found);
  EXPECT_FALSE(fs::exists(directory(made->id)));
}

TEST_F(RunTest, FailedAndCancelledRunsSayWhy) {
  start();
  const std::string id = begin();
  EXPECT_EQ(server->get(runs().fail(id, "not json", "")).error().code, Code::bad_request);
  auto failed = server->get(runs().fail(id, R"({"code":"call_failed","class":"NameError"})", "before"));
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->state, State::failed);
  auto result = server->get(runs().result(me, id, codec::Nonfinite::null));
  EXPECT_EQ(result.error().code, Code::call_failed);
  EXPECT_NE(result.error().detail.find("NameError"), std::string::npos);
  EXPECT_EQ(server->get(runs().cancel(id, "{}", "")).error().code, Code::conflict);
  const std::string other = begin();
  EXPECT_TRUE(server->get(runs().cancel(other, "{}", "")));
  EXPECT_EQ(finish(other, simple()).error().code, Code::conflict);
  EXPECT_FALSE(fs::exists(directory(other)));
  EXPECT_TRUE(server->get(runs().remove(me, other)));
}

TEST_F(RunTest, BadInputIsRefused) {
  start();
  auto what = script();
  what.history = "{}";
  EXPECT_EQ(server->get(runs().create(what)).error().code, Code::bad_request);
  what.history = "[\"" + std::string(max_history_bytes, 'x') + "\"]";
  EXPECT_EQ(server->get(runs().create(what)).error().code, Code::bad_request);
  what = script();
  what.seeds = "[1";
  EXPECT_EQ(server->get(runs().create(what)).error().code, Code::bad_request);
  for (const char* owner : {"", "..", "a/b", ".x"})
    EXPECT_FALSE(server->get(runs().create(script("x", owner)))) << owner;
  Filter filter;
  filter.limit = 0;
  EXPECT_EQ(server->get(runs().list(me, filter)).error().code, Code::bad_request);
}

TEST_F(RunTest, ListsHavePages) {
  start();
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(begin());
  begin(script("x", "u2"));
  Filter filter;
  filter.limit = 2;
  std::vector<std::string> seen;
  for (int pages = 0; pages < 3; ++pages) {
    auto page = server->get(runs().list(me, filter));
    ASSERT_TRUE(page);
    for (const auto& r : page->runs) seen.push_back(r.id);
    filter.after = page->next;
    EXPECT_EQ(page->next.has_value(), pages < 2);
  }
  EXPECT_EQ(seen, std::vector<std::string>(ids.rbegin(), ids.rend()));
  Filter all;
  all.all_users = true;
  EXPECT_EQ(server->get(runs().list(me, all))->runs.size(), 5U);
  EXPECT_EQ(server->get(runs().list(Asker{"boss", true}, all))->runs.size(), 6U);
}

// ---- faults
// --------------------------------------------------------------------------------------------------------

TEST_F(RunTest, ARestartLosesWhatWasUnfinishedAndNothingElse) {
  start();
  const std::string kept = done(simple()), running = begin();
  auto queued = server->get(runs().create(script()));
  server.reset();
  // What a kill leaves: before the rename, and between the rename and the row.
  fs::create_directories(folder / "runs" / "u1" / (".new-" + running) / "data");
  fs::copy(directory(kept), directory(running), fs::copy_options::recursive);
  fs::create_directories(folder / "runs" / "u9" / "r_unknown");
  start();
  EXPECT_EQ(server->get(runs().get(me, running))->state, State::lost);
  auto lost = server->get(runs().get(me, queued->id));
  EXPECT_EQ(lost->state, State::lost);
  EXPECT_NE(lost->error->find("the server restarted at 2"), std::string::npos) << *lost->error;
  EXPECT_EQ(server->get(runs().result(me, running, codec::Nonfinite::null)).error().code, Code::gone);
  EXPECT_FALSE(fs::exists(directory(running)));
  EXPECT_FALSE(fs::exists(folder / "runs" / "u1" / (".new-" + running)));
  EXPECT_FALSE(fs::exists(folder / "runs" / "u9" / "r_unknown"));
  EXPECT_TRUE(server->get(runs().verify(me, kept)));
  EXPECT_TRUE(answer(kept, codec::Format::json, codec::Nonfinite::null));
}

TEST_F(RunTest, EachStepOfWritingMayFail) {
  auto steps = std::make_shared<std::atomic<int>>(0);
  auto fail_at = std::make_shared<std::atomic<int>>(0);
  RunsOptions options;
  options.fault = [steps, fail_at](const char*) { return ++*steps == *fail_at ? ENOSPC : 0; };
  start(options);
  RopeBuilder b;
  b.text(R"({"data":{"v":)")
      .array(Dtype::f64, {3}, raw<double>({1, nan_, 2}))
      .text(R"(,"l":[1,2],"x":NaN}})");
  int failures = 0;
  for (int n = 1;; ++n) {
    const std::string id = begin();
    *steps = 0;
    *fail_at = n;
    auto record = finish(id, b);
    *fail_at = 0;
    auto now = server->get(runs().get(me, id));
    if (record) {
      EXPECT_EQ(now->state, State::done);
      EXPECT_TRUE(server->get(runs().verify(me, id)));
      break;
    }
    ++failures;
    EXPECT_EQ(record.error().code, Code::insufficient_storage) << n;
    EXPECT_EQ(now->state, State::failed) << n;
    EXPECT_NE(now->error->find("insufficient_storage"), std::string::npos);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder / "runs" / "u1"), fs::directory_iterator()), 0)
        << n;
  }
  EXPECT_GT(failures, 15);
}

TEST_F(RunTest, FlippedBitsAreFoundAndNamed) {
  start();
  std::vector<double> v(20'000, 1.5);
  RopeBuilder b;
  b.text(R"({"data":{"v":)").array(Dtype::f64, {v.size()}, raw(v)).text(R"(,"t":[1,2]}})");
  const std::string id = done(b);
  std::mt19937_64 random(codec::test::seed());
  for (const char* name : {"data/v.npy", "data/t.npy", "result.json", "run.json"}) {
    const fs::path path = directory(id) / name;
    const std::string good = read_file(path);
    for (int i = 0; i < 30; ++i) {
      std::string bad = good;
      bad[random() % bad.size()] ^= static_cast<char>(1U << random() % 8);
      write_file(path, bad);
      auto checked = server->get(runs().verify(me, id));
      ASSERT_FALSE(checked);
      EXPECT_NE(checked.error().message.find(name), std::string::npos) << checked.error().message;
      if (std::string(name) == "data/v.npy") {
        for (const auto format :
             {DatasetFormat::json, DatasetFormat::csv, DatasetFormat::cbor, DatasetFormat::npy})
          EXPECT_NE(get_dataset(id, "v", format).find("data/v.npy of run"), std::string::npos);
        EXPECT_FALSE(answer(id, codec::Format::json, codec::Nonfinite::null));
        EXPECT_NE(get_export(id, ExportFormat::npz).find("error: data/v.npy"), std::string::npos);
      }
      if (std::string(name) == "result.json") {
        EXPECT_FALSE(answer(id, codec::Format::cbor, codec::Nonfinite::null));
      }
    }
    write_file(path, good.substr(0, good.size() - 1));
    EXPECT_FALSE(server->get(runs().verify(me, id)));
    write_file(path, good);
    EXPECT_TRUE(server->get(runs().verify(me, id)));
  }
}

TEST_F(RunTest, TheQuotaHolds) {
  RunsOptions options;
  options.quota_bytes = 100'000;
  start(options);
  std::vector<double> v(5'000);
  RopeBuilder b;
  b.text("{\"data\":").array(Dtype::f64, {v.size()}, raw(v)).text("}");
  const std::string first = done(b), second = done(b);
  EXPECT_GT(*server->get(runs().bytes_of("u1")), 80'000U);
  const std::string third = begin();
  auto refused = finish(third, b);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::quota);
  EXPECT_NE(refused.error().message.find("Delete runs"), std::string::npos);
  EXPECT_EQ(server->get(runs().get(me, third))->state, State::failed);
  // The lists of numbers count as well: 15 KB of text, 60 KB of doubles.
  std::string text = "{\"data\":[0";
  for (int i = 0; i < 7'500; ++i) text += ",1";
  EXPECT_EQ(finish(begin(), RopeBuilder().text(text + "]}")).error().code, Code::quota);
  EXPECT_TRUE(server->get(runs().create(script("x", "u2"))));  // somebody else is not concerned
  auto large = script(std::string(30'000, '#'));
  auto create = server->get(runs().create(large));
  ASSERT_FALSE(create);
  EXPECT_EQ(create.error().code, Code::quota);
  EXPECT_TRUE(server->get(runs().remove(me, first)));
  EXPECT_TRUE(finish(begin(), b));
  (void)second;
}

TEST_F(RunTest, TwoThatFinishTogetherDoNotExceedTheQuota) {
  RunsOptions options;
  options.quota_bytes = 100'000;
  start(options);
  std::vector<double> v(7'000);
  RopeBuilder b;
  b.text("{\"data\":").array(Dtype::f64, {v.size()}, raw(v)).text("}");
  const std::string x = begin(), y = begin();
  auto first = std::async(std::launch::async, [&] { return finish(x, b); });
  auto second = finish(y, b);
  EXPECT_NE(first.get().ok(), second.ok());
  EXPECT_LE(*server->get(runs().bytes_of("u1")), 100'000U);
}

TEST_F(RunTest, ADeletedRunEndsItsReaders) {
  start();
  std::vector<double> v(200'000, 2.25);
  RopeBuilder b;
  b.text("{\"data\":{\"a\":")
      .array(Dtype::f64, {v.size()}, raw(v))
      .text(",\"b\":")
      .array(Dtype::f64, {v.size()}, raw(v))
      .text("}}");
  const std::string id = done(b);
  auto got = server->get(runs().export_as(me, id, ExportFormat::npz));
  ASSERT_TRUE(got);
  std::string chunk;
  ASSERT_TRUE(server->get(got->source->next(chunk)));
  ASSERT_TRUE(server->get(runs().remove(me, id)));
  EXPECT_NE(server->read(*got->source).find("the run was deleted"), std::string::npos);
}

TEST_F(RunTest, RunsExpireByThemselves) {
  RunsOptions options;
  options.expire_every = std::chrono::seconds(1);
  start(options);
  auto what = script();
  what.kept_for = std::chrono::milliseconds(1);
  const std::string id = done(simple(), what);
  for (int i = 0; i < 200 && server->get(runs().get(me, id)); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(server->get(runs().get(me, id)));
}
