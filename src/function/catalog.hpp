#pragma once
// Which functions there are: those of the operator's folder, which is watched, of users' packages, and the server's own. Belongs to the
// loop's thread.

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "function/function.hpp"
#include "function/reader.hpp"

namespace myelin::function {

using FunctionPtr = std::shared_ptr<const Function>;

/// A package as it is published, good or broken.
struct Published {
  std::string name, owner, owner_name, version, hash, description;
  Visibility visibility = Visibility::all;
  std::vector<std::string> groups;
  std::optional<Problem> problem;
  std::vector<FunctionPtr> functions;      // none while it is broken
  std::vector<std::string> former_names;   // of the functions that it had when it was good
};

class Catalog {
 public:
  Catalog(async::Loop& loop, async::Pool& pool, Reader& reader, std::filesystem::path folder);

  /// A function of the server's own; it hides nothing and is hidden by nothing but an own package. bad_request for a broken declaration.
  [[nodiscard]] Result<void> add(Native native);
  /// All published packages were put. find() waits for it, at most 30 s.
  void complete();
  [[nodiscard]] async::Task<void> completed();
  /// Publishes or replaces a user's package, or withdraws it.
  void put(Published package);
  void pass_on(const std::string& from, const std::string& to, const std::string& to_name, const std::vector<std::string>& names);
  /// Nothing is published for the group of that name any more.
  void forget_group(const std::string& group);
  void withdraw(const std::string& owner, const std::string& name);
  /// Whether a package of that name is published for others than its owner, by someone else than `owner`.
  [[nodiscard]] bool is_taken(const std::string& name, const std::string& owner) const;

  /// Looks at the folder now.
  static async::Task<void> refresh(std::shared_ptr<Catalog> self);

  /// By "package.name", or by the name alone where it is unique among what `who` may see. not_found; conflict with the candidates; broken
  /// with {"text","file","line"} as detail. Looks at the package's files first.
  static async::Task<Result<FunctionPtr>> find(std::shared_ptr<Catalog> self, accounts::Identity who, std::string name);
  /// The newest version of a package that `who` may see; null if there is none.
  [[nodiscard]] const Published* package(const accounts::Identity& who, const std::string& name) const;
  /// All that `who` may call, by id.
  [[nodiscard]] std::vector<FunctionPtr> list(const accounts::Identity& who) const;
  /// Directories below `shown` that calls may need now.
  [[nodiscard]] std::set<std::string> in_use() const;
  /// What is broken, among the packages that `who` may see.
  [[nodiscard]] std::vector<const Published*> broken(const accounts::Identity& who) const;

 private:
  struct InFolder {
    std::string fingerprint;
    Published package;
    std::chrono::steady_clock::time_point again{};  // when a package that this server could not read is tried once more
  };
  static async::Task<void> load(std::shared_ptr<Catalog> self, std::string name, std::string fingerprint);
  [[nodiscard]] std::vector<const Published*> seen_by(const accounts::Identity& who) const;

  async::Pool& pool_;
  Reader& reader_;
  std::filesystem::path folder_;
  std::map<std::string, InFolder> in_folder_;
  std::map<std::string, Published> natives_;
  std::map<std::pair<std::string, std::string>, Published> of_users_;  // owner, name
  std::set<std::string> loading_;
  async::Event loaded_;
  bool refreshing_ = false;
  async::Event complete_;
};

[[nodiscard]] bool may_see(const accounts::Identity& who, const Published& package);

}  // namespace myelin::function
