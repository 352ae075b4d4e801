#include "cli/engine_try.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include <boost/json.hpp>

#include "async/pool.hpp"
#include "base/log.hpp"
#include "cli/engine_options.hpp"
#include "os/host.hpp"
#include "os/process.hpp"
#include "os/seccomp.hpp"
#include "session/manager.hpp"
#include "store/migrate.hpp"
#include "worker/sandbox_root.hpp"

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;
using async::Task;
using State = Finding::State;
using Findings = std::vector<Finding>;

// ---- files -------------------------------------------------------------------------------------------------------

/// Whether sessions may use it: those of root's server are an ordinary user's.
bool allowed(const fs::path& path, int how, std::optional<uid_t> uid) {
  if (!uid) return ::faccessat(AT_FDCWD, path.c_str(), how, AT_EACCESS) == 0;
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return false;
  unsigned bits = info.st_uid == *uid ? info.st_mode >> 6 : info.st_mode;
  unsigned wanted = (how & R_OK ? 4u : 0u) | (how & X_OK ? 1u : 0u);
  return (bits & wanted) == wanted;
}

/// The first folder above `path` that may not be entered. Root's server passes all of them: it binds what lies below.
std::optional<fs::path> closed_above(const fs::path& path) {
  fs::path walked;
  for (const auto& part : path.parent_path()) {
    walked /= part;
    if (::faccessat(AT_FDCWD, walked.c_str(), X_OK, AT_EACCESS) != 0 && errno == EACCES) return walked;
  }
  return std::nullopt;
}

/// The same, of every link on the way.
std::optional<fs::path> closed_on_the_way(fs::path path) {
  std::error_code error;
  for (int hops = 0; hops < 16; ++hops) {
    if (auto closed = closed_above(path)) return closed;
    if (!fs::is_symlink(path, error)) break;
    auto target = fs::read_symlink(path, error);
    path = (target.is_absolute() ? target : path.parent_path() / target).lexically_normal();
  }
  return std::nullopt;
}

std::string access_repair(const fs::path& path, bool folder) {
  return std::string("chmod ") + (folder ? "a+rx " : "a+r ") + path.string();
}

/// The folders of an environment that Python reads first.
std::vector<fs::path> inner_folders(const fs::path& prefix) {
  std::vector<fs::path> out = {prefix, prefix / "bin", prefix / "lib"};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(prefix / "lib", ignored)) {
    if (entry.path().filename().string().rfind("python3", 0) != 0 || !entry.is_directory(ignored)) continue;
    out.push_back(entry.path());
    if (fs::exists(entry.path() / "site-packages", ignored)) out.push_back(entry.path() / "site-packages");
  }
  out.erase(std::remove_if(out.begin(), out.end(), [&](auto& path) { return !fs::exists(path, ignored); }), out.end());
  return out;
}

bool is_script(const fs::path& path) {
  char mark[2] = {};
  std::ifstream(path, std::ios::binary).read(mark, 2);
  return mark[0] == '#' && mark[1] == '!';
}

// ---- in the sandbox ------------------------------------------------------------------------------------------------

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

/// Why the zygote did not come up, or a cold session.
Finding not_started(const worker::EngineOptions& engine, std::string reason) {
  std::string prefix = "engine " + engine.name + ": ";
  if (auto at = reason.find(prefix); at != std::string::npos) reason.erase(0, at + prefix.size());
  if (reason.rfind("the zygote of " + engine.name, 0) == 0) reason.replace(0, 14 + engine.name.size(), engine.python);
  Finding finding{State::blocks, "start", reason, ""};
  std::string modules = joined(engine.preload.empty() ? std::vector<std::string>{engine.kind == "python" ? "sys" : engine.kind} : engine.preload);
  std::string outside = "whether it works outside the sandbox: " + engine.python + " -I -c 'import " + modules + "'";
  if (reason.find("too old") != std::string::npos) {
    finding.name = "interpreter";
    finding.repair = "give another --python";
  } else if (reason.find("the sandbox for") != std::string::npos) {
    finding.name = "sandbox";
  } else if (reason.rfind("ModuleNotFoundError", 0) == 0) {
    finding.name = "import";
    finding.repair = "install it for this interpreter: " + engine.python +
                     " -m pip install PACKAGE. One that is installed there as \"editable\" lies elsewhere, where sessions see nothing: install it properly";
  } else if (reason.find("Error") != std::string::npos) {
    finding.name = "import";
    finding.repair = outside + ". In it there is no network, and nothing can be written but the session's own folders";
  } else {
    finding.repair = "what it wrote itself stands above. Is it a Python interpreter? " + outside;
  }
  return finding;
}

std::string milliseconds_text(double ms) {
  char text[32];
  std::snprintf(text, sizeof text, ms < 1000 ? "%.0f ms" : "%.1f s", ms < 1000 ? ms : ms / 1000);
  return text;
}

std::string versions_text(const worker::EngineInfo& info) {
  std::string out;
  for (const auto& [part, version] : info.versions)
    if (part != "python") out += (out.empty() ? "" : ", ") + part + " " + version;
  return out.empty() ? "no more than Python" : out;
}

/// What the worker says of a call that failed, in one line.
std::string reason_of(const Error& error) {
  boost::json::error_code failed;
  auto value = boost::json::parse(error.detail, failed);
  if (failed || !value.is_object()) return error.message;
  auto text = [&](const char* key) {
    auto* found = value.get_object().if_contains(key);
    return found && found->is_string() ? std::string(found->get_string()) : std::string();
  };
  std::string out = text("class") + ": " + text("text");
  return out == ": " ? error.message : out;
}

Task<Result<session::Answer>> run_line(session::Session session, std::string source) {
  session::Call call;
  call.meta = R"({"method":"exec","envelope":"v1","content_type":"application/json","nonfinite":"null"})";
  call.body = boost::json::serialize(boost::json::object{{"source", source}});
  co_return co_await session.call(std::move(call));
}

Task<void> look(session::Manager* sessions, worker::EngineOptions engine, Findings* out, async::Loop* loop) {
  struct Stop {  // whatever happens: without it the loop would never end
    async::Loop* loop;
    ~Stop() { loop->stop(); }
  } stop{loop};
  std::string name = engine.name;
  auto ready = co_await sessions->engine_ready(name);
  if (!ready) {
    out->push_back(not_started(engine, ready.error().message));
    co_return;
  }
  auto python = ready->versions.find("python");
  out->push_back({State::ok, "interpreter", "Python " + (python == ready->versions.end() ? "3" : python->second) + ", " + engine.python, ""});
  out->push_back({State::ok, "import", versions_text(*ready) + ", in " + milliseconds_text(ready->import_ms), ""});

  session::User user{"trial", "trial", true};
  std::string session_name = "trial";
  auto made = co_await sessions->create(user, name, session_name);
  if (!made) {
    out->push_back({State::blocks, "session", made.error().message, ""});
    co_return;
  }
  std::string first = "myelin_trial = 1 + 1\nassert myelin_trial == 2\n";
  for (const auto& module : engine.preload) first += "import " + module + "\n";
  auto answered = co_await run_line(*made, first);
  const worker::EngineInfo* info = sessions->engine_info(name);
  if (!answered) {
    bool script = answered.error().code == Code::call_failed;
    out->push_back(script ? Finding{State::blocks, "session", reason_of(answered.error()), ""} : not_started(engine, answered.error().message));
    co_return;
  }
  if (info->cold) {
    std::string by = info->thread_by.empty() ? "a module" : info->thread_by;
    out->push_back({State::limited, "threads",
                    by + " starts a thread when it is imported. Such a process can't be copied: each session imports for itself, in about " +
                        milliseconds_text(info->import_ms),
                    "many libraries have a variable that turns their threads off: myelin engine add … --env NAME=VALUE"});
  } else {
    out->push_back({State::ok, "threads", "none after the import: sessions start at once", ""});
  }
  if (engine.namespaces) out->push_back({State::ok, "session", "runs in the sandbox", ""});
  else out->push_back({State::limited, "session", "runs, but this host can't isolate it", "`myelin doctor` shows the repair"});
  if (!info->openmp.empty())
    out->push_back({State::limited, "OpenMP", joined(info->openmp) + " can't pause its threads (it lacks omp_pause_resource_all): a session in which it ran several can't branch",
                    "a newer one in this environment (GCC 9 or later), or Debian's: apt install libgomp1"});

  std::vector<std::string> names{""};
  auto branches = co_await sessions->branch(*made, names);
  if (!branches) {
    std::string why = info->why_no_branches.empty() ? branches.error().message : info->why_no_branches;
    if (why.rfind("no branch: ", 0) == 0) why.erase(0, 11);
    out->push_back({State::limited, "branches", "none: " + why, ""});
    co_return;
  }
  std::string second = "assert myelin_trial == 2\n";
  auto continued = co_await run_line(branches->front(), second);
  if (continued && info->saves)
    out->push_back({State::ok, "branches", "one went on from what the session's globals hold", ""});
  else if (continued && info->why_no_branches.empty())
    out->push_back({State::ok, "branches", "one went on from the session's state", ""});
  else if (continued)
    out->push_back({State::limited, "branches", "only of a session that has not worked yet: " + info->why_no_branches, ""});
  else
    out->push_back({State::limited, "branches", "one was made and did not work: " + reason_of(continued.error()), ""});
}

/// A folder below DIR that goes with it.
struct Folder {
  fs::path path;
  ~Folder() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
};

}  // namespace

std::vector<Finding> check_interpreter(const std::string& python, std::optional<uid_t> uid) {
  Findings out;
  auto block = [&](std::string text, std::string repair) { out.push_back({State::blocks, "interpreter", std::move(text), std::move(repair)}); };
  const std::string give = "give the path of a Python of version 3.9 or newer, such as that of a conda environment: ENVIRONMENT/bin/python";
  if (python.find('/') == std::string::npos) {
    block("there is no " + python + " in PATH", give);
    return out;
  }
  struct stat info {};
  if (::stat(python.c_str(), &info) != 0) {
    int error = errno;
    std::error_code ignored;
    if (auto closed = error == EACCES ? closed_on_the_way(python) : std::nullopt)
      block("the folder " + closed->string() + " on the way to " + python + " can't be entered by this user", "chmod a+x " + closed->string());
    else if (error == ENOENT && fs::is_symlink(python, ignored))
      block(python + " is a link to " + fs::read_symlink(python, ignored).string() + ", which is not there", "make the environment again, or " + give);
    else
      block("there is no " + python + (error == ENOENT ? "" : std::string(": ") + std::strerror(error)), give);
    return out;
  }
  if (S_ISDIR(info.st_mode)) {
    block(python + " is a folder", "give the interpreter in it: " + (fs::path(python) / "bin" / "python").lexically_normal().string());
    return out;
  }
  if (!S_ISREG(info.st_mode) || (info.st_mode & 0111) == 0) {
    block(python + " can't be executed", S_ISREG(info.st_mode) ? "if it is an interpreter: chmod a+x " + python : give);
    return out;
  }
  if (is_script(python)) {
    block(python + " is a script that starts an interpreter", "give the interpreter itself: " + python + " -c 'import sys; print(sys.executable)' prints it");
    return out;
  }
  std::error_code ignored;
  if (!allowed(fs::canonical(python, ignored), R_OK | X_OK, uid))
    block("sessions may not execute " + fs::canonical(python, ignored).string(), "chmod a+rx " + fs::canonical(python, ignored).string());
  auto directories = worker::interpreter_directories(python);
  if (!directories) {
    block(directories.error().message, give);
    return out;
  }
  for (const auto& directory : *directories) {
    if (auto closed = closed_above(directory + "/x"); !uid && closed) {
      block("the folder " + closed->string() + " on the way to " + directory + " can't be entered by this user", "chmod a+x " + closed->string());
      continue;
    }
    for (const auto& folder : inner_folders(directory))
      if (!allowed(folder, R_OK | X_OK, uid))
        block("the folder " + folder.string() + " can't be read by sessions" + (uid ? ", which have the user id " + std::to_string(*uid) : ""),
              access_repair(folder, true) + " (and what is in it: chmod -R a+rX)");
  }
  return out;
}

Result<std::vector<Finding>> try_engine(const Config& config, const std::string& name, const Surroundings& surroundings) {
  ::umask(0077);
  std::error_code error;
  if (!fs::exists(config.data)) {
    fs::create_directories(config.data.parent_path(), error);
    if (::mkdir(config.data.c_str(), 0700) != 0 && errno != EEXIST)
      return Error{Code::unavailable, "can't make " + config.data.string() + ": " + std::strerror(errno), ""};
  }
  // A data folder of its own, so that a running server is not touched.
  std::string place = (config.data / ".trial-XXXXXX").string();
  if (::mkdtemp(place.data()) == nullptr)
    return Error{Code::unavailable, "can't write in " + config.data.string() + ": " + std::strerror(errno), ""};
  Folder folder{place};
  Config trial = config;
  trial.data = place;
  for (const char* part : {"users", "cache", "scratch"}) {
    fs::create_directory(trial.data / part, error);
    if (config.worker_uid && ::chown((trial.data / part).c_str(), *config.worker_uid, *config.worker_uid) != 0)
      return Error{Code::internal, "can't give " + (trial.data / part).string() + " to the sessions' uid", ""};
  }
  auto host = os::probe_host({config.sandbox_binary.string(), config.worker_uid});
  bool namespaces = host.level != os::IsolationLevel::reduced;
  if (!namespaces && config.worker_uid)
    for (const auto& path : {config.data, trial.data}) ::chmod(path.c_str(), 0711);  // as the server does
  if (!namespaces && config.worker_uid)
    for (fs::path above = fs::path(config.engines.at(name).python).parent_path(); above != above.root_path(); above = above.parent_path())
      if (!allowed(above, X_OK, config.worker_uid))
        return Findings{{State::blocks, "interpreter",
                         "the folder " + above.string() + " can't be entered by sessions, which have the user id " + std::to_string(*config.worker_uid) +
                             " and on this host nothing but the real paths",
                         "chmod a+x " + above.string()}};
  auto filter = os::seccomp_program();
  if (!filter) return filter.take_error();
  auto database = store::open_state(trial.data);
  if (!database) return database.take_error();

  Findings findings;
  async::Loop loop;
  bool left = false;
  {
    async::Pool pool(loop, 2), database_pool(loop, 1);
    std::uint64_t memory = os::total_memory_bytes();
    session::ManagerOptions options;
    options.engines = {engine_options(trial, name, surroundings.executable, namespaces)};
    worker::EngineOptions engine = options.engines.front();
    options.limits_for = [&trial, memory](const std::string& of, const std::string& user) {
      return session_limits(trial.limits_for(of, user), memory);
    };
    options.mounts_for = [](const std::string&, const std::string&) { return std::vector<worker::Mount>(); };
    options.seccomp_program = *filter;
    options.users_directory = (trial.data / "users").string();
    options.uid = config.worker_uid;
    options.modules = config.modules;
    session::Manager sessions(loop, pool, database_pool, *database, nullptr, std::move(options));
    for (int signal : {SIGINT, SIGTERM})
      loop.on_signal(signal, [&loop, &left](int) {
        left = true;
        loop.stop();
      });
    log::set_level(log::Level::off);  // what matters is in the findings
    {
      async::TaskGroup trials(loop);
      trials.spawn(look(&sessions, std::move(engine), &findings, &loop), "trial");
      loop.run();
      trials.cancel();
    }
    log::set_level(log::Level::info);
  }
  if (left) return Error{Code::interrupted, "the trial was interrupted", ""};
  return findings;
}

bool blocked(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.state == State::blocks; });
}

}  // namespace myelin::cli
