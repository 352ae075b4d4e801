#include "function/package_files.hpp"

#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/ids.hpp"
#include "function/declaration.hpp"
#include "os/fd.hpp"
#include "run/files.hpp"

namespace myelin::function {
namespace {

namespace fs = std::filesystem;

Error failed(const std::string& what, const fs::path& path, int number) {
  return {number == ENOSPC || number == EDQUOT ? Code::insufficient_storage : Code::internal, "can't " + what + " " + path.string() + ": " + std::strerror(number), ""};
}

bool left_out(const std::string& name) { return name.empty() || name[0] == '.' || name == "__pycache__" || name.ends_with(".pyc") || name.ends_with("~"); }

// Calls `each(relative name, path, stat)` for the regular files of a package, at most a few more than are allowed.
template <class Each>
void for_files(const fs::path& folder, const std::string& name, Each each) {
  struct stat facts{};
  fs::path single = folder / (name + ".py");
  if (::stat(single.c_str(), &facts) == 0 && S_ISREG(facts.st_mode)) each(name + ".py", single, facts);
  std::error_code error;
  if (!fs::is_directory(folder / name, error)) return;
  std::size_t count = 0;
  auto entries = fs::recursive_directory_iterator(folder / name, fs::directory_options::skip_permission_denied, error);
  for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    std::string file = entries->path().filename().string();
    std::error_code ignored;
    if (left_out(file)) {
      if (entries->is_directory(ignored)) entries.disable_recursion_pending();
      continue;
    }
    if (entries.depth() > 8) entries.disable_recursion_pending();
    if (::stat(entries->path().c_str(), &facts) != 0 || !S_ISREG(facts.st_mode)) continue;
    if (++count > most_files + 1) return;
    each(entries->path().lexically_relative(folder).string(), entries->path(), facts);
  }
}

Result<std::string> read_file(const fs::path& path) {
  os::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return failed("read", path, errno);
  std::string bytes;
  char buffer[65536];
  for (;;) {
    auto got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("read", path, errno);
    if (got == 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(got));
    if (bytes.size() > most_file_bytes) return Error{Code::too_large, path.filename().string() + " has more than " + std::to_string(most_file_bytes >> 20) + " MiB", ""};
  }
}

Result<void> write_file(const fs::path& path, std::string_view bytes) {
  os::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd) return failed("write", path, errno);
  while (!bytes.empty()) {
    auto put = ::write(fd.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return failed("write", path, errno);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::fchmod(fd.get(), 0644) != 0 || ::fdatasync(fd.get()) != 0) return failed("write", path, errno);
  return {};
}

Result<void> sync_directory(const fs::path& path) {
  os::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return failed("sync", path, errno);
  return {};
}

}  // namespace

std::string fingerprint(const fs::path& folder, const std::string& name) {
  if (folder.empty()) return "";
  std::vector<std::string> lines;
  for_files(folder, name, [&](const std::string& relative, const fs::path&, const struct stat& facts) {
    lines.push_back(relative + '\0' + std::to_string(facts.st_size) + ' ' + std::to_string(facts.st_mtim.tv_sec) + '.' + std::to_string(facts.st_mtim.tv_nsec) + ' ' +
                    std::to_string(facts.st_ctim.tv_sec) + '.' + std::to_string(facts.st_ctim.tv_nsec) + ' ' + std::to_string(facts.st_ino));
  });
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (auto& line : lines) out += line + '\n';
  return out;
}

std::map<std::string, std::string> find_packages(const fs::path& folder) {
  std::map<std::string, std::string> found;
  if (folder.empty()) return found;
  std::error_code error;
  for (auto entries = fs::directory_iterator(folder, error); !error && entries != fs::directory_iterator(); entries.increment(error)) {
    std::error_code ignored;
    std::string name = entries->path().filename().string();
    if (left_out(name)) continue;
    if (entries->is_directory(ignored)) {
      if (!fs::exists(entries->path() / "__init__.py", ignored) && !fs::exists(entries->path() / (name + ".py"), ignored)) continue;
    } else if (name.ends_with(".py") && entries->is_regular_file(ignored)) {
      name.resize(name.size() - 3);
    } else {
      continue;
    }
    if (is_name(name) && !found.count(name)) found[name] = fingerprint(folder, name);
  }
  return found;
}

Result<Files> read_package(const fs::path& folder, const std::string& name) {
  Files files;
  std::uint64_t sum = 0;
  Result<void> bad;
  for_files(folder, name, [&](const std::string& relative, const fs::path& path, const struct stat&) {
    if (!bad) return;
    auto bytes = read_file(path);
    if (!bytes) {
      bad = bytes.take_error();
      return;
    }
    sum += bytes->size();
    if (sum > most_package_bytes) bad = Error{Code::too_large, "the package has more than " + std::to_string(most_package_bytes >> 20) + " MiB", ""};
    files[relative] = std::move(*bytes);
  });
  if (!bad) return bad.take_error();
  if (files.size() > most_files) return Error{Code::too_large, "the package has more than " + std::to_string(most_files) + " files", ""};
  if (!is_package(files, name)) return Error{Code::not_found, "the package " + name + " is gone", ""};
  return files;
}

bool is_package(const Files& files, const std::string& name) {
  return files.count(name + ".py") || files.count(name + "/__init__.py") || files.count(name + "/" + name + ".py");
}

std::string hash_of(const Files& files) {
  run::Sha256 sha;
  for (auto& [name, bytes] : files) {
    sha.update(name + '\0' + std::to_string(bytes.size()) + '\0');
    sha.update(bytes);
  }
  return sha.hex();
}

Files ending_with(const Files& files, std::string_view end) {
  Files out;
  for (auto& [name, bytes] : files)
    if (name.ends_with(end)) out[name] = bytes;
  return out;
}

Result<void> keep(const fs::path& shown, const std::string& name, const Files& files) {
  std::error_code error;
  const fs::path target = shown / name;
  if (fs::exists(target, error)) {
    (void)::utimensat(AT_FDCWD, target.c_str(), nullptr, 0);  // it is in use: see make_room
    return {};
  }
  const fs::path part = shown / (".part-" + random_hex(8));
  auto make = [&]() -> Result<void> {
    auto directory = [&](const fs::path& path) -> Result<void> {
      if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return failed("make", path, errno);
      if (::chmod(path.c_str(), 0755) != 0) return failed("make", path, errno);
      return {};
    };
    if (auto made = directory(part); !made) return made;
    std::vector<fs::path> directories{part};
    for (auto& [relative, bytes] : files) {
      fs::path path = part;
      auto parent = fs::path(relative).parent_path();
      for (auto& step : parent) {
        path /= step;
        if (auto made = directory(path); !made) return made;
        directories.push_back(path);
      }
      if (auto written = write_file(part / relative, bytes); !written) return written;
    }
    for (auto& path : directories)
      if (auto synced = sync_directory(path); !synced) return synced;
    if (::rename(part.c_str(), target.c_str()) != 0 && errno != EEXIST && errno != ENOTEMPTY) return failed("keep", target, errno);
    return sync_directory(shown);
  };
  auto made = make();
  fs::remove_all(part, error);
  return made;
}

std::size_t make_room(const fs::path& shown, const std::set<std::string>& used, std::uint64_t most_bytes) {
  struct Entry {
    fs::path path;
    std::uint64_t bytes = 0;
    struct timespec when{};
  };
  std::vector<Entry> entries;
  std::uint64_t sum = 0;
  std::error_code error;
  for (auto& one : fs::directory_iterator(shown, error)) {
    Entry entry{one.path(), 4096, {}};
    struct stat facts{};
    if (::stat(entry.path.c_str(), &facts) != 0) continue;
    entry.when = facts.st_mtim;
    std::error_code ignored;
    for (auto& file : fs::recursive_directory_iterator(entry.path, ignored))
      if (file.is_regular_file(ignored)) entry.bytes += 4096 + file.file_size(ignored);
    sum += entry.bytes;
    std::string name = entry.path.filename().string();
    if (name[0] != '.' && !used.count(name)) entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](auto& a, auto& b) { return std::pair(a.when.tv_sec, a.when.tv_nsec) < std::pair(b.when.tv_sec, b.when.tv_nsec); });
  std::size_t gone = 0;
  for (auto& entry : entries) {
    if (sum <= most_bytes) break;
    fs::remove_all(entry.path, error);
    if (error) continue;
    sum -= std::min(sum, entry.bytes);
    ++gone;
  }
  return gone;
}

Result<void> check_path(std::string_view path) {
  auto refuse = [](const char* text) { return Error{Code::bad_request, text, ""}; };
  if (path.empty() || path.size() > 200) return refuse("a file's path has 1 to 200 characters");
  std::size_t depth = 0;
  while (true) {
    auto slash = path.find('/');
    auto part = path.substr(0, slash);
    if (part.empty() || part[0] == '.') return refuse("a file's path is names with slashes between them, none of which begins with a dot");
    for (char c : part)
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-' && c != '.') return refuse("names of files have letters, digits, _, - and . only");
    if (++depth > 8) return refuse("a file's path has at most 8 names");
    if (slash == std::string_view::npos) return {};
    path.remove_prefix(slash + 1);
  }
}

}  // namespace myelin::function
