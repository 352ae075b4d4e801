#pragma once
// Which servers `myelin nest-server` started: a file each, with what tells the process from any other that gets its id later (start
// time, boot).

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace myelin::cli {

struct ServerRecord {
  pid_t pid = 0;
  std::string address;  // host:port
  std::string log;
  std::filesystem::path file;
};

/// The server that the file tells of, if it still runs; a stale file is removed.
[[nodiscard]] std::optional<ServerRecord> read_server_record(const std::filesystem::path& file);

/// Makes a folder and what is missing above it, for this user only.
bool make_folder(const std::filesystem::path& folder);

class ServerRecords {
 public:
  /// Where records are looked for; they are written to the first that can be.
  explicit ServerRecords(std::vector<std::filesystem::path> folders) : folders_(std::move(folders)) {}
  [[nodiscard]] std::vector<ServerRecord> running() const;  // by address
  [[nodiscard]] std::optional<ServerRecord> find(const std::string& address) const;
  /// The new record's file; nothing if there is no place for it.
  [[nodiscard]] std::optional<std::filesystem::path> write(pid_t pid, const std::string& address, const std::string& log) const;

 private:
  std::vector<std::filesystem::path> folders_;
};

}  // namespace myelin::cli
