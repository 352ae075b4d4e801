#pragma once
// Results of deterministic functions, remembered by what they depend on. The least recently used go first when there are too many bytes.
// Large arrays stay in the memory files that workers made. Belongs to the loop's thread.

#include <list>
#include <string>
#include <unordered_map>

#include "session/session.hpp"

namespace myelin::function {

class Cache {
 public:
  explicit Cache(std::uint64_t bytes) : most_(bytes) {}

  /// A copy that shares the memory file.
  [[nodiscard]] std::optional<session::Answer> find(const std::string& key);
  /// What takes more than a quarter of the room is not kept.
  void put(std::string key, session::Answer answer);
  [[nodiscard]] std::uint64_t bytes() const { return used_; }
  [[nodiscard]] std::size_t count() const { return entries_.size(); }

 private:
  struct Entry {
    std::string key;
    session::Answer answer;
    std::uint64_t bytes = 0;
  };
  std::uint64_t most_, used_ = 0;
  std::list<Entry> entries_;  // the newest first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
};

}  // namespace myelin::function
