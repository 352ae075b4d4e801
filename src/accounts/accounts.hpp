#pragma once
// Accounts as the server uses them: who a request is from (at once, from memory), signing in and out, and every change, on the loop's
// thread. Passwords are hashed on a small pool of their own: at most 2 at once, 64 waiting, more is Code::unavailable. Answers say
// nothing of whether a user exists.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "accounts/book.hpp"
#include "accounts/guard.hpp"
#include "accounts/passwords.hpp"
#include "accounts/snapshot.hpp"
#include "async/pool.hpp"
#include "async/task.hpp"

namespace myelin::accounts {

using async::Task;

struct Options {
  Secret secret;
  GuardLimits guard;
  std::chrono::seconds access_lifetime{900};
  std::chrono::seconds refresh_lifetime{30 * 86400};
  std::chrono::seconds cookie_lifetime{30 * 86400};
  std::chrono::hours audit_kept{24 * 365};
  std::chrono::milliseconds refusal_after{400};  // of a password, at the earliest: longer than comparing takes
};

enum class Style {
  native,    // claims of this server; a refresh token is exchanged once
  neuroapi,  // claims of NeuroAPI; a refresh token lasts until it is revoked
};

struct SignedIn {
  Identity identity;
  std::string access_token, refresh_token;  // of tokens
  std::string cookie;                       // of a browser
  std::chrono::seconds expires_in{0};
};

class Accounts {
 public:
  /// `database` is used on `database_pool` (one thread); `loop_database` on the loop's thread. All outlive this object.
  Accounts(async::Loop& loop, async::Pool& database_pool, store::Database& database, store::Database& loop_database, Options options);
  ~Accounts();

  [[nodiscard]] Snapshot& who() { return snapshot_; }
  /// Reads the accounts, and goes on looking for changes of other processes twice a second, and for what has expired.
  Result<void> open();
  /// Is told, on the loop, what must stop at once.
  void on_ended(std::function<void(const Ended&)> told) { told_ = std::move(told); }

  enum class With { tokens, cookie };
  struct SignInRequest {
    std::string username, password, address, client;
    With with = With::tokens;
    Style style = Style::native;
  };
  /// Errors: unauthorized (wrong name or password), forbidden (inactive; told only to who knows the password), too_many (detail:
  /// seconds to wait), unavailable.
  Task<Result<SignedIn>> sign_in(SignInRequest request);
  /// For whom an OpenID provider vouches: a browser's sign-in. Errors: as Book::recognise.
  Task<Result<SignedIn>> sign_in_by_provider(Person person, std::string client, std::string address);
  /// Native: the old refresh token is void, and one that was exchanged before ends its whole sign-in. Errors: unauthorized.
  Task<Result<SignedIn>> refresh(std::string refresh_token, Style style);
  /// A token with narrower rights that ends with the sign-in it is made with. Errors: forbidden (made with another kind of credential).
  Task<Result<std::string>> narrow_token(Identity who, Grants scopes, std::chrono::seconds lifetime, std::string client);
  Task<Result<void>> sign_out(std::string family);
  Task<Result<void>> revoke(std::string jti);

  /// Also of a must_change one. Errors: unauthorized (the old one is wrong), too_many, bad_request (weak).
  Task<Result<void>> change_password(Identity who, std::string old_password, std::string new_password, std::string address);
  Task<Result<void>> use_reset(std::string secret, std::string new_password, std::string address);
  /// Compares, with the bounds of all hashing. Errors: unavailable.
  Task<Result<Verdict>> verify(std::string hash, std::string password);
  /// Judges and hashes. Errors: bad_request (weak), unavailable.
  Task<Result<std::string>> make_hash(std::string password, std::string username, std::string email);

  /// Runs `f(Book&)` on the database's thread; what it changed is in force when this returns.
  template <class F, class R = std::invoke_result_t<F, Book&>>
  Task<R> with_book(F f) {
    return run_book<R>(std::make_shared<std::function<R(Book&)>>(std::move(f)));
  }

 private:
  template <class R>
  Task<R> run_book(std::shared_ptr<std::function<R(Book&)>> f) {
    auto* database = &database_;
    auto job = [f, database] {
      Book book(*database);
      return (*f)(book);
    };
    R result = co_await async::on_pool(database_pool_, std::move(job));
    look();
    // What is acknowledged is in force, also while the connection that watches is still coming back.
    for (auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5); result && snapshot_.failing() && std::chrono::steady_clock::now() < until; look())
      co_await async::sleep_for(std::chrono::milliseconds(50));
    co_return result;
  }

  /// Asked in the transaction that keeps the tokens; false: they are not made (what it did itself stays).
  using Condition = std::function<Result<bool>(Book&, std::int64_t version)>;
  /// For a user who was recognised; `how` is for the audit log.
  Task<Result<SignedIn>> sign_in_as(std::string user_id, std::string client, std::string address, With with, Style style, std::string how,
                                    Condition condition, Error otherwise);
  Task<void> note_failure(Actor whose);
  using Clock = std::chrono::steady_clock;
  /// Until a refusal may be given to who began then: how long it took would tell what hash there is, if any.
  Task<void> even_out(Clock::time_point begun);
  /// Compares when the guard lets it, and tells the guard what came of it. Errors: too_many (detail: seconds to wait), unavailable.
  Task<Result<Verdict>> try_password(std::string account, std::string address, bool known, std::string hash, std::string password);
  Task<Result<SignedIn>> issue(const store::UserRecord& user, std::string family, std::string client, With with, Style style, bool refresh, Condition condition,
                                Error otherwise);
  Task<void> watch();
  void look();

  async::Loop& loop_;
  async::Pool& database_pool_;
  store::Database& database_;
  Options options_;
  Snapshot snapshot_;
  Guard guard_;
  std::unique_ptr<async::Pool> hashing_;
  std::function<void(const Ended&)> told_;
  async::TaskGroup tasks_;
};

}  // namespace myelin::accounts
