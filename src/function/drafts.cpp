#include "function/drafts.hpp"

#include <algorithm>
#include <filesystem>
#include <map>

#include "accounts/book.hpp"
#include "base/log.hpp"
#include "os/memfd.hpp"
#include "os/tree.hpp"

namespace myelin::function {
namespace {

constexpr std::ptrdiff_t most_versions = 500;  // of a package; their code is kept

namespace fs = std::filesystem;
using async::Task;

constexpr std::size_t most_entries = 1000;
constexpr std::uint64_t most_shown = 4ull << 30;  // bytes of copies of code
constexpr async::milliseconds tidy_every{600'000};

// Files below `path` of the tree, without what begins with a dot.
Result<void> collect(const os::Tree& tree, const std::string& path, std::vector<DraftFile>& out, std::size_t depth) {
  auto entries = tree.list(path, most_entries);
  if (!entries) return entries.take_error();
  for (auto& entry : *entries) {
    if (entry.name.empty() || entry.name[0] == '.') continue;
    std::string below = path + "/" + entry.name;
    if (entry.type == os::TreeEntry::Type::file) out.push_back({below, entry.bytes, entry.modified_s});
    else if (entry.type == os::TreeEntry::Type::directory && depth < 8)
      if (auto more = collect(tree, below, out, depth + 1); !more) return more;
  }
  return {};
}

// Paths within the package. Empty for one without a file.
Result<std::vector<DraftFile>> files_of(const std::string& place, const std::string& package) {
  std::vector<DraftFile> files;
  std::error_code error;
  if (!fs::is_directory(place + "/" + package, error)) return files;
  auto tree = os::Tree::open(place, std::nullopt);
  if (!tree) return tree.take_error();
  auto done = collect(*tree, package, files, 0);
  if (!done) return done.take_error();
  for (auto& file : files) file.path.erase(0, package.size() + 1);
  return files;
}

Result<std::string> bytes_of(const os::Tree& tree, const std::string& path) {
  auto file = tree.read(path);
  if (!file) return file.take_error();
  auto size = os::file_size(file->get());
  if (!size) return size.take_error();
  if (*size > most_file_bytes) return Error{Code::too_large, path + " is too large", ""};
  std::string bytes(*size, '\0');
  auto got = os::read_exactly_at(file->get(), bytes.data(), bytes.size(), 0);
  if (!got) return got.take_error();
  return bytes;
}

Error broken(const Package& package) {
  auto& problem = *package.problem;
  json::object detail{{"text", problem.text}, {"package", package.name}};
  if (!problem.file.empty()) detail["file"] = problem.file;
  if (problem.line) detail["line"] = problem.line;
  std::string where = problem.file.empty() ? "" : " in " + problem.file + (problem.line ? ", line " + std::to_string(problem.line) : "");
  return {Code::broken, "the package " + package.name + " is broken" + where + ": " + problem.text, json::serialize(detail)};
}

// A worker names files below the root; an author knows them within the package.
void shorten(Package& package) {
  if (!package.problem) return;
  auto& file = package.problem->file;
  if (file.starts_with(package.name + "/")) file.erase(0, package.name.size() + 1);
}

FunctionPtr function_of(const Package& package, const Declaration& declaration, const store::PackageVersion& version) {
  auto made = std::make_shared<Function>();
  made->package = package.name;
  made->id = package.name + "." + declaration.name;
  made->declaration = declaration;
  made->declaration.is_public = version.audience == "public";
  made->owner = version.owner;
  made->owner_name = version.owner_name;
  if (auto audience = parse_audience(version.audience)) {
    made->visibility = audience->first;
    made->groups = audience->second;
  } else {
    made->visibility = Visibility::owner;
  }
  made->version = version.version ? std::to_string(version.version) : "draft";
  made->hash = made->shown = package.hash;
  made->mechanisms = package.mechanisms;
  return made;
}

Result<void> check_name(const std::string& package) {
  if (!is_name(package)) return Error{Code::bad_request, "a package's name has letters, digits and _, does not begin with a digit, and at most 64 of them", ""};
  return {};
}

}  // namespace

Result<std::pair<Visibility, std::vector<std::string>>> parse_audience(const std::string& text) {
  std::pair<Visibility, std::vector<std::string>> out{Visibility::owner, {}};
  if (text == "me") return out;
  if (text == "all") out.first = Visibility::all;
  else if (text == "public") out.first = Visibility::everyone;
  else if (text.starts_with("group:") && text.size() > 6 && text.size() < 1000) {
    out.first = Visibility::groups;
    std::string rest = text.substr(6);
    for (std::size_t begin = 0; begin <= rest.size();) {
      auto end = std::min(rest.find(',', begin), rest.size());
      std::string group = rest.substr(begin, end - begin);
      if (auto good = accounts::check_group_name(group); !good) return good.take_error();
      out.second.push_back(group);
      begin = end + 1;
    }
  } else {
    return Error{Code::bad_request, "say for whom: {\"to\": \"me\"}, \"group:NAME\", \"all\" or \"public\"", ""};
  }
  return out;
}

// For everybody: an operator's decision, since strangers then run it on this server.
bool may_publish(const accounts::Identity& who, Visibility visibility, const std::vector<std::string>&) {
  if (who.user_id.empty()) return false;
  return visibility != Visibility::everyone || who.is_operator;
}

Drafts::Drafts(async::Pool& pool, async::Pool& database_pool, store::Database& database, Functions& functions, std::string directory)
    : pool_(pool), database_pool_(database_pool), database_(database), functions_(functions), directory_(std::move(directory)) {}

Published Drafts::published(const Package& read, const store::PackageVersion& version) const {
  Published out;
  out.name = read.name;
  out.owner = version.owner;
  out.owner_name = version.owner_name;
  out.version = std::to_string(version.version);
  out.hash = read.hash;
  out.description = read.description;
  if (auto audience = parse_audience(version.audience)) {
    out.visibility = audience->first;
    out.groups = audience->second;
  } else {
    out.visibility = Visibility::owner;
  }
  out.problem = read.problem;
  for (auto& declaration : read.functions) {
    out.former_names.push_back(declaration.name);
    out.functions.push_back(function_of(read, declaration, version));
  }
  return out;
}

Task<Result<void>> Drafts::open() {
  std::string directory = directory_;
  store::Database* database = &database_;
  auto load = [database, directory]() -> Result<std::vector<store::PackageVersion>> {
    std::error_code error;
    fs::create_directories(directory, error);
    fs::permissions(directory, fs::perms::owner_all, error);
    if (error) return Error{Code::internal, "can't make " + directory, ""};
    return store::PackageRecords(*database).list("");
  };
  auto versions = co_await async::on_pool(database_pool_, std::move(load));
  if (!versions) co_return versions.take_error();
  std::map<std::pair<std::string, std::string>, store::PackageVersion> newest;
  for (auto& version : *versions)
    if (!version.withdrawn) newest[{version.owner, version.name}] = version;
  if (!functions_.options().scripts) newest.clear();
  for (auto& [key, version] : newest) {
    fs::path shown = functions_.reader().shown() / version.hash;
    std::string name = version.name;
    auto take = [shown, name] { return read_package(shown, name); };
    auto files = co_await async::on_pool(pool_, std::move(take));
    Package package;
    package.name = name;
    package.hash = version.hash;
    if (!files) {
      package.problem = Problem{"its files are lost: " + files.error().message, "", 0};
    } else {
      session::User owner{version.owner, version.owner_name, false};
      auto read = co_await functions_.reader().read(std::move(owner), name, std::move(*files));
      if (read) package = std::move(*read);
      else package.problem = Problem{"it could not be read: " + read.error().message, "", 0};
    }
    if (package.problem) log::warning("functions: package " + name + " of " + version.owner_name + " is broken: " + package.problem->text);
    functions_.catalog()->put(published(package, version));
  }
  functions_.catalog()->complete();
  co_return Result<void>{};
}

Task<void> Drafts::watch() {
  for (;;) {
    co_await async::sleep_for(tidy_every);
    auto used = functions_.catalog()->in_use();
    store::Database* database = &database_;
    auto load = [database] { return store::PackageRecords(*database).list(""); };
    auto versions = co_await async::on_pool(database_pool_, std::move(load));
    if (!versions) continue;  // what is in use is not known
    for (auto& version : *versions)
      if (!version.withdrawn) used.insert(version.hash);
    auto shown = functions_.reader().shown();
    auto clear = [shown, used] { return make_room(shown, used, most_shown); };
    auto gone = co_await async::on_pool(pool_, std::move(clear));
    auto* reader = &functions_.reader();
    auto tidy = [reader] { reader->tidy(); };
    co_await async::on_pool(pool_, std::move(tidy));
    if (gone) log::info("functions: " + std::to_string(gone) + " copies of old code were removed to make room");
  }
}

Task<Result<std::vector<DraftInfo>>> Drafts::list(session::User user) {
  std::string where = place(user), owner = user.id;
  store::Database* database = &database_;
  auto load = [database, owner] { return store::PackageRecords(*database).list(owner); };
  auto versions = co_await async::on_pool(database_pool_, std::move(load));
  if (!versions) co_return versions.take_error();
  auto look = [where]() -> Result<std::map<std::string, DraftInfo>> {
    std::map<std::string, DraftInfo> found;
    std::error_code error;
    for (auto& entry : fs::directory_iterator(where, error)) {
      std::string name = entry.path().filename().string();
      std::error_code ignored;
      if (!is_name(name) || !entry.is_directory(ignored)) continue;
      auto files = files_of(where, name);
      if (!files) return files.take_error();
      if (files->empty()) continue;
      found[name].name = name;
      found[name].files = std::move(*files);
    }
    return found;
  };
  auto found = co_await async::on_pool(pool_, std::move(look));
  if (!found) co_return found.take_error();
  for (auto& version : *versions) {
    auto& info = (*found)[version.name];
    info.name = version.name;
    info.versions.push_back(version);
  }
  std::vector<DraftInfo> out;
  for (auto& [name, info] : *found) out.push_back(std::move(info));
  co_return out;
}

Task<Result<std::set<std::string>>> Drafts::owners() {
  std::string directory = directory_;
  store::Database* database = &database_;
  auto load = [database] { return store::PackageRecords(*database).list(""); };
  auto versions = co_await async::on_pool(database_pool_, std::move(load));
  if (!versions) co_return versions.take_error();
  auto look = [directory] {
    std::set<std::string> found;
    std::error_code error;
    for (auto& entry : fs::directory_iterator(directory, error)) found.insert(entry.path().filename().string());
    return found;
  };
  auto found = co_await async::on_pool(pool_, std::move(look));
  for (auto& version : *versions) found.insert(version.owner);
  co_return found;
}

Task<Result<DraftInfo>> Drafts::info(session::User user, std::string package) {
  auto all = co_await list(std::move(user));
  if (!all) co_return all.take_error();
  for (auto& one : *all)
    if (one.name == package) co_return std::move(one);
  co_return Error{Code::not_found, "there is no package '" + package.substr(0, 64) + "': PUT /v1/packages/NAME/files/NAME.py begins one", ""};
}

Task<Result<std::string>> Drafts::read(session::User user, std::string package, std::string path) {
  if (auto good = check_name(package); !good) co_return good.take_error();
  if (auto good = check_path(path); !good) co_return good.take_error();
  std::string where = place(user), whole = package + "/" + path;
  Error none{Code::not_found, "there is no file " + path + " in the package " + package, ""};
  auto look = [where, whole, none]() -> Result<std::string> {
    std::error_code error;
    if (!fs::is_directory(where, error)) return none;
    auto tree = os::Tree::open(where, std::nullopt);
    if (!tree) return tree.take_error();
    return bytes_of(*tree, whole);
  };
  co_return co_await async::on_pool(pool_, std::move(look));
}

Task<Result<void>> Drafts::write(session::User user, std::string package, std::string path, std::string bytes) {
  if (auto good = check_name(package); !good) co_return good.take_error();
  if (auto good = check_path(path); !good) co_return good.take_error();
  if (bytes.size() > most_draft_bytes) co_return Error{Code::too_large, "a file of a package has at most " + std::to_string(most_draft_bytes >> 20) + " MiB", ""};
  std::string where = place(user);
  auto content = std::make_shared<std::string>(std::move(bytes));
  auto put = [where, package, path, content]() -> Result<void> {
    std::error_code error;
    fs::create_directories(where, error);
    if (error) return Error{Code::insufficient_storage, "can't make " + where + ": " + error.message(), ""};
    if (!fs::exists(where + "/" + package, error)) {
      std::size_t count = 0;
      for (auto& entry : fs::directory_iterator(where, error)) count += entry.path().empty() ? 0 : 1;
      if (count >= most_packages) return Error{Code::quota, "you have " + std::to_string(count) + " packages, as many as are allowed: delete one first", ""};
    }
    auto files = files_of(where, package);
    if (!files) return files.take_error();
    std::uint64_t sum = content->size();
    std::size_t others = 0;
    for (auto& file : *files) {
      if (file.path == path) continue;
      sum += file.bytes;
      ++others;
    }
    if (others >= most_draft_files) return Error{Code::quota, "a package has at most " + std::to_string(most_draft_files) + " files", ""};
    if (sum > most_draft_package) return Error{Code::quota, "a package has at most " + std::to_string(most_draft_package >> 20) + " MiB", ""};
    auto tree = os::Tree::open(where, std::nullopt);
    if (!tree) return tree.take_error();
    return tree->write(package + "/" + path, *content);
  };
  co_return co_await async::on_pool(pool_, std::move(put));
}

Task<Result<void>> Drafts::remove(session::User user, std::string package, std::string path) {
  if (auto good = check_name(package); !good) co_return good.take_error();
  if (!path.empty())
    if (auto good = check_path(path); !good) co_return good.take_error();
  std::string where = place(user);
  auto clear = [where, package, path]() -> Result<void> {
    std::error_code error;
    if (path.empty()) {
      fs::remove_all(where + "/" + package, error);
      if (error) return Error{Code::internal, "can't remove the draft: " + error.message(), ""};
      return {};
    }
    if (!fs::is_directory(where + "/" + package, error)) return Error{Code::not_found, "there is no package " + package, ""};
    auto tree = os::Tree::open(where, std::nullopt);
    if (!tree) return tree.take_error();
    auto removed = tree->remove(package + "/" + path);
    if (!removed) return removed;
    // Directories that are empty now go too; the first one that is not stays.
    for (fs::path up = fs::path(package + "/" + path).parent_path(); !up.empty(); up = up.parent_path())
      if (!tree->remove(up.string())) break;
    return {};
  };
  co_return co_await async::on_pool(pool_, std::move(clear));
}

Task<Result<Files>> Drafts::files(session::User user, std::string package) {
  if (auto good = check_name(package); !good) co_return good.take_error();
  std::string where = place(user);
  auto take = [where, package]() -> Result<Files> {
    auto names = files_of(where, package);
    if (!names) return names.take_error();
    if (names->empty()) return Error{Code::not_found, "you have no draft of a package '" + package + "'", ""};
    auto tree = os::Tree::open(where, std::nullopt);
    if (!tree) return tree.take_error();
    Files files;
    for (auto& name : *names) {
      auto bytes = bytes_of(*tree, package + "/" + name.path);
      if (!bytes) return bytes.take_error();
      files[package + "/" + name.path] = std::move(*bytes);
    }
    return files;
  };
  co_return co_await async::on_pool(pool_, std::move(take));
}

Task<Result<Package>> Drafts::check(session::User user, std::string package) {
  auto taken = co_await files(user, package);
  if (!taken) co_return taken.take_error();
  auto read = co_await functions_.reader().read(std::move(user), std::move(package), std::move(*taken));
  if (!read) co_return read.take_error();
  shorten(*read);
  co_return read;
}

Task<Result<FunctionPtr>> Drafts::try_function(session::User user, std::string package, std::string callable) {
  auto read = co_await check(user, package);
  if (!read) co_return read.take_error();
  if (read->problem) co_return broken(*read);
  store::PackageVersion draft;
  draft.owner = user.id;
  draft.owner_name = user.name;
  draft.name = package;
  draft.audience = "me";
  for (auto& declaration : read->functions)
    if (declaration.name == callable) co_return function_of(*read, declaration, draft);
  co_return Error{Code::not_found, "the draft of " + package + " has no function '" + callable.substr(0, 64) + "'", ""};
}

Task<Result<Published>> Drafts::publish(session::User user, std::string package, std::string audience) {
  co_await functions_.catalog()->completed();
  auto whom = parse_audience(audience);
  if (!whom) co_return whom.take_error();
  auto who = session::identity_of(user);
  if (!may_publish(who, whom->first, whom->second)) co_return Error{Code::forbidden, "you may not publish a package for '" + audience + "': ask an operator", ""};
  if (whom->first != Visibility::owner && functions_.catalog()->is_taken(package, user.id))
    co_return Error{Code::conflict, "there is another package named " + package + ": choose another name, or publish it for yourself", ""};
  auto read = co_await check(user, package);
  if (!read) co_return read.take_error();
  if (read->problem) co_return broken(*read);
  if (read->functions.empty()) co_return Error{Code::conflict, "the package has no function to publish: define one without a leading underscore", ""};
  // Somebody may have been faster while it was read, or is about to be.
  const bool for_others = whom->first != Visibility::owner;
  if (for_others && (functions_.catalog()->is_taken(package, user.id) || publishing_.contains(package)))
    co_return Error{Code::conflict, "there is another package named " + package + ": choose another name, or publish it for yourself", ""};
  struct Publishing {
    std::multiset<std::string>& names;
    std::multiset<std::string>::iterator mine;
    Publishing(std::multiset<std::string>& all, std::string name) : names(all), mine(all.insert(std::move(name))) {}
    Publishing(const Publishing&) = delete;
    Publishing& operator=(const Publishing&) = delete;
    ~Publishing() { names.erase(mine); }
  };
  std::optional<Publishing> publishing;
  if (for_others) publishing.emplace(publishing_, package);
  store::PackageVersion version;
  version.owner = user.id;
  version.owner_name = user.name;
  version.name = package;
  version.hash = read->hash;
  version.audience = audience;
  version.created = store::now();
  store::Database* database = &database_;
  auto add = [database, version]() -> Result<std::int64_t> {
    store::PackageRecords records(*database);
    auto all = records.list(version.owner);
    if (!all) return all.take_error();
    const auto kept = std::count_if(all->begin(), all->end(), [&](auto& one) { return one.name == version.name && !one.withdrawn; });
    if (kept >= most_versions)
      return Error{Code::insufficient_storage, std::to_string(kept) + " versions of " + version.name + " are kept: withdraw the package (DELETE), then publish it anew", ""};
    return records.add(version);
  };
  auto number = co_await async::on_pool(database_pool_, std::move(add));
  if (!number) co_return number.take_error();
  version.version = *number;
  auto made = published(*read, version);
  functions_.catalog()->put(made);
  co_return made;
}

Task<Result<void>> Drafts::restore(session::User user, std::string package, std::int64_t number) {
  if (auto good = check_name(package); !good) co_return good.take_error();
  Error none{Code::not_found, package + " has no version " + std::to_string(number) + " that is still kept", ""};
  std::string owner = user.id, where = place(user);
  store::Database* database = &database_;
  auto load = [database, owner] { return store::PackageRecords(*database).list(owner); };
  auto versions = co_await async::on_pool(database_pool_, std::move(load));
  if (!versions) co_return versions.take_error();
  std::string hash;
  for (auto& version : *versions)
    if (version.name == package && version.version == number) hash = version.hash;
  if (hash.empty()) co_return none;
  fs::path shown = functions_.reader().shown() / hash;
  auto put = [where, shown, package, none]() -> Result<void> {
    auto files = read_package(shown, package);
    if (!files) return files.error().code == Code::not_found ? none : files.take_error();
    auto before = files_of(where, package);
    if (!before) return before.take_error();
    std::error_code error;
    fs::create_directories(where, error);
    if (error) return Error{Code::insufficient_storage, "can't make " + where + ": " + error.message(), ""};
    auto tree = os::Tree::open(where, std::nullopt);
    if (!tree) return tree.take_error();
    // A file that is a directory in the other one has to go first.
    for (auto& file : *before)
      if (!files->contains(package + "/" + file.path))
        if (auto removed = tree->remove(package + "/" + file.path); !removed) return removed;
    for (auto& [path, bytes] : *files)
      if (auto written = tree->write(path, bytes); !written) return written;
    return {};
  };
  co_return co_await async::on_pool(pool_, std::move(put));
}

Task<Result<void>> Drafts::withdraw(session::User user, std::string package) {
  if (auto good = check_name(package); !good) co_return good.take_error();
  std::string owner = user.id;
  store::Database* database = &database_;
  auto mark = [database, owner, package] { return store::PackageRecords(*database).withdraw(owner, package, store::now()); };
  auto count = co_await async::on_pool(database_pool_, std::move(mark));
  if (!count) co_return count.take_error();
  functions_.catalog()->withdraw(owner, package);
  if (*count == 0) co_return Error{Code::not_found, "nothing of a package '" + package + "' is published", ""};
  co_return Result<void>{};
}

Task<Result<void>> Drafts::forget_group(std::string group) {
  store::Database* database = &database_;
  auto change = [database, group]() -> Result<void> {
    store::PackageRecords records(*database);
    auto versions = records.list("");
    if (!versions) return versions.take_error();
    std::set<std::string> audiences;
    for (auto& version : *versions) audiences.insert(version.audience);
    for (auto& audience : audiences) {
      auto whom = parse_audience(audience);
      if (!whom || std::erase(whom->second, group) == 0) continue;
      if (whom->second.empty()) whom->first = Visibility::owner;
      if (auto set = records.set_audience(audience, name_of(whom->first, whom->second)); !set) return set;
    }
    return {};
  };
  auto changed = co_await async::on_pool(database_pool_, std::move(change));
  if (!changed) co_return changed;
  functions_.catalog()->forget_group(group);
  co_return Result<void>{};
}

Task<Result<void>> Drafts::pass_on(session::User from, session::User to, std::string package) {
  auto passed = co_await info(from, package);
  if (!passed) co_return passed.take_error();
  auto other = co_await info(to, package);
  if (other) co_return Error{Code::conflict, to.name + " has a package '" + package + "' already", ""};
  if (other.error().code != Code::not_found) co_return other.take_error();
  co_return co_await pass_on(std::move(from.id), std::move(to.id), std::move(to.name), std::move(package));
}

Task<Result<void>> Drafts::pass_on(std::string from, std::string to, std::string to_name, std::string only) {
  store::Database* database = &database_;
  auto change = [database, from, to, to_name, only] { return store::PackageRecords(*database).pass_on(from, to, to_name, only); };
  auto names = co_await async::on_pool(database_pool_, std::move(change));
  if (!names) co_return names.take_error();
  functions_.catalog()->pass_on(from, to, to_name, *names);
  std::string old_place = directory_ + "/" + from, new_place = directory_ + "/" + to;
  auto move = [old_place, new_place, only]() -> Result<void> {
    std::error_code error;
    if (!fs::is_directory(old_place, error)) return {};
    fs::create_directory(new_place, error);
    fs::permissions(new_place, fs::perms::owner_all, error);
    for (const auto& entry : fs::directory_iterator(old_place, error)) {
      const fs::path to_be = fs::path(new_place) / entry.path().filename();
      if (!only.empty() && entry.path().filename() != only) continue;
      if (fs::exists(fs::symlink_status(to_be, error))) continue;
      fs::rename(entry.path(), to_be, error);
      if (error) return Error{Code::internal, "a draft could not be passed on: " + error.message(), ""};
    }
    return {};
  };
  co_return co_await async::on_pool(pool_, std::move(move));
}

Task<Result<FunctionPtr>> Drafts::version(accounts::Identity who, Published current, std::string callable, std::int64_t number) {
  Error none{Code::not_found, current.name + " has no version " + std::to_string(number) + " with a function " + callable, ""};
  std::string owner = current.owner;
  store::Database* database = &database_;
  auto load = [database, owner] { return store::PackageRecords(*database).list(owner); };
  auto versions = co_await async::on_pool(database_pool_, std::move(load));
  if (!versions) co_return versions.take_error();
  for (auto& version : *versions) {
    if (version.name != current.name || version.version != number || version.withdrawn) continue;
    fs::path shown = functions_.reader().shown() / version.hash;
    std::string name = version.name;
    auto take = [shown, name] { return read_package(shown, name); };
    auto files = co_await async::on_pool(pool_, std::move(take));
    if (!files) co_return files.take_error();
    session::User user{version.owner, version.owner_name, false};
    auto read = co_await functions_.reader().read(std::move(user), name, std::move(*files));
    if (!read) co_return read.take_error();
    if (read->problem) co_return broken(*read);
    // For those who may call it in the newest version, and for whom it was published then.
    auto now = version;
    now.audience = name_of(current.visibility, current.groups);
    for (auto& declaration : read->functions) {
      if (declaration.name != callable) continue;
      auto found = function_of(*read, declaration, now);
      if (!may_call(who, *found) || !may_call(who, *function_of(*read, declaration, version))) co_return none;
      co_return found;
    }
  }
  co_return none;
}

}  // namespace myelin::function
