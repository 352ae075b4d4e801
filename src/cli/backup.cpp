#include "cli/backup.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/ids.hpp"
#include "base/time.hpp"
#include "os/lock_file.hpp"
#include "os/tree.hpp"
#include "os/whole_file.hpp"
#include "run/files.hpp"
#include "store/backup.hpp"
#include "store/migrate.hpp"

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::int64_t format = 1;
constexpr const char* unfinished = ".restoring";
constexpr std::size_t most_entries = 10'000'000;  // of one directory

// Of a running server, of the database (which is copied by itself), and what is made again.
const std::set<std::string> left_out = {"lock", "socket", "myelin.db", "myelin.db-wal", "myelin.db-shm", "myelin.db-journal",
                                        "streams", "cache", "scratch", unfinished};

Error of_file(const fs::path& path, const char* what) {
  const Code code = errno == ENOSPC || errno == EDQUOT ? Code::insufficient_storage : Code::unavailable;
  return {code, std::string(what) + " " + path.string() + ": " + std::strerror(errno), ""};
}

class Progress {
 public:
  explicit Progress(bool shown) : shown_(shown && ::isatty(2) != 0) {}
  ~Progress() { if (shown_ && said_) std::fputs("\n", stderr); }
  void add(std::uint64_t bytes, bool file) {
    bytes_ += bytes;
    files_ += file;
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || now - last_ < std::chrono::milliseconds(200)) return;
    last_ = now;
    said_ = true;
    std::fprintf(stderr, "\r%llu files, %llu MiB ", static_cast<unsigned long long>(files_), static_cast<unsigned long long>(bytes_ >> 20));
  }
  void tell(const fs::path& where) {
    if (said_) std::fputs("\n", stderr);
    said_ = false;
    std::printf("%s: %llu files, %llu MiB\n", where.c_str(), static_cast<unsigned long long>(files_), static_cast<unsigned long long>(bytes_ >> 20));
  }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  bool shown_, said_ = false;
  std::uint64_t files_ = 0, bytes_ = 0;
  std::chrono::steady_clock::time_point last_;
};

void remove_whole(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

/// Of an entry that was copied: times and permissions, and the owner where that can be given.
Result<void> dress(const fs::path& path, const os::TreeEntry& entry) {
  const bool link = entry.type == os::TreeEntry::Type::link;
  if (::geteuid() == 0 && ::lchown(path.c_str(), entry.uid, entry.gid) != 0) return of_file(path, "can't give away");
  if (!link && ::chmod(path.c_str(), entry.mode) != 0) return of_file(path, "can't set the permissions of");
  const timespec times[2] = {{entry.modified_s, 0}, {entry.modified_s, 0}};
  ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
  return {};
}

/// Copies; the SHA-256 of what was copied, in hex.
Result<std::string> copy_file(int from, const fs::path& to, Progress& progress) {
  os::UniqueFd out(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!out) return of_file(to, "can't make");
  run::Sha256 sum;
  std::string buffer(1 << 20, '\0');
  for (;;) {
    const ssize_t n = ::read(from, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return of_file(to, "can't read the source of");
    if (n == 0) break;
    std::string_view piece(buffer.data(), static_cast<std::size_t>(n));
    sum.update(piece);
    progress.add(piece.size(), false);
    while (!piece.empty()) {
      const ssize_t written = ::write(out.get(), piece.data(), piece.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return of_file(to, "can't write");
      piece.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  progress.add(0, true);
  return sum.hex();
}

// As sha256sum has it: a name with a backslash or a line break is written with escapes, and its line begins with a backslash.
std::string sum_line(const std::string& hex, const std::string& name) {
  std::string escaped;
  for (char c : name) {
    if (c == '\\') escaped += "\\\\";
    else if (c == '\n') escaped += "\\n";
    else if (c == '\r') escaped += "\\r";
    else escaped += c;
  }
  return (escaped == name ? "" : "\\") + hex + "  " + escaped + "\n";
}

std::map<std::string, std::string> read_sums(std::string_view text) {
  std::map<std::string, std::string> sums;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool escapes = line.starts_with('\\');
    if (escapes) line.remove_prefix(1);
    if (line.size() < 67) continue;
    std::string name;
    for (std::size_t i = 66; i < line.size(); ++i) {
      if (!escapes || line[i] != '\\' || i + 1 == line.size()) name += line[i];
      else name += line[++i] == 'n' ? '\n' : line[i] == 'r' ? '\r' : line[i];
    }
    sums[name] = line.substr(0, 64);
  }
  return sums;
}

std::string hash_of(std::string_view bytes) {
  run::Sha256 sum;
  sum.update(bytes);
  return sum.hex();
}

Result<std::string> text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  if (!in) return Error{Code::not_found, path.string() + " cannot be read", ""};
  return text;
}

/// All of what was written is on the disk, and the names too.
Result<void> sync_all(const fs::path& directory) {
  os::UniqueFd at(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!at || ::syncfs(at.get()) != 0) return of_file(directory, "can't write to the disk:");
  return {};
}

/// Walks a tree that others may be changing, and links of which lead anywhere: what vanishes meanwhile is not there.
struct Copier {
  const os::Tree& from;
  fs::path to;
  Progress& progress;
  std::function<Result<void>(const std::string& path, const std::string& hex)> copied;
  std::vector<std::string> unreadable{};

  static bool vanished(const Error& error) { return error.code == Code::not_found || error.code == Code::conflict; }

  Result<void> directory(const std::string& path, bool top) {
    auto entries = from.list(path, most_entries);
    if (!entries) {
      if (vanished(entries.error()) && !top) return {};
      if (entries.error().code != Code::forbidden || top) return entries.take_error();
      unreadable.push_back(path);
      return {};
    }
    for (const auto& entry : *entries) {
      if (top && left_out.count(entry.name) != 0) continue;
      const std::string name = path.empty() ? entry.name : path + "/" + entry.name;
      if (auto done = one(name, entry); !done) return done;
    }
    return {};
  }

  Result<void> one(const std::string& path, const os::TreeEntry& entry) {
    const fs::path target = to / path;
    switch (entry.type) {
      case os::TreeEntry::Type::directory:
        if (::mkdir(target.c_str(), 0700) != 0) return of_file(target, "can't make");
        if (auto done = directory(path, false); !done) return done;
        return dress(target, entry);
      case os::TreeEntry::Type::link: {
        auto where = from.link(path);
        if (!where) return vanished(where.error()) ? Result<void>() : where.take_error();
        if (::symlink(where->c_str(), target.c_str()) != 0) return of_file(target, "can't make");
        return dress(target, entry);
      }
      case os::TreeEntry::Type::file: {
        auto file = from.read(path);
        if (!file) {
          if (file.error().code == Code::forbidden) unreadable.push_back(path);
          else if (!vanished(file.error())) return file.take_error();
          return {};
        }
        auto hex = copy_file(file->get(), target, progress);
        if (!hex) return hex.take_error();
        if (auto taken = copied(path, *hex); !taken) return taken;
        return dress(target, entry);
      }
      case os::TreeEntry::Type::other: return {};  // pipes and sockets are of a running process
    }
    return {};
  }
};

using RunNames = std::set<std::pair<std::string, std::string>>;  // id, owner

Result<RunNames> kept_runs(store::Database& database) {
  RunNames names;
  auto asked = database.query("SELECT id, owner FROM runs WHERE state = 'done'", {},
                              [&](const store::Row& row) { names.emplace(row.text(0), row.text(1)); });
  if (!asked) return asked.take_error();
  return names;
}

Result<void> write_backup(const Config& config, const fs::path& part, Progress& progress, std::vector<std::string>& unreadable) {
  auto database = store::open_connection({config.data, config.database}, store::Use::work);
  if (!database) return database.take_error();
  const fs::path file = part / "myelin.db";
  if (auto copied = store::copy_state(*database, file); !copied) return copied;

  auto tree = os::Tree::open(config.data.string(), std::nullopt);
  if (!tree) return tree.take_error();
  if (::mkdir((part / "data").c_str(), 0700) != 0) return of_file(part / "data", "can't make");
  std::map<std::string, std::string> sums;
  Copier copier{*tree, part / "data", progress, [&](const std::string& path, const std::string& hex) -> Result<void> {
                  sums["data/" + path] = hex;
                  return {};
                }};
  if (auto done = copier.directory("", true); !done) return done;
  unreadable = std::move(copier.unreadable);

  {
    auto copy = store::Database::open(file);
    if (!copy) return copy.take_error();
    auto then = kept_runs(*copy);
    auto now = kept_runs(*database);
    if (!then || !now) return then ? now.take_error() : then.take_error();
    for (const auto& run : *then) {
      if (now->count(run) != 0) continue;
      auto gone = copy->run("DELETE FROM runs WHERE id = ?", {run.first});
      if (!gone) return gone.take_error();
      const std::string below = "data/runs/" + run.second + "/" + run.first;
      remove_whole(part / below);
      std::erase_if(sums, [&](const auto& sum) { return sum.first.starts_with(below + "/"); });
    }
  }
  {
    os::UniqueFd copy(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    run::Sha256 sum;
    std::string buffer(1 << 20, '\0');
    ssize_t n = -1;
    while (copy && (n = ::read(copy.get(), buffer.data(), buffer.size())) > 0) sum.update({buffer.data(), static_cast<std::size_t>(n)});
    if (n < 0) return of_file(file, "can't read");
    sums["myelin.db"] = sum.hex();
  }
  std::string list;
  for (const auto& [name, hex] : sums) list += sum_line(hex, name);
  if (auto written = os::replace_file((part / "SHA256SUMS").string(), list); !written) return written;
  const json::object about{{"format", format}, {"myelin", MYELIN_VERSION}, {"made", iso_time(store::now())},
                           {"database", database->is_postgres() ? "postgresql" : "sqlite"},
                           {"schema", static_cast<std::int64_t>(store::migrations().size())},
                           {"files", sums.size()}, {"bytes", progress.bytes()}, {"sums_sha256", hash_of(list)}};
  if (auto written = os::replace_file((part / "backup.json").string(), json::serialize(about) + "\n"); !written) return written;
  return sync_all(part);
}

Result<std::map<std::string, std::string>> open_backup(const fs::path& source) {
  auto text = text_of(source / "backup.json");
  if (!text) return Error{Code::bad_request, source.string() + " is no backup of Myelin (it has no backup.json)", ""};
  boost::system::error_code wrong;
  const auto parsed = json::parse(*text, wrong);
  const auto* about = wrong ? nullptr : parsed.if_object();
  auto number = [&](const char* key) {
    const auto* value = about ? about->if_contains(key) : nullptr;
    return value && value->is_int64() ? value->get_int64() : -1;
  };
  if (number("format") != format || number("schema") > static_cast<std::int64_t>(store::migrations().size()))
    return Error{Code::conflict, "the backup was made by another, newer Myelin: restore it with that version", ""};
  auto list = text_of(source / "SHA256SUMS");
  if (!list) return list.take_error();
  const auto* sum = about->if_contains("sums_sha256");
  if (!sum || !sum->is_string() || sum->get_string() != hash_of(*list))
    return Error{Code::conflict, "the backup is damaged: SHA256SUMS was changed", ""};
  return read_sums(*list);
}

/// Empties DIR but for what this process holds.
void clear(const fs::path& directory) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const auto name = entry.path().filename();
    if (name != "lock" && name != unfinished) remove_whole(entry.path());
  }
}

Result<void> copy_back(const Config& config, const fs::path& source, const std::map<std::string, std::string>& sums, const std::string& mark,
                       Progress& progress) {
  auto tree = os::Tree::open((source / "data").string(), std::nullopt);
  if (!tree) return tree.take_error();
  std::size_t seen = 0;
  auto damaged = [](const std::string& path, const char* how) { return Error{Code::conflict, "the backup is damaged: " + path + how, ""}; };
  auto check = [&](const std::string& name, const std::string& hex) -> Result<void> {
    auto known = sums.find(name);
    if (known == sums.end()) return damaged(name, " is not in SHA256SUMS");
    if (known->second != hex) return damaged(name, " was changed");
    ++seen;
    return {};
  };
  Copier copier{*tree, config.data, progress, [&](const std::string& path, const std::string& hex) { return check("data/" + path, hex); }};
  if (auto done = copier.directory("", true); !done) return done;
  if (!copier.unreadable.empty()) return Error{Code::forbidden, (source / "data" / copier.unreadable[0]).string() + " may not be read", ""};

  // Last what a server starts from. The copy is PostgreSQL's source, too, checked as what it is.
  const bool elsewhere = !config.database.empty();
  const fs::path file = config.data / (elsewhere ? ".restored.db" : "myelin.db");
  os::UniqueFd from(::open((source / "myelin.db").c_str(), O_RDONLY | O_CLOEXEC));
  if (!from) return of_file(source / "myelin.db", "can't read");
  auto hex = copy_file(from.get(), file, progress);
  if (!hex) return hex.take_error();
  if (auto right = check("myelin.db", *hex); !right) return right;
  if (seen != sums.size()) return Error{Code::conflict, "the backup is damaged: " + std::to_string(sums.size() - seen) + " files are missing", ""};
  {
    auto copy = store::Database::open(file);
    if (!copy) return copy.take_error();
    if (auto current = store::migrate(*copy, store::migrations()); !current) return current;
    if (elsewhere) {
      auto database = store::open_state({config.data, config.database}, store::Use::server);
      if (!database) return database.take_error();
      if (auto filled = store::fill_state(*database, *copy, mark); !filled) return filled;
    }
  }
  if (elsewhere) remove_whole(file);
  return sync_all(config.data);
}

int complain(const Error& error) {
  std::fprintf(stderr, "myelin: %s\n", error.message.c_str());
  return 1;
}

}  // namespace

Result<void> make_backup(const Config& config, const fs::path& given, bool show_progress) {
  std::error_code error;
  if (!fs::is_directory(config.data, error)) return Error{Code::not_found, "there is no data in " + config.data.string(), ""};
  fs::path target = fs::absolute(given, error).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();
  if (fs::exists(fs::symlink_status(target, error))) return Error{Code::conflict, target.string() + " exists already: name a new directory", ""};
  const auto inside = fs::weakly_canonical(target, error).lexically_relative(fs::weakly_canonical(config.data, error));
  if (!inside.empty() && *inside.begin() != "..") return Error{Code::bad_request, "the backup can't be inside " + config.data.string(), ""};
  if (auto whole = check_restored(config.data); !whole) return whole;
  fs::path part = target;
  part += ".part";
  if (::mkdir(part.c_str(), 0700) != 0)
    return errno == EEXIST ? Error{Code::conflict, part.string() + " is left of a backup that did not end: remove it first", ""}
                           : of_file(part, "can't make");
  Progress progress(show_progress);
  std::vector<std::string> unreadable;
  auto written = write_backup(config, part, progress, unreadable);
  if (written && ::rename(part.c_str(), target.c_str()) != 0) written = of_file(target, "can't make");
  if (!written) {
    remove_whole(part);
    return written;
  }
  if (auto synced = os::sync_directory(target.parent_path().string()); !synced) return synced;
  if (!unreadable.empty())
    std::fprintf(stderr, "myelin: %zu files may not be read and are not in the backup, the first is %s\n", unreadable.size(), unreadable[0].c_str());
  if (show_progress) progress.tell(target);
  return {};
}

Result<void> restore_backup(const Config& config, const fs::path& source, bool show_progress) {
  auto sums = open_backup(source);
  if (!sums) return sums.take_error();
  std::error_code error;
  const bool made = fs::create_directories(config.data, error);
  if (error) return Error{Code::internal, "can't make " + config.data.string() + ": " + error.message(), ""};
  if (made) fs::permissions(config.data, fs::perms::owner_all, error);
  auto lock = os::LockFile::acquire((config.data / "lock").string());
  if (!lock) return Error{Code::conflict, "a server uses " + config.data.string() + ": stop it first", ""};
  const fs::path mark_file = config.data / unfinished;
  std::string mark;
  if (fs::exists(mark_file, error)) {  // of a restore that was killed: all that is here came from it
    mark = text_of(mark_file).value();
    clear(config.data);
  }
  if (mark.empty()) {  // or it was killed before it had written its name, and so anything else
    mark = make_id("restore_");
    for (const auto& entry : fs::directory_iterator(config.data, error))
      if (entry.path().filename() != "lock" && entry.path().filename() != unfinished)
        return Error{Code::conflict, config.data.string() + " is not empty: restore into an empty directory (--data)", ""};
    // By its own name at once: a file beside it would be somebody's data to the next restore.
    os::UniqueFd out(::open(mark_file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (!out || ::write(out.get(), mark.data(), mark.size()) != static_cast<ssize_t>(mark.size()) || ::fsync(out.get()) != 0)
      return of_file(mark_file, "can't write");
    if (auto synced = os::sync_directory(config.data.string()); !synced) return synced;
  }
  Progress progress(show_progress);
  auto copied = copy_back(config, source, *sums, mark, progress);
  if (!copied) {
    clear(config.data);
    fs::remove(mark_file, error);
    return copied;
  }
  fs::remove(mark_file, error);
  if (auto synced = os::sync_directory(config.data.string()); !synced) return synced;
  if (show_progress) progress.tell(config.data);
  return {};
}

Result<void> check_restored(const fs::path& directory) {
  std::error_code error;
  if (!fs::exists(directory / unfinished, error)) return {};
  return Error{Code::conflict, "a restore into " + directory.string() + " did not come to its end: run `myelin restore` again", ""};
}

void add_backup_commands(CLI::App& app, Flags& flags, const Surroundings& surroundings, const std::function<void(CLI::App*)>& take_data,
                         int& status) {
  auto path = std::make_shared<std::string>();
  using Work = Result<void> (*)(const Config&, const fs::path&, bool);
  auto add = [&, path](const char* name, const char* help, const char* what, Work work) {
    auto* command = app.add_subcommand(name, help);
    command->add_option("DIRECTORY", *path, what)->required();
    take_data(command);
    command->callback([&flags, &surroundings, &status, path, work] {
      ::umask(0077);
      auto config = load(flags, surroundings);
      if (!config) {
        status = complain(config.error());
        return;
      }
      auto done = work(*config, *path, true);
      status = done ? 0 : complain(done.error());
    });
  };
  add("backup", "copy all that a server keeps, also while it runs", "a new directory", make_backup);
  add("restore", "put a backup into an empty data directory (and an empty PostgreSQL database)", "what `myelin backup` made", restore_backup);
}

}  // namespace myelin::cli
