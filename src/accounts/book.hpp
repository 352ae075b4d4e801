#pragma once
// The rules of accounts on one database connection: what a user may be called, who may be deleted, how tokens are made. Calls block and
// commit to disk: on a pool thread, or in a command of the command line. Every change leaves a line in the audit log.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "accounts/identity.hpp"
#include "store/account_records.hpp"

namespace myelin::accounts {

using store::Time;

/// On whose behalf something is changed, for the audit log.
struct Actor {
  std::string id = "operator", name = "operator", address;
};
[[nodiscard]] Actor actor_of(const Identity& who, std::string_view address);

struct NewUser {
  std::string username;
  std::optional<std::string> email;
  std::string role = "member";
  bool active = true;
  std::string password_hash;  // "" for none: then only tokens, or a reset
  bool must_change = false;
  std::string issuer, subject;
  std::int64_t number = 0;  // wanted, if no user ever had it; 0: the next
};

/// What is given is changed.
struct UserChange {
  std::optional<std::string> username, email, role;  // an empty email: none
  std::optional<bool> active;
  std::optional<std::string> password_hash;
  std::string except_family;                   // the sign-in that a new password does not end
  std::optional<std::string> issuer, subject;  // who vouches for them, together; both empty: nobody
};

/// Whom an OpenID provider vouches for.
struct Person {
  std::string issuer, subject;
  std::string username;             // wanted, where an account is made
  std::optional<std::string> email;
  std::optional<std::string> role;  // of an account that is made; nothing: none is made
  std::optional<std::vector<std::string>> groups;  // names; nothing: the provider says nothing of groups
};

struct NewToken {
  std::string token;  // plain; never seen again
  std::string id, user_id;
};

/// 48 hex digits from the system's random source.
[[nodiscard]] std::string make_secret();
/// What is kept of a secret of 192 random bits: BLAKE2b-256, raw bytes; a plain fast hash is enough for those.
[[nodiscard]] std::string hash_secret(std::string_view secret);
/// The jti of a cookie with this secret.
[[nodiscard]] std::string cookie_id(std::string_view secret);
/// 1 to 80 characters, none of them control characters, no space at either end, not "operator", "local" or "anonymous".
[[nodiscard]] Result<void> check_username(std::string_view name);
/// Of a token's or a group's name: 1 to 64 characters, none of them control characters.
[[nodiscard]] Result<void> check_label(std::string_view name);
/// A label without commas, which stand between groups where several are named.
[[nodiscard]] Result<void> check_group_name(std::string_view name);

class Book {
 public:
  explicit Book(store::Database& database) : records_(database), database_(database) {}

  // Errors of all: not_found, conflict (taken; the last admin), bad_request.
  Result<store::UserRecord> add_user(const Actor& actor, const NewUser& user);
  Result<store::UserRecord> change_user(const Actor& actor, std::string_view id, const UserChange& change);
  /// A new password, which ends all sign-ins but `except`, and all resets. `must_change`: at the next sign-in.
  Result<void> set_password(const Actor& actor, std::string_view id, std::string_view hash, bool must_change, std::string_view except_family);
  /// The same password in a better form, unless it is no longer `old`.
  Result<void> upgrade_hash(std::string_view id, std::string_view old, std::string_view hash);
  /// By a provider's word the user signs in from now on; an empty subject ends that. conflict: that person has another account.
  Result<store::UserRecord> link_user(const Actor& actor, std::string_view id, std::string_view issuer, std::string_view subject);
  /// The account of this issuer and subject, never one of the same name or email. It is made if the person has none, and put into
  /// those groups there are of the names given, and out of all others. Errors: not_found (none is made), conflict (somebody else has
  /// the name), bad_request (no name that can be had), forbidden (inactive).
  Result<store::UserRecord> recognise(const Person& person, std::string_view address);
  /// The user is gone, with tokens, sign-ins and grants; what they own is not touched here.
  Result<store::UserRecord> remove_user(const Actor& actor, std::string_view id);
  /// The secret of a link by which a password can be set once, within a day.
  Result<std::string> make_reset(const Actor& actor, std::string_view id);
  Result<store::UserRecord> user_of_reset(std::string_view secret);  // unauthorized: unknown, used or expired
  Result<void> take_reset(std::string_view secret, std::string_view hash, std::string_view address);

  Result<NewToken> add_token(const Actor& actor, std::string_view user_id, std::string_view name, std::optional<Grants> scopes,
                             std::optional<std::chrono::seconds> lifetime);
  /// For a user of that name, who is made (a member without a password) if there is none.
  Result<NewToken> add_token_for(const Actor& actor, std::string_view username, std::string_view name);
  /// By id, or by name.
  Result<void> revoke_token(const Actor& actor, std::string_view user_id, std::string_view id_or_name);
  Result<void> revoke_tokens_of_name(const Actor& actor, std::string_view username);

  Result<store::GroupRecord> add_group(const Actor& actor, std::string_view name);
  Result<void> remove_group(const Actor& actor, std::string_view id);
  Result<void> set_member(const Actor& actor, std::string_view group, std::string_view user, bool member);
  /// `holder`: the id of a user or a group.
  Result<store::GrantRecord> add_grant(const Actor& actor, std::string_view holder, const Grant& grant);
  Result<void> remove_grant(const Actor& actor, std::string_view id);

  Result<void> note(const Actor& actor, std::string_view action, std::string_view object, std::string_view detail = "");
  /// At the first start, when there is no admin: one named `admin` (`administrator` if a user has that name), who must change this
  /// password unless it was `chosen`. The name, if one was made.
  Result<std::optional<std::string>> make_admin(std::string_view password_hash, bool chosen);

  [[nodiscard]] store::AccountRecords& records() { return records_; }

 private:
  Result<store::UserRecord> need_user(std::string_view id);
  // Within a change.
  Result<void> set_password(const Actor& actor, store::UserRecord user, std::string_view hash, bool must_change, std::string_view except_family, std::int64_t version);
  Result<void> link(const Actor& actor, store::UserRecord& user, std::string_view issuer, std::string_view subject);
  Result<void> need_other_admin();
  Result<void> set_groups(const Actor& actor, const store::UserRecord& user, const std::vector<std::string>& names);

  store::AccountRecords records_;
  store::Database& database_;
};

/// The scopes of a token as kept: JSON list of texts.
[[nodiscard]] std::optional<std::string> scopes_text(const std::optional<Grants>& scopes);
[[nodiscard]] std::optional<Grants> scopes_of(const std::optional<std::string>& text);

}  // namespace myelin::accounts
