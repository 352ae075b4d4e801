#pragma once
// Waiting for a raw descriptor (a worker's socket, a pidfd, a pipe) to become readable or writable.
// The watch owns the descriptor until release(). One reader and one writer may wait at the same time.

#include <memory>

#include "async/task.hpp"

namespace myelin::async {

class FdWatch {
 public:
  FdWatch() = default;          // empty
  FdWatch(Loop& loop, int fd);  // takes the descriptor and makes it non-blocking
  ~FdWatch();                   // closes it; who waits sees false
  FdWatch(FdWatch&&) noexcept;
  FdWatch& operator=(FdWatch&&) noexcept;

  [[nodiscard]] explicit operator bool() const { return state_ != nullptr; }
  [[nodiscard]] int fd() const;  // -1 once closed or released
  /// True when a read won't block (end of file and errors count); false at the timeout, on cancel, or when
  /// closed.
  [[nodiscard]] Task<bool> readable(milliseconds timeout = forever);
  [[nodiscard]] Task<bool> writable(milliseconds timeout = forever);
  /// Hands the descriptor back; who waits sees false.
  [[nodiscard]] int release();
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace myelin::async
