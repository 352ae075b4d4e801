#include "cli/nest_server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>

#include "base/ids.hpp"
#include "cli/config.hpp"
#include "cli/server_records.hpp"

extern char** environ;  // NOLINT

namespace myelin::cli {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto start_patience = std::chrono::seconds(120);
constexpr auto stop_patience = std::chrono::seconds(20);  // calls in flight get 10 s
constexpr auto poll_every = std::chrono::milliseconds(20);
const std::string stars(80, '*');

void say(const std::string& text) {
  std::fputs((text + "\n").c_str(), stdout);
  std::fflush(stdout);
}

void complain(const std::string& text) {
  std::fflush(stdout);
  std::fputs((text + "\n").c_str(), stderr);
}

void usage() {
  say("NEST Server\n"
      "-----------\n"
      "Usage: nest-server log|status|start|stop|restart [-d] [-h <HOST>] [-o] [-p <PORT>] [-t <TIMEOUT>] [-w "
      "<WORKERS>]\n"
      "\n"
      "Commands:\n"
      "  log         follow the log of the server at <HOST>:<PORT>\n"
      "  status      list all servers that were started by this command\n"
      "  start       start a server at <HOST>:<PORT>\n"
      "  stop        stop the server at <HOST>:<PORT>\n"
      "  restart     stop the server at <HOST>:<PORT>, wait for its end, and start it\n"
      "  pid         print the process id of the server at <HOST>:<PORT>\n"
      "\n"
      "Options:\n"
      "  -d                 leave the server in the background\n"
      "  -h <HOST>          host name or IP address of the server [default: 127.0.0.1]\n"
      "  -o                 print the server's output to the console\n"
      "  -p <PORT>          port of the server [default: 52425]\n"
      "  -t <TIMEOUT>       seconds after which a call is ended [default: none]\n"
      "  -w <WORKERS>       accepted; every token has a kernel of its own");
}

struct Options {
  std::string host = "127.0.0.1";
  std::string port = "52425";
  bool daemon = false;
  bool console = false;
  std::optional<std::string> timeout_s;
  std::optional<std::string> workers;

  [[nodiscard]] std::string address() const {
    return (host.find(':') != std::string::npos ? "[" + host + "]" : host) + ":" + port;
  }
  [[nodiscard]] std::string url() const { return "http://" + address(); }
};

bool is_number(const std::string& text, std::uint64_t most) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value <= most;
}

class NestServer {
 public:
  NestServer(Surroundings around, std::string self) : around_(std::move(around)), self_(std::move(self)) {}

  int run(const std::vector<std::string>& args) {
    std::string command = args.empty() ? "" : args[0];
    if (command != "start" && command != "stop" && command != "restart" && command != "status" &&
        command != "log" && command != "pid") {
      usage();
      return 0;
    }
    if (auto wrong = read_options({args.begin() + 1, args.end()})) {
      complain("nest-server: " + *wrong);
      usage();
      return 1;
    }
    if (!state_folder().is_absolute()) {
      complain("nest-server: there is no home folder for its records; set HOME or XDG_STATE_HOME");
      return 1;
    }
    if (command == "status") return status();
    if (command == "pid") return pid();
    if (command == "log") return log();
    if (command == "stop") return stop();
    if (command == "restart" && stop() != 0 && find()) return 1;
    return start();
  }

 private:
  // ---- options ----

  std::optional<std::string> env(const char* name) const {
    auto found = around_.environment.find(name);
    if (found == around_.environment.end() || found->second.empty()) return std::nullopt;
    return found->second;
  }

  bool env_true(const char* name) const {
    auto value = env(name);
    return value && nest_boolean(*value);
  }

  /// As getopts: "-p 1", "-p1", "-do". What is wrong, or nothing.
  std::optional<std::string> read_options(const std::vector<std::string>& args) {
    if (auto host = env("NEST_SERVER_HOST")) options_.host = *host;
    if (auto port = env("NEST_SERVER_PORT")) options_.port = *port;
    options_.daemon = env_true("NEST_SERVER_DAEMON");
    options_.console = env_true("NEST_SERVER_STDOUT");
    options_.timeout_s = env("NEST_SERVER_TIMEOUT");
    options_.workers = env("NEST_SERVER_WORKERS");
    for (std::size_t i = 0; i < args.size(); ++i) {
      const std::string& arg = args[i];
      if (arg.size() < 2 || arg[0] != '-') return "unexpected argument: " + arg;
      for (std::size_t j = 1; j < arg.size(); ++j) {
        char option = arg[j];
        if (option == 'd')
          options_.daemon = true;
        else if (option == 'o')
          options_.console = true;
        else if (std::strchr("hptw", option) != nullptr) {
          std::string value = arg.substr(j + 1);
          if (value.empty() && ++i < args.size()) value = args[i];
          if (value.empty()) return std::string("option requires an argument -- ") + option;
          if (option == 'h') options_.host = value;
          if (option == 'p') options_.port = value;
          if (option == 't') options_.timeout_s = value;
          if (option == 'w') options_.workers = value;
          break;
        } else {
          return std::string("illegal option -- ") + option;
        }
      }
    }
    auto& host = options_.host;
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    bool plain = std::all_of(host.begin(), host.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '.' || c == '-' || c == ':' || c == '_' || c == '%';
    });
    if (!plain || host.front() == '-') return "not a host: " + host;
    if (!is_number(options_.port, 65535) || options_.port == "0") return "not a port: " + options_.port;
    options_.port = std::to_string(std::stoul(options_.port));
    if (options_.timeout_s && !is_number(*options_.timeout_s, 31536000)) {
      return "not a number of seconds: " + *options_.timeout_s;
    }
    if (options_.workers && !is_number(*options_.workers, 1000000)) {
      return "not a number of workers: " + *options_.workers;
    }
    return std::nullopt;
  }

  // ---- records ----

  fs::path state_folder() const {
    if (auto state = env("XDG_STATE_HOME"); state && fs::path(*state).is_absolute()) {
      return fs::path(*state) / "myelin" / "nest-server";
    }
    return around_.home / ".local/state/myelin/nest-server";
  }

  /// Where records are looked for; they are written to the first. A login shell and a cron job of one user
  /// differ in XDG_RUNTIME_DIR, and find each other's servers all the same.
  ServerRecords records() const {
    std::vector<fs::path> folders;
    std::error_code ignored;
    if (auto runtime = env("XDG_RUNTIME_DIR"); runtime && fs::path(*runtime).is_absolute()) {
      folders.push_back(fs::path(*runtime) / "myelin" / "nest-server");
    } else if (fs::path usual = "/run/user/" + std::to_string(::geteuid());
               fs::is_directory(usual, ignored)) {
      folders.push_back(usual / "myelin" / "nest-server");
    }
    folders.push_back(state_folder());
    return ServerRecords(std::move(folders));
  }
  std::optional<ServerRecord> find() const { return records().find(options_.address()); }

  std::string log_path() const {
    if (auto path = env("NEST_SERVER_LOGFILE")) return fs::absolute(*path).string();
    return (state_folder() / (options_.address() + ".log")).string();
  }

  // ---- commands ----

  int status() {
    say("PID\t\tHTTP-SOCKET\t\tLOGFILE");
    for (const auto& one : records().running())
      say(std::to_string(one.pid) + "\t\t" + one.address + "\t\t" + one.log + "\t\t");
    return 0;
  }

  int pid() {
    auto instance = find();
    if (!instance) return 1;
    say(std::to_string(instance->pid));
    return 0;
  }

  int log() {
    auto instance = find();
    std::string path = instance ? instance->log : log_path();
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
      complain("nest-server: there is no log file for " + options_.url() + " (" + path + ")");
      return 1;
    }
    std::fflush(stdout);
    ::execlp("tail", "tail", "-f", "--", path.c_str(), nullptr);
    complain("nest-server: cannot run tail: " + std::string(std::strerror(errno)));
    return 1;
  }

  int stop() {
    auto instance = find();
    if (!instance) {
      say("NEST Server is not running at " + options_.url() + ".");
      return 1;
    }
    if (::kill(instance->pid, SIGTERM) != 0 && errno == EPERM) {
      complain("nest-server: not allowed to stop process " + std::to_string(instance->pid));
      return 1;
    }
    auto gone_within = [&](std::chrono::seconds patience) {
      auto until = Clock::now() + patience;
      while (read_server_record(instance->file)) {
        if (Clock::now() > until) return false;
        std::this_thread::sleep_for(poll_every);
      }
      return true;
    };
    if (!gone_within(stop_patience)) {
      complain("nest-server: process " + std::to_string(instance->pid) +
               " does not end by itself; it is killed");
      ::kill(instance->pid, SIGKILL);
      if (!gone_within(stop_patience)) {
        complain("nest-server: process " + std::to_string(instance->pid) + " cannot be ended");
        return 1;
      }
    }
    std::error_code ignored;
    fs::remove(instance->file, ignored);
    say("NEST Server running at " + options_.url() + " has stopped.");
    return 0;
  }

  // ---- start ----

  /// What the server finds in its environment, and the banner that goes with it.
  struct Launch {
    Environment environment;
    std::vector<std::string> arguments;
    std::string banner;
  };

  Launch launch() const {
    Launch out;
    out.environment = around_.environment;
    // These are settled here; the server is not to take them for its own.
    for (const char* settled :
         {"HOST", "PORT", "DAEMON", "STDOUT", "LOGFILE", "TIMEOUT", "WORKERS", "ACCESS_TOKEN"}) {
      out.environment.erase(std::string("NEST_SERVER_").append(settled));
    }
    if (options_.timeout_s) out.environment["MYELIN_CALL_DEADLINE_S"] = *options_.timeout_s;

    bool no_auth = env_true("NEST_SERVER_DISABLE_AUTH");
    auto origins = env("NEST_SERVER_CORS_ORIGINS");
    bool any_origin = origins && *origins == "*";
    std::string lines;
    if (no_auth || any_origin) {
      lines +=
          "WARNING: You chose to disable important access restrictions!\n"
          " This allows other computers to execute code on this machine as the current user!\n"
          " Be sure you understand the implications of these settings and take appropriate measures to "
          "protect your "
          "runtime environment!\n \n";
      if (no_auth) lines += " - AUTH:\tThe authorization settings are disabled.\n";
      if (any_origin) lines += " - CORS:\tThe allowed origins are not restricted.\n";
      lines += "\n";
    }
    if (!no_auth) {
      auto token = env("NEST_SERVER_ACCESS_TOKEN");
      if (token) {
        out.environment.erase("MYELIN_TOKEN_FILE");
        out.environment["MYELIN_TOKEN"] = *token;
      } else if (!env("MYELIN_TOKEN") && !env("MYELIN_TOKEN_FILE")) {
        token = random_hex(24);
        out.environment["MYELIN_TOKEN"] = *token;
        lines += "   Access token to NEST Server: " + *token +
                 "\n   Add this to the headers: {'NESTServerAuth': '<access_token>'}\n\n";
      }
    }
    if (!lines.empty()) {
      out.banner = stars;
      out.banner += "\n" + lines + stars;
    }

    out.arguments = {self_, "serve", "--host", options_.host, "--port", options_.port, "--nest-face"};
    fs::path usual = default_data(around_);
    if (!env("MYELIN_DATA") && !usual.empty()) {
      // One server per data folder: every port has its own, and the settings of the usual one.
      fs::path data = usual / ("nest-server-" + (options_.host == "127.0.0.1" ? "" : options_.host + "-") +
                               options_.port);
      out.arguments.insert(out.arguments.end(), {"--data", data.string()});
      std::error_code ignored;
      if (!env("MYELIN_CONFIG") && !fs::exists(data / "myelin.toml", ignored) &&
          fs::exists(usual / "myelin.toml", ignored)) {
        out.environment["MYELIN_CONFIG"] = (usual / "myelin.toml").string();
      }
    }
    return out;
  }

  /// Runs in the child.
  [[noreturn]] static void become(const Launch& launch, int output, bool own_session) {
    if (own_session) {
      ::setsid();
      int null = ::open("/dev/null", O_RDONLY);
      if (null >= 0) ::dup2(null, STDIN_FILENO);
    }
    if (output >= 0) {
      ::dup2(output, STDOUT_FILENO);
      ::dup2(output, STDERR_FILENO);
    }
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<std::string> variables;
    for (const auto& [name, value] : launch.environment) variables.push_back(name + "=" + value);
    std::vector<char*> envp, argv;
    for (auto& variable : variables) envp.push_back(variable.data());
    auto arguments = launch.arguments;
    for (auto& argument : arguments) argv.push_back(argument.data());
    envp.push_back(nullptr);
    argv.push_back(nullptr);
    ::execve(argv[0], argv.data(), envp.data());
    std::string text = "cannot run " + launch.arguments[0] + ": " + std::strerror(errno) + "\n";
    if (::write(STDERR_FILENO, text.data(), text.size()) < 0) ::_exit(126);
    ::_exit(127);
  }

  static int exit_status(int wait_status) {
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
  }

  static bool says_listening(const std::string& text) {
    return text.rfind("listening on ", 0) == 0 || text.find("\nlistening on ") != std::string::npos;
  }

  /// What a log file holds from `offset` on (the last 64 KiB of it at most).
  static std::string read_from(const std::string& path, off_t offset) {
    std::ifstream in(path, std::ios::binary);
    in.seekg(0, std::ios::end);
    off_t size = in.tellg();
    in.seekg(std::max<off_t>(offset, size - 65536));
    return {std::istreambuf_iterator<char>(in), {}};
  }

  void running(const Launch& launch) const {
    say("NEST Server is now running at " + options_.url() + ".");
    if (!options_.daemon) {
      say("Use CTRL + C to stop this service.");
      if (options_.console) say(std::string(53, '-'));
    }
    if (options_.workers && *options_.workers != "1") {
      say("Note: -w is accepted and does nothing here: every token has a kernel of its own.");
    }
    if (!launch.banner.empty()) say(launch.banner);
  }

  /// No file of its own, e.g. /dev/stdout in a container, wherever that leads.
  static bool is_console(const std::string& log) {
    struct stat info {};
    if (::stat(log.c_str(), &info) != 0) return false;
    if (!S_ISREG(info.st_mode)) return true;
    for (int fd : {STDOUT_FILENO, STDERR_FILENO}) {
      struct stat other {};
      if (::fstat(fd, &other) == 0 && other.st_dev == info.st_dev && other.st_ino == info.st_ino) return true;
    }
    return false;
  }

  int start() {
    if (find()) {
      say("NEST Server is already running at " + options_.url() + ".");
      return 0;
    }
    std::string log = log_path();
    bool special = is_console(log);
    bool to_console = (options_.console || special) && !options_.daemon;
    if (options_.daemon && special) {
      complain("nest-server: with -d the log must be a file, not " + log);
      return 1;
    }
    if (options_.daemon && options_.console)
      say("Note: with -d the output goes to the log file " + log + ".");
    auto what = launch();
    return to_console ? start_on_console(what) : start_with_log(what, log);
  }

  /// Output to a file. In the background when -d, else this process stays until the server ends.
  int start_with_log(const Launch& what, const std::string& log) {
    make_folder(fs::path(log).parent_path());
    int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (output < 0) {
      complain("nest-server: cannot write the log file " + log + ": " + std::strerror(errno));
      return 1;
    }
    off_t before = ::lseek(output, 0, SEEK_END);
    Signals signals;
    pid_t parent = ::getpid();
    pid_t child = ::fork();
    if (child == 0) {
      if (!options_.daemon) tie_to(parent);
      become(what, output, options_.daemon);
    }
    if (child < 0) {
      ::close(output);
      complain("nest-server: cannot start a process: " + std::string(std::strerror(errno)));
      return 1;
    }
    auto record = records().write(child, options_.address(), log);
    auto until = Clock::now() + start_patience;
    int wait_status = 0;
    for (;;) {
      if (says_listening(read_from(log, before))) break;
      bool ended = ::waitpid(child, &wait_status, WNOHANG) == child;
      bool late = !ended && (Clock::now() > until);
      int signal = signals.take();
      if (signal != 0 && signal != SIGCHLD) ::kill(child, SIGTERM);  // the user gave up
      if (late) {
        ::kill(child, SIGKILL);
        ::waitpid(child, &wait_status, 0);
      }
      if (ended || late) {
        ::close(output);
        forget(record);
        if (ended && says_listening(read_from(log, before))) break;
        complain("NEST Server did not start at " + options_.url() + (late ? " within 120 s" : "") +
                 "; its last words:");
        complain(last_lines(read_from(log, before)));
        return 1;
      }
      std::this_thread::sleep_for(poll_every);
    }
    running(what);
    // Users of NEST Server look for the token in the log. It goes there if nobody else can read it.
    struct stat info {};
    if (!what.banner.empty() && ::stat(log.c_str(), &info) == 0 && (info.st_mode & 0077) == 0) {
      std::string text = what.banner + "\n";
      if (::write(output, text.data(), text.size()) < 0)
        complain("nest-server: the log file cannot be written");
    }
    ::close(output);
    if (!record)
      complain("nest-server: no record of this server could be written; stop it by: kill " +
               std::to_string(child));
    if (options_.daemon) return 0;
    return attend(child, -1, signals, record);
  }

  /// Output passes through this process to its own stdout, so that the first "listening on" is seen.
  int start_on_console(const Launch& what) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      complain("nest-server: " + std::string(std::strerror(errno)));
      return 1;
    }
    Signals signals;
    pid_t parent = ::getpid();
    pid_t child = ::fork();
    if (child == 0) {
      tie_to(parent);
      become(what, ends[1], false);
    }
    ::close(ends[1]);
    if (child < 0) {
      ::close(ends[0]);
      complain("nest-server: cannot start a process: " + std::string(std::strerror(errno)));
      return 1;
    }
    auto record = records().write(child, options_.address(), "-");
    std::string heard;
    bool up = false;
    return attend(child, ends[0], signals, record, [&](std::string_view piece) {
      if (!up) {
        heard.append(piece);
        if (says_listening(heard)) {
          up = true;
          running(what);
        } else if (heard.size() > 65536) {
          heard.erase(0, heard.size() - 4096);
        }
      }
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    });
  }

  /// The child ends with its parent.
  static void tie_to(pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
  }

  /// The signals of a foreground server, taken one by one. Blocked while it lives.
  class Signals {
   public:
    Signals() {
      sigset_t set;
      sigemptyset(&set);
      for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
      ::sigprocmask(SIG_BLOCK, &set, &before_);
      fd_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    }
    ~Signals() {
      ::close(fd_);
      ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;
    [[nodiscard]] int fd() const { return fd_; }
    /// The next one, 0 if there is none.
    [[nodiscard]] int take() const {
      signalfd_siginfo info{};
      return ::read(fd_, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
    }

   private:
    sigset_t before_{};
    int fd_ = -1;
  };

  /// Stays with a foreground server: passes signals on and output through, returns its exit status.
  template <class Hear = void (*)(std::string_view)>
  int attend(
      pid_t child, int output, const Signals& signals, const std::optional<fs::path>& record,
      Hear hear = [](std::string_view) {}) {
    int wait_status = 0;
    bool ended = ::waitpid(child, &wait_status, WNOHANG) == child;  // its SIGCHLD may have been taken already
    while (!ended || output >= 0) {
      pollfd watched[2] = {{signals.fd(), POLLIN, 0}, {output, POLLIN, 0}};
      // After its end only what is left in the pipe counts; something else may hold it open.
      int ready = ::poll(watched, output >= 0 ? 2 : 1, ended ? 200 : -1);
      if (ready < 0 && errno != EINTR) break;
      if (ready == 0) break;
      while (int signal = signals.take()) {
        if (signal == SIGCHLD) ended = ended || ::waitpid(child, &wait_status, WNOHANG) == child;
        // The terminal sends CTRL + C to the server as well, a supervisor to this process only; twice does no
        // harm.
        else if (!ended)
          ::kill(child, SIGTERM);
      }
      if (output >= 0 && (watched[1].revents & (POLLIN | POLLHUP)) != 0) {
        char buffer[65536];
        ssize_t size = ::read(output, buffer, sizeof buffer);
        if (size > 0) {
          hear(std::string_view(buffer, static_cast<std::size_t>(size)));
        } else if (size == 0 || errno != EINTR) {
          ::close(output);
          output = -1;
        }
      }
    }
    if (output >= 0) ::close(output);
    if (!ended) ::waitpid(child, &wait_status, 0);
    forget(record);
    return exit_status(wait_status);
  }

  static void forget(const std::optional<fs::path>& record) {
    std::error_code ignored;
    if (record) fs::remove(*record, ignored);
  }

  static std::string last_lines(const std::string& text) {
    std::size_t from = text.size();
    while (from > 0 && text[from - 1] == '\n') --from;
    std::size_t end = from;
    for (int lines = 0; from > 0; --from) {
      if (text[from - 1] == '\n' && ++lines == 10) break;
    }
    return end == 0 ? "(none)" : text.substr(from, end - from);
  }

  Surroundings around_;
  std::string self_;
  Options options_;
};

}  // namespace

int nest_server_main(std::vector<std::string> args, std::string self_executable) {
  return NestServer(Surroundings::of_this_process(), std::move(self_executable)).run(args);
}

}  // namespace myelin::cli
