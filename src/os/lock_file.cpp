#include "os/lock_file.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "os/failure.hpp"

namespace myelin::os {

Result<LockFile> LockFile::acquire(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return failure("can't open " + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Error{Code::conflict, path + " is locked by another process", ""};
    return failure("can't lock " + path);
  }
  return LockFile(std::move(fd));
}

}  // namespace myelin::os
