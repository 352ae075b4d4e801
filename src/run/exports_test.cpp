#include <limits>

#include "codec/zip.hpp"
#include "run/maker.hpp"
#include "run/test_support.hpp"

using namespace myelin;
using namespace myelin::run;
using namespace myelin::run::test;

namespace {

const double nan_ = std::numeric_limits<double>::quiet_NaN();

/// Runs a Python program, with NumPy if asked; skips the test where there is none.
struct Python {
  std::string executable = "python3";
  bool found = false;
  explicit Python(bool numpy) {
    for (const std::string& candidate :
         {std::string(MYELIN_SOURCE_DIR "/.venv-test/bin/python"), std::string("python3")}) {
      executable = candidate;
      const std::string probe =
          "'" + candidate + "' -c '" + (numpy ? "import numpy" : "pass") + "' 2>/dev/null";
      if ((found = std::system(probe.c_str()) == 0)) return;
    }
  }
  [[nodiscard]] int run(const fs::path& folder, const std::string& program) const {
    write_file(folder / "check.py", program);
    return std::system(("cd '" + folder.string() + "' && '" + executable + "' check.py").c_str());
  }
};

RopeBuilder recording() {
  RopeBuilder b;
  b.text(R"({"data":{"events":{"times":)").array(Dtype::f64, {3}, raw<double>({0.5, 1, nan_}));
  b.text(R"(,"senders":)").array(Dtype::i64, {3}, raw<std::int64_t>({7, 8, 9}), true);
  b.text(R"(,"V_m":)").array(Dtype::f32, {2}, raw<float>({-65.5F, -70}));
  b.text(R"(},"w":)").array(Dtype::f64, {2, 3}, raw<double>({1, 2, 3, 4, 5, 6}));
  b.text(R"(,"cube":)").array(Dtype::u8, {2, 1, 2}, raw<std::uint8_t>({1, 2, 3, 4}));
  b.text(R"(,"on":)").array(Dtype::boolean, {2}, std::string("\0\1", 2));
  b.text(R"(,"none":)").array(Dtype::f64, {0, 3}, "");
  b.text(R"(,"list":[1,2,3],"rate":12.5},"stdout":"hello"})");
  return b;
}

}  // namespace

TEST_F(RunTest, DatasetsInEveryFormat) {
  start();
  auto what = script();
  what.options = R"({"results":{"w":{"unit":"pA","dims":[]}}})";
  const std::string id = done(recording(), std::move(what));
  EXPECT_EQ(get_dataset(id, "events.times", DatasetFormat::csv), "events.times [ms]\n0.5\n1.0\nnan\n");
  EXPECT_EQ(get_dataset(id, "events.times", DatasetFormat::json), "[0.5,1.0,null]");
  EXPECT_EQ(get_dataset(id, "w", DatasetFormat::csv),
            "w[0] [pA],w[1] [pA],w[2] [pA]\n1.0,2.0,3.0\n4.0,5.0,6.0\n");
  EXPECT_EQ(get_dataset(id, "cube", DatasetFormat::csv),
            "dim_0,dim_1,dim_2,cube\n0,0,0,1\n0,0,1,2\n1,0,0,3\n1,0,1,4\n");
  EXPECT_EQ(get_dataset(id, "on", DatasetFormat::csv), "on\n0\n1\n");
  EXPECT_EQ(get_dataset(id, "on", DatasetFormat::json), "[false,true]");
  EXPECT_EQ(get_dataset(id, "none", DatasetFormat::json), "[]");
  EXPECT_EQ(get_dataset(id, "none", DatasetFormat::csv), "none[0],none[1],none[2]\n");
  EXPECT_EQ(codec::test::CborReader(get_dataset(id, "w", DatasetFormat::cbor)).document(),
            "40([[2,3],86([1.0,2.0,3.0,4.0,5.0,6.0])])");
  EXPECT_EQ(get_dataset(id, "cube", DatasetFormat::npy), read_file(directory(id) / "data" / "cube.npy"));
  EXPECT_NE(get_dataset(id, "nothing", DatasetFormat::csv).find("there are: events.times, events.senders"),
            std::string::npos);
}

TEST_F(RunTest, NumpyReadsTheFilesAndTheNpz) {
  start();
  const std::string id = done(recording());
  write_file(folder / "all.npz", get_export(id, ExportFormat::npz));
  const Python python(true);
  if (!python.found) GTEST_SKIP() << "no Python with NumPy";
  EXPECT_EQ(python.run(folder, R"(
import numpy, pathlib
z = numpy.load("all.npz")
assert sorted(z.files) == sorted(["events.times", "events.senders", "events.V_m", "w", "cube", "on", "none", "list"]), z.files
assert numpy.array_equal(z["events.times"], [0.5, 1, numpy.nan], equal_nan=True)
assert z["events.senders"].dtype == "<i8" and z["events.senders"].tolist() == [7, 8, 9]
assert z["events.V_m"].dtype == "<f4" and z["w"].shape == (2, 3) and z["w"][1, 0] == 4
assert z["cube"].tolist() == [[[1, 2]], [[3, 4]]] and z["cube"].flags.c_contiguous
assert z["on"].dtype == bool and z["on"].tolist() == [False, True]
assert z["none"].shape == (0, 3) and z["list"].tolist() == [1, 2, 3]
for path in pathlib.Path("runs").rglob("*.npy"):
    assert numpy.array_equal(numpy.load(path), z[path.name[:-4]], equal_nan=z[path.name[:-4]].dtype.kind == "f"), path
)"),
            0);
}

TEST_F(RunTest, ColumnsThatBelongTogetherShareACsvFile) {
  start();
  const std::string id = done(recording());
  write_file(folder / "all.zip", get_export(id, ExportFormat::csv));
  const Python python(false);
  if (!python.found) GTEST_SKIP() << "no Python";
  EXPECT_EQ(python.run(folder, R"(
import zipfile
z = zipfile.ZipFile("all.zip")
assert z.testzip() is None
assert sorted(z.namelist()) == ["cube.csv", "events.V_m.csv", "events.csv", "list.csv", "none.csv", "on.csv", "w.csv"], z.namelist()
assert z.read("events.csv") == b"events.times [ms],events.senders\n0.5,7\n1.0,8\nnan,9\n", z.read("events.csv")
assert z.read("events.V_m.csv") == b"events.V_m [mV]\n-65.5\n-70.0\n"
)"),
            0);
}

TEST_F(RunTest, CborHasTheRunAndItsArrays) {
  start();
  const std::string id = done(RopeBuilder()
                                  .text("{\"data\":{\"v\":")
                                  .array(Dtype::i8, {2}, raw<std::int8_t>({1, 2}))
                                  .text(",\"l\":[0.5]}}"));
  const std::string document = codec::test::CborReader(get_export(id, ExportFormat::cbor)).document();
  EXPECT_NE(document.find("\"datasets\":{\"v\":72([1,2]),\"l\":86([0.5])}"), std::string::npos) << document;
  EXPECT_NE(document.find("\"id\":\"" + id + "\""), std::string::npos);
  const std::string none = done(RopeBuilder().text("{\"data\":\"text\"}"));
  EXPECT_NE(codec::test::CborReader(get_export(none, ExportFormat::cbor)).document().find("\"datasets\":{}"),
            std::string::npos);
}

TEST_F(RunTest, TheCrateDescribesItself) {
  start();
  auto what = script("import nest\nprint('é')\n");
  what.title = "A \"network\" <é>";
  what.history = R"([{"source":"a=1"}])";
  what.inputs = {"r_before"};
  const std::string id = done(recording(), what);
  write_file(folder / "crate.zip", get_export(id, ExportFormat::rocrate));
  auto call = script();
  call.source.reset();
  call.function = "Simulate";
  call.arguments = R"({"args":[100.0],"kwargs":{}})";
  const std::string called = done(RopeBuilder().text("{\"data\":null}"), call);
  write_file(folder / "call.zip", get_export(called, ExportFormat::rocrate));
  const Python python(false);
  if (!python.found) GTEST_SKIP() << "no Python";
  EXPECT_EQ(python.run(folder, R"(
import hashlib, json, zipfile
def check(path):
    z = zipfile.ZipFile(path)
    assert z.testzip() is None
    crate = json.loads(z.read("ro-crate-metadata.json"))
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    items = {item["@id"]: item for item in crate["@graph"]}
    assert len(items) == len(crate["@graph"]), "ids are unique"
    about = items["ro-crate-metadata.json"]
    assert about["@type"] == "CreativeWork" and about["conformsTo"]["@id"] == "https://w3id.org/ro/crate/1.1"
    root = items[about["about"]["@id"]]
    assert root["@type"] == "Dataset" and root["name"] and root["description"] and root["datePublished"].endswith("Z")
    parts = {part["@id"] for part in root["hasPart"]}
    assert parts == set(z.namelist()) - {"ro-crate-metadata.json"}, (parts, z.namelist())
    for name in parts:
        data = z.read(name)
        assert items[name]["sha256"] == hashlib.sha256(data).hexdigest(), name
        assert items[name]["contentSize"] == str(len(data)), name
    def references(value):
        if isinstance(value, dict):
            if set(value) == {"@id"}:
                yield value["@id"]
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)
    for item in crate["@graph"]:
        for each in references({k: v for k, v in item.items() if k != "@id"}):
            assert each in items or each.startswith("http"), each
    actions = [item for item in crate["@graph"] if item["@type"] == "CreateAction"]
    assert len(actions) == 1 and actions[0]["endTime"] and actions[0]["agent"]["@id"] == "#user"
    return z, items, actions[0]
z, items, action = check("crate.zip")
assert items["#nest"]["@type"] == "SoftwareApplication" and items["#nest"]["version"] == "3.9"
assert items["#user"]["name"] == "somebody"
assert {"@id": "data/w.npy"} in action["result"] and {"@id": "csv/events.csv"} in action["result"]
assert {"@id": "script.py"} in action["instrument"] and {"@id": "#r_before"} in action["object"]
assert z.read("script.py").decode() == "import nest\nprint('é')\n"
assert json.loads(z.read("history.json")) == [{"source": "a=1"}]
assert json.loads(z.read("run.json"))["title"] == 'A "network" <é>'
assert json.loads(z.read("result.json"))["data"]["w"] == {"$npy": "data/w.npy"}
z, items, action = check("call.zip")
assert json.loads(z.read("call.json")) == {"function": "Simulate", "arguments": {"args": [100.0], "kwargs": {}}}
)"),
            0);
}

TEST_F(RunTest, ArchivesBeyondFourGibibytesAreZip64) {
  // The data is a hole in the file: only the heads are written.
  codec::ZipWriter zip{std::chrono::system_clock::now()};
  const std::uint64_t large = (5ULL << 30) + 3;
  std::ofstream file(folder / "large.zip", std::ios::binary);
  std::string out;
  zip.begin_stored(out, "large.npy", {large, 0});
  zip.stored();
  file << out;
  file.seekp(static_cast<std::streamoff>(out.size() + large));
  out.clear();
  zip.begin_stored(out, "small.txt", {5, codec::crc32_of(0, "hello")});
  out += "hello";
  zip.stored();
  zip.begin_deflated(out, "packed.txt");
  zip.deflate(out, "hello hello");
  zip.end_deflated(out);
  zip.finish(out);
  file << out;
  file.close();
  const Python python(false);
  if (!python.found) GTEST_SKIP() << "no Python";
  EXPECT_EQ(python.run(folder, R"(
import zipfile
z = zipfile.ZipFile("large.zip")
assert z.getinfo("large.npy").file_size == (5 << 30) + 3
assert z.read("small.txt") == b"hello" and z.read("packed.txt") == b"hello hello"
)"),
            0);
}

TEST_F(RunTest, ComparisonFindsWhatDiffers) {
  start();
  const auto compared = [&](const std::string& a, const std::string& b) {
    auto result = server->get(runs().compare(me, a, b));
    EXPECT_TRUE(result) << (result ? "" : result.error().message);
    return *result;
  };
  const auto text = [](const boost::json::value& value) { return boost::json::serialize(value); };
  const std::string a = done(recording()), again = done(recording());
  auto same = compared(a, again);
  EXPECT_TRUE(same["identical"].as_bool()) << text(same);
  EXPECT_EQ(same["datasets"].as_array().size(), 8U);
  EXPECT_EQ(text(same["differs"]), "[]");

  auto what = script("print(2)");
  what.versions = R"({"nest":"3.10","python":"3.11","numpy":"2"})";
  what.seeds = R"({"rng_seed":2})";
  RopeBuilder b;
  b.text(R"({"data":{"events":{"times":)").array(Dtype::f64, {3}, raw<double>({0.5, 1.25, nan_}));
  b.text(R"(,"senders":)").array(Dtype::i64, {3}, raw<std::int64_t>({7, 8, 9}));
  b.text(R"(},"w":)").array(Dtype::f64, {6}, raw<double>({1, 2, 3, 4, 5, 6}));
  b.text(R"(,"new":[1],"list":[1,2,3],"rate":12.75},"stdout":"hello again"})");
  const std::string other = done(b, what);
  auto found = compared(a, other);
  EXPECT_FALSE(found["identical"].as_bool());
  std::map<std::string, boost::json::value> sets;
  for (const auto& set : found["datasets"].as_array()) sets[set.at("name").as_string().c_str()] = set;
  EXPECT_EQ(sets["events.times"].at("first_difference").to_number<int>(), 1);
  EXPECT_EQ(sets["events.times"].at("max_abs_difference").as_double(), 0.25);
  EXPECT_TRUE(sets["events.senders"].at("identical").as_bool());
  EXPECT_FALSE(sets["w"].at("identical").as_bool());
  EXPECT_EQ(text(sets["w"].at("b").at("shape")), "[6]");
  EXPECT_TRUE(sets["w"].at("first_difference").is_null());
  EXPECT_TRUE(sets["new"].at("a").is_null());
  EXPECT_TRUE(sets["cube"].at("b").is_null());
  const std::string differs = text(found["differs"]);
  for (const char* line :
       {"\"versions.nest: 3.9 → 3.10\"", "\"versions.numpy: (none) → 2\"", "\"seeds.rng_seed: (none) → 2\"",
        "\"source: another script\"", "\"stdout: another text\"", "\"data.rate: 12.5 → 12.75\""})
    EXPECT_NE(differs.find(line), std::string::npos) << line << " in " << differs;

  // NaN equals NaN whatever its bits; the sign of zero counts.
  const auto one = [&](std::vector<std::uint64_t> bits, const std::string& rest = "") {
    return done(RopeBuilder()
                    .text("{\"data\":{\"v\":")
                    .array(Dtype::f64, {bits.size()}, raw(bits))
                    .text(rest + "}}"));
  };
  auto nans = compared(one({0x7ff8000000000000, 0}), one({0x7ff8000000000001, 0}));
  EXPECT_TRUE(nans["identical"].as_bool()) << text(nans);
  auto zeros = compared(one({0}), one({0x8000000000000000}));
  EXPECT_FALSE(zeros["identical"].as_bool());
  EXPECT_EQ(zeros["datasets"].at(0).at("max_abs_difference").as_double(), 0);
  auto spaces = compared(one({0}, ",\"x\":[ 1, \"y\" ]"), one({0}, ",\"x\":[1,\"y\"]"));
  EXPECT_TRUE(spaces["identical"].as_bool()) << text(spaces);
  auto names = compared(one({0}, ",\"x\":NaN"), one({0}, ",\"x\":Infinity"));
  EXPECT_FALSE(names["identical"].as_bool());
  auto lost = compared(one({0}, ",\"x\":1"), one({0}));
  EXPECT_FALSE(lost["identical"].as_bool());
}
