#include "accounts/guard.hpp"

#include <arpa/inet.h>
#include <sodium.h>

#include <algorithm>
#include <cmath>

namespace myelin::accounts {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t account_slots = 1 << 16;  // 1 MiB
constexpr std::uint64_t free_failures = 3;      // of a pair, in a row, before the wait begins

std::string pair_key(std::string_view account, std::string_view address) {
  return std::string(address) + "\n" + std::string(account.substr(0, 256));
}

}  // namespace

Guard::Guard(GuardLimits limits) : limits_(limits), accounts_(account_slots) { randombytes_buf(key_.data(), key_.size()); }

double Guard::Bucket::now_used(Clock::time_point now, double budget, milliseconds window) const {
  const double passed = std::chrono::duration<double>(now - at) / std::chrono::duration<double>(window);
  return std::max(0.0, used - budget * passed);
}

Guard::Entry* Guard::Table::find(const std::string& key) {
  auto found = entries.find(key);
  return found == entries.end() ? nullptr : &found->second;
}

Guard::Entry& Guard::Table::touch(const std::string& key, std::size_t bound) {
  auto [found, fresh] = entries.try_emplace(key);
  if (fresh) found->second.place = order.insert(order.end(), key);
  else order.splice(order.end(), order, found->second.place);
  Entry& entry = found->second;
  if (entries.size() > bound) {
    entries.erase(order.front());
    order.pop_front();
  }
  return entry;
}

milliseconds Guard::until_room(const Bucket& bucket, double budget, Clock::time_point now) const {
  const double over = bucket.now_used(now, budget, limits_.window) + 1 - budget;
  if (over <= 1e-9) return milliseconds(0);
  return milliseconds(static_cast<std::int64_t>(std::ceil(over / budget * static_cast<double>(limits_.window.count()))));
}

void Guard::take(Bucket& bucket, double budget, Clock::time_point now) const {
  bucket.used = bucket.now_used(now, budget, limits_.window) + 1;
  bucket.at = now;
}

void Guard::give_back(Bucket& bucket, double budget, Clock::time_point now) const {
  bucket.used = std::max(0.0, bucket.now_used(now, budget, limits_.window) - 1);
  bucket.at = now;
}

Guard::Bucket& Guard::account_bucket(std::string_view account) {
  std::array<unsigned char, crypto_shorthash_BYTES> hash{};
  crypto_shorthash(hash.data(), reinterpret_cast<const unsigned char*>(account.data()), account.size(), key_.data());
  return accounts_[(hash[0] | std::size_t{hash[1]} << 8) % account_slots];
}

milliseconds Guard::try_now(std::string_view account, std::string_view given_address, bool known, Clock::time_point now) {
  const std::string address = address_class(given_address), pair = pair_key(account, address);
  Entry* with = pairs_.find(pair);
  Entry* from = addresses_.find(address);
  milliseconds wait{0};
  if (with) wait = std::max(until_room(with->bucket, limits_.per_pair, now), std::chrono::ceil<milliseconds>(with->next - now));
  // An address that this account knows answers for itself: others behind it can't lock its user out.
  if (!known && from) wait = std::max(wait, until_room(from->bucket, limits_.per_address, now));
  if (!known) wait = std::max(wait, until_room(account_bucket(account), limits_.per_account, now));
  if (wait.count() > 0) return wait;

  Entry& entry = pairs_.touch(pair, limits_.entries);
  take(entry.bucket, limits_.per_pair, now);
  entry.in_a_row += 1;
  if (entry.in_a_row > free_failures)
    entry.next = now + std::chrono::seconds(1ll << std::min<std::uint64_t>(entry.in_a_row - free_failures - 1, 9));
  take(addresses_.touch(address, limits_.entries).bucket, limits_.per_address, now);
  if (!known) take(account_bucket(account), limits_.per_account, now);
  return milliseconds(0);
}

void Guard::succeeded(std::string_view account, std::string_view given_address, bool known, Clock::time_point now) {
  const std::string address = address_class(given_address), pair = pair_key(account, address);
  if (Entry* entry = pairs_.find(pair)) {
    pairs_.order.erase(entry->place);
    pairs_.entries.erase(pair);
  }
  if (Entry* entry = addresses_.find(address)) give_back(entry->bucket, limits_.per_address, now);
  if (!known) give_back(account_bucket(account), limits_.per_account, now);
}

void Guard::withdrawn(std::string_view account, std::string_view given_address, bool known, Clock::time_point now) {
  const std::string address = address_class(given_address);
  if (Entry* entry = pairs_.find(pair_key(account, address))) {
    give_back(entry->bucket, limits_.per_pair, now);
    if (entry->in_a_row > 0) entry->in_a_row -= 1;
    entry->next = now;
  }
  if (Entry* entry = addresses_.find(address)) give_back(entry->bucket, limits_.per_address, now);
  if (!known) give_back(account_bucket(account), limits_.per_account, now);
}

std::string Guard::address_class(std::string_view address) {
  in6_addr v6{};
  const std::string text(address);
  if (::inet_pton(AF_INET6, text.c_str(), &v6) != 1) return text;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return text.substr(text.rfind(':') + 1);
  std::fill(v6.s6_addr + 8, v6.s6_addr + 16, 0);
  std::array<char, INET6_ADDRSTRLEN> out{};
  ::inet_ntop(AF_INET6, &v6, out.data(), out.size());
  return std::string(out.data()) + "/64";
}

}  // namespace myelin::accounts
