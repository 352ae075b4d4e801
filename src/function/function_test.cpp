#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "codec/encode.hpp"
#include "function/cache.hpp"
#include "function/columns.hpp"
#include "function/function.hpp"
#include "function/package_files.hpp"
#include "os/memfd.hpp"
#include "session/manager.hpp"

using namespace myelin;
using namespace myelin::function;
namespace fs = std::filesystem;

namespace {

std::string text_of(const session::Answer& answer, codec::Nonfinite nonfinite = codec::Nonfinite::null) {
  auto memfd = answer.memfd;
  codec::Reader reader = [memfd](std::uint64_t offset, std::span<char> out) -> Result<std::size_t> {
    auto got = os::read_exactly_at(memfd->get(), out.data(), out.size(), offset);
    if (!got) return got.take_error();
    return out.size();
  };
  auto text = codec::encode_all(answer.rope, codec::Format::json, nonfinite, reader);
  return text ? *text : text.error().message;
}

session::Answer answer_of(std::string_view json) {
  Answering made;
  made.text(json);
  return *std::move(made).finish("", "");
}

struct Directory {
  fs::path path = fs::temp_directory_path() / ("function-test-" + std::to_string(::getpid()));
  Directory() { fs::create_directories(path); }
  ~Directory() { fs::remove_all(path); }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << text;
  }
};

}  // namespace

TEST(Answering, WritesTextAndArrays) {
  Answering made;
  made.text("{\"v\":").array({1, 2.5}).text(",\"m\":").array({1, 2, 3, 4}, {2, 2}).text(",\"n\":").number(std::nan("")).text("}");
  auto answer = std::move(made).finish("{\"data\":", "}");
  ASSERT_TRUE(answer);
  EXPECT_EQ(text_of(*answer, codec::Nonfinite::bare), R"({"data":{"v":[1.0,2.5],"m":[[1.0,2.0],[3.0,4.0]],"n":NaN}})");
  Answering bare;
  bare.array({3});
  EXPECT_EQ(text_of(*std::move(bare).finish("[", "]")), "[[3.0]]");
  EXPECT_EQ(text_of(*Answering().finish("", "")), "null");
}

TEST(Permission, IsByVisibility) {
  Function f;
  f.owner = "u_1";
  auto owner = session::identity_of({"u_1", "anna", false}), other = session::identity_of({"u_2", "ben", false}), op = accounts::operator_identity(), nobody = accounts::anonymous_identity();
  f.visibility = Visibility::owner;
  EXPECT_TRUE(may_call(owner, f) && may_call(op, f));
  EXPECT_FALSE(may_call(other, f) || may_call(nobody, f));
  f.visibility = Visibility::all;
  EXPECT_TRUE(may_call(other, f));
  EXPECT_FALSE(may_call(nobody, f));
  f.visibility = Visibility::everyone;
  EXPECT_TRUE(may_call(nobody, f));
  EXPECT_FALSE(may_edit(nobody, "") || may_edit(other, "u_1"));
}

TEST(Cache, ForgetsTheLeastRecentlyUsed) {
  Cache cache(20'000);
  std::string kilobytes = "\"" + std::string(3000, 'x') + "\"";
  for (const char* key : {"a", "b", "c", "d"}) cache.put(key, answer_of(kilobytes));
  EXPECT_TRUE(cache.find("a"));  // newest now
  cache.put("e", answer_of(kilobytes));
  cache.put("f", answer_of(kilobytes));
  EXPECT_TRUE(cache.find("a"));
  EXPECT_FALSE(cache.find("b"));
  EXPECT_LE(cache.bytes(), 20'000u);
  cache.put("large", answer_of("\"" + std::string(6000, 'x') + "\""));
  EXPECT_FALSE(cache.find("large"));  // more than a quarter
  cache.put("a", answer_of("1"));
  EXPECT_EQ(text_of(*cache.find("a")), "1");
}

TEST(Packages, AreFilesAndFolders) {
  Directory d;
  d.write("one.py", "x = 1");
  d.write("two/__init__.py", "");
  d.write("two/__pycache__/x.pyc", "no");
  d.write("two/.hidden", "no");
  d.write("three/three.py", "");
  d.write("three/a.mod", "m");
  d.write("no/thing.py", "");
  d.write("with-dash.py", "");
  auto found = find_packages(d.path);
  ASSERT_EQ(found.size(), 3u);
  auto files = read_package(d.path, "three");
  ASSERT_TRUE(files);
  EXPECT_EQ(files->size(), 2u);
  EXPECT_EQ(ending_with(*files, ".mod").size(), 1u);
  EXPECT_EQ(read_package(d.path, "two")->size(), 1u);
  EXPECT_EQ(read_package(d.path, "four").error().code, Code::not_found);
  auto before = fingerprint(d.path, "one");
  d.write("one.py", "x = 22");
  EXPECT_NE(fingerprint(d.path, "one"), before);
  EXPECT_NE(hash_of({{"a", "bc"}}), hash_of({{"ab", "c"}}));
  fs::create_directories(d.path / "shown");
  ASSERT_TRUE(keep(d.path / "shown", "h", *files));
  ASSERT_TRUE(keep(d.path / "shown", "h", *files));
  EXPECT_EQ(read_package(d.path / "shown" / "h", "three")->size(), 2u);
  d.write("huge.py", std::string(most_file_bytes + 1, '#'));
  EXPECT_EQ(read_package(d.path, "huge").error().code, Code::too_large);
}

TEST(Packages, OldCopiesMakeRoom) {
  Directory d;
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(keep(d.path, name, {{"f.py", std::string(100'000, '#')}}));
  auto ago = fs::file_time_type::clock::now();
  fs::last_write_time(d.path / "b", ago - std::chrono::hours(3));
  fs::last_write_time(d.path / "c", ago - std::chrono::hours(2));
  EXPECT_EQ(make_room(d.path, {"b"}, 1 << 20), 0u);
  EXPECT_EQ(make_room(d.path, {"b"}, 250'000), 1u);
  EXPECT_TRUE(fs::exists(d.path / "a") && fs::exists(d.path / "b"));
  EXPECT_FALSE(fs::exists(d.path / "c"));
  fs::last_write_time(d.path / "a", ago - std::chrono::hours(4));
  ASSERT_TRUE(keep(d.path, "a", {{"f.py", ""}}));  // in use again
  EXPECT_GT(fs::last_write_time(d.path / "a"), ago - std::chrono::hours(1));
}

TEST(Packages, PathsStayInside) {
  for (auto good : {"a.py", "mod/na-1.mod", "a/b/c/d/e/f/g/h"}) EXPECT_TRUE(check_path(good)) << good;
  for (auto bad : {"", "/a", "a/", "a//b", "..", "a/../b", ".x", "a/.b", "a b", "a\nb", "ü.py", "a/b/c/d/e/f/g/h/i"}) EXPECT_FALSE(check_path(bad)) << bad;
  EXPECT_FALSE(check_path(std::string_view("a\0b", 3)));
}

TEST(Columns, StackNumbersAndArrays) {
  Directory d;
  Columns columns(d.path.string(), {3}, 1 << 20);
  for (std::size_t point : {2, 0, 1}) {
    Answering made;
    made.text("{\"a\":{\"v\":").array({1.0 * static_cast<double>(point), 7}).text("},\"n\":" + std::to_string(point) + ",\"s\":[1,2],\"t\":\"x\"}");
    ASSERT_TRUE(columns.put(point, *std::move(made).finish("", ""), ""));
  }
  EXPECT_EQ(text_of(*columns.assemble("{", "}", true, false)).substr(0, 1), "{");
  for (bool apart : {true, false, true})
    EXPECT_EQ(text_of(*columns.assemble("", "", true, apart)), R"({"a":{"v":[[0.0,7.0],[1.0,7.0],[2.0,7.0]]},"n":[0.0,1.0,2.0],"s":[[1.0,2.0],[1.0,2.0],[1.0,2.0]],"t":["x","x","x"]})");
}

TEST(Columns, LeaveGapsAndKeepWhatDiffers) {
  Directory d;
  Columns columns(d.path.string(), {2, 2}, 1 << 20);
  Answering first, other;
  first.text("{\"v\":").array({1, 2}).text(",\"w\":").array({1}).text(",\"n\":1.5}");
  other.text("{\"v\":").array({5, 6}).text(",\"w\":").array({2, 3}).text(",\"n\":NaN}");
  ASSERT_TRUE(columns.put(0, *std::move(first).finish("{\"data\":", "}"), "data"));
  ASSERT_TRUE(columns.put(3, *std::move(other).finish("{\"data\":", "}"), "data"));
  for (bool apart : {true, false, true})
    EXPECT_EQ(text_of(*columns.assemble("", "", true, apart)), R"({"n":[[1.5,null],[null,null]],"v":[[[1.0,2.0],[null,null]],[[null,null],[5.0,6.0]]],"w":[[1.0],null,null,[2.0,3.0]]})");
  // Nothing yet, one plain value, texts that look like marks.
  EXPECT_EQ(text_of(*Columns(d.path.string(), {2}, 1000).assemble("", "", false, false)), "null");
  Columns plain(d.path.string(), {2}, 1 << 20);
  ASSERT_TRUE(plain.put(0, answer_of("3"), ""));
  EXPECT_EQ(text_of(*plain.assemble("", "", false, false)), "[3.0,null]");
  // A value in one point and an object in another; a text that is kept in the file; looks at it cost nothing.
  Columns mixed(d.path.string(), {2}, 10'000);
  const std::string words(200, 'w');
  ASSERT_TRUE(mixed.put(0, answer_of("{\"a\":1,\"t\":\"" + words + "\"}"), ""));
  ASSERT_TRUE(mixed.put(1, answer_of(R"({"a":{"b":{"c":2}},"t":""})"), ""));
  for (int look = 0; look < 100; ++look)
    EXPECT_EQ(text_of(*mixed.assemble("", "", false, true)), "{\"a\":[1.0,null],\"a.b.c\":[null,2.0],\"t\":[\"" + words + "\",\"\"]}");
  Columns marked(d.path.string(), {1}, 1 << 20);
  EXPECT_TRUE(marked.put(0, answer_of("{\"a\":\"\\u0001array:0\",\"b\":\"\\u0001array:99999999999999999999\"}"), ""));
}

TEST(Columns, AreBounded) {
  Directory d;
  Columns columns(d.path.string(), {100}, 10'000);
  Answering made;
  made.array(std::vector<double>(5000, 1.0));
  EXPECT_EQ(columns.put(0, *std::move(made).finish("", ""), "").error().code, Code::too_large);
}
