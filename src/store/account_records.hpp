#pragma once
// The rows behind accounts: users, groups, grants, API tokens, issued tokens, known addresses, resets, the audit log. Knows no rules
// (accounts/ has them). Each change of what decides who may do what counts `changes` up in its own transaction, and marks its rows
// with the new number: whoever holds a copy reads what is newer than what it has. Rows that a copy must lose are marked, not
// deleted (deleted_ms, revoked_ms), until `purge`. Calls block and commit to disk; one thread at a time, as the Database they share.

#include <functional>
#include <map>
#include <vector>

#include "store/database.hpp"

namespace myelin::store {

struct UserRecord {
  std::int64_t number = 0;  // counts from 1; never given twice
  std::string id;           // "u_…"
  std::string username;     // unique among those not deleted
  std::optional<std::string> email;
  std::string role = "member";
  bool active = true;
  std::string password;     // a hash in its text form; "" for none
  bool must_change = false;
  Time created;
  std::optional<Time> last_sign_in, deleted;
  std::string issuer, subject;  // of an OpenID provider, or empty
};

struct GroupRecord {
  std::string id, name;
  std::vector<std::string> members;  // user ids
};

struct GrantRecord {
  std::string id;
  std::string holder;  // a user's or a group's id
  std::string action, kind, object;
  std::string granted_by;
  Time created;
};

/// A long-lived token.
struct ApiTokenRecord {
  std::string id, user_id, name;
  std::string hash;                   // raw bytes
  std::optional<std::string> scopes;  // JSON list of texts; nothing: all that its user may do
  Time created;
  std::optional<Time> last_used, expires, revoked;
};

/// A token of a sign-in: an access or refresh JWT (`jti` is its id), or a browser's cookie (`jti` is its hash).
struct IssuedRecord {
  std::string jti, family, kind, user_id;
  std::optional<std::string> scopes;
  std::string client;  // what the sign-in came from, for people
  Time created, expires;
  std::optional<Time> used, revoked;  // used: a refresh token that was exchanged
};

struct AuditRecord {
  std::int64_t seq = 0;
  Time when;
  std::string actor, actor_name, address, action, object, detail;
};

struct AuditFilter {
  std::optional<std::string> actor, action, object;  // the actor by id or name
  std::optional<Time> since, until;
  std::optional<std::int64_t> before;  // seq
  std::int64_t limit = 50;
};

struct Changes {
  std::int64_t all = 0;     // any row of users, API tokens, issued tokens
  std::int64_t grants = 0;  // any row of groups, members, grants
  bool operator==(const Changes&) const = default;
};

class AccountRecords {
 public:
  explicit AccountRecords(Database& database) : database_(database) {}

  Result<Changes> changes();
  /// Runs `body` in one transaction that counts `changes` up; `version` is for the rows that it marks.
  Result<void> change(const std::function<Result<void>(std::int64_t version)>& body);
  /// As change(), for groups, members and grants.
  Result<void> change_grants(const std::function<Result<void>()>& body);

  // Inside change(): the rows are marked with `version`.
  /// Gives the record its number, unless it has one that no user ever had. conflict: the username, email or number is taken.
  Result<void> add_user(UserRecord& user, std::int64_t version);
  /// Writes all of the record but number, id and created.
  Result<void> set_user(const UserRecord& user, std::int64_t version);
  Result<void> add_token(const ApiTokenRecord& token, std::int64_t version);
  Result<std::int64_t> revoke_token(std::string_view id, Time when, std::int64_t version);
  Result<void> revoke_tokens_of(std::string_view user_id, Time when, std::int64_t version);
  Result<void> add_issued(const IssuedRecord& issued, std::int64_t version);
  /// False when it was used already, or revoked.
  Result<bool> use_issued(std::string_view jti, Time when, std::int64_t version);
  Result<bool> is_issued(std::string_view jti);  // and not revoked
  Result<std::int64_t> revoke_issued(std::string_view jti, Time when, std::int64_t version);
  Result<void> revoke_family(std::string_view family, Time when, std::int64_t version);
  /// All but `except` (a family, or "").
  Result<void> revoke_families_of(std::string_view user_id, std::string_view except, Time when, std::int64_t version);

  Result<std::optional<UserRecord>> user_by_id(std::string_view id);
  Result<std::optional<UserRecord>> user_by_name(std::string_view username);
  Result<std::optional<UserRecord>> user_by_email(std::string_view email);
  Result<std::optional<UserRecord>> user_by_number(std::int64_t number);
  Result<std::optional<UserRecord>> user_by_subject(std::string_view issuer, std::string_view subject);
  /// Id and name of the user of that id or name, also of one that was deleted: of the last of that name then.
  Result<std::optional<std::pair<std::string, std::string>>> known_by(std::string_view id_or_name);
  /// Those not deleted, by number.
  Result<std::vector<UserRecord>> users(std::int64_t offset, std::int64_t limit, std::string_view containing = "");
  Result<std::int64_t> count_users(std::string_view containing = "");
  Result<bool> was_number(std::int64_t number);  // of a user, or of one that was deleted
  Result<std::int64_t> count_admins();  // active ones
  Result<void> signed_in(std::string_view user_id, Time when);

  // What is newer than `version`, for copies.
  Result<void> users_since(std::int64_t version, const std::function<void(UserRecord)>& each);
  Result<void> tokens_since(std::int64_t version, const std::function<void(ApiTokenRecord)>& each);
  Result<void> issued_since(std::int64_t version, const std::function<void(IssuedRecord)>& each);
  Result<std::vector<ApiTokenRecord>> tokens_of(std::string_view user_id);  // "": of all; not the revoked ones
  Result<void> token_used(std::string_view id, Time when);

  // Inside change_grants().
  Result<void> add_group(const GroupRecord& group);
  Result<std::int64_t> remove_group(std::string_view id);
  Result<void> add_member(std::string_view group, std::string_view user);
  Result<std::int64_t> remove_member(std::string_view group, std::string_view user);
  Result<void> add_grant(const GrantRecord& grant);
  Result<std::int64_t> remove_grant(std::string_view id);
  Result<void> remove_grants_of(std::string_view holder);

  Result<std::vector<GroupRecord>> groups();
  Result<std::vector<GrantRecord>> grants();

  // Addresses from which a user has signed in; the newest `keep` of each user.
  Result<void> saw_address(std::string_view user_id, std::string_view address, Time when, std::int64_t keep);
  Result<bool> knows_address(std::string_view user_id, std::string_view address, Time since);

  // One-time links to set a password; `hash` is of their secret.
  Result<void> add_reset(std::string_view hash, std::string_view user_id, Time expires);
  /// The user of the reset.
  Result<std::optional<std::string>> reset_of(std::string_view hash, Time now);
  Result<void> remove_resets_of(std::string_view user_id);

  Result<void> note(const AuditRecord& entry);
  Result<std::vector<AuditRecord>> audit(const AuditFilter& filter);  // newest first

  /// Forgets issued tokens that expired, resets, and audit entries before `audit_before`.
  Result<void> purge(Time now, Time audit_before);

 private:
  Database& database_;
};

}  // namespace myelin::store
