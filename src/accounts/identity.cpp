#include "accounts/identity.hpp"

#include <algorithm>
#include <array>

namespace myelin::accounts {
namespace {

constexpr std::array<std::string_view, 3> actions = {"view", "use", "edit"};
constexpr std::array<std::string_view, 9> kinds = {"session", "run", "function", "file", "token", "user", "group", "audit", "server"};

std::size_t rank(std::string_view action) {
  return static_cast<std::size_t>(std::find(actions.begin(), actions.end(), action) - actions.begin());
}

bool covered(const Grants& grants, std::string_view action, std::string_view kind, std::string_view object) {
  return std::any_of(grants.begin(), grants.end(), [&](const Grant& grant) { return grant.covers(action, kind, object); });
}

}  // namespace

std::string_view name_of(Role role) {
  switch (role) {
    case Role::anonymous: return "anonymous";
    case Role::guest: return "guest";
    case Role::member: return "member";
    case Role::admin: return "admin";
  }
  return "anonymous";
}

std::optional<Role> role_of(std::string_view name) {
  for (Role role : {Role::guest, Role::member, Role::admin})
    if (name == name_of(role)) return role;
  return std::nullopt;
}

std::string Grant::text() const { return action + ":" + kind + ":" + object; }

Result<Grant> Grant::parse(std::string_view text) {
  auto first = text.find(':');
  auto second = first == std::string_view::npos ? first : text.find(':', first + 1);
  Grant grant{std::string(text.substr(0, first)), first == std::string_view::npos ? "" : std::string(text.substr(first + 1, second - first - 1)),
              second == std::string_view::npos ? "*" : std::string(text.substr(second + 1))};
  bool known = rank(grant.action) < actions.size() &&
               (grant.kind == "*" || std::find(kinds.begin(), kinds.end(), grant.kind) != kinds.end());
  if (!known || grant.object.empty() || grant.object.size() > 256 || (grant.kind == "*" && grant.object != "*"))
    return Error{Code::bad_request,
                 "a grant is ACTION:KIND:ID, as \"view:session:s_12\" or \"use:function:*\"; actions: view, use, edit; kinds: session, run, "
                 "function, file, token, user, group, audit, server, or *",
                 ""};
  return grant;
}

bool Grant::covers(std::string_view wanted, std::string_view of_kind, std::string_view of_object) const {
  return rank(action) < actions.size() && rank(action) >= rank(wanted) && (kind == "*" || kind == of_kind) &&
         (object == "*" || object == of_object);
}

Identity operator_identity() {
  Identity identity;
  identity.user_id = identity.name = "operator";
  identity.is_operator = true;
  identity.role = Role::admin;
  return identity;
}

Identity local_identity() {
  Identity identity;
  identity.user_id = identity.name = "local";
  return identity;
}

Identity anonymous_identity() {
  Identity identity;
  identity.user_id = identity.name = "anonymous";
  identity.role = Role::anonymous;
  return identity;
}

bool within_scopes(const Identity& who, std::string_view action, std::string_view kind, std::string_view object) {
  return !who.scopes || covered(*who.scopes, action, kind, object);
}

bool allows(const Identity& who, std::string_view action, std::string_view kind, std::string_view object, std::string_view owner) {
  if (who.must_change) return false;
  if (!within_scopes(who, action, kind, object)) return false;
  if (who.is_operator || who.role == Role::admin) return true;
  if (who.role == Role::member && !owner.empty() && owner == who.user_id) return true;
  return who.grants && covered(*who.grants, action, kind, object);
}

}  // namespace myelin::accounts
