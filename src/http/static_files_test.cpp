#include "http/static_files.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "http/text.hpp"

namespace myelin::http {
namespace {

namespace fs = std::filesystem;

class StaticFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string made = (fs::temp_directory_path() / "myelin-static-XXXXXX").string();
    ASSERT_NE(::mkdtemp(made.data()), nullptr);
    base = made;
    root = base / "tree";
    fs::create_directories(root / "sub" / "deep");
    fs::create_directories(root / "bare");
    put(root / "index.html", "<h1>");
    put(root / "sub" / "index.html", "sub");
    put(root / "sub" / "a b.js", "js");
    put(root / ".secret", "s");
    put(base / "outside.txt", "outside");
    put(root / "big", std::string(2000, 'b'));
    fs::create_symlink(base / "outside.txt", root / "link.txt");
    fs::create_directory_symlink(base, root / "up");
    fs::create_symlink("index.html", root / "inner.html");
    ASSERT_EQ(::mkfifo((root / "fifo").c_str(), 0600), 0);
    auto opened = StaticFiles::open(pool, root.string(), 1000);
    ASSERT_TRUE(opened.ok());
    files = std::make_unique<StaticFiles>(*opened);
  }
  void TearDown() override { fs::remove_all(base); }
  static void put(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

  static Task<void> ask(const StaticFiles* files, std::string method, std::string path, Headers headers,
                        Response* out) {
    auto response = co_await files->serve(std::move(method), std::move(path), std::move(headers));
    *out = std::move(response);
  }
  Response get(std::string path, Headers headers = {}, std::string method = "GET") {
    Response out;
    async::spawn(loop, ask(files.get(), std::move(method), std::move(path), std::move(headers), &out),
                 "test");
    loop.run_until_idle();
    return out;
  }

  async::Loop loop;
  async::Pool pool{loop, 1};
  fs::path base, root;
  std::unique_ptr<StaticFiles> files;
};

TEST_F(StaticFilesTest, Serves) {
  auto response = get("/");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "<h1>");
  EXPECT_EQ(response.headers.get("content-type"), "text/html; charset=utf-8");
  EXPECT_EQ(get("/sub/").body, "sub");
  EXPECT_EQ(get("/sub/a b.js").headers.get("content-type"), "text/javascript; charset=utf-8");
  response = get("/sub");
  EXPECT_EQ(response.status, 301);
  EXPECT_EQ(response.headers.get("location"), "/sub/");
  EXPECT_EQ(get("/bare/").status, 404);
  EXPECT_EQ(get("/index.html/").status, 404);
  EXPECT_EQ(get("/big").status, 500);
  EXPECT_EQ(get("/", {}, "POST").status, 405);
}

TEST_F(StaticFilesTest, AnswersNotModified) {
  const auto first = get("/");
  Headers headers;
  headers.add("If-None-Match", "\"x\", W/" + std::string(first.headers.get("etag")));
  auto again = get("/", headers);
  EXPECT_EQ(again.status, 304);
  EXPECT_TRUE(again.body.empty());
  EXPECT_FALSE(again.headers.get("etag").empty());
  headers.clear();
  headers.add("If-Modified-Since", std::string(first.headers.get("last-modified")));
  EXPECT_EQ(get("/", headers).status, 304);
  headers.add("If-None-Match", "\"x\"");  // goes before the date
  EXPECT_EQ(get("/", headers).status, 200);
}

TEST_F(StaticFilesTest, NothingOutside) {
  for (const char* path :
       {"/../outside.txt", "/sub/../../outside.txt", "//etc/passwd", "/./index.html", "/.secret", "/link.txt",
        "/up/outside.txt", "/up/", "/inner.html", "/fifo", "/..", "/...", "/sub//x", "/sub\\..\\x",
        "/nothing", "", "x", "/proc/self/root/etc/passwd"}) {
    const auto response = get(path);
    EXPECT_EQ(response.status, 404) << path;
  }
  EXPECT_EQ(get("/" + std::string(300, 'x')).status, 404);
  EXPECT_EQ(get("/" + std::string(5000, 'x')).status, 404);
}

TEST_F(StaticFilesTest, ASwappedDirectoryNeverLeadsOut) {
  fs::create_directories(base / "elsewhere");
  put(base / "elsewhere" / "f", "outside");
  fs::create_directories(root / "swap");
  put(root / "swap" / "f", "inside");
  std::atomic<bool> stop = false;
  std::thread swapper([&] {
    const auto a = (root / "swap"), b = (root / "swap2");
    std::error_code ec;
    while (!stop) {
      fs::rename(a, b, ec);
      fs::create_directory_symlink(base / "elsewhere", a, ec);
      fs::remove(a, ec);
      fs::rename(b, a, ec);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    const auto response = get("/swap/f");
    EXPECT_NE(response.body, "outside");
  }
  stop = true;
  swapper.join();
}

TEST_F(StaticFilesTest, NeedsADirectory) {
  EXPECT_FALSE(StaticFiles::open(pool, (root / "nothing").string()).ok());
  EXPECT_FALSE(StaticFiles::open(pool, (root / "index.html").string()).ok());
}

}  // namespace
}  // namespace myelin::http
