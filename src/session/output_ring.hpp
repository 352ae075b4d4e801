#pragma once
// The last bytes of a session's stdout and stderr. Grows to its bound, then forgets the oldest.

#include <cstddef>
#include <string>
#include <string_view>

namespace myelin::session {

class OutputRing {
 public:
  explicit OutputRing(std::size_t bound = 1 << 20) : bound_(bound) {}
  void append(std::string_view bytes);
  /// The newest bytes, at most `bytes`, from the start of a line where one begins there; invalid UTF-8 replaced by '?'.
  [[nodiscard]] std::string tail(std::size_t bytes) const;
  [[nodiscard]] std::size_t size() const { return ring_.size(); }

 private:
  std::size_t bound_;
  std::size_t next_ = 0;  // where the next byte goes once the ring is full
  std::string ring_;
};

}  // namespace myelin::session
