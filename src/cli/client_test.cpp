#include "cli/client.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cstring>
#include <fstream>

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;

TEST(ClientText, WidthIsCountedInColumns) {
  EXPECT_EQ(display_width("abc"), 3u);
  EXPECT_EQ(display_width("Größe"), 5u);
  EXPECT_EQ(display_width("日本"), 4u);
  EXPECT_EQ(display_width("e\u0301"), 1u);
  EXPECT_EQ(display_width("\xff\xc3"), 2u);
}

TEST(ClientText, ShortenedKeepsToTheWidthAndLosesControls) {
  EXPECT_EQ(shortened("abcdef", 6), "abcdef");
  EXPECT_EQ(shortened("abcdefg", 6), "abcde…");
  EXPECT_EQ(shortened("日本語", 5), "日本…");
  EXPECT_EQ(shortened("日本語", 4), "日…");
  EXPECT_EQ(shortened("a\x1b[31mb\n\x7f", 20), "a [31mb  ");
  EXPECT_EQ(shortened("a\u202eb", 20), "a b");
  EXPECT_EQ(shortened("\xff", 5), "\ufffd");
}

TEST(ClientText, TablesAreAligned) {
  Table table({"ID", ">SIZE", "NAME"});
  table.add({"s_1", "5 B", "Größe"});
  table.add({"s_22", "10 B", ""});
  EXPECT_EQ(table.text(), "ID    SIZE  NAME\ns_1    5 B  Größe\ns_22  10 B  –\n");
}

TEST(ClientText, SizesAndTimesAreForPeople) {
  EXPECT_EQ(size_text(512), "512 B");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
  EXPECT_EQ(size_text(200.0 * 1024 * 1024), "200 MiB");
  EXPECT_EQ(duration_text(3), "3 s");
  EXPECT_EQ(duration_text(185), "3 min 5 s");
  EXPECT_EQ(duration_text(7800), "2 h 10 min");
  EXPECT_EQ(bar(0.5, 4), "██░░  50 %");
  EXPECT_EQ(bar(7, 2), "██ 100 %");
  EXPECT_EQ(local_time("soon"), "soon");
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  EXPECT_EQ(local_time("2025-01-31T13:05:09.123Z"), "2025-01-31 13:05");
}

TEST(HttpClient, EncodesPaths) { EXPECT_EQ(percent_encoded("a/b ü?"), "a%2Fb%20%C3%BC%3F"); }

TEST(HttpClient, SaysWhereNobodyAnswers) {
  HttpClient client("http://127.0.0.1:1", "", "");
  auto answer = client.send({});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Code::unavailable);
  EXPECT_NE(answer.error().message.find("http://127.0.0.1:1"), std::string::npos) << answer.error().message;
}

class FindServer : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/myelin-client-XXXXXX";
    folder_ = ::mkdtemp(name);
    around_.home = folder_ / "home";
    fs::create_directories(around_.home / ".local/share/myelin");
    before_ = fs::current_path();
    fs::current_path(folder_);
  }
  void TearDown() override {
    fs::current_path(before_);
    for (int fd : open_) ::close(fd);
    fs::remove_all(folder_);
  }
  void listen_at(const fs::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    open_.push_back(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::bind(open_.back(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(open_.back(), 1), 0);
  }
  fs::path folder_, before_;
  std::vector<int> open_;
  Surroundings around_;
};

TEST_F(FindServer, FlagsComeBeforeTheEnvironmentBeforeWhatLiesAround) {
  fs::path data = around_.home / ".local/share/myelin";
  std::ofstream(data / "token") << "kept\n";
  EXPECT_EQ(find_server({}, around_).url, "http://127.0.0.1:52425");
  EXPECT_EQ(find_server({}, around_).token, "kept");

  fs::create_directories(".myelin");
  listen_at(".myelin/socket");
  EXPECT_EQ(find_server({}, around_).socket, ".myelin/socket");
  EXPECT_EQ(find_server({}, around_).token, "");
  listen_at(data / "socket");
  EXPECT_EQ(find_server({}, around_).socket, (data / "socket").string());

  around_.environment["MYELIN_URL"] = "http://there:1/";
  around_.environment["MYELIN_TOKEN"] = "mine";
  auto place = find_server({}, around_);
  EXPECT_EQ(place.url + place.socket, "http://there:1");
  EXPECT_EQ(place.token, "mine");
  around_.environment["MYELIN_URL"] = "unix:/x/socket";
  EXPECT_EQ(find_server({}, around_).socket, "/x/socket");

  ClientOptions options;
  options.data = ".myelin";
  EXPECT_EQ(find_server(options, around_).socket, ".myelin/socket");
  options.socket = "/y";
  options.token = "other";
  EXPECT_EQ(find_server(options, around_).socket, "/y");
  EXPECT_EQ(find_server(options, around_).token, "other");
}

TEST_F(FindServer, ADeadSocketIsPassedOver) {
  fs::create_directories(".myelin");
  listen_at(".myelin/socket");
  ::close(open_.back());
  open_.pop_back();
  EXPECT_EQ(find_server({}, around_).socket, "");
}

}  // namespace
}  // namespace myelin::cli
