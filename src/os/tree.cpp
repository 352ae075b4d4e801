#include "os/tree.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/ids.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace myelin::os {
namespace {

Error error_of(std::string_view path) {
  std::string name(path);
  switch (errno) {
    case ENOENT: return {Code::not_found, "no file " + name, ""};
    case ENOTDIR:
    case ELOOP: return {Code::not_found, "no file " + name + " (a part of the path is no directory; links are not followed)", ""};
    case EISDIR: return {Code::conflict, name + " is a directory", ""};
    case EEXIST: return {Code::conflict, name + " exists already", ""};
    case ENOTEMPTY: return {Code::conflict, "the directory " + name + " is not empty", ""};
    case EACCES:
    case EPERM: return {Code::forbidden, name + " may not be accessed", ""};
    case ENOSPC:
    case EDQUOT: return {Code::insufficient_storage, "no space is left for " + name + ": delete files", ""};
    case ENAMETOOLONG: return {Code::bad_request, "the name is too long", ""};
    default: return {Code::internal, name + ": " + std::strerror(errno), ""};
  }
}

Result<std::vector<std::string>> parts_of(std::string_view path) {
  std::vector<std::string> parts;
  if (path.size() > 4096) return Error{Code::bad_request, "the path is too long", ""};
  if (path.find('\0') != std::string_view::npos) return Error{Code::bad_request, "a path has no NUL", ""};
  while (!path.empty()) {
    auto slash = path.find('/');
    auto part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    if (part.empty() && path.empty()) break;  // one slash at the end
    if (part.empty() || part == "." || part == "..") return Error{Code::bad_request, "a path is names with slashes between them, without . and ..", ""};
    parts.emplace_back(part);
  }
  return parts;
}

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::write(fd, bytes.data(), std::min<std::size_t>(bytes.size(), 1 << 20));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return error_of("the file");
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace

Result<Tree> Tree::open(const std::string& directory, std::optional<std::uint32_t> owner) {
  Tree tree;
  tree.root_ = UniqueFd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!tree.root_) return error_of(directory);
  tree.owner_ = owner;
  return tree;
}

// One component at a time, none of them a link or "..": wherever a directory is moved meanwhile, the way leads down only.
Result<UniqueFd> Tree::walk(const std::vector<std::string>& parts, std::size_t count, bool make) const {
  UniqueFd at(::openat(root_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!at) return error_of(".");
  for (std::size_t i = 0; i < count; ++i) {
    if (make && ::mkdirat(at.get(), parts[i].c_str(), 0700) == 0 && owner_)
      if (::fchownat(at.get(), parts[i].c_str(), *owner_, *owner_, AT_SYMLINK_NOFOLLOW) != 0) return error_of(parts[i]);
    UniqueFd next(::openat(at.get(), parts[i].c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next) return error_of(parts[i]);
    at = std::move(next);
  }
  return at;
}

Result<std::vector<TreeEntry>> Tree::list(std::string_view path, std::size_t most) const {
  auto parts = parts_of(path);
  if (!parts) return parts.take_error();
  auto directory = walk(*parts, parts->size(), false);
  if (!directory) return directory.take_error();
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(directory->release()), ::closedir);
  if (!stream) return error_of(path);
  std::vector<TreeEntry> entries;
  while (auto* found = ::readdir(stream.get())) {
    std::string_view name = found->d_name;
    if (name == "." || name == "..") continue;
    struct stat info {};
    if (::fstatat(::dirfd(stream.get()), found->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    TreeEntry entry;
    entry.name = name;
    entry.type = S_ISREG(info.st_mode) ? TreeEntry::Type::file : S_ISDIR(info.st_mode) ? TreeEntry::Type::directory
                 : S_ISLNK(info.st_mode) ? TreeEntry::Type::link : TreeEntry::Type::other;
    entry.bytes = S_ISREG(info.st_mode) ? static_cast<std::uint64_t>(info.st_size) : 0;
    entry.modified_s = info.st_mtime;
    entry.mode = info.st_mode & 07777;
    entry.uid = info.st_uid;
    entry.gid = info.st_gid;
    if (entries.size() >= most) return Error{Code::too_large, "the directory has more than " + std::to_string(most) + " entries", ""};
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](auto& a, auto& b) { return a.name < b.name; });
  return entries;
}

Result<bool> Tree::is_directory(std::string_view path) const {
  auto parts = parts_of(path);
  if (!parts) return parts.take_error();
  if (parts->empty()) return true;
  auto above = walk(*parts, parts->size() - 1, false);
  if (!above) return above.take_error();
  struct stat info {};
  if (::fstatat(above->get(), parts->back().c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return error_of(path);
  return S_ISDIR(info.st_mode);
}

Result<UniqueFd> Tree::read(std::string_view path) const {
  auto parts = parts_of(path);
  if (!parts) return parts.take_error();
  if (parts->empty()) return Error{Code::conflict, "this is a directory", ""};
  auto above = walk(*parts, parts->size() - 1, false);
  if (!above) return above.take_error();
  // A FIFO must not block, a device must not be opened for what opening does: looked at first, and again.
  UniqueFd fd(::openat(above->get(), parts->back().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd) return error_of(path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return error_of(path);
  if (S_ISDIR(info.st_mode)) return Error{Code::conflict, std::string(path) + " is a directory", ""};
  if (!S_ISREG(info.st_mode)) return Error{Code::forbidden, std::string(path) + " is no regular file", ""};
  return fd;
}

Result<std::string> Tree::link(std::string_view path) const {
  auto parts = parts_of(path);
  if (!parts) return parts.take_error();
  if (parts->empty()) return Error{Code::conflict, "this is a directory", ""};
  auto above = walk(*parts, parts->size() - 1, false);
  if (!above) return above.take_error();
  std::string target(4096, '\0');
  const ssize_t size = ::readlinkat(above->get(), parts->back().c_str(), target.data(), target.size());
  if (size < 0) return error_of(path);
  target.resize(static_cast<std::size_t>(size));
  return target;
}

Result<void> Tree::write(std::string_view path, std::string_view bytes) const {
  auto parts = parts_of(path);
  if (!parts) return parts.take_error();
  if (parts->empty()) return Error{Code::conflict, "this is a directory", ""};
  auto above = walk(*parts, parts->size() - 1, true);
  if (!above) return above.take_error();
  struct stat info {};
  if (::fstatat(above->get(), parts->back().c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode))
    return Error{Code::conflict, std::string(path) + " is a directory", ""};
  const std::string part = ".put-" + random_hex(8);
  UniqueFd fd(::openat(above->get(), part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return error_of(path);
  auto written = write_all(fd.get(), bytes);
  if (written && owner_ && ::fchown(fd.get(), *owner_, *owner_) != 0) written = error_of(path);
  if (written && ::fdatasync(fd.get()) != 0) written = error_of(path);
  if (written && ::renameat(above->get(), part.c_str(), above->get(), parts->back().c_str()) != 0) written = error_of(path);
  if (!written) {
    ::unlinkat(above->get(), part.c_str(), 0);
    return written;
  }
  ::fsync(above->get());
  return {};
}

Result<void> Tree::make_directory(std::string_view path) const {
  auto parts = parts_of(path);
  if (!parts) return parts.take_error();
  auto made = walk(*parts, parts->size(), true);
  if (!made) return made.take_error();
  return {};
}

Result<void> Tree::remove(std::string_view path) const {
  auto parts = parts_of(path);
  if (!parts) return parts.take_error();
  if (parts->empty()) return Error{Code::forbidden, "the top directory stays", ""};
  auto above = walk(*parts, parts->size() - 1, false);
  if (!above) return above.take_error();
  if (::unlinkat(above->get(), parts->back().c_str(), 0) == 0) return {};
  if (errno != EISDIR && errno != EPERM) return error_of(path);
  if (::unlinkat(above->get(), parts->back().c_str(), AT_REMOVEDIR) != 0) return error_of(path);
  return {};
}

Result<std::uint64_t> bytes_below(const std::string& directory) {
  constexpr std::size_t deepest = 200;
  constexpr std::uint64_t entry_bytes = 4096;
  struct Close {
    void operator()(DIR* open) const { ::closedir(open); }
  };
  auto open_at = [](int at, const char* name) -> std::unique_ptr<DIR, Close> {
    constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = ::openat(at, name, flags);
    if (fd < 0 && errno == EACCES && ::fchmodat(at, name, 0700, 0) == 0) fd = ::openat(at, name, flags);
    DIR* open = fd < 0 ? nullptr : ::fdopendir(fd);
    if (fd >= 0 && !open) ::close(fd);
    return std::unique_ptr<DIR, Close>(open);
  };
  std::uint64_t sum = 0;
  std::vector<std::unique_ptr<DIR, Close>> stack;
  stack.push_back(open_at(AT_FDCWD, directory.c_str()));
  if (!stack.back()) return errno == ENOENT ? Result<std::uint64_t>(std::uint64_t{0}) : Error{Code::internal, "~/work can't be looked at: " + std::string(std::strerror(errno)), ""};
  while (!stack.empty()) {
    DIR* here = stack.back().get();
    errno = 0;
    dirent* entry = ::readdir(here);
    if (!entry) {
      if (errno != 0) return Error{Code::internal, "~/work can't be read: " + std::string(std::strerror(errno)), ""};
      stack.pop_back();
      continue;
    }
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat about{};
    if (::fstatat(::dirfd(here), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // removed meanwhile
      return Error{Code::internal, "~/work can't be looked at: " + std::string(std::strerror(errno)), ""};
    }
    const auto size = S_ISREG(about.st_mode) ? static_cast<std::uint64_t>(about.st_size) : 0;
    sum += std::max({entry_bytes, size, static_cast<std::uint64_t>(about.st_blocks) * 512});
    if (!S_ISDIR(about.st_mode)) continue;
    if (stack.size() >= deepest) return Error{Code::bad_request, "directories in ~/work are nested more than 200 deep", ""};
    auto below = open_at(::dirfd(here), entry->d_name);
    if (below) stack.push_back(std::move(below));
    else if (errno != ENOENT) return Error{Code::internal, "a directory in ~/work can't be looked at: " + std::string(std::strerror(errno)), ""};
  }
  return sum;
}

}  // namespace myelin::os
