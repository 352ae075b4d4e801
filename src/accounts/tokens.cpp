#include "accounts/tokens.hpp"

#include <sodium.h>

#include <algorithm>
#include <stdexcept>

#include "base/ids.hpp"
#include "base/log.hpp"

namespace myelin::accounts {

namespace {

constexpr std::size_t token_bytes = 24;
constexpr std::size_t longest_token = 4096;  // more is refused before it costs a hash
constexpr auto patience = std::chrono::seconds(5);

}  // namespace

Identity operator_identity() { return {"operator", "operator", true}; }

Identity local_identity() { return {"local", "local", false}; }

std::string make_token() { return random_hex(token_bytes); }

bool is_valid_name(std::string_view name) {
  if (name.empty() || name.size() > 64 || name == "operator" || name == "local") return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

Tokens::Tokens(store::Database& database)
    : database_(database), last_good_(std::chrono::steady_clock::now()) {
  if (sodium_init() < 0) throw std::runtime_error("libsodium cannot start");
}

Tokens::Hash Tokens::hash_of(std::string_view token) {
  Hash hash{};
  crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const unsigned char*>(token.data()),
                     token.size(), nullptr, 0);
  return hash;
}

Result<NewToken> Tokens::add(std::string_view name) {
  if (!is_valid_name(name)) {
    return Error{
        Code::bad_request,
        "a token's name is 1 to 64 letters, digits, dots, dashes or underscores, and not \"operator\" or "
        "\"local\"",
        ""};
  }
  auto token = make_token();
  auto hash = hash_of(token);
  auto added = store::TokenRecords(database_).add(
      name, {reinterpret_cast<const char*>(hash.data()), hash.size()}, make_id("u_"), store::now());
  seen_version_.reset();  // data_version is blind to this connection's own writes
  if (!added) return added.take_error();
  return NewToken{std::move(token), std::move(*added)};
}

Result<void> Tokens::revoke(std::string_view name) {
  seen_version_.reset();
  return store::TokenRecords(database_).revoke(name, store::now());
}

Result<std::vector<store::TokenRecord>> Tokens::list() { return store::TokenRecords(database_).list(false); }

void Tokens::set_operator_token(std::string_view token) {
  operator_hash_.reset();
  if (!token.empty()) operator_hash_ = hash_of(token);
}

Result<void> Tokens::reload() {
  auto records = store::TokenRecords(database_).list(true);
  if (!records) return records.take_error();
  entries_.clear();
  for (const auto& record : *records) {
    Entry entry{{}, {record.user_id, record.name, false}};
    if (record.hash.size() != entry.hash.size()) continue;
    std::copy(record.hash.begin(), record.hash.end(), entry.hash.begin());
    entries_.push_back(std::move(entry));
  }
  return {};
}

void Tokens::refresh() {
  // The version is read before the rows: a change between the two is seen again at the next call.
  auto version = database_.data_version();
  Result<void> done;
  if (!version) {
    done = version.take_error();
  } else if (!seen_version_ || *version != *seen_version_) {
    done = reload();
    if (done) seen_version_ = *version;
  }
  auto now = std::chrono::steady_clock::now();
  if (done) {
    if (failing_) log::info("tokens can be read again");
    failing_ = false;
    last_good_ = now;
    return;
  }
  seen_version_.reset();
  if (!failing_) log::error("tokens cannot be read; users will be refused in 5 s: " + done.error().message);
  failing_ = true;
  if (now - last_good_ > patience) entries_.clear();
}

std::optional<Identity> Tokens::identify(std::string_view token) {
  if (token.empty() || token.size() > longest_token) return std::nullopt;
  auto hash = hash_of(token);
  auto same = [&hash](const Hash& kept) { return sodium_memcmp(kept.data(), hash.data(), hash.size()) == 0; };
  bool is_operator = operator_hash_ && same(*operator_hash_);
  if (is_operator) return operator_identity();
  refresh();  // a few system calls, so that another process's revocation is in force at once
  const Entry* hit = nullptr;  // all hashes are compared, also after a hit
  for (const auto& entry : entries_)
    if (same(entry.hash)) hit = &entry;
  if (hit == nullptr) return std::nullopt;
  uses_[hit->identity.user_id] = store::now();
  return hit->identity;
}

std::vector<Use> Tokens::take_uses() {
  std::vector<Use> uses;
  uses.reserve(uses_.size());
  for (auto& [user, when] : uses_) uses.push_back({user, when});
  uses_.clear();
  return uses;
}

Result<void> Tokens::record_uses(store::Database& database, const std::vector<Use>& uses) {
  if (uses.empty()) return {};
  return database.transaction([&]() -> Result<void> {
    store::TokenRecords records(database);
    for (const auto& use : uses) {
      if (auto done = records.used(use.user_id, use.when); !done) return done;
    }
    return {};
  });
}

}  // namespace myelin::accounts
