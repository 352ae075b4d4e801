#pragma once
// An OpenID provider that is asked: where to send a browser, and who came back with a code. What it says is judged in accounts/oidc.
//
// Its documents and keys are kept for an hour; keys that it has changed meanwhile are fetched when a token names one, a few times at
// most. Requests to it block, on threads of their own, so that a slow provider holds up nobody else; each is bounded in time and size,
// and so is a whole sign-in. Sign-ins beyond those that may wait are refused.

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "accounts/book.hpp"
#include "accounts/oidc.hpp"
#include "async/pool.hpp"
#include "async/task.hpp"
#include "base/result.hpp"

namespace myelin::api {

using async::Task;

class OidcProvider {
 public:
  OidcProvider(async::Loop& loop, accounts::oidc::Settings settings);
  ~OidcProvider() { stop(); }
  /// Gives up what the provider is asked, so that a server that stops need not wait for it.
  void stop() { stopping_ = true; }
  OidcProvider(const OidcProvider&) = delete;
  OidcProvider& operator=(const OidcProvider&) = delete;

  /// On the button.
  [[nodiscard]] const std::string& name() const { return settings_.name; }
  [[nodiscard]] const std::string& issuer() const { return settings_.issuer; }

  /// One sign-in; random texts of its own, and kept by the browser that began it.
  struct Attempt {
    std::string state, nonce, verifier, redirect_uri;
  };
  [[nodiscard]] static Attempt make_attempt(std::string redirect_uri);
  /// Where to send the browser. Errors: unavailable.
  Task<Result<std::string>> begin(Attempt attempt);
  /// True once for each state of the last ten minutes, or of the newest thousands: beyond that the provider's rule that a code counts
  /// once has to do.
  [[nodiscard]] bool first_use(const std::string& state);
  /// Who signed in. `issuer` is what came beside the code. No address takes more than its share of the waiting. Errors: unavailable; unauthorized (what came can't be believed); forbidden
  /// with detail email_not_allowed. Messages are for the log.
  Task<Result<accounts::Person>> finish(Attempt attempt, std::string code, std::optional<std::string> issuer, std::string address);

  static constexpr std::chrono::seconds attempt_lifetime{600};

 private:
  using Clock = std::chrono::steady_clock;
  Result<std::string> ask(const std::string& url, std::string form, std::string authorization, std::size_t limit_bytes, Clock::time_point deadline);
  Result<accounts::oidc::Discovery> discovery(Clock::time_point deadline);
  Result<codec::Json> believe(const accounts::oidc::Discovery& where, const std::string& token, const std::string& nonce, Clock::time_point deadline);
  Result<codec::Json> more_claims(const accounts::oidc::Discovery& where, codec::Json claims, const std::string& access_token, Clock::time_point deadline);
  Result<accounts::Person> who_is(const codec::Json& claims) const;
  Result<accounts::Person> exchange(const Attempt& attempt, const std::string& code, const std::optional<std::string>& issuer, Clock::time_point deadline);

  const accounts::oidc::Settings settings_;
  // On the loop: the states that were used, and where to send browsers, at once while slow answers hold all threads.
  std::unordered_map<std::string, Clock::time_point> used_;
  std::unordered_map<std::string, int> in_flight_;  // by class of address
  std::string authorize_at_;
  Clock::time_point authorize_until_;

  // Each is held while what it guards is fetched, so that one fetches and the others find it.
  std::mutex discovery_mutex_;
  std::optional<accounts::oidc::Discovery> discovery_;
  Clock::time_point discovery_until_;
  std::optional<Error> failure_;  // of the last try
  Clock::time_point failure_until_;
  std::mutex keys_mutex_;
  accounts::oidc::Keys keys_;
  Clock::time_point keys_until_;
  double refreshes_left_;
  Clock::time_point refreshes_counted_;

  std::atomic<bool> stopping_{false};
  async::Pool pool_;  // ends first
};

}  // namespace myelin::api
