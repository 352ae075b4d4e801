#pragma once
// A lock that one process holds on a path, for as long as it lives.

#include <string>

#include "base/result.hpp"
#include "os/fd.hpp"

namespace myelin::os {

class LockFile {
 public:
  /// Makes the file (0600) if it is missing. conflict when another process holds it.
  [[nodiscard]] static Result<LockFile> acquire(const std::string& path);

 private:
  explicit LockFile(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace myelin::os
