#pragma once
// Users' own packages: files that they write (drafts), and the versions that they publish of them. A published version never changes; an
// older one can be called by its number as long as the package is not withdrawn. Belongs to the loop's thread.

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "async/pool.hpp"
#include "function/functions.hpp"
#include "store/package_records.hpp"

namespace myelin::function {

inline constexpr std::size_t most_draft_bytes = 1 << 20;      // of one file
inline constexpr std::size_t most_draft_package = 16 << 20;   // of a package
inline constexpr std::size_t most_draft_files = 200;
inline constexpr std::size_t most_packages = 100;             // of a user

struct DraftFile {
  std::string path;
  std::uint64_t bytes = 0;
  std::int64_t modified_s = 0;
};

struct DraftInfo {
  std::string name;
  std::vector<DraftFile> files;
  std::vector<store::PackageVersion> versions;  // withdrawn ones too
};

/// "me", "group:NAME" (several with commas), "all", "public". bad_request otherwise.
[[nodiscard]] Result<std::pair<Visibility, std::vector<std::string>>> parse_audience(const std::string& text);

class Drafts {
 public:
  /// `directory`: below it one directory a user. `database` is used on `database_pool` only.
  Drafts(async::Pool& pool, async::Pool& database_pool, store::Database& database, Functions& functions, std::string directory);

  /// Puts what is published into the catalog.
  async::Task<Result<void>> open();
  /// For ever: copies of drafts that nobody needs any more go when they take too much room.
  async::Task<void> watch();

  async::Task<Result<std::vector<DraftInfo>>> list(session::User user);
  /// The ids of all who have packages.
  async::Task<Result<std::set<std::string>>> owners();
  /// not_found for a package of which there is neither a file nor a version.
  async::Task<Result<DraftInfo>> info(session::User user, std::string package);
  async::Task<Result<std::string>> read(session::User user, std::string package, std::string path);
  /// On the disk when this returns ok. bad_request, too_large, quota.
  async::Task<Result<void>> write(session::User user, std::string package, std::string path, std::string bytes);
  async::Task<Result<void>> remove(session::User user, std::string package, std::string path);

  /// The draft as a package, good or with its problem.
  async::Task<Result<Package>> check(session::User user, std::string package);
  /// A function of the draft. broken with the problem.
  async::Task<Result<FunctionPtr>> try_function(session::User user, std::string package, std::string callable);
  /// A new version of the draft. broken; conflict when others know a package of that name; forbidden.
  async::Task<Result<Published>> publish(session::User user, std::string package, std::string audience);
  /// The draft's files become those of a version. not_found for one that is not there any more.
  async::Task<Result<void>> restore(session::User user, std::string package, std::int64_t number);
  /// No version can be called any more. not_found if there is none.
  async::Task<Result<void>> withdraw(session::User user, std::string package);
  /// What was published for the group is no longer: another one of that name is not meant. Its author keeps what was for nobody else.
  async::Task<Result<void>> forget_group(std::string group);
  /// What `from` published and drafted becomes another's, but for packages whose names that one has already: they are kept as they are.
  async::Task<Result<void>> pass_on(std::string from, std::string to, std::string to_name) { return pass_on(std::move(from), std::move(to), std::move(to_name), ""); }
  /// One package. not_found; conflict where the heir has one of that name.
  async::Task<Result<void>> pass_on(session::User from, session::User to, std::string package);
  /// A function of a published version of the package that `current` is the newest version of.
  async::Task<Result<FunctionPtr>> version(accounts::Identity who, Published current, std::string callable, std::int64_t number);

 private:
  async::Task<Result<void>> pass_on(std::string from, std::string to, std::string to_name, std::string only);
  [[nodiscard]] std::string place(const session::User& user) const { return directory_ + "/" + user.id; }
  async::Task<Result<Files>> files(session::User user, std::string package);
  [[nodiscard]] Published published(const Package& read, const store::PackageVersion& version) const;

  async::Pool& pool_;
  async::Pool& database_pool_;
  store::Database& database_;
  Functions& functions_;
  std::multiset<std::string> publishing_;  // names that are about to be others' to see
  std::string directory_;
};

/// Whether `who` may publish for so many.
[[nodiscard]] bool may_publish(const accounts::Identity& who, Visibility visibility, const std::vector<std::string>& groups);

}  // namespace myelin::function
