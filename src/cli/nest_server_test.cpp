#include "cli/nest_server.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <thread>

using namespace myelin::cli;
namespace fs = std::filesystem;

namespace {

// What the tests take for `myelin`: it notes how it was called and acts as FAKE_MODE says.
const char* fake_server = R"(#!/bin/sh
printf '%s\n' "$@" > "$FAKE_DIR/args"
env > "$FAKE_DIR/environment"
echo "$$" >> "$FAKE_DIR/pids"
case "$FAKE_MODE" in
  fail) echo "cannot listen: address in use" >&2; exit 3 ;;
  slow) trap 'sleep 0.6; exit 0' TERM; sleep 0.2 ;;
  *) trap 'exit 0' TERM INT ;;
esac
echo "warming up"
echo "listening on http://$3:$5"
while :; do sleep 0.05; done
)";

std::string content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A zombie, which a container without an init keeps, does not run.
bool runs(const std::string& pid) {
  std::string stat = content("/proc/" + std::to_string(std::stoi(pid)) + "/stat");
  auto end = stat.rfind(") ");
  return end != std::string::npos && stat[end + 2] != 'Z' && stat[end + 2] != 'X';
}

class NestServerTest : public ::testing::Test {
 protected:
  NestServerTest() {
    std::string pattern = fs::temp_directory_path() / "myelin-nest-server-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
    self_ = dir_ / "myelin";
    std::ofstream(self_) << fake_server;
    ::chmod(self_.c_str(), 0700);
    fs::create_directories(dir_ / "run");
  }
  ~NestServerTest() override {
    std::ifstream in(dir_ / "pids");
    for (pid_t pid = 0; in >> pid;) {
      // Only what is still this test's own server: its environment names our folder.
      if (content("/proc/" + std::to_string(pid) + "/environ").find(dir_.string()) != std::string::npos) {
        ::kill(pid, SIGKILL);
      }
    }
    fs::remove_all(dir_);
  }

  /// Starts the command in a process of its own.
  pid_t begin(const std::vector<std::string>& args) {
    ::fflush(nullptr);
    std::ofstream(dir_ / "out").close();  // nothing of the run before is there to be taken for this one's
    std::ofstream(dir_ / "err").close();
    pid_t pid = ::fork();
    if (pid != 0) return pid;
    for (const char* name :
         {"XDG_STATE_HOME", "MYELIN_DATA", "MYELIN_CONFIG", "MYELIN_TOKEN", "MYELIN_TOKEN_FILE"}) {
      ::unsetenv(name);
    }
    ::setenv("HOME", dir_.c_str(), 1);
    ::setenv("XDG_RUNTIME_DIR", (dir_ / "run").c_str(), 1);
    ::setenv("FAKE_DIR", dir_.c_str(), 1);
    for (const auto& [name, value] : environment_) ::setenv(name.c_str(), value.c_str(), 1);
    if (::freopen((dir_ / "out").c_str(), "w", stdout) == nullptr) ::_exit(99);
    if (::freopen((dir_ / "err").c_str(), "w", stderr) == nullptr) ::_exit(99);
    int status = nest_server_main(args, self_);
    ::fflush(nullptr);
    ::_exit(status);
  }
  static int end(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  int run(const std::vector<std::string>& args) {
    int status = end(begin(args));
    out_ = content(dir_ / "out");
    err_ = content(dir_ / "err");
    return status;
  }
  /// Waits (10 s at most) until a file holds a text.
  static bool appears(const fs::path& file, const std::string& text) {
    for (int i = 0; i < 1000; ++i) {
      if (content(file).find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  std::string variable(const std::string& name) const {
    std::istringstream in(content(dir_ / "environment"));
    for (std::string line; std::getline(in, line);) {
      if (line.rfind(name + "=", 0) == 0) return line.substr(name.size() + 1);
    }
    return "(unset)";
  }
  std::string log(const std::string& address) const {
    return (dir_ / ".local/state/myelin/nest-server" / (address + ".log")).string();
  }

  fs::path dir_, self_;
  std::map<std::string, std::string> environment_;
  std::string out_, err_;
};

}  // namespace

TEST_F(NestServerTest, WithoutACommandItExplainsItself) {
  EXPECT_EQ(run({}), 0);
  EXPECT_EQ(
      out_.rfind(
          "NEST Server\n-----------\nUsage: nest-server log|status|start|stop|restart [-d] [-h <HOST>] [-o] "
          "[-p <PORT>] [-t <TIMEOUT>] [-w <WORKERS>]\n",
          0),
      0u)
      << out_;
  EXPECT_EQ(run({"frobnicate"}), 0);
  EXPECT_NE(out_.find("Usage:"), std::string::npos);
}

TEST_F(NestServerTest, AWrongOptionStartsNothing) {
  struct Case {
    std::vector<std::string> args;
    std::string error;
  };
  for (const auto& [args, error] :
       std::vector<Case>{{{"start", "-z"}, "illegal option -- z"},
                         {{"start", "-dz"}, "illegal option -- z"},
                         {{"start", "-p"}, "option requires an argument -- p"},
                         {{"start", "-p", "x"}, "not a port: x"},
                         {{"start", "-p", "70000"}, "not a port: 70000"},
                         {{"start", "-h", "a/../b"}, "not a host: a/../b"},
                         {{"start", "-t", "soon"}, "not a number of seconds: soon"},
                         {{"start", "-w", "-1"}, "not a number of workers: -1"},
                         {{"start", "now"}, "unexpected argument: now"},
                         {{"start", "--port", "1"}, "illegal option -- -"}}) {
    EXPECT_EQ(run(args), 1) << error;
    EXPECT_EQ(err_, "nest-server: " + error + "\n");
    EXPECT_NE(out_.find("Usage:"), std::string::npos);
    EXPECT_FALSE(fs::exists(dir_ / "args")) << error;
  }
}

TEST_F(NestServerTest, NothingRuns) {
  EXPECT_EQ(run({"stop", "-p", "53020"}), 1);
  EXPECT_EQ(out_, "NEST Server is not running at http://127.0.0.1:53020.\n");
  EXPECT_EQ(run({"status"}), 0);
  EXPECT_EQ(out_, "PID\t\tHTTP-SOCKET\t\tLOGFILE\n");
  EXPECT_EQ(run({"pid"}), 1);
  EXPECT_EQ(out_, "");
  EXPECT_EQ(run({"log"}), 1);
}

TEST_F(NestServerTest, StartStatusPidStopInTheBackground) {
  ASSERT_EQ(run({"start", "-d", "-p", "53020", "-t60", "-w", "2"}), 0) << err_;
  EXPECT_EQ(out_.rfind("NEST Server is now running at http://127.0.0.1:53020.\n", 0), 0u) << out_;
  EXPECT_NE(out_.find("-w is accepted"), std::string::npos);

  // The token: in the banner, in the server's environment, not among its arguments.
  std::string token = variable("MYELIN_TOKEN");
  EXPECT_EQ(token.size(), 48u);
  EXPECT_NE(out_.find(std::string(80, '*') + "\n   Access token to NEST Server: " + token +
                      "\n   Add this to the headers: {'NESTServerAuth': '<access_token>'}\n\n" +
                      std::string(80, '*')),
            std::string::npos)
      << out_;
  std::string args = content(dir_ / "args");
  EXPECT_EQ(args.rfind("serve\n--host\n127.0.0.1\n--port\n53020\n--nest-face\n", 0), 0u) << args;
  EXPECT_EQ(args.find(token), std::string::npos);
  EXPECT_NE(args.find("--data\n"), std::string::npos);
  EXPECT_NE(args.find("nest-server-53020"), std::string::npos);
  EXPECT_EQ(variable("MYELIN_CALL_DEADLINE_S"), "60");

  // The log: private, holds the output, and the banner for those who look there.
  std::string log_file = log("127.0.0.1:53020");
  EXPECT_NE(content(log_file).find("warming up"), std::string::npos);
  EXPECT_TRUE(appears(log_file, token));
  struct stat info {};
  ASSERT_EQ(::stat(log_file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);

  EXPECT_EQ(run({"start", "-d", "-p", "53020"}), 0);
  EXPECT_EQ(out_, "NEST Server is already running at http://127.0.0.1:53020.\n");

  // status tells of all servers, with their logs.
  environment_["NEST_SERVER_LOGFILE"] = (dir_ / "other.log").string();
  ASSERT_EQ(run({"start", "-dp53021"}), 0) << err_;
  environment_.clear();
  EXPECT_EQ(run({"pid", "-p", "53020"}), 0);
  std::string first = out_.substr(0, out_.size() - 1);
  EXPECT_EQ(run({"pid", "-p", "53021"}), 0);
  std::string second = out_.substr(0, out_.size() - 1);
  EXPECT_EQ(run({"status"}), 0);
  EXPECT_EQ(out_, "PID\t\tHTTP-SOCKET\t\tLOGFILE\n" + first + "\t\t127.0.0.1:53020\t\t" + log_file +
                      "\t\t\n" + second + "\t\t127.0.0.1:53021\t\t" + (dir_ / "other.log").string() +
                      "\t\t\n");

  EXPECT_EQ(run({"stop", "-p", "53020"}), 0);
  EXPECT_EQ(out_, "NEST Server running at http://127.0.0.1:53020 has stopped.\n");
  EXPECT_FALSE(runs(first));
  EXPECT_TRUE(runs(second));
  EXPECT_EQ(run({"stop", "-p", "53020"}), 1);
  EXPECT_EQ(run({"stop", "-p", "53021"}), 0);
}

TEST_F(NestServerTest, AFailedStartSaysWhy) {
  environment_["FAKE_MODE"] = "fail";
  EXPECT_EQ(run({"start", "-d", "-p", "53022"}), 1);
  EXPECT_EQ(out_, "");
  EXPECT_EQ(err_,
            "NEST Server did not start at http://127.0.0.1:53022; its last words:\ncannot listen: address in "
            "use\n");
  EXPECT_EQ(run({"status"}), 0);
  EXPECT_EQ(out_, "PID\t\tHTTP-SOCKET\t\tLOGFILE\n");
  EXPECT_EQ(run({"start", "-p", "53022"}), 1);
  EXPECT_NE(err_.find("address in use"), std::string::npos);
  environment_.clear();
  self_ = dir_ / "missing";
  EXPECT_EQ(run({"start", "-d", "-p", "53022"}), 1);
  EXPECT_NE(err_.find("cannot run"), std::string::npos) << err_;
}

TEST_F(NestServerTest, RestartWaitsForTheOldOneToGo) {
  environment_["FAKE_MODE"] = "slow";
  ASSERT_EQ(run({"start", "-d", "-p", "53023"}), 0) << err_;
  EXPECT_EQ(run({"pid", "-p", "53023"}), 0);
  std::string before = out_;
  ASSERT_EQ(run({"restart", "-d", "-p", "53023"}), 0) << err_;
  EXPECT_EQ(out_.rfind("NEST Server running at http://127.0.0.1:53023 has stopped.\n"
                       "NEST Server is now running at http://127.0.0.1:53023.\n",
                       0),
            0u)
      << out_;
  EXPECT_EQ(run({"pid", "-p", "53023"}), 0);
  EXPECT_NE(out_, before);
  EXPECT_FALSE(runs(before));
  EXPECT_EQ(run({"stop", "-p", "53023"}), 0);
  ASSERT_EQ(run({"restart", "-d", "-p", "53023"}), 0);  // nothing to stop: it starts all the same
  EXPECT_EQ(
      out_.rfind("NEST Server is not running at http://127.0.0.1:53023.\nNEST Server is now running", 0), 0u);
  EXPECT_EQ(run({"stop", "-p", "53023"}), 0);
}

TEST_F(NestServerTest, ForegroundStaysUntilTheServerEnds) {
  pid_t pid = begin({"start", "-p", "53024"});
  ASSERT_TRUE(appears(dir_ / "out", "Use CTRL + C to stop this service.\n"));
  EXPECT_EQ(content(dir_ / "out").find("warming up"), std::string::npos);
  EXPECT_NE(content(log("127.0.0.1:53024")).find("warming up"), std::string::npos);
  ::kill(pid, SIGTERM);
  EXPECT_EQ(end(pid), 0);
  EXPECT_EQ(run({"status"}), 0);
  EXPECT_EQ(out_, "PID\t\tHTTP-SOCKET\t\tLOGFILE\n");

  pid = begin({"start", "-p", "53024"});
  ASSERT_TRUE(appears(dir_ / "out", "Use CTRL + C"));
  EXPECT_EQ(run({"stop", "-p", "53024"}), 0);  // from elsewhere
  EXPECT_EQ(end(pid), 0);
}

TEST_F(NestServerTest, OnTheConsoleTheOutputIsShown) {
  for (bool by_option : {true, false}) {
    // As containers do it: the log file is no file.
    if (!by_option) environment_["NEST_SERVER_LOGFILE"] = "/dev/stdout";
    pid_t pid = begin(by_option ? std::vector<std::string>{"start", "-o", "-p", "53025"}
                                : std::vector<std::string>{"start", "-p", "53025"});
    ASSERT_TRUE(appears(dir_ / "out", "listening on http://127.0.0.1:53025"));
    std::string out = content(dir_ / "out");
    EXPECT_NE(
        out.find(
            "NEST Server is now running at http://127.0.0.1:53025.\nUse CTRL + C to stop this service.\n"),
        std::string::npos)
        << out;
    EXPECT_NE(out.find("warming up\n"), std::string::npos);
    EXPECT_EQ(out.find(std::string(53, '-') + "\n") != std::string::npos, by_option);
    ::kill(pid, SIGINT);
    EXPECT_EQ(end(pid), 0);
  }
}

TEST_F(NestServerTest, TheServerEndsWithItsForegroundCommand) {
  pid_t pid = begin({"start", "-p", "53026"});
  ASSERT_TRUE(appears(dir_ / "out", "Use CTRL + C"));
  ::kill(pid, SIGKILL);
  EXPECT_EQ(end(pid), -SIGKILL);
  bool gone = false;
  for (int i = 0; i < 500 && !gone; ++i) {
    gone = run({"pid", "-p", "53026"}) == 1;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(gone);
}

TEST_F(NestServerTest, TheEnvironmentIsReadAndSettled) {
  environment_ = {{"NEST_SERVER_HOST", "localhost"},
                  {"NEST_SERVER_PORT", "53027"},
                  {"NEST_SERVER_DAEMON", "1"},
                  {"NEST_SERVER_TIMEOUT", "5"},
                  {"NEST_SERVER_ACCESS_TOKEN", "my-token"},
                  {"NEST_SERVER_CORS_ORIGINS", "*"},
                  {"NEST_SERVER_MODULES", "nest,numpy"}};
  ASSERT_EQ(run({"start"}), 0) << err_;
  EXPECT_NE(out_.find("running at http://localhost:53027."), std::string::npos) << out_;
  EXPECT_NE(out_.find(" - CORS:\tThe allowed origins are not restricted.\n"), std::string::npos);
  EXPECT_EQ(out_.find(" - AUTH:"), std::string::npos);
  EXPECT_EQ(out_.find("my-token"), std::string::npos);  // whoever chose it knows it
  EXPECT_EQ(variable("MYELIN_TOKEN"), "my-token");
  EXPECT_EQ(variable("MYELIN_CALL_DEADLINE_S"), "5");
  EXPECT_EQ(variable("NEST_SERVER_TIMEOUT"), "(unset)");
  EXPECT_EQ(variable("NEST_SERVER_ACCESS_TOKEN"), "(unset)");
  EXPECT_EQ(variable("NEST_SERVER_CORS_ORIGINS"), "*");
  EXPECT_EQ(variable("NEST_SERVER_MODULES"), "nest,numpy");
  EXPECT_EQ(run({"stop"}), 0);

  environment_["NEST_SERVER_DISABLE_AUTH"] = "true";
  ASSERT_EQ(run({"start"}), 0) << err_;
  EXPECT_NE(out_.find("WARNING: You chose to disable important access restrictions!\n"), std::string::npos);
  EXPECT_NE(out_.find(" - AUTH:\tThe authorization settings are disabled.\n"), std::string::npos);
  EXPECT_EQ(out_.find("Access token"), std::string::npos);
  EXPECT_EQ(variable("MYELIN_TOKEN"), "(unset)");
  EXPECT_EQ(variable("NEST_SERVER_DISABLE_AUTH"), "true");
  EXPECT_EQ(run({"stop"}), 0);
}

TEST_F(NestServerTest, AStaleRecordIsNoServer) {
  ASSERT_EQ(run({"start", "-d", "-p", "53028"}), 0);
  EXPECT_EQ(run({"pid", "-p", "53028"}), 0);
  ::kill(std::stoi(out_), SIGKILL);
  fs::path record;
  for (const auto& entry : fs::directory_iterator(dir_ / "run/myelin/nest-server")) record = entry.path();
  std::string text = content(record);
  bool gone = false;
  for (int i = 0; i < 500 && !gone; ++i) {
    gone = run({"pid", "-p", "53028"}) == 1;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(gone);
  // A process that has its number now, but began at another time, is left alone.
  auto line = text.find("pid = ");
  ASSERT_NE(line, std::string::npos) << text;
  text.replace(line, text.find('\n', line) - line, "pid = " + std::to_string(::getpid()));
  std::ofstream(record) << text;
  EXPECT_EQ(run({"stop", "-p", "53028"}), 1);
  EXPECT_EQ(run({"status"}), 0);
  EXPECT_EQ(out_, "PID\t\tHTTP-SOCKET\t\tLOGFILE\n");
}

TEST_F(NestServerTest, RecordsAreFoundWhereverTheyWereWritten) {
  fs::remove(dir_ / "run");
  std::ofstream(dir_ / "run") << "not a folder";
  ASSERT_EQ(run({"start", "-d", "-p", "53030"}), 0) << err_;
  fs::remove(dir_ / "run");
  fs::create_directory(dir_ / "run");
  EXPECT_EQ(run({"pid", "-p", "53030"}), 0);
  EXPECT_EQ(run({"stop", "-p", "53030"}), 0);
}

TEST_F(NestServerTest, TheUsualSettingsHoldForEveryPort) {
  fs::path usual = ::geteuid() == 0 ? fs::path("/var/lib/myelin") : dir_ / ".local/share/myelin";
  ASSERT_EQ(run({"start", "-d", "-p", "53031"}), 0) << err_;
  EXPECT_NE(content(dir_ / "args").find("--data\n" + (usual / "nest-server-53031").string() + "\n"),
            std::string::npos);
  EXPECT_EQ(run({"stop", "-p", "53031"}), 0);
  environment_["MYELIN_DATA"] = (dir_ / "mine").string();
  ASSERT_EQ(run({"start", "-d", "-p", "53031"}), 0) << err_;
  EXPECT_EQ(content(dir_ / "args").find("--data"), std::string::npos);
  EXPECT_EQ(variable("MYELIN_DATA"), (dir_ / "mine").string());
  EXPECT_EQ(run({"stop", "-p", "53031"}), 0);
}

TEST_F(NestServerTest, LogFollowsTheFile) {
  ASSERT_EQ(run({"start", "-d", "-p", "53029"}), 0);
  pid_t pid = begin({"log", "-p", "53029"});
  EXPECT_TRUE(appears(dir_ / "out", "warming up"));
  std::ofstream(log("127.0.0.1:53029"), std::ios::app) << "a later line\n";
  EXPECT_TRUE(appears(dir_ / "out", "a later line"));
  ::kill(pid, SIGTERM);
  EXPECT_EQ(end(pid), -SIGTERM);
  EXPECT_EQ(run({"stop", "-p", "53029"}), 0);
}
