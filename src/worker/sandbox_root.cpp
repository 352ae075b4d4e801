#include "worker/sandbox_root.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

namespace myelin::worker {
namespace {

namespace fs = std::filesystem;

constexpr const char* work_in_session = "/session/home/work";

bool below(const fs::path& path, const fs::path& directory) {
  auto relative = path.lexically_relative(directory);
  return !relative.empty() && *relative.begin() != "..";
}

// Files of /etc that programs need and that hold no secret. Names of users and hosts are written anew.
constexpr const char* etc_paths[] = {
    "/etc/ld.so.cache",   "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime",
    "/etc/timezone",      "/etc/fonts",      "/etc/ssl/certs",    "/etc/mime.types",   "/etc/magic",
    "/etc/python3",       "/etc/python3.11", "/etc/openmpi",      "/etc/libnl-3",      "/etc/protocols",
    "/etc/services",
};

std::string line(const std::string& key, const std::string& value) { return key + " " + value + "\n"; }

// Prefixes found by following the links of `python` step by step.
Result<std::set<std::string>> link_prefixes(const std::string& python) {
  std::set<std::string> found;
  fs::path current = fs::path(python).lexically_normal();
  for (int hops = 0; hops < 16; ++hops) {
    std::error_code error;
    auto status = fs::symlink_status(current, error);
    if (error || !fs::exists(status))
      return Error{Code::bad_request, "no interpreter at " + current.string() + ": give the path of a Python >= 3.9", ""};
    fs::path prefix = current.parent_path().parent_path();
    if (!prefix.empty() && prefix != "/") found.insert(prefix.string());
    std::ifstream config(prefix / "pyvenv.cfg");
    for (std::string text; std::getline(config, text);) {
      auto equals = text.find('=');
      if (equals == std::string::npos || text.compare(0, 4, "home") != 0) continue;
      fs::path home = text.substr(text.find_first_not_of(" \t", equals + 1));
      // Follow the base interpreter too: its prefix may be a link itself.
      std::error_code ignored;
      fs::path real = fs::weakly_canonical(home, ignored);
      for (const fs::path& bin : {home, real})
        if (bin.has_parent_path() && bin.parent_path() != "/") found.insert(bin.parent_path().string());
    }
    if (!fs::is_symlink(status)) return found;
    fs::path target = fs::read_symlink(current, error);
    if (error) return Error{Code::internal, "can't read the link " + current.string() + ": " + error.message(), ""};
    current = (target.is_absolute() ? target : current.parent_path() / target).lexically_normal();
  }
  return Error{Code::bad_request, "too many symbolic links at " + python, ""};
}

}  // namespace

Result<std::vector<std::string>> interpreter_directories(const std::string& python) {
  auto found = link_prefixes(python);
  if (!found) return found.take_error();
  std::vector<std::string> out;
  for (const std::string& path : *found) {
    if (path == "/usr" || below(path, "/usr")) continue;
    bool covered = std::any_of(found->begin(), found->end(),
                               [&](const std::string& other) { return other != path && below(path, other); });
    if (!covered) out.push_back(path);
  }
  return out;
}

Result<std::string> keeper_configuration(const EngineOptions& options) {
  std::string text = line("namespaces", options.namespaces ? "1" : "0");
  if (options.uid) text += line("uid", std::to_string(*options.uid)) + line("gid", std::to_string(*options.uid));
  std::string prefix_bin = fs::path(options.python).parent_path().string();
  if (options.namespaces) {
    for (const char* top : {"/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"}) {
      std::error_code error;
      auto status = fs::symlink_status(top, error);
      if (error || !fs::exists(status)) continue;
      if (fs::is_symlink(status))
        text += line("link", std::string(top) + " " + fs::read_symlink(top).string());
      else
        text += line("bind", std::string("ro ") + top + " " + top);
    }
    for (const char* path : etc_paths) text += line("bind", std::string("?ro ") + path + " " + path);
    text += "file /etc/passwd user:x:1000:1000:Myelin session:/session/home:/bin/sh\\n\n";
    text += "file /etc/group user:x:1000:\\n\n";
    text += "file /etc/hosts 127.0.0.1 localhost myelin\\n::1 localhost\\n\n";
    text += "file /etc/nsswitch.conf passwd: files\\ngroup: files\\nhosts: files\\n\n";
    auto directories = interpreter_directories(options.python);
    if (!directories) return directories.take_error();
    for (const std::string& directory : *directories) text += line("bind", "ro " + directory + " " + directory);
    text += line("bind", "ro " + options.package_directory + " " + options.package_directory);
    text += line("bind", "ro " + options.enter_library + " " + options.enter_library);
    text += line("bind", "rw " + options.users_directory + " /.myelin/users");
    text += line("bind", "rw " + options.cache_directory + " /.myelin/cache");
    if (!options.packages_directory.empty()) text += line("bind", "?ro " + options.packages_directory + " /.myelin/packages");
    int number = 0;
    for (const Mount& mount : options.mounts) {
      text += line("bind", std::string(mount.writable ? "rw " : "ro ") + mount.source + " /.myelin/mounts/" +
                               std::to_string(number++));
      text += line("dir", mount.target);
    }
    text += line("scratch", std::to_string(options.scratch_bytes));
    text += line("hostname", "myelin");
  }
  text += line("env", "PATH=" + prefix_bin + ":/usr/local/bin:/usr/bin:/bin");
  text += line("env", "LANG=C.UTF-8");
  std::string cache = options.namespaces ? "/.myelin/cache" : options.cache_directory;
  text += line("env", "HOME=" + cache);
  text += line("env", "TMPDIR=" + cache);
  // Cython decides at its import, which is the zygote's: so what packages compile in a session goes to its user's cache.
  if (options.namespaces) text += line("env", std::string("CYTHON_CACHE_DIR=") + work_in_session + "/.cache/cython");
  text += line("env", "MPLBACKEND=Agg");
  text += line("env", "MPLCONFIGDIR=" + cache + "/matplotlib");
  text += line("env", "OPENBLAS_NUM_THREADS=1");
  text += line("env", "OMP_NUM_THREADS=1");
  text += line("env", "MKL_NUM_THREADS=1");
  // Threads that wait for each other give their core away soon: beside other sessions they would spin in each other's time.
  text += line("env", "GOMP_SPINCOUNT=1000");
  text += line("env", "JAX_PLATFORMS=cpu");
  text += line("env", "MYELIN_ENTER_LIBRARY=" + options.enter_library);
  if (!options.namespaces) text += line("env", "MYELIN_REDUCED=1");
  for (const auto& [key, value] : options.environment) {
    if (key.find_first_of("= \n") != std::string::npos || value.find('\n') != std::string::npos)
      return Error{Code::bad_request, "environment of engine " + options.name + ": a name or value has a line break", ""};
    text += line("env", key + "=" + value);
  }
  text += line("arg", options.python);
  text += "arg -I\narg -c\n";
  text += line("arg", "import os, sys; sys.version_info >= (3, 9) or (os.write(3, b'{\"failed\":{\"id\":null,\"reason\":\"Python %d.%d is too old: "
                      "3.9 or newer is needed\"}}' % sys.version_info[:2]), os._exit(1)); sys.path.insert(0, sys.argv.pop(1)); "
                      "from myelin.worker.zygote import main; sys.exit(main(sys.argv[1:]))");
  text += line("arg", options.package_directory);
  text += line("arg", options.kind.empty() || options.kind == options.name ? options.name : options.name + "=" + options.kind);
  for (const std::string& module : options.preload) text += line("arg", module);
  return text;
}

}  // namespace myelin::worker
