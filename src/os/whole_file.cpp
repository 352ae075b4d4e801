#include "os/whole_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "os/failure.hpp"
#include "os/fd.hpp"

namespace myelin::os {

namespace fs = std::filesystem;

Result<std::string> write_beside(const std::string& path, std::string_view bytes) {
  std::string beside = (fs::path(path).parent_path() / ".new-XXXXXX").string();
  UniqueFd fd(::mkostemp(beside.data(), O_CLOEXEC));
  if (!fd) return failure("cannot write " + path);
  const auto fail = [&](int number) {
    ::unlink(beside.c_str());
    return failure("cannot write " + path, number);
  };
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd.get(), bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return fail(wrote < 0 ? errno : ENOSPC);
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
  if (::fsync(fd.get()) != 0) return fail(errno);
  return beside;
}

Result<void> replace_file(const std::string& path, std::string_view bytes) {
  auto beside = write_beside(path, bytes);
  if (!beside) return beside.take_error();
  if (::rename(beside->c_str(), path.c_str()) != 0) {
    const int number = errno;
    ::unlink(beside->c_str());
    return failure("cannot write " + path, number);
  }
  return sync_directory(fs::path(path).parent_path().string());
}

Result<void> sync_directory(const std::string& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return failure("cannot sync " + directory);
  return {};
}

}  // namespace myelin::os
