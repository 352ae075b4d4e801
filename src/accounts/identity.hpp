#pragma once
// Who a request is from, and what they may do. Plain values.
//
// A grant is (action, kind, object or "*"). Actions are ranked: edit includes use, use includes view. An owner may do all with what is
// theirs, an admin all with everything, everybody else what was granted to them or to a group of theirs. The scopes of a token are
// grants too: what it may do at most.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace myelin::accounts {

enum class Role {
  anonymous,  // nobody signed in: public functions only
  guest,      // what was granted
  member,     // own sessions, runs, functions, files; and what was granted
  admin,      // everything
};
[[nodiscard]] std::string_view name_of(Role role);
[[nodiscard]] std::optional<Role> role_of(std::string_view name);

struct Grant {
  std::string action;  // view, use, edit
  std::string kind;    // session, run, function, file, token, user, group, audit, server, or "*"
  std::string object;  // an id, or "*"
  bool operator==(const Grant&) const = default;
  /// "use:session:*"
  [[nodiscard]] std::string text() const;
  /// Of "action:kind:object" ("action:kind" is for all). Errors: bad_request that names the actions and kinds.
  static Result<Grant> parse(std::string_view text);
  [[nodiscard]] bool covers(std::string_view action, std::string_view kind, std::string_view object) const;
};
using Grants = std::vector<Grant>;

struct Identity {
  std::string user_id;  // "u_…", or "operator", "local", "anonymous"
  std::string name;
  bool is_operator = false;  // sees and ends everybody's sessions: the server's own token, and admins
  Role role = Role::member;
  bool must_change = false;  // the password, before all else
  std::string client;        // what it calls from, by the name of the token or sign-in: a user's kernel is one a client
  std::string credential;    // the id of the token, for the audit log and for sockets that end with it; may be empty
  std::string family;        // of the sign-in
  bool by_cookie = false;    // a browser's: only with the right Origin
  std::optional<Grants> scopes;          // nothing: no bounds
  std::shared_ptr<const Grants> grants;  // theirs and their groups'; may be null
  std::shared_ptr<const std::vector<std::string>> groups;  // names of those that they are in; may be null
};

/// The holder of the server's own token.
[[nodiscard]] Identity operator_identity();
/// Everybody, where auth = "none": one user, not an operator over others, for there are none.
[[nodiscard]] Identity local_identity();
/// Nobody in particular.
[[nodiscard]] Identity anonymous_identity();

/// What a token may do at most; true where it has no bounds.
[[nodiscard]] bool within_scopes(const Identity& who, std::string_view action, std::string_view kind, std::string_view object);
/// May `who` do this with this object, which belongs to `owner` (a user id; "" for nobody's)? The one place where it is decided.
[[nodiscard]] bool allows(const Identity& who, std::string_view action, std::string_view kind, std::string_view object,
                          std::string_view owner);

}  // namespace myelin::accounts
