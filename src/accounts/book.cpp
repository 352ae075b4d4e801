#include "accounts/book.hpp"

#include <sodium.h>

#include <algorithm>

#include "accounts/passwords.hpp"
#include "base/ids.hpp"
#include "codec/json_value.hpp"

namespace myelin::accounts {
namespace {

constexpr auto reset_lifetime = std::chrono::hours(24);

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

bool plain(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

Error no_user() { return {Code::not_found, "there is no such user", ""}; }

}  // namespace

Actor actor_of(const Identity& who, std::string_view address) { return {who.user_id, who.name, std::string(address)}; }

std::string make_secret() { return random_hex(24); }

std::string hash_secret(std::string_view secret) {
  std::string hash(32, '\0');
  crypto_generichash(reinterpret_cast<unsigned char*>(hash.data()), hash.size(), reinterpret_cast<const unsigned char*>(secret.data()),
                     secret.size(), nullptr, 0);
  return hash;
}

std::string cookie_id(std::string_view secret) {
  const std::string hash = hash_secret(secret);
  std::string hex(2 * hash.size() + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), reinterpret_cast<const unsigned char*>(hash.data()), hash.size());
  hex.pop_back();
  return hex;
}

Result<void> check_username(std::string_view name) {
  if (name.empty() || characters(name) > 80 || !plain(name) || name.front() == ' ' || name.back() == ' ')
    return Error{Code::bad_request, "a username has 1 to 80 characters, no control characters, and no space at its ends", ""};
  if (name == "operator" || name == "local" || name == "anonymous")
    return Error{Code::bad_request, "\"" + std::string(name) + "\" is not to be had as a username: the server calls itself so", ""};
  return {};
}

Result<void> check_label(std::string_view name) {
  if (name.empty() || characters(name) > 64 || !plain(name))
    return Error{Code::bad_request, "a name has 1 to 64 characters, none of them control characters", ""};
  return {};
}

Result<void> check_group_name(std::string_view name) {
  if (auto fits = check_label(name); !fits) return fits;
  if (name.find(',') != std::string_view::npos) return Error{Code::bad_request, "a group's name has no comma: several groups are listed with commas", ""};
  return {};
}

std::optional<std::string> scopes_text(const std::optional<Grants>& scopes) {
  if (!scopes) return std::nullopt;
  std::string text = "[";
  for (const auto& scope : *scopes) {
    if (text.size() > 1) text += ",";
    codec::append_quoted(text, scope.text());
  }
  return text + "]";
}

std::optional<Grants> scopes_of(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  Grants scopes;
  auto wrapped = codec::Json::parse("{\"scopes\":" + *text + "}");
  if (wrapped)
    for (const auto& one : wrapped->get_strings("scopes").value_or(std::vector<std::string>{}))
      if (auto grant = Grant::parse(one)) scopes.push_back(std::move(*grant));
  return scopes;  // what can't be read allows nothing
}

Result<store::UserRecord> Book::need_user(std::string_view id) {
  auto found = records_.user_by_id(id);
  if (!found) return found.take_error();
  if (!*found) return no_user();
  return std::move(**found);
}

Result<void> Book::need_other_admin() {
  auto admins = records_.count_admins();
  if (!admins) return admins.take_error();
  if (*admins < 2) return Error{Code::conflict, "this is the last admin: make another one first", ""};
  return {};
}

Result<store::UserRecord> Book::add_user(const Actor& actor, const NewUser& wanted) {
  if (auto fits = check_username(wanted.username); !fits) return fits.take_error();
  if (wanted.email && (characters(*wanted.email) > 80 || !plain(*wanted.email)))
    return Error{Code::bad_request, "an email has at most 80 characters, none of them control characters", ""};
  if (!role_of(wanted.role)) return Error{Code::bad_request, "a role is guest, member or admin", ""};
  store::UserRecord user;
  user.id = make_id("u_");
  user.username = wanted.username;
  if (wanted.email && !wanted.email->empty()) user.email = wanted.email;
  user.role = wanted.role;
  user.active = wanted.active;
  user.password = wanted.password_hash;
  user.must_change = wanted.must_change;
  user.issuer = wanted.issuer;
  user.subject = wanted.subject;
  user.created = store::now();
  auto done = records_.change([&](std::int64_t version) -> Result<void> {
    auto same_name = records_.user_by_name(user.username);
    if (!same_name) return same_name.take_error();
    if (*same_name) return Error{Code::conflict, "there is a user named \"" + user.username + "\" already", "username"};
    if (user.email) {
      auto same_email = records_.user_by_email(*user.email);
      if (!same_email) return same_email.take_error();
      if (*same_email) return Error{Code::conflict, "another user has this email", "email"};
    }
    if (wanted.number > 0) {
      auto taken = records_.was_number(wanted.number);
      if (!taken) return taken.take_error();
      user.number = *taken ? 0 : wanted.number;
    }
    if (auto added = records_.add_user(user, version); !added) return added;
    return note(actor, "user.add", user.id, user.username + " as " + user.role);
  });
  if (!done) return done.take_error();
  return user;
}

Result<store::UserRecord> Book::change_user(const Actor& actor, std::string_view id, const UserChange& change) {
  if (change.username)
    if (auto fits = check_username(*change.username); !fits) return fits.take_error();
  if (change.email && (characters(*change.email) > 80 || !plain(*change.email)))
    return Error{Code::bad_request, "an email has at most 80 characters, none of them control characters", ""};
  if (change.role && !role_of(*change.role)) return Error{Code::bad_request, "a role is guest, member or admin", ""};
  store::UserRecord user;
  auto done = records_.change([&](std::int64_t version) -> Result<void> {
    auto found = need_user(id);
    if (!found) return found.take_error();
    user = std::move(*found);
    std::string said;
    if (change.username && *change.username != user.username) {
      auto same = records_.user_by_name(*change.username);
      if (!same) return same.take_error();
      if (*same) return Error{Code::conflict, "there is a user named \"" + *change.username + "\" already", "username"};
      said += " name " + user.username + " to " + *change.username;
      user.username = *change.username;
    }
    if (change.email) {
      std::optional<std::string> email;
      if (!change.email->empty()) email = change.email;
      if (email && email != user.email) {
        auto same = records_.user_by_email(*email);
        if (!same) return same.take_error();
        if (*same) return Error{Code::conflict, "another user has this email", "email"};
      }
      if (email != user.email) said += " email";
      user.email = std::move(email);
    }
    const bool was_admin = user.role == "admin" && user.active;
    if (change.role && *change.role != user.role) {
      said += " role " + user.role + " to " + *change.role;
      user.role = *change.role;
    }
    if (change.active && *change.active != user.active) {
      said += *change.active ? " active" : " inactive";
      user.active = *change.active;
    }
    if (was_admin && !(user.role == "admin" && user.active))
      if (auto other = need_other_admin(); !other) return other;
    if (change.subject) {
      const std::string issuer = change.issuer.value_or("");
      if (auto linked = link(actor, user, issuer, *change.subject); !linked) return linked;
    }
    if (change.password_hash) {
      said += " password";
      user.password = *change.password_hash;
      user.must_change = false;
      if (auto ended = records_.revoke_families_of(user.id, change.except_family, store::now(), version); !ended) return ended;
    }
    if (change.active && !user.active)
      if (auto ended = records_.revoke_families_of(user.id, "", store::now(), version); !ended) return ended;
    if (change.password_hash || (change.active && !user.active))
      if (auto gone = records_.remove_resets_of(user.id); !gone) return gone;
    if (auto set = records_.set_user(user, version); !set) return set;
    return said.empty() ? Result<void>() : note(actor, "user.change", user.id, user.username + ":" + said);
  });
  if (!done) return done.take_error();
  return user;
}

Result<void> Book::set_password(const Actor& actor, std::string_view id, std::string_view hash, bool must_change, std::string_view except_family) {
  return records_.change([&](std::int64_t version) -> Result<void> {
    auto user = need_user(id);
    if (!user) return user.take_error();
    return set_password(actor, std::move(*user), hash, must_change, except_family, version);
  });
}

Result<void> Book::set_password(const Actor& actor, store::UserRecord user, std::string_view hash, bool must_change, std::string_view except_family,
                                std::int64_t version) {
  user.password = hash;
  user.must_change = must_change;
  if (auto set = records_.set_user(user, version); !set) return set;
  if (auto ended = records_.revoke_families_of(user.id, except_family, store::now(), version); !ended) return ended;
  if (auto gone = records_.remove_resets_of(user.id); !gone) return gone;
  return note(actor, "user.password", user.id, user.username);
}

Result<store::UserRecord> Book::remove_user(const Actor& actor, std::string_view id) {
  store::UserRecord user;
  auto done = records_.change([&](std::int64_t version) -> Result<void> {
    auto found = need_user(id);
    if (!found) return found.take_error();
    user = std::move(*found);
    if (user.role == "admin" && user.active)
      if (auto other = need_other_admin(); !other) return other;
    const Time now = store::now();
    user.deleted = now;
    user.active = false;
    user.password.clear();
    if (auto ended = records_.revoke_tokens_of(id, now, version); !ended) return ended;
    if (auto ended = records_.revoke_families_of(id, "", now, version); !ended) return ended;
    if (auto gone = records_.remove_resets_of(id); !gone) return gone;
    if (auto set = records_.set_user(user, version); !set) return set;
    return note(actor, "user.remove", user.id, user.username);
  });
  if (!done) return done.take_error();
  auto grants = records_.change_grants([&] { return records_.remove_grants_of(id); });
  if (!grants) return grants.take_error();
  return user;
}

Result<store::UserRecord> Book::link_user(const Actor& actor, std::string_view id, std::string_view issuer, std::string_view subject) {
  UserChange change;
  change.issuer = issuer;
  change.subject = subject;
  return change_user(actor, id, change);
}

Result<void> Book::link(const Actor& actor, store::UserRecord& user, std::string_view issuer, std::string_view subject) {
  if (issuer.empty() != subject.empty() || issuer.size() > 1000 || subject.size() > 255 || !plain(issuer) || !plain(subject))
    return Error{Code::bad_request, "a link is an issuer and a subject, as the provider writes them; both empty end it", ""};
  if (user.issuer == issuer && user.subject == subject) return {};
  if (!subject.empty()) {
    auto other = records_.user_by_subject(issuer, subject);
    if (!other) return other.take_error();
    if (*other) return Error{Code::conflict, "\"" + (*other)->username + "\" is linked to this subject already", "subject"};
  }
  user.issuer = issuer;
  user.subject = subject;
  return note(actor, subject.empty() ? "user.unlink" : "user.link", user.id, user.username + (subject.empty() ? "" : ": " + user.subject + " at " + user.issuer));
}

Result<store::UserRecord> Book::recognise(const Person& person, std::string_view address) {
  auto known = records_.user_by_subject(person.issuer, person.subject);
  if (!known) return known.take_error();
  store::UserRecord user;
  const Actor provider{"provider", person.issuer, std::string(address)};
  if (*known) {
    user = std::move(**known);
    if (!user.active) {
      if (auto noted = note({user.id, user.username, std::string(address)}, "sign_in.failed", user.id, "not active"); !noted) return noted.take_error();
      return Error{Code::forbidden, "this account is not active; an admin can activate it", ""};
    }
  } else {
    if (!person.role) {
      auto noted = note(provider, "sign_in.failed", "", "no account; subject " + person.subject);  // by it an admin can link one
      if (!noted) return noted.take_error();
      return Error{Code::not_found, "there is no account for you here: ask an admin for one", ""};
    }
    NewUser fresh;
    fresh.username = person.username;
    fresh.role = *person.role;
    fresh.issuer = person.issuer;
    fresh.subject = person.subject;
    // Somebody else's email says nothing about who this is: then the account has none.
    if (person.email && !person.email->empty() && characters(*person.email) <= 80 && plain(*person.email)) {
      auto other = records_.user_by_email(*person.email);
      if (!other) return other.take_error();
      if (!*other) fresh.email = person.email;
    }
    auto made = add_user(provider, fresh);
    if (!made && made.error().code == Code::conflict) {
      auto noted = note(provider, "sign_in.failed", "", "the name \"" + person.username + "\" is another user's; subject " + person.subject);
      if (!noted) return noted.take_error();
    }
    if (!made) return made.take_error();
    user = std::move(*made);
  }
  if (person.groups)
    if (auto set = set_groups(provider, user, *person.groups); !set) return set.take_error();
  return user;
}

Result<void> Book::set_groups(const Actor& actor, const store::UserRecord& user, const std::vector<std::string>& names) {
  auto groups = records_.groups();
  if (!groups) return groups.take_error();
  for (const auto& group : *groups) {
    const bool wanted = std::find(names.begin(), names.end(), group.name) != names.end();
    const bool is_in = std::find(group.members.begin(), group.members.end(), user.id) != group.members.end();
    if (wanted == is_in) continue;
    if (auto set = set_member(actor, group.id, user.id, wanted); !set && set.error().code != Code::not_found) return set;
  }
  return {};
}

Result<std::string> Book::make_reset(const Actor& actor, std::string_view id) {
  auto user = need_user(id);
  if (!user) return user.take_error();
  auto secret = make_secret();
  auto added = records_.add_reset(hash_secret(secret), id, store::now() + reset_lifetime);
  if (!added) return added.take_error();
  if (auto noted = note(actor, "user.reset", user->id, user->username); !noted) return noted.take_error();
  return secret;
}

Result<store::UserRecord> Book::user_of_reset(std::string_view secret) {
  auto id = records_.reset_of(hash_secret(secret), store::now());
  if (!id) return id.take_error();
  if (!*id) return Error{Code::unauthorized, "this link was used, or is older than a day: ask an admin for another one", ""};
  return need_user(**id);
}

Result<void> Book::take_reset(std::string_view secret, std::string_view hash, std::string_view address) {
  return records_.change([&](std::int64_t version) -> Result<void> {
    auto user = user_of_reset(secret);
    if (!user) return user.take_error();
    const Actor actor{user->id, "reset link", std::string(address)};
    return set_password(actor, std::move(*user), hash, false, "", version);
  });
}

Result<NewToken> Book::add_token(const Actor& actor, std::string_view user_id, std::string_view name, std::optional<Grants> scopes,
                                 std::optional<std::chrono::seconds> lifetime) {
  if (auto fits = check_label(name); !fits) return fits.take_error();
  auto secret = make_secret();
  store::ApiTokenRecord token{make_id("t_"), std::string(user_id), std::string(name), hash_secret(secret), scopes_text(scopes), store::now(),
                              {}, {}, {}};
  if (lifetime) token.expires = token.created + *lifetime;
  auto done = records_.change([&](std::int64_t version) -> Result<void> {
    auto user = need_user(user_id);
    if (!user) return user.take_error();
    auto own = records_.tokens_of(user_id);
    if (!own) return own.take_error();
    for (auto& one : *own) {
      if (one.name != token.name) continue;
      if (one.expires && *one.expires <= token.created) {  // of no use to anybody
        if (auto gone = records_.revoke_token(one.id, token.created, version); !gone) return gone.take_error();
        continue;
      }
      return Error{Code::conflict, "there is a token named \"" + token.name + "\" already; revoke it first to replace it", ""};
    }
    if (own->size() >= 200) return Error{Code::conflict, "there are 200 tokens already: revoke some first", ""};
    if (auto added = records_.add_token(token, version); !added) return added;
    return note(actor, "token.add", token.id, user->username + ": " + token.name);
  });
  if (!done) return done.take_error();
  return NewToken{std::move(secret), token.id, token.user_id};
}

Result<NewToken> Book::add_token_for(const Actor& actor, std::string_view username, std::string_view name) {
  auto user = records_.user_by_name(username);
  if (!user) return user.take_error();
  std::string id;
  if (*user) {
    id = (*user)->id;
  } else {
    NewUser fresh;
    fresh.username = username;
    auto made = add_user(actor, fresh);
    if (!made) return made.take_error();
    id = made->id;
  }
  return add_token(actor, id, name, std::nullopt, std::nullopt);
}

Result<void> Book::revoke_token(const Actor& actor, std::string_view user_id, std::string_view id_or_name) {
  return records_.change([&](std::int64_t version) -> Result<void> {
    auto own = records_.tokens_of(user_id);
    if (!own) return own.take_error();
    for (auto& one : *own) {
      if (one.id != id_or_name && one.name != id_or_name) continue;
      auto gone = records_.revoke_token(one.id, store::now(), version);
      if (!gone) return gone.take_error();
      return note(actor, "token.revoke", one.id, one.name);
    }
    return Error{Code::not_found, "there is no valid token named \"" + std::string(id_or_name) + "\"", ""};
  });
}

Result<void> Book::revoke_tokens_of_name(const Actor& actor, std::string_view username) {
  auto user = records_.user_by_name(username);
  if (!user) return user.take_error();
  auto own = *user ? records_.tokens_of((*user)->id) : Result<std::vector<store::ApiTokenRecord>>(std::vector<store::ApiTokenRecord>{});
  if (!own) return own.take_error();
  if (own->empty()) return Error{Code::not_found, "\"" + std::string(username) + "\" has no valid token", ""};
  return records_.change([&](std::int64_t version) -> Result<void> {
    if (auto gone = records_.revoke_tokens_of((*user)->id, store::now(), version); !gone) return gone;
    return note(actor, "token.revoke", (*user)->id, "all of " + std::string(username));
  });
}

Result<store::GroupRecord> Book::add_group(const Actor& actor, std::string_view name) {
  if (auto fits = check_group_name(name); !fits) return fits.take_error();
  store::GroupRecord group{make_id("g_"), std::string(name), {}};
  auto done = records_.change_grants([&]() -> Result<void> {
    if (auto added = records_.add_group(group); !added) {
      if (added.error().code == Code::conflict) return Error{Code::conflict, "there is a group named \"" + group.name + "\" already", ""};
      return added;
    }
    return note(actor, "group.add", group.id, group.name);
  });
  if (!done) return done.take_error();
  return group;
}

Result<void> Book::remove_group(const Actor& actor, std::string_view id) {
  return records_.change_grants([&]() -> Result<void> {
    auto gone = records_.remove_group(id);
    if (!gone) return gone.take_error();
    if (*gone == 0) return Error{Code::not_found, "there is no such group", ""};
    return note(actor, "group.remove", id);
  });
}

Result<void> Book::set_member(const Actor& actor, std::string_view group, std::string_view user, bool member) {
  return records_.change_grants([&]() -> Result<void> {
    if (auto known = need_user(user); !known) return known.take_error();
    if (member) {
      if (auto added = records_.add_member(group, user); !added) return added;
    } else {
      auto gone = records_.remove_member(group, user);
      if (!gone) return gone.take_error();
      if (*gone == 0) return Error{Code::not_found, "this user is not in the group", ""};
    }
    return note(actor, member ? "group.member.add" : "group.member.remove", group, user);
  });
}

Result<store::GrantRecord> Book::add_grant(const Actor& actor, std::string_view holder, const Grant& grant) {
  store::GrantRecord record{make_id("gr_"), std::string(holder), grant.action, grant.kind, grant.object, actor.id, store::now()};
  auto done = records_.change_grants([&]() -> Result<void> {
    auto user = records_.user_by_id(holder);
    if (!user) return user.take_error();
    if (!*user) {
      auto groups = records_.groups();
      if (!groups) return groups.take_error();
      bool known = std::any_of(groups->begin(), groups->end(), [&](const auto& group) { return group.id == holder; });
      if (!known) return Error{Code::not_found, "there is no user and no group with the id \"" + std::string(holder) + "\"", ""};
    }
    if (auto added = records_.add_grant(record); !added) {
      if (added.error().code == Code::conflict) return Error{Code::conflict, "this was granted already", ""};
      return added;
    }
    return note(actor, "grant.add", record.holder, grant.text());
  });
  if (!done) return done.take_error();
  return record;
}

Result<void> Book::remove_grant(const Actor& actor, std::string_view id) {
  return records_.change_grants([&]() -> Result<void> {
    auto gone = records_.remove_grant(id);
    if (!gone) return gone.take_error();
    if (*gone == 0) return Error{Code::not_found, "there is no such grant", ""};
    return note(actor, "grant.remove", id);
  });
}

Result<void> Book::upgrade_hash(std::string_view id, std::string_view old, std::string_view hash) {
  return records_.change([&](std::int64_t version) -> Result<void> {
    auto user = need_user(id);
    if (!user) return user.take_error();
    if (user->password != old) return {};
    user->password = hash;
    return records_.set_user(*user, version);
  });
}

Result<void> Book::note(const Actor& actor, std::string_view action, std::string_view object, std::string_view detail) {
  return records_.note({0, store::now(), actor.id, actor.name, actor.address, std::string(action), std::string(object), std::string(detail.substr(0, 500))});
}

Result<std::optional<std::string>> Book::make_admin(std::string_view password_hash, bool chosen) {
  auto admins = records_.count_admins();
  if (!admins) return admins.take_error();
  if (*admins > 0) return std::optional<std::string>();
  NewUser admin;
  admin.username = "admin";
  admin.role = "admin";
  admin.password_hash = password_hash;
  admin.must_change = !chosen;
  Actor self{"operator", "first start", ""};
  auto known = records_.user_by_name("admin");
  if (!known) return known.take_error();
  if (*known) admin.username = "administrator";  // somebody's token is named so: it must not become an admin's
  auto made = add_user(self, admin);
  if (!made) return made.take_error();
  return std::optional(made->username);
}

}  // namespace myelin::accounts
