#include "function/catalog.hpp"

#include <algorithm>

#include "base/log.hpp"

namespace myelin::function {
namespace {

using async::milliseconds;
using async::Task;
using Clock = std::chrono::steady_clock;

constexpr auto retry_after = std::chrono::seconds(30);

session::User operator_user() {
  auto who = accounts::operator_identity();
  return {who.user_id, who.name, true};
}

}  // namespace

bool may_see(const accounts::Identity& who, const Published& package) {
  Function asked;
  asked.owner = package.owner;
  asked.visibility = package.visibility;
  asked.groups = package.groups;
  if (may_call(who, asked)) return true;
  return std::any_of(package.functions.begin(), package.functions.end(), [&](auto& one) { return may_call(who, *one); });
}

Catalog::Catalog(async::Loop&, async::Pool& pool, Reader& reader, std::filesystem::path folder) : pool_(pool), reader_(reader), folder_(std::move(folder)) {}

Result<void> Catalog::add(Native native) {
  json::error_code failed;
  auto said = json::parse(native.declaration, failed);
  if (failed) return Error{Code::bad_request, "the declaration is no JSON", ""};
  auto declaration = parse_declaration(said);
  if (!declaration) return declaration.take_error();
  auto& package = natives_[native.package];
  package.name = native.package;
  package.owner = "operator";
  package.owner_name = "operator";
  package.version = native.version;
  auto made = std::make_shared<Function>();
  made->package = native.package;
  made->id = native.package + "." + declaration->name;
  made->visibility = declaration->is_public ? Visibility::everyone : Visibility::all;
  made->declaration = std::move(*declaration);
  made->declaration.engine = "native";
  made->owner = made->owner_name = "operator";
  made->version = native.version;
  made->hash = "native-" + std::string(MYELIN_VERSION) + "-" + native.version;
  made->native = std::make_shared<const Native>(std::move(native));
  package.functions.push_back(std::move(made));
  return {};
}

void Catalog::put(Published package) {
  std::pair key{package.owner, package.name};
  of_users_[key] = std::move(package);
}

void Catalog::withdraw(const std::string& owner, const std::string& name) { of_users_.erase({owner, name}); }

void Catalog::pass_on(const std::string& from, const std::string& to, const std::string& to_name, const std::vector<std::string>& names) {
  for (const auto& name : names) {
    auto found = of_users_.find({from, name});
    if (found == of_users_.end()) continue;
    Published package = std::move(found->second);
    of_users_.erase(found);
    package.owner = to;
    package.owner_name = to_name;
    for (auto& function : package.functions) {
      auto changed = std::make_shared<Function>(*function);
      changed->owner = to;
      changed->owner_name = to_name;
      function = std::move(changed);
    }
    put(std::move(package));
  }
}

void Catalog::forget_group(const std::string& group) {
  auto forget = [&group](auto& of) {
    if (std::erase(of.groups, group) > 0 && of.groups.empty()) of.visibility = Visibility::owner;
  };
  for (auto& [key, package] : of_users_) {
    if (std::find(package.groups.begin(), package.groups.end(), group) == package.groups.end()) continue;
    forget(package);
    for (auto& function : package.functions) {
      auto changed = std::make_shared<Function>(*function);
      forget(*changed);
      function = std::move(changed);
    }
  }
}

void Catalog::complete() { complete_.set(); }

Task<void> Catalog::completed() {
  if (!complete_.is_set()) co_await complete_.wait(milliseconds(30'000));
}

bool Catalog::is_taken(const std::string& name, const std::string& owner) const {
  if (in_folder_.count(name) || natives_.count(name)) return true;
  return std::any_of(of_users_.begin(), of_users_.end(), [&](auto& one) {
    return one.first.second == name && one.first.first != owner && one.second.visibility != Visibility::owner;
  });
}

Task<void> Catalog::refresh(std::shared_ptr<Catalog> self) {
  if (self->refreshing_) {
    while (self->refreshing_) co_await self->loaded_.wait(milliseconds(1000));
    co_return;
  }
  self->refreshing_ = true;
  auto folder = self->folder_;
  auto look = [folder] { return find_packages(folder); };
  auto found = co_await async::on_pool(self->pool_, std::move(look));
  for (auto known = self->in_folder_.begin(); known != self->in_folder_.end();) {
    if (found.count(known->first)) ++known;
    else known = self->in_folder_.erase(known);
  }
  for (auto& [name, fingerprint] : found) co_await load(self, name, fingerprint);
  self->refreshing_ = false;
  self->loaded_.pulse();
}

Task<void> Catalog::load(std::shared_ptr<Catalog> self, std::string name, std::string fingerprint) {
  while (self->loading_.count(name)) co_await self->loaded_.wait(milliseconds(1000));
  auto known = self->in_folder_.find(name);
  if (known != self->in_folder_.end() && known->second.fingerprint == fingerprint &&
      (known->second.again == Clock::time_point{} || Clock::now() < known->second.again))
    co_return;
  self->loading_.insert(name);
  auto folder = self->folder_;
  // What is copied is what was looked at: files that change meanwhile are read once more.
  struct Taken {
    std::string fingerprint;
    Result<Files> files = Files{};
  };
  auto take = [folder, name]() -> Taken {
    Taken taken;
    for (int tries = 0; tries < 5; ++tries) {
      taken.fingerprint = function::fingerprint(folder, name);
      taken.files = read_package(folder, name);
      if (function::fingerprint(folder, name) == taken.fingerprint) break;
    }
    return taken;
  };
  auto taken = co_await async::on_pool(self->pool_, std::move(take));
  InFolder fresh;
  fresh.fingerprint = taken.fingerprint;
  auto& package = fresh.package;
  package.name = name;
  package.owner = "operator";
  package.owner_name = "operator";
  if (!taken.files) {
    package.problem = Problem{taken.files.error().message, "", 0};
  } else {
    auto read = co_await self->reader_.read(operator_user(), name, std::move(*taken.files));
    if (!read) {
      package.problem = Problem{"it could not be read: " + read.error().message, "", 0};
      fresh.again = Clock::now() + retry_after;
    } else {
      package.hash = read->hash;
      package.version = read->hash.substr(0, 12);
      package.description = read->description;
      package.problem = read->problem;
      for (auto& declaration : read->functions) {
        auto made = std::make_shared<Function>();
        made->package = name;
        made->id = name + "." + declaration.name;
        made->visibility = declaration.is_public ? Visibility::everyone : Visibility::all;
        made->declaration = std::move(declaration);
        made->owner = made->owner_name = "operator";
        made->version = package.version;
        made->hash = made->shown = read->hash;
        made->mechanisms = read->mechanisms;
        package.former_names.push_back(made->declaration.name);
        package.functions.push_back(std::move(made));
      }
    }
  }
  if (package.problem) {
    std::string where = package.problem->file.empty() ? "" : " (" + package.problem->file + (package.problem->line ? ", line " + std::to_string(package.problem->line) : "") + ")";
    log::warning("functions: package " + name + " is broken: " + package.problem->text + where);
    if (auto old = self->in_folder_.find(name); old != self->in_folder_.end()) package.former_names = old->second.package.former_names;
  } else {
    log::info("functions: package " + name + ", version " + package.version + ": " + std::to_string(package.functions.size()) + " functions");
  }
  self->in_folder_[name] = std::move(fresh);
  self->loading_.erase(name);
  self->loaded_.pulse();
}

std::vector<const Published*> Catalog::seen_by(const accounts::Identity& who) const {
  // One's own first, so that nobody takes a name away from its user.
  std::vector<const Published*> out;
  for (auto& [key, package] : of_users_)
    if (package.owner == who.user_id && !who.user_id.empty()) out.push_back(&package);
  auto hidden = [&](const std::string& name) { return std::any_of(out.begin(), out.end(), [&](auto* one) { return one->name == name; }); };
  for (auto& [name, package] : natives_)
    if (!hidden(name) && may_see(who, package)) out.push_back(&package);
  for (auto& [name, entry] : in_folder_)
    if (!hidden(name) && may_see(who, entry.package)) out.push_back(&entry.package);
  for (auto& [key, package] : of_users_)
    if (package.owner != who.user_id && !hidden(package.name) && package.visibility != Visibility::owner && may_see(who, package)) out.push_back(&package);
  return out;
}

Task<Result<FunctionPtr>> Catalog::find(std::shared_ptr<Catalog> self, accounts::Identity who, std::string name) {
  auto dot = name.find('.');
  std::string package_name = dot == std::string::npos ? "" : name.substr(0, dot), callable = dot == std::string::npos ? name : name.substr(dot + 1);
  Error unknown{Code::not_found, "no function '" + name.substr(0, 140) + "'; GET /v1/functions lists those that you may call", ""};
  if (!is_name(callable) || (dot != std::string::npos && !is_name(package_name))) co_return unknown;
  co_await self->completed();
  // Files may have changed since the last look, or come.
  if (dot != std::string::npos) {
    auto folder = self->folder_;
    auto look = [folder, package_name] { return fingerprint(folder, package_name); };
    auto now = co_await async::on_pool(self->pool_, std::move(look));
    auto known = self->in_folder_.find(package_name);
    if (now.empty()) {
      if (known != self->in_folder_.end()) self->in_folder_.erase(known);
    } else if (known != self->in_folder_.end() ? known->second.fingerprint != now : true) {
      std::string changed = package_name;
      co_await load(self, std::move(changed), std::move(now));
    }
  } else {
    co_await refresh(self);
  }
  std::vector<FunctionPtr> matches;
  const Published* broken = nullptr;
  for (auto* package : self->seen_by(who)) {
    if (!package_name.empty() && package->name != package_name) continue;
    if (package->problem && (!package_name.empty() || std::count(package->former_names.begin(), package->former_names.end(), callable))) broken = package;
    for (auto& one : package->functions)
      if (one->declaration.name == callable && may_call(who, *one)) matches.push_back(one);
    if (!package_name.empty()) break;
  }
  // One's own first, then the server's, then the operator's: nobody takes a short name away from the others.
  auto rank = [&who](const Function& one) { return !who.user_id.empty() && one.owner == who.user_id ? 0 : one.native ? 1 : one.owner == "operator" ? 2 : 3; };
  if (!matches.empty()) {
    int first = 3;
    for (auto& one : matches) first = std::min(first, rank(*one));
    std::erase_if(matches, [&](auto& one) { return rank(*one) > first; });
  }
  if (matches.size() == 1) co_return matches.front();
  if (matches.size() > 1) {
    std::string all;
    for (auto& one : matches) all += (all.empty() ? "" : ", ") + one->id;
    co_return Error{Code::conflict, "several functions are named '" + callable + "': say which: " + all, ""};
  }
  if (broken) {
    json::object detail{{"text", broken->problem->text}, {"package", broken->name}};
    if (!broken->problem->file.empty()) detail["file"] = broken->problem->file;
    if (broken->problem->line) detail["line"] = broken->problem->line;
    std::string where = broken->problem->file.empty() ? "" : " in " + broken->problem->file + (broken->problem->line ? ", line " + std::to_string(broken->problem->line) : "");
    co_return Error{Code::broken, "the package " + broken->name + " is broken" + where + ": " + broken->problem->text, json::serialize(detail)};
  }
  co_return unknown;
}

const Published* Catalog::package(const accounts::Identity& who, const std::string& name) const {
  for (auto* package : seen_by(who))
    if (package->name == name) return package;
  return nullptr;
}

std::vector<FunctionPtr> Catalog::list(const accounts::Identity& who) const {
  std::vector<FunctionPtr> out;
  for (auto* package : seen_by(who))
    for (auto& one : package->functions)
      if (may_call(who, *one)) out.push_back(one);
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a->id < b->id; });
  return out;
}

std::set<std::string> Catalog::in_use() const {
  std::set<std::string> out;
  auto add = [&](const Published& package) {
    out.insert(package.hash);
    for (auto& one : package.functions) out.insert(one->mechanisms);
  };
  for (auto& [name, entry] : in_folder_) add(entry.package);
  for (auto& [key, package] : of_users_) add(package);
  return out;
}

std::vector<const Published*> Catalog::broken(const accounts::Identity& who) const {
  std::vector<const Published*> out;
  for (auto* package : seen_by(who))
    if (package->problem) out.push_back(package);
  return out;
}

}  // namespace myelin::function
