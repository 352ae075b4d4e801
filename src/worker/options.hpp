#pragma once
// What an engine and a session are started with. Plain data.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace myelin::worker {

/// A directory that the operator shows to sessions.
struct Mount {
  std::string source;
  std::string target;
  bool writable = false;
};

struct EngineOptions {
  std::string name;                   // nest, neuron, jaxley, python, or the operator's own
  std::string kind;                   // which of the four it works like
  bool added = false;                 // by the operator; else it came with the server
  std::string python;                 // the interpreter, absolute
  std::vector<std::string> preload;   // modules imported by the zygote beside the engine's own
  std::vector<std::pair<std::string, std::string>> environment;
  std::string sandbox_binary;         // myelin-sandbox
  std::string enter_library;          // libmyelin_enter.so
  std::string package_directory;      // the directory that holds the Python package `myelin`
  std::string users_directory;        // below it one directory a user: their ~/work
  std::string packages_directory;     // below it one directory a package of functions, see SessionOptions::packages; may be empty
  std::string cache_directory;        // what zygotes may write (a font cache, …); sessions never see it
  std::vector<Mount> mounts;
  std::uint64_t scratch_bytes = 2ull << 30;
  bool namespaces = true;             // false: reduced isolation
  std::optional<std::uint32_t> uid;   // only for a server that runs as root
  int pool = 2;                       // inits kept ready
  std::string home;                   // reduced mode: a session works in <home>/<its id>/home, which the caller makes and removes
};

struct SessionOptions {
  std::string id;
  std::string user;                   // directory name below users_directory; empty: nobody's files
  std::vector<std::pair<std::string, std::string>> packages;  // names below packages_directory, shown read-only at these targets
  std::vector<Mount> mounts;          // source: as in EngineOptions::mounts
  std::uint64_t files = 1024;
  std::uint64_t processes = 512;
  std::uint64_t file_bytes = 0;       // 0: no limit
  std::uint64_t data_bytes = 0;       // RLIMIT_DATA where no cgroup holds memory; 0: no limit
};

}  // namespace myelin::worker
