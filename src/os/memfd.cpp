#include "os/memfd.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "os/failure.hpp"

namespace myelin::os {

Result<UniqueFd> make_sealed_memfd(const char* name, std::string_view bytes) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return failure("memfd_create");
  std::size_t done = 0;
  while (done < bytes.size()) {
    ssize_t wrote = ::pwrite(fd.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return failure("write to a memfd");
    done += static_cast<std::size_t>(wrote);
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
    return failure("seal a memfd");
  return fd;
}

bool is_memfd_sealed_against_shrinking(int fd) {
  int seals = ::fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_SHRINK);
}

Result<std::size_t> file_size(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) < 0) return failure("fstat");
  return static_cast<std::size_t>(info.st_size);
}

Result<std::uint64_t> allocated_bytes(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) < 0) return failure("fstat");
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

Result<void> read_exactly_at(int fd, char* to, std::size_t count, std::size_t offset) {
  while (count > 0) {
    ssize_t got = ::pread(fd, to, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure("pread");
    if (got == 0) return Error{Code::internal, "the file ends too early", {}};
    to += got;
    count -= static_cast<std::size_t>(got);
    offset += static_cast<std::size_t>(got);
  }
  return {};
}

Result<std::string> read_text(const std::string& path, std::size_t max_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return failure(path);
  std::string text;
  char buffer[8192];
  for (;;) {
    ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(path);
    if (got == 0) return text;
    if (text.size() + static_cast<std::size_t>(got) > max_bytes) return Error{Code::too_large, path + " is too large", {}};
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

}  // namespace myelin::os
