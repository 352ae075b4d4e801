#include "accounts/snapshot.hpp"

#include <sodium.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "accounts/book.hpp"
#include "base/log.hpp"

namespace myelin::accounts {
namespace {

constexpr std::size_t longest_token = 4096;  // more is refused before it costs a hash
constexpr auto patience = std::chrono::seconds(5);

bool same(std::string_view a, std::string_view b) { return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0; }

}  // namespace

Snapshot::Snapshot(store::Database& database, Secret secret)
    : database_(database), secret_(std::move(secret)), last_good_(std::chrono::steady_clock::now()) {
  if (sodium_init() < 0) throw std::runtime_error("libsodium cannot start");
}

void Snapshot::set_operator_token(std::string_view token) {
  operator_hash_.reset();
  if (!token.empty()) operator_hash_ = hash_secret(token);
}

Result<void> Snapshot::load() {
  store::AccountRecords records(database_);
  // The counters are read before the rows: a change between the two is seen again at the next call.
  auto changes = records.changes();
  if (!changes) return changes.take_error();
  if (!loading_anew_ && *changes == seen_) return {};
  if (loading_anew_) seen_ = {};
  std::unordered_set<std::string> met;  // when all is read: what is not among it is no more
  auto users = records.users_since(seen_.all, [&](store::UserRecord user) {
    if (loading_anew_) met.insert(user.id);
    auto known = users_.find(user.id);
    const bool was_in = known != users_.end() && known->second.active;
    if (was_in && (user.deleted || !user.active)) ended_.push_back({Ended::What::user, user.id});
    else if (was_in && known->second.role != user.role) ended_.push_back({Ended::What::rights, user.id});
    if (user.deleted) {
      numbers_.erase(user.number);
      if (known != users_.end()) users_.erase(known);
      return;
    }
    numbers_[user.number] = user.id;
    std::string id = user.id;
    users_.insert_or_assign(std::move(id), std::move(user));
  });
  if (!users) return users;
  auto tokens = records.tokens_since(seen_.all, [&](store::ApiTokenRecord token) {
    if (loading_anew_) met.insert(token.id);
    if (token.revoked) {
      if (auto known = token_hashes_.find(token.id); known != token_hashes_.end()) {
        ended_.push_back({Ended::What::credential, token.id});
        tokens_.erase(known->second);
        token_hashes_.erase(known);
      }
      return;
    }
    token_hashes_[token.id] = token.hash;
    std::string hash = token.hash;
    tokens_.insert_or_assign(std::move(hash), std::move(token));
  });
  if (!tokens) return tokens;
  auto issued = records.issued_since(seen_.all, [&](store::IssuedRecord one) {
    if (loading_anew_) met.insert(one.jti);
    auto known = issued_.find(one.jti);
    if (one.revoked && known != issued_.end() && !known->second.revoked) ended_.push_back({Ended::What::credential, one.jti});
    std::string jti = one.jti;
    issued_.insert_or_assign(std::move(jti), std::move(one));
  });
  if (!issued) return issued;
  if (loading_anew_) forget_all_but(met);
  if (loading_anew_ || changes->grants != seen_.grants)
    if (auto done = load_grants(); !done) return done;
  seen_ = *changes;
  loading_anew_ = false;
  return {};
}

void Snapshot::forget_all_but(const std::unordered_set<std::string>& met) {
  std::erase_if(users_, [&](const auto& one) {
    if (met.contains(one.first)) return false;
    if (one.second.active) ended_.push_back({Ended::What::user, one.first});
    numbers_.erase(one.second.number);
    return true;
  });
  std::erase_if(tokens_, [&](const auto& one) {
    if (met.contains(one.second.id)) return false;
    ended_.push_back({Ended::What::credential, one.second.id});
    token_hashes_.erase(one.second.id);
    return true;
  });
  const auto now = store::now();
  std::erase_if(issued_, [&](const auto& one) {
    if (met.contains(one.first)) return false;
    if (!one.second.revoked && one.second.expires > now) ended_.push_back({Ended::What::credential, one.first});
    return true;
  });
}

Result<void> Snapshot::load_grants() {
  store::AccountRecords records(database_);
  auto groups = records.groups();
  if (!groups) return groups.take_error();
  auto grants = records.grants();
  if (!grants) return grants.take_error();
  groups_ = std::move(*groups);
  Map<Grants> by_user;
  for (const auto& record : *grants) {
    Grant grant{record.action, record.kind, record.object};
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const auto& one) { return one.id == record.holder; });
    if (group == groups_.end()) by_user[record.holder].push_back(grant);
    else
      for (const auto& member : group->members) by_user[member].push_back(grant);
  }
  Map<std::vector<std::string>> names;
  for (const auto& group : groups_)
    for (const auto& member : group.members) names[member].push_back(group.name);
  group_names_.clear();
  for (auto& [user, list] : names) group_names_[user] = std::make_shared<const std::vector<std::string>>(std::move(list));
  for (const auto& [user, before] : grants_) {
    auto now = by_user.find(user);
    const bool less = std::any_of(before->begin(), before->end(), [&](const Grant& one) {
      return now == by_user.end() || std::find(now->second.begin(), now->second.end(), one) == now->second.end();
    });
    if (less) ended_.push_back({Ended::What::rights, user});
  }
  grants_.clear();
  for (auto& [user, list] : by_user) grants_[user] = std::make_shared<const Grants>(std::move(list));
  return {};
}

void Snapshot::refresh() {
  auto version = database_.data_version();
  Result<void> done;
  if (!version) {
    done = version.take_error();
  } else if (!seen_version_ || *version != *seen_version_) {
    done = load();
    if (done) seen_version_ = *version;
  }
  auto now = std::chrono::steady_clock::now();
  if (done) {
    if (failing_) log::info("accounts can be read again");
    failing_ = false;
    last_good_ = now;
    return;
  }
  seen_version_.reset();
  if (!failing_) log::error("accounts cannot be read; users will be refused in 5 s: " + done.error().message);
  failing_ = true;
  if (now - last_good_ > patience) loading_anew_ = true;  // what was known is kept to tell, later, what ended meanwhile
}

const store::UserRecord* Snapshot::user(std::string_view id) const {
  auto found = blind() ? users_.end() : users_.find(id);
  return found == users_.end() ? nullptr : &found->second;
}

const store::UserRecord* Snapshot::user_by_number(std::int64_t number) const {
  auto found = numbers_.find(number);
  return found == numbers_.end() ? nullptr : user(found->second);
}

const store::IssuedRecord* Snapshot::issued(std::string_view jti) const {
  auto found = blind() ? issued_.end() : issued_.find(jti);
  return found == issued_.end() ? nullptr : &found->second;
}

std::vector<std::string> Snapshot::groups_of(std::string_view user_id) const {
  std::vector<std::string> names;
  for (const auto& group : groups_)
    if (std::find(group.members.begin(), group.members.end(), user_id) != group.members.end()) names.push_back(group.name);
  return names;
}

Grants Snapshot::grants_of(std::string_view user_id) const {
  auto found = grants_.find(user_id);
  return found == grants_.end() ? Grants{} : *found->second;
}

Identity Snapshot::identity_of(const store::UserRecord& user) const {
  Identity identity;
  identity.user_id = user.id;
  identity.name = user.username;
  identity.role = role_of(user.role).value_or(Role::guest);
  identity.is_operator = identity.role == Role::admin;
  identity.must_change = user.must_change;
  if (auto found = grants_.find(user.id); found != grants_.end()) identity.grants = found->second;
  if (auto found = group_names_.find(user.id); found != group_names_.end()) identity.groups = found->second;
  return identity;
}

std::optional<Identity> Snapshot::identity_for(std::string_view user_id, const std::optional<std::string>& scopes) const {
  const auto* found = user(user_id);
  if (!found || !found->active) return std::nullopt;
  Identity identity = identity_of(*found);
  identity.scopes = scopes_of(scopes);
  if (identity.scopes) identity.is_operator = false;  // what belongs to others is reached one by one, by the scopes
  return identity;
}

std::optional<Identity> Snapshot::identify(std::string_view token) {
  if (token.empty() || token.size() > longest_token) return std::nullopt;
  const std::string hash = hash_secret(token);
  if (operator_hash_ && same(*operator_hash_, hash)) return operator_identity();
  refresh();  // a few system calls, so that another process's revocation is in force at once
  const auto now = store::now();
  if (blind()) return std::nullopt;
  if (auto found = tokens_.find(hash); found != tokens_.end() && same(found->first, hash)) {
    const auto& record = found->second;
    if (record.expires && *record.expires <= now) return std::nullopt;
    auto identity = identity_for(record.user_id, record.scopes);
    if (!identity) return std::nullopt;
    uses_[record.id] = now;
    identity->credential = record.id;
    // A user's first token, named as they are, is the user's own kernel, as before there were others.
    if (record.name != identity->name) identity->client = record.name;
    return identity;
  }
  if (std::count(token.begin(), token.end(), '.') != 2) return std::nullopt;
  auto jwt = verify_jwt(token, secret_, std::chrono::system_clock::now());
  if (jwt.fault != JwtFault::none || jwt.claims.get_string("type") != "access") return std::nullopt;
  const auto* record = issued(jwt.claims.get_string("jti").value_or(""));
  if (!record || record->revoked || record->kind != "access") return std::nullopt;
  auto identity = identity_for(record->user_id, record->scopes);
  if (!identity) return std::nullopt;
  identity->credential = record->jti;
  identity->family = record->family;
  identity->client = record->client;
  return identity;
}

std::optional<Identity> Snapshot::identify_cookie(std::string_view secret) {
  if (secret.empty() || secret.size() > longest_token) return std::nullopt;
  refresh();
  const auto* record = issued(cookie_id(secret));
  if (!record || record->revoked || record->kind != "cookie" || record->expires <= store::now()) return std::nullopt;
  auto identity = identity_for(record->user_id, record->scopes);
  if (!identity) return std::nullopt;
  identity->credential = record->jti;
  identity->family = record->family;
  identity->by_cookie = true;
  return identity;
}

std::vector<Ended> Snapshot::take_ended() { return std::exchange(ended_, {}); }

std::vector<Use> Snapshot::take_uses() {
  std::vector<Use> uses;
  uses.reserve(uses_.size());
  for (auto& [token, when] : uses_) uses.push_back({token, when});
  uses_.clear();
  return uses;
}

void Snapshot::end_expired(store::Time from, store::Time until) {
  for (const auto& [hash, token] : tokens_)
    if (token.expires && *token.expires > from && *token.expires <= until) ended_.push_back({Ended::What::credential, token.id});
  for (const auto& [jti, one] : issued_)
    if (!one.revoked && one.expires > from && one.expires <= until && (one.kind == "cookie" || one.scopes)) ended_.push_back({Ended::What::credential, jti});
}

void Snapshot::forget_expired(store::Time now) {
  std::erase_if(issued_, [now](const auto& one) { return one.second.expires < now; });
}

}  // namespace myelin::accounts
