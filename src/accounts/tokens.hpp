#pragma once
// Who a request is from. A token is a user until accounts exist: its name is for people and configuration,
// its user id owns kernels, sessions and files. Tokens are shown once and kept as BLAKE2b-256 hashes; they
// carry 192 random bits, so a plain fast hash is enough. A presented token is compared with every kept hash
// in constant time. A Tokens and its Database are used by one thread at a time. identify() only touches
// memory unless a token was added or revoked since the last call, in this or another process: then it reads
// the table again first (well below 1 ms), so that a change is in force at the next request. add, list and
// revoke wait for the disk: not on the event loop.

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "store/token_records.hpp"

namespace myelin::accounts {

struct Identity {
  std::string user_id;  // "u_…", or "operator", or "local"
  std::string name;
  bool is_operator = false;  // sees and ends everybody's sessions
};

/// The holder of the server's own token.
[[nodiscard]] Identity operator_identity();
/// Everybody, where auth = "none": one user, not an operator over others, for there are none.
[[nodiscard]] Identity local_identity();

/// 48 hex digits from the system's random source.
[[nodiscard]] std::string make_token();
/// A name fits [A-Za-z0-9._-]{1,64} and is not "operator" or "local".
[[nodiscard]] bool is_valid_name(std::string_view name);

struct NewToken {
  std::string token;  // plain; never seen again
  std::string user_id;
};

/// A use that is not on disk yet, see Tokens::take_uses.
struct Use {
  std::string user_id;
  store::Time when;
};

class Tokens {
 public:
  /// `database` outlives this object.
  explicit Tokens(store::Database& database);

  /// Errors: bad_request for a name that does not fit, conflict when it has a valid token. A revoked name
  /// gets a new token for its old user: this is how a token is replaced.
  Result<NewToken> add(std::string_view name);
  Result<void> revoke(std::string_view name);
  /// By name; revoked ones too.
  Result<std::vector<store::TokenRecord>> list();

  /// Kept as a hash only. An empty token is no token.
  void set_operator_token(std::string_view token);
  /// Whose token this is; nullopt for unknown, revoked and empty ones. If the table cannot be read for 5 s,
  /// users are refused (the operator is not): a revoked token must not live on.
  [[nodiscard]] std::optional<Identity> identify(std::string_view token);

  /// Uses since the last call, at most one a user; to be written with record_uses, on a pool thread with a
  /// connection of its own.
  [[nodiscard]] std::vector<Use> take_uses();
  static Result<void> record_uses(store::Database& database, const std::vector<Use>& uses);

 private:
  using Hash = std::array<unsigned char, 32>;
  struct Entry {
    Hash hash;
    Identity identity;
  };
  static Hash hash_of(std::string_view token);
  void refresh();
  Result<void> reload();

  store::Database& database_;
  std::optional<Hash> operator_hash_;
  std::vector<Entry> entries_;
  std::optional<std::int64_t> seen_version_;
  std::chrono::steady_clock::time_point last_good_;
  bool failing_ = false;
  std::unordered_map<std::string, store::Time> uses_;
};

}  // namespace myelin::accounts
