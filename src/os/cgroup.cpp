#include "os/cgroup.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "os/failure.hpp"
#include "os/fd.hpp"

namespace myelin::os {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t socket_bytes = 64 << 20;
constexpr const char* leaf_name = "myelin-leaf";

constexpr const char* repair_text =
    "run the server as a systemd service with Delegate=yes (deploy/myelin.service), or for a try: "
    "systemd-run --user --scope -p Delegate=yes myelin serve …; with cgroup v1 the directories of the memory and pids "
    "hierarchies must be writable for the server's user";

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

Result<void> write_file(const std::string& path, const std::string& text) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return failure("can't open " + path);
  ssize_t n = ::write(fd, text.data(), text.size());
  int error = errno;
  ::close(fd);
  if (n != static_cast<ssize_t>(text.size())) return failure("can't write " + path, error);
  return {};
}

// The value behind `key ` in a file of lines "key value".
std::optional<std::uint64_t> value_of(const std::string& path, std::string_view key) {
  std::istringstream lines(read_file(path));
  std::string name;
  std::uint64_t value;
  while (lines >> name >> value)
    if (name == key) return value;
  return std::nullopt;
}

bool has_word(const std::string& text, const std::string& word) {
  std::istringstream words(text);
  for (std::string w; words >> w;)
    if (w == word) return true;
  return false;
}

struct Place {
  int version = 2;
  std::map<std::string, std::string> paths;  // controller → this process's own directory
};

// Where this process is in the mounted hierarchies.
std::vector<Place> own_places() {
  std::map<std::string, std::string> own;  // controller, "" for version 2 → path in the hierarchy
  std::istringstream cgroups(read_file("/proc/self/cgroup"));
  for (std::string line; std::getline(cgroups, line);) {
    auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::istringstream names(line.substr(first + 1, second - first - 1));
    std::string path = line.substr(second + 1);
    bool any = false;
    for (std::string name; std::getline(names, name, ',');) {
      own[name] = path;
      any = true;
    }
    // A server that was started from another's leaf finds its place one level up.
    if (!any) own[""] = fs::path(path).filename() == leaf_name ? fs::path(path).parent_path().string() : path;
  }
  Place v1, v2;
  v1.version = 1;
  std::istringstream mounts(read_file("/proc/self/mountinfo"));
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, point, word;
    words >> id >> parent >> device >> root >> point;
    while (words >> word && word != "-") {}
    std::string type, source, options;
    words >> type >> source >> options;
    auto directory = [&, root = root, point = point](const std::string& path) {
      std::string relative = path;
      if (root != "/" && path.compare(0, root.size(), root) == 0) relative = path.substr(root.size());
      std::string whole = relative == "/" || relative.empty() ? point : point + relative;
      return fs::is_directory(whole) ? whole : point;
    };
    if (type == "cgroup2" && own.count("")) {
      std::string here = directory(own[""]);
      std::string controllers = read_file(here + "/cgroup.controllers");
      if (has_word(controllers, "memory") && has_word(controllers, "pids"))
        for (const char* name : {"memory", "pids", "cpu"})
          if (has_word(controllers, name)) v2.paths[name] = here;
    } else if (type == "cgroup") {
      std::istringstream list(options);
      for (std::string name; std::getline(list, name, ',');)
        if ((name == "memory" || name == "pids" || name == "cpu") && own.count(name)) v1.paths[name] = directory(own[name]);
    }
  }
  std::vector<Place> out;
  if (v2.paths.count("memory")) out.push_back(v2);
  if (v1.paths.count("memory") && v1.paths.count("pids")) out.push_back(v1);
  return out;
}

std::set<std::string> directories(const std::map<std::string, std::string>& paths) {
  std::set<std::string> out;
  for (const auto& [controller, path] : paths) out.insert(path);
  return out;
}

void kill_all(const std::string& directory) {
  if (write_file(directory + "/cgroup.kill", "1").ok()) return;
  for (int rounds = 0; rounds < 100; ++rounds) {
    std::istringstream pids(read_file(directory + "/cgroup.procs"));
    pid_t pid;
    bool any = false;
    while (pids >> pid) {
      any = true;
      ::kill(pid, SIGKILL);
    }
    if (!any) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// EBUSY while a killed process is still on its way out.
Result<void> remove_directory(const std::string& directory) {
  for (int rounds = 0; rounds < 200; ++rounds) {
    if (::rmdir(directory.c_str()) == 0 || errno == ENOENT) return {};
    if (errno != EBUSY) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return failure("can't remove " + directory);
}

Result<void> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return failure("can't make " + path);
  return {};
}

void sweep(const std::string& tree) {
  std::error_code error;
  for (auto& entry : fs::directory_iterator(tree, error)) {
    if (!entry.is_directory(error)) continue;
    kill_all(entry.path().string());
    (void)remove_directory(entry.path().string());
  }
}

Result<void> enable_controllers(const std::string& directory, const std::map<std::string, std::string>& paths) {
  for (const auto& [name, path] : paths) {
    auto enabled = write_file(directory + "/cgroup.subtree_control", "+" + name);
    if (!enabled) return enabled;
  }
  return {};
}

// Moves every process of one group of version 2 into another. Some end or fork meanwhile: hence the rounds.
Result<void> move_all(const std::string& from, const std::string& to) {
  Result<void> moved;
  for (int rounds = 0; rounds < 10; ++rounds) {
    std::istringstream pids(read_file(from + "/cgroup.procs"));
    bool any = false;
    for (std::string pid; pids >> pid; any = true) moved = write_file(to + "/cgroup.procs", pid);
    if (!any) return {};
  }
  return moved;
}

// Of servers that share a place, one at a time makes room there or leaves it. Without the descriptor it goes on unlocked.
UniqueFd locked(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) (void)::flock(fd.get(), LOCK_EX);
  return fd;
}

// Version 2 forbids processes in a group whose children have controllers: everything there moves to a leaf first.
Result<void> make_room(const Place& place, const std::string& tree) {
  const std::string own = place.paths.begin()->second, leaf = own + "/" + leaf_name;
  auto made = make_directory(leaf);
  if (made) made = move_all(own, leaf);
  if (made) made = enable_controllers(own, place.paths);
  return made ? enable_controllers(tree, place.paths) : made;
}

// Undoes make_room() once no tree is left there: a shell in which a server ran is where it was before.
void leave(const std::string& own) {
  const std::string leaf = own + "/" + leaf_name;
  std::error_code error;
  if (!fs::is_directory(leaf, error)) return;
  for (auto& entry : fs::directory_iterator(own, error))
    if (entry.is_directory(error) && entry.path().filename() != leaf_name) return;
  std::istringstream enabled(read_file(own + "/cgroup.subtree_control"));
  for (std::string name; enabled >> name;) (void)write_file(own + "/cgroup.subtree_control", "-" + name);
  (void)move_all(leaf, own);
  (void)::rmdir(leaf.c_str());
}

Result<Place> make_tree(const Place& place, const std::string& name) {
  Place tree = place;
  for (auto& [controller, path] : tree.paths) path += "/" + name;
  const std::string own = place.paths.begin()->second;
  const UniqueFd lock = place.version == 2 ? locked(own) : UniqueFd();
  for (const auto& directory : directories(tree.paths)) {
    auto made = make_directory(directory);
    if (!made) return made.take_error();
    sweep(directory);
  }
  if (place.version == 1) return tree;
  const std::string directory = tree.paths.begin()->second;
  if (auto made = make_room(place, directory); !made) {
    (void)remove_directory(directory);
    leave(own);
    return made.take_error();
  }
  return tree;
}

}  // namespace

// ---- group -------------------------------------------------------------------------------------------------------

Result<void> CgroupGroup::set_limits(const CgroupLimits& limits) {
  const std::string& memory = paths_.at("memory");
  if (limits.memory_bytes) {
    std::string bytes = std::to_string(limits.memory_bytes);
    auto set = write_file(memory + (version_ == 2 ? "/memory.max" : "/memory.limit_in_bytes"), bytes);
    if (!set) return set;
    if (version_ == 2) {
      (void)write_file(memory + "/memory.swap.max", "0");   // absent without swap accounting
      (void)write_file(memory + "/memory.oom.group", "1");  // a session dies whole
    } else {
      (void)write_file(memory + "/memory.memsw.limit_in_bytes", bytes);
      // Version 2 counts the buffers of sockets as memory. Here they are beside it, and the host has one pool for all.
      (void)write_file(memory + "/memory.kmem.tcp.limit_in_bytes", std::to_string(std::min(limits.memory_bytes, socket_bytes)));
    }
  }
  if (limits.pids) {
    auto set = write_file(paths_.at("pids") + "/pids.max", std::to_string(limits.pids));
    if (!set) return set;
  }
  if (auto cpu = paths_.find("cpu"); cpu != paths_.end()) {
    std::uint64_t weight = std::clamp<std::uint64_t>(limits.cpu_weight, 1, 10000);
    (void)(version_ == 2 ? write_file(cpu->second + "/cpu.weight", std::to_string(weight))
                         : write_file(cpu->second + "/cpu.shares", std::to_string(std::max<std::uint64_t>(2, weight * 1024 / 100))));
  }
  return {};
}

void CgroupGroup::expect_add(pid_t member) const {
  (void)write_file(paths_.at("pids") + "/cgroup.procs", std::to_string(member));
}

Result<void> CgroupGroup::add(pid_t pid) {
  for (const auto& directory : directories(paths_)) {
    auto added = write_file(directory + "/cgroup.procs", std::to_string(pid));
    if (!added) return added;
  }
  return {};
}

Result<std::uint64_t> CgroupGroup::memory_used() const {
  std::string path = paths_.at("memory") + "/memory.stat";
  auto anonymous = value_of(path, version_ == 2 ? "anon" : "total_rss");
  auto shared = value_of(path, version_ == 2 ? "shmem" : "total_shmem");
  if (!anonymous) return Error{Code::not_found, "no memory.stat", ""};
  return *anonymous + shared.value_or(0);
}

bool CgroupGroup::oom_killed() const {
  const std::string& memory = paths_.at("memory");
  return value_of(memory + (version_ == 2 ? "/memory.events" : "/memory.oom_control"), "oom_kill").value_or(0) > 0;
}

bool CgroupGroup::reached_limit() const {
  const std::string& memory = paths_.at("memory");
  if (version_ == 2) return value_of(memory + "/memory.events", "oom").value_or(0) > 0;
  constexpr std::uint64_t slack = 4 << 20;  // what the kernel charges at once, and a large page
  const auto most = std::strtoull(read_file(memory + "/memory.max_usage_in_bytes").c_str(), nullptr, 10);
  return most + slack >= std::strtoull(read_file(memory + "/memory.limit_in_bytes").c_str(), nullptr, 10);
}

Result<void> CgroupGroup::kill() {
  for (const auto& directory : directories(paths_)) kill_all(directory);
  return {};
}

Result<void> CgroupGroup::remove() {
  for (const auto& directory : directories(paths_)) {
    auto removed = remove_directory(directory);
    if (!removed) return removed;
  }
  return {};
}

// ---- tree --------------------------------------------------------------------------------------------------------

Result<CgroupTree> CgroupTree::open(const std::string& name) {
  std::string why = "no cgroup hierarchy with the memory and pids controllers is mounted";
  for (const Place& place : own_places()) {
    auto made = make_tree(place, name);
    if (!made) {
      why = made.error().message;
      continue;
    }
    CgroupTree tree;
    tree.version_ = place.version;
    tree.paths_ = made->paths;
    return tree;
  }
  return Error{Code::unavailable, why, repair_text};
}

Result<CgroupGroup> CgroupTree::create(const std::string& id, const CgroupLimits& limits) const {
  CgroupGroup group;
  group.version_ = version_;
  for (const auto& [controller, path] : paths_) group.paths_[controller] = path + "/" + id;
  Result<void> made;
  for (const auto& directory : directories(group.paths_))
    if (made) made = make_directory(directory);
  if (made) made = group.set_limits(limits);
  if (made) return group;
  (void)group.remove();
  return made.take_error();
}

Result<void> CgroupTree::set_memory_limit(std::uint64_t bytes) const {
  if (bytes == 0) return {};
  return write_file(paths_.at("memory") + (version_ == 2 ? "/memory.max" : "/memory.limit_in_bytes"), std::to_string(bytes));
}

void CgroupTree::close() const {
  for (const auto& directory : directories(paths_)) {
    sweep(directory);
    (void)remove_directory(directory);
  }
  if (version_ == 1) return;
  const std::string own = fs::path(paths_.begin()->second).parent_path().string();
  const UniqueFd lock = locked(own);
  leave(own);
}

std::string cgroup_name(const std::string& data_directory) {
  std::error_code error;
  std::string path = fs::weakly_canonical(data_directory, error).string();
  std::uint64_t hash = 14695981039346656037ull;  // FNV-1a
  for (unsigned char c : path) hash = (hash ^ c) * 1099511628211ull;
  char text[32];
  std::snprintf(text, sizeof text, "myelin-%016llx", static_cast<unsigned long long>(hash));
  return text;
}

std::optional<std::uint64_t> own_memory_limit_bytes() {
  std::optional<std::uint64_t> smallest;
  for (const Place& place : own_places()) {
    auto found = place.paths.find("memory");
    if (found == place.paths.end()) continue;
    for (fs::path directory = found->second; directory.string().size() > 1; directory = directory.parent_path()) {
      std::string text = read_file(directory / (place.version == 2 ? "memory.max" : "memory.limit_in_bytes"));
      if (text.empty()) break;
      std::uint64_t value = std::strtoull(text.c_str(), nullptr, 10);
      if (value > 0 && value < (1ull << 62) && (!smallest || value < *smallest)) smallest = value;
    }
  }
  return smallest;
}

}  // namespace myelin::os
