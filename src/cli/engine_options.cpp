#include "cli/engine_options.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;

// Where the Python package of this project is: beside the build tree, or installed below the executable's prefix.
std::string package_directory(const fs::path& executable) {
  if (const char* given = std::getenv("MYELIN_PYTHON_PACKAGE")) return given;
  for (fs::path candidate : {executable.parent_path().parent_path() / "python",
                             executable.parent_path().parent_path() / "share/myelin/python"}) {
    std::error_code error;
    if (fs::exists(candidate / "myelin/worker/__main__.py", error)) return fs::canonical(candidate).string();
  }
  return (executable.parent_path().parent_path() / "python").string();
}

}  // namespace

std::string resolve_python(const std::string& given) {
  if (given.find('/') != std::string::npos) return fs::absolute(given).lexically_normal().string();
  const char* path = std::getenv("PATH");
  std::string list = path ? path : "/usr/local/bin:/usr/bin:/bin";
  for (std::size_t begin = 0; begin <= list.size();) {
    auto end = std::min(list.find(':', begin), list.size());
    fs::path candidate = fs::path(list.substr(begin, end - begin)) / given;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate.string();
    begin = end + 1;
  }
  return given;
}

worker::EngineOptions engine_options(const Config& config, const std::string& name, const fs::path& executable, bool namespaces) {
  worker::EngineOptions engine;
  engine.name = engine.kind = name;
  engine.python = resolve_python(config.python_for(name));
  if (auto found = config.engines.find(name); found != config.engines.end()) {
    engine.kind = found->second.kind;
    engine.added = found->second.added;
    engine.preload = found->second.preload;
    for (auto& [key, value] : found->second.env) engine.environment.emplace_back(key, value);
  }
  engine.sandbox_binary = config.sandbox_binary.string();
  engine.enter_library = config.enter_library.string();
  engine.package_directory = package_directory(executable);
  engine.users_directory = (config.data / "users").string();
  engine.packages_directory = (config.data / "packages" / "shown").string();
  engine.cache_directory = (config.data / "cache").string();
  engine.home = (config.data / "scratch").string();
  engine.namespaces = namespaces;
  engine.scratch_bytes = config.limits_for(name, "").scratch.of(0);
  if (config.worker_uid) engine.uid = *config.worker_uid;
  for (const auto& mount : config.mounts) {
    bool fits = mount.engines.empty() || std::find(mount.engines.begin(), mount.engines.end(), name) != mount.engines.end();
    if (fits) engine.mounts.push_back({mount.path.string(), mount.target.string(), mount.writable});
  }
  return engine;
}

session::Limits session_limits(const Limits& limits, std::uint64_t memory) {
  session::Limits out;
  out.memory_bytes = limits.memory_per_session.of(memory);
  out.processes = limits.pids;
  out.files = limits.files;
  out.cpu_weight = limits.cpu_weight;
  out.call_deadline = std::chrono::seconds(limits.call_deadline_s);
  out.idle = std::chrono::seconds(limits.idle_s);
  out.queue = std::max<std::uint64_t>(limits.queue, 1);
  out.stdout_bytes = limits.stdout_mib * mib;
  out.work_quota_bytes = limits.work_quota.of(0);
  out.checkpoint_bytes = limits.checkpoints.of(memory);
  out.sessions_per_user = limits.max_sessions_per_user;
  return out;
}

}  // namespace myelin::cli
