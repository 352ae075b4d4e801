#pragma once
// How often passwords may be guessed. Pure: no clock but what is passed in, no I/O, one thread.
//
// Each pair (account, address) has a budget of failures, each address one over all accounts, and each account one for all addresses
// that never signed in to it together: past that, only those known to it may try. A budget fills again steadily over its window. Between
// failures of a pair the wait doubles, from the fourth on. All is decided before a password is hashed. The tables are bounded: the
// entry that was longest without a failure goes first, but an account's own budget is counted in a table of fixed size that nobody
// can push out of it (by a keyed hash of the name: two accounts may share one, which is only stricter).

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace myelin::accounts {

struct GuardLimits {
  double per_pair = 5;       // failures at once; as many again fill up over a window
  double per_address = 50;
  double per_account = 5;    // from addresses that it does not know
  std::chrono::milliseconds window{15 * 60 * 1000};
  std::size_t entries = 100'000;  // of each bounded table
};

class Guard {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Guard(GuardLimits limits = {});

  /// How long to wait before this may be tried; zero: now. A try that may go on is counted as a failure at once (so that a thousand
  /// in flight are not all let through) until `succeeded` takes it back.
  [[nodiscard]] std::chrono::milliseconds try_now(std::string_view account, std::string_view address, bool known, Clock::time_point now);
  void succeeded(std::string_view account, std::string_view address, bool known, Clock::time_point now);
  /// It was not tried after all: as if it had not been asked for.
  void withdrawn(std::string_view account, std::string_view address, bool known, Clock::time_point now);

  /// What counts as one address: an IPv6 network of /64, else all of it.
  [[nodiscard]] static std::string address_class(std::string_view address);

 private:
  struct Bucket {
    double used = 0;
    Clock::time_point at{};
    double now_used(Clock::time_point now, double budget, std::chrono::milliseconds window) const;
  };
  struct Entry {
    Bucket bucket;
    std::uint64_t in_a_row = 0;
    Clock::time_point next{};  // not before
    std::list<std::string>::iterator place;
  };
  struct Table {
    std::unordered_map<std::string, Entry> entries;
    std::list<std::string> order;  // the longest untouched first
    Entry& touch(const std::string& key, std::size_t bound);
    Entry* find(const std::string& key);
  };

  [[nodiscard]] std::chrono::milliseconds until_room(const Bucket& bucket, double budget, Clock::time_point now) const;
  void take(Bucket& bucket, double budget, Clock::time_point now) const;
  void give_back(Bucket& bucket, double budget, Clock::time_point now) const;
  Bucket& account_bucket(std::string_view account);

  GuardLimits limits_;
  Table pairs_, addresses_;
  std::array<unsigned char, 16> key_{};
  std::vector<Bucket> accounts_;
};

}  // namespace myelin::accounts
