#include "cli/server_records.hpp"

#include <sys/stat.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

#include "os/whole_file.hpp"

namespace myelin::cli {

namespace fs = std::filesystem;

namespace {

std::string boot() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  in >> id;
  return id;
}

/// Clock ticks from boot to the start of a process; nullopt if it does not run (a zombie does not).
std::optional<std::int64_t> start_time(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  auto name_end = text.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22 && fields >> field; ++i) {
    if (i == 3 && (field == "Z" || field == "X")) return std::nullopt;
  }
  std::int64_t ticks = 0;
  auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), ticks);
  (void)end;
  if (error != std::errc()) return std::nullopt;
  return ticks;
}

}  // namespace

bool make_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::is_directory(folder, error)) return true;
  if (folder.has_parent_path() && folder.parent_path() != folder && !make_folder(folder.parent_path()))
    return false;
  return ::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST;
}

std::optional<ServerRecord> read_server_record(const fs::path& file) {
  std::ifstream in(file);
  if (!in) return std::nullopt;
  std::string text((std::istreambuf_iterator<char>(in)), {});
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error&) {
    return std::nullopt;
  }
  ServerRecord server;
  auto pid = table["pid"].value_or<std::int64_t>(0);
  server.pid = static_cast<pid_t>(pid);
  server.address = table["address"].value_or<std::string>("");
  server.log = table["log"].value_or<std::string>("");
  server.file = file;
  bool alive = pid > 0 && table["boot"].value_or<std::string>("") == boot() &&
               start_time(server.pid) == table["start_time"].value_or<std::int64_t>(-1);
  if (alive) return server;
  std::error_code ignored;
  fs::remove(file, ignored);
  return std::nullopt;
}

std::vector<ServerRecord> ServerRecords::running() const {
  std::vector<ServerRecord> all;
  for (const auto& folder : folders_) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (entry.path().extension() != ".toml") continue;
      auto server = read_server_record(entry.path());
      if (!server) continue;
      bool known = std::any_of(all.begin(), all.end(),
                               [&](const auto& other) { return other.pid == server->pid; });
      if (!known) all.push_back(std::move(*server));
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  return all;
}

std::optional<ServerRecord> ServerRecords::find(const std::string& address) const {
  for (auto& server : running()) {
    if (server.address == address) return server;
  }
  return std::nullopt;
}

std::optional<fs::path> ServerRecords::write(pid_t pid, const std::string& address, const std::string& log) const {
  for (const auto& folder : folders_) {
    if (!make_folder(folder)) continue;
    // The pid is in the name: whoever attends an old server cannot remove the record of its successor.
    fs::path record = folder / (address + "." + std::to_string(pid) + ".toml");
    toml::table table{{"pid", static_cast<std::int64_t>(pid)},
                      {"start_time", start_time(pid).value_or(-1)},
                      {"boot", boot()},
                      {"address", address},
                      {"log", log}};
    std::ostringstream out;
    out << table << "\n";
    if (os::replace_file(record.string(), out.str())) return record;
  }
  return std::nullopt;
}

}  // namespace myelin::cli
