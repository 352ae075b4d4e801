#include "function/cache.hpp"

namespace myelin::function {

std::optional<session::Answer> Cache::find(const std::string& key) {
  auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->answer;
}

void Cache::put(std::string key, session::Answer answer) {
  const std::uint64_t bytes = answer.rope.data_bytes() + answer.rope.pieces().size() * sizeof(codec::Piece) + key.size() + 512;
  if (bytes > most_ / 4) return;
  if (auto known = by_key_.find(key); known != by_key_.end()) {
    used_ -= known->second->bytes;
    entries_.erase(known->second);
    by_key_.erase(known);
  }
  while (used_ + bytes > most_ && !entries_.empty()) {
    used_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front({std::move(key), std::move(answer), bytes});
  by_key_[entries_.front().key] = entries_.begin();
  used_ += bytes;
}

}  // namespace myelin::function
