#pragma once
// A copy in memory of all that decides who a request is from, so that a request touches no disk. refresh() costs a few system calls
// unless another connection, of this or another process, committed a change: then it reads what is new, so that a revoked token is
// refused at the very next request. Belongs to the loop's thread, with a connection of its own. If the database can't be read for 5 s
// users are refused (the operator is not): a revoked token must not live on. (A network to PostgreSQL that swallows packets without a word
// is noticed by TCP's keepalive, after 25 s.)

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "accounts/identity.hpp"
#include "accounts/jwt.hpp"
#include "store/account_records.hpp"

namespace myelin::accounts {

/// A use that is not on disk yet.
struct Use {
  std::string token_id;
  store::Time when;
};

/// What must stop at once: all of a user, what one credential (a token's id) opened, or what a user's rights of a moment ago opened, who has
/// fewer or others now.
struct Ended {
  enum class What { user, credential, rights } what;
  std::string id;
};

class Snapshot {
 public:
  /// `database` outlives this object. `secret` signs the tokens of sign-ins.
  Snapshot(store::Database& database, Secret secret);

  /// Kept as a hash only. An empty token is no token.
  void set_operator_token(std::string_view token);
  /// Whose token this is: the operator's, an API token, or the access token of a sign-in; nullopt for unknown, revoked, expired,
  /// wrong and empty ones, and those of inactive users.
  [[nodiscard]] std::optional<Identity> identify(std::string_view token);
  [[nodiscard]] std::optional<Identity> identify_cookie(std::string_view secret);

  /// Reads what changed. Errors are logged once, and remembered (see above).
  void refresh();

  [[nodiscard]] const store::UserRecord* user(std::string_view id) const;
  [[nodiscard]] const store::UserRecord* user_by_number(std::int64_t number) const;
  [[nodiscard]] const store::IssuedRecord* issued(std::string_view jti) const;
  [[nodiscard]] const std::vector<store::GroupRecord>& groups() const { return groups_; }
  [[nodiscard]] std::vector<std::string> groups_of(std::string_view user_id) const;  // their names
  [[nodiscard]] Grants grants_of(std::string_view user_id) const;                    // with those of their groups
  [[nodiscard]] Identity identity_of(const store::UserRecord& user) const;
  [[nodiscard]] const Secret& secret() const { return secret_; }

  /// It could not be read when that was last tried: what was changed since is unknown here.
  [[nodiscard]] bool failing() const { return failing_; }
  /// Users are refused because the database can't be read: what is unknown now may be known in a moment.
  [[nodiscard]] bool blind() const { return failing_ && loading_anew_; }

  /// What ended since the last call.
  [[nodiscard]] std::vector<Ended> take_ended();
  /// Uses since the last call, at most one a token.
  [[nodiscard]] std::vector<Use> take_uses();
  /// Ends what was opened with a credential that expired in (from, until]: API tokens, cookies and tokens with bounds. Access tokens of a
  /// sign-in are renewed; what they opened ends with it.
  void end_expired(store::Time from, store::Time until);
  /// Drops tokens that expired before `now`.
  void forget_expired(store::Time now);

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  template <class T>
  using Map = std::unordered_map<std::string, T, Hash, std::equal_to<>>;

  Result<void> load();
  Result<void> load_grants();
  void forget_all_but(const std::unordered_set<std::string>& met);
  std::optional<Identity> identity_for(std::string_view user_id, const std::optional<std::string>& scopes) const;

  store::Database& database_;
  Secret secret_;
  std::optional<std::string> operator_hash_;
  Map<store::UserRecord> users_;  // by id; not the deleted
  std::unordered_map<std::int64_t, std::string> numbers_;
  Map<store::ApiTokenRecord> tokens_;  // by hash; not the revoked
  Map<std::string> token_hashes_;      // by id
  Map<store::IssuedRecord> issued_;    // by jti; the revoked ones too, until they expire
  std::vector<store::GroupRecord> groups_;
  Map<std::shared_ptr<const Grants>> grants_;  // by user
  Map<std::shared_ptr<const std::vector<std::string>>> group_names_;  // by user
  std::vector<Ended> ended_;
  std::unordered_map<std::string, store::Time> uses_;
  std::optional<std::int64_t> seen_version_;  // of the database as a whole
  store::Changes seen_;
  bool loading_anew_ = true;
  std::chrono::steady_clock::time_point last_good_;
  bool failing_ = false;
};

}  // namespace myelin::accounts
