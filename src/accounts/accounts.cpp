#include "accounts/accounts.hpp"

#include "accounts/passwords.hpp"
#include "base/ids.hpp"
#include "base/log.hpp"

namespace myelin::accounts {
namespace {

constexpr std::size_t hashing_threads = 2, hashing_bound = 64;
constexpr auto address_known_for = std::chrono::hours(24 * 90);
constexpr std::int64_t addresses_kept = 32;

Error wrong() { return {Code::unauthorized, "unknown user or wrong password", ""}; }

// RFC 4122, version 4.
std::string make_uuid() {
  std::string hex = random_hex(16);
  hex[12] = '4';
  hex[16] = "89ab"[static_cast<unsigned char>(hex[16]) % 4];
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" + hex.substr(16, 4) + "-" + hex.substr(20);
}

std::string claims_of(Style style, const store::UserRecord& user, const store::IssuedRecord& token) {
  auto seconds = [](store::Time time) { return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count()); };
  const std::string from = seconds(token.created), until = seconds(token.expires);
  std::string claims = "{";
  if (style == Style::native) claims += R"("iss":"myelin","sub":")" + user.id + R"(",)";
  claims += R"("iat":)" + from + R"(,"nbf":)" + from + R"(,"jti":")" + token.jti + R"(","exp":)" + until;
  if (style == Style::neuroapi) {
    claims += R"(,"identity":)" + std::to_string(user.number);
    if (token.kind == "access") claims += R"(,"fresh":false)";
  }
  return claims + R"(,"type":")" + token.kind + R"("})";
}

std::string short_client(std::string client) {
  std::erase_if(client, [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/'; });
  return client.substr(0, 64);
}

}  // namespace

Accounts::Accounts(async::Loop& loop, async::Pool& database_pool, store::Database& database, store::Database& loop_database, Options options)
    : loop_(loop), database_pool_(database_pool), database_(database), options_(std::move(options)), snapshot_(loop_database, options_.secret),
      guard_(options_.guard), hashing_(std::make_unique<async::Pool>(loop, hashing_threads, hashing_bound)), tasks_(loop) {}

Accounts::~Accounts() = default;

Result<void> Accounts::open() {
  snapshot_.refresh();
  tasks_.spawn(watch(), "watch accounts");
  return {};
}

void Accounts::look() {
  snapshot_.refresh();
  for (const auto& ended : snapshot_.take_ended())
    if (told_) told_(ended);
}

Task<void> Accounts::watch() {
  using std::chrono::steady_clock;
  auto expired_until = store::now();
  auto uses_due = steady_clock::now() + std::chrono::seconds(60), purge_due = steady_clock::now() + std::chrono::seconds(5);
  for (;;) {
    co_await async::sleep_for(std::chrono::milliseconds(400));
    const auto until = store::now();
    snapshot_.end_expired(expired_until, until);
    expired_until = until;
    look();
    const auto now = steady_clock::now();
    auto* database = &database_;
    if (now > uses_due) {
      uses_due = now + std::chrono::seconds(60);
      auto uses = snapshot_.take_uses();
      auto write = [database, uses]() -> Result<void> {
        if (uses.empty()) return {};
        return database->transaction([&]() -> Result<void> {
          store::AccountRecords records(*database);
          for (const auto& use : uses)
            if (auto done = records.token_used(use.token_id, use.when); !done) return done;
          return {};
        });
      };
      auto written = co_await async::on_pool(database_pool_, std::move(write));
      if (!written) log::warning("the last use of tokens can't be written: " + written.error().message);
    }
    if (now > purge_due) {
      purge_due = now + std::chrono::hours(1);
      const auto at = store::now();
      const auto audit_before = at - options_.audit_kept;
      auto purge = [database, at, audit_before] { return store::AccountRecords(*database).purge(at, audit_before); };
      auto purged = co_await async::on_pool(database_pool_, std::move(purge));
      if (!purged) log::warning("expired tokens can't be removed: " + purged.error().message);
      snapshot_.forget_expired(at);
    }
  }
}

Task<Result<Verdict>> Accounts::verify(std::string hash, std::string password) {
  if (hashing_->waiting() >= hashing_bound)
    co_return Error{Code::unavailable, "too many are signing in at once; try again in a few seconds", ""};
  auto job = [hash, password] { return verify_password(hash, password); };
  co_return co_await async::on_pool(*hashing_, std::move(job));
}

Task<Result<std::string>> Accounts::make_hash(std::string password, std::string username, std::string email) {
  if (auto why = weakness(password, username, email)) co_return Error{Code::bad_request, *why, "password"};
  if (hashing_->waiting() >= hashing_bound)
    co_return Error{Code::unavailable, "too many are signing in at once; try again in a few seconds", ""};
  auto job = [password] { return hash_password(password); };
  co_return co_await async::on_pool(*hashing_, std::move(job));
}

Task<Result<Verdict>> Accounts::try_password(std::string account, std::string address, bool known, std::string hash, std::string password) {
  auto wait = guard_.try_now(account, address, known, Clock::now());
  if (wait.count() > 0) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(wait).count();
    co_return Error{Code::too_many, "too many failed attempts: wait " + std::to_string(seconds) + " s before the next", std::to_string(seconds)};
  }
  auto verdict = co_await verify(std::move(hash), std::move(password));
  if (!verdict) guard_.withdrawn(account, address, known, Clock::now());
  else if (verdict->right) guard_.succeeded(account, address, known, Clock::now());
  co_return verdict;
}

Task<void> Accounts::even_out(Clock::time_point begun) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(begun + options_.refusal_after - Clock::now());
  if (left.count() > 0) co_await async::sleep_for(left);
}

Task<Result<SignedIn>> Accounts::sign_in(SignInRequest request) {
  const auto begun = Clock::now();
  struct Found {
    std::optional<store::UserRecord> user;
    bool known = false;
  };
  const std::string address_class = Guard::address_class(request.address), username = request.username;
  auto find = [username, address_class](Book& book) -> Result<Found> {
    Found found;
    auto user = book.records().user_by_name(username);
    if (!user) return user.take_error();
    found.user = std::move(*user);
    if (found.user) {
      auto known = book.records().knows_address(found.user->id, address_class, store::now() - address_known_for);
      if (!known) return known.take_error();
      found.known = *known;
    }
    return found;
  };
  auto found = co_await with_book(std::move(find));
  if (!found) co_return found.take_error();
  std::string hash = found->user ? found->user->password : "", password = request.password, account = username, from = request.address;
  auto verdict = co_await try_password(std::move(account), std::move(from), found->known, std::move(hash), std::move(password));
  if (!verdict) co_return verdict.take_error();
  if (!found->user || !verdict->right) {
    co_await even_out(begun);
    // Not waited for: an answer that comes later would tell that there is such a user.
    if (found->user) tasks_.spawn(note_failure({found->user->id, username, request.address}), "note a failed sign-in");
    co_return wrong();
  }
  store::UserRecord user = std::move(*found->user);
  if (!user.active) {
    co_await even_out(begun);
    co_return Error{Code::forbidden, "this account is not active; an admin can activate it", ""};
  }
  if (verdict->outdated) {
    std::string again = request.password;
    auto rehash = [again] { return hash_password(again); };
    auto better = co_await async::on_pool(*hashing_, std::move(rehash));
    if (better) {
      std::string id = user.id, old = user.password, fresh = *better;
      auto keep = [id, old, fresh](Book& book) { return book.upgrade_hash(id, old, fresh); };
      auto kept = co_await with_book(std::move(keep));
      if (kept) user.password = *better;
      else log::warning("a password's hash can't be renewed: " + kept.error().message);
    }
  }
  // The password may have been changed since it was compared.
  auto unchanged = [id = user.id, hash = user.password](Book& book, std::int64_t) -> Result<bool> {
    auto now = book.records().user_by_id(id);
    if (!now) return now.take_error();
    return *now && (*now)->password == hash;
  };
  std::string id = user.id, client = request.client, address = request.address;
  co_return co_await sign_in_as(std::move(id), std::move(client), std::move(address), request.with, request.style, "", std::move(unchanged), wrong());
}

Task<void> Accounts::note_failure(Actor whose) {
  auto note = [whose](Book& book) { return book.note(whose, "sign_in.failed", whose.id, ""); };
  auto noted = co_await with_book(std::move(note));
  if (!noted) log::warning("the audit log can't be written: " + noted.error().message);
}

Task<Result<SignedIn>> Accounts::sign_in_by_provider(Person person, std::string client, std::string address) {
  auto find = [person, address](Book& book) { return book.recognise(person, address); };
  auto user = co_await with_book(std::move(find));
  if (!user) co_return user.take_error();
  std::string id = user->id, how = "by " + person.issuer;
  Condition always = [](Book&, std::int64_t) -> Result<bool> { return true; };
  co_return co_await sign_in_as(std::move(id), std::move(client), std::move(address), With::cookie, Style::native, std::move(how), std::move(always), wrong());
}

Task<Result<SignedIn>> Accounts::sign_in_as(std::string user_id, std::string client, std::string address, With with, Style style,
                                              std::string how, Condition condition, Error otherwise) {
  const std::string address_class = Guard::address_class(address);
  auto note = [user_id, address, address_class, how](Book& book) -> Result<store::UserRecord> {
    auto user = book.records().user_by_id(user_id);
    if (!user) return user.take_error();
    if (!*user || !(*user)->active) return Error{Code::forbidden, "this account is not active; an admin can activate it", ""};
    const auto now = store::now();
    if (auto seen = book.records().saw_address(user_id, address_class, now, addresses_kept); !seen) return seen.take_error();
    if (auto set = book.records().signed_in(user_id, now); !set) return set.take_error();
    if (auto noted = book.note({user_id, (*user)->username, address}, "sign_in", user_id, how); !noted) return noted.take_error();
    return std::move(**user);
  };
  auto user = co_await with_book(std::move(note));
  if (!user) co_return user.take_error();
  std::string family = make_id("f_");
  co_return co_await issue(*user, std::move(family), std::move(client), with, style, true, std::move(condition), std::move(otherwise));
}

Task<Result<SignedIn>> Accounts::issue(const store::UserRecord& user_, std::string family, std::string client, With with, Style style, bool refresh,
                                         Condition condition, Error otherwise) {
  const store::UserRecord user = user_;
  SignedIn out;
  const auto now = std::chrono::floor<std::chrono::seconds>(store::now());
  std::vector<store::IssuedRecord> tokens;
  auto add = [&](const char* kind, std::chrono::seconds lifetime, std::string jti) {
    store::IssuedRecord token;
    token.jti = std::move(jti);
    token.family = family;
    token.kind = kind;
    token.user_id = user.id;
    token.client = short_client(client);
    token.created = now;
    token.expires = now + lifetime;
    tokens.push_back(std::move(token));
  };
  if (with == With::cookie) {
    out.cookie = make_secret();
    out.expires_in = options_.cookie_lifetime;
    add("cookie", options_.cookie_lifetime, cookie_id(out.cookie));
  } else {
    out.expires_in = options_.access_lifetime;
    add("access", options_.access_lifetime, make_uuid());
    out.access_token = sign_jwt(claims_of(style, user, tokens.back()), options_.secret);
    if (refresh) {
      add("refresh", options_.refresh_lifetime, make_uuid());
      out.refresh_token = sign_jwt(claims_of(style, user, tokens.back()), options_.secret);
    }
  }
  auto keep = [tokens, condition](Book& book) -> Result<bool> {
    bool may = false;
    auto done = book.records().change([&](std::int64_t version) -> Result<void> {
      auto still = book.records().user_by_id(tokens.front().user_id);
      if (!still) return still.take_error();
      if (!*still || !(*still)->active) return Error{Code::forbidden, "this account is not active; an admin can activate it", ""};
      auto fits = condition(book, version);
      if (!fits) return fits.take_error();
      may = *fits;
      if (!may) return {};
      for (const auto& token : tokens)
        if (auto added = book.records().add_issued(token, version); !added) return added;
      return {};
    });
    if (!done) return done.take_error();
    return may;
  };
  auto kept = co_await with_book(std::move(keep));
  if (!kept) co_return kept.take_error();
  if (!*kept) co_return otherwise;
  out.identity = snapshot_.identity_of(user);
  out.identity.credential = tokens.front().jti;
  out.identity.family = family;
  co_return out;
}

Task<Result<SignedIn>> Accounts::refresh(std::string refresh_token, Style style) {
  Error refused{Code::unauthorized, "this refresh token is not valid any more: sign in again", ""};
  snapshot_.refresh();
  auto jwt = verify_jwt(refresh_token, options_.secret, std::chrono::system_clock::now());
  if (jwt.fault != JwtFault::none || jwt.claims.get_string("type") != "refresh") co_return refused;
  // Each style has its own: one that can be exchanged once must not pass as one that lasts.
  if (jwt.claims.has("identity") != (style == Style::neuroapi)) co_return refused;
  const std::string jti = jwt.claims.get_string("jti").value_or("");
  const auto* known = snapshot_.issued(jti);
  if (!known || known->kind != "refresh") co_return refused;
  const std::string family = known->family, client = known->client, user_id = known->user_id;
  const auto* user = snapshot_.user(user_id);
  if (!user || !user->active) co_return refused;
  const store::UserRecord record = *user;
  std::string same_family = family, same_client = client;
  if (style == Style::neuroapi) {
    Condition valid = [jti](Book& book, std::int64_t) { return book.records().is_issued(jti); };
    co_return co_await issue(record, std::move(same_family), std::move(same_client), With::tokens, style, false, std::move(valid), std::move(refused));
  }
  // With the new tokens or not at all: between the two somebody else's use could end the sign-in.
  Condition exchange = [jti, family, record](Book& book, std::int64_t version) -> Result<bool> {
    const auto now = store::now();
    auto used = book.records().use_issued(jti, now, version);
    if (!used) return used.take_error();
    if (*used) return true;
    // Somebody else has it: whoever came first loses too.
    if (auto ended = book.records().revoke_family(family, now, version); !ended) return ended.take_error();
    if (auto noted = book.note({record.id, record.username, ""}, "sign_in.reused", record.id, "a refresh token was used twice"); !noted) return noted.take_error();
    return false;
  };
  Error reused{Code::unauthorized, "this refresh token was used before: the sign-in has ended for everybody; sign in again", "token_reused"};
  co_return co_await issue(record, std::move(same_family), std::move(same_client), With::tokens, style, true, std::move(exchange), std::move(reused));
}

Task<Result<std::string>> Accounts::narrow_token(Identity who, Grants scopes, std::chrono::seconds lifetime, std::string client) {
  // It ends with the sign-in, and makes no further ones.
  if (who.family.empty() || who.scopes) co_return Error{Code::forbidden, "only who signed in gets such a token: this one can be used itself", ""};
  store::IssuedRecord token;
  token.jti = make_uuid();
  token.family = who.family;
  token.kind = "access";
  token.user_id = who.user_id;
  token.scopes = scopes_text(scopes);
  token.client = short_client(client);
  token.created = std::chrono::floor<std::chrono::seconds>(store::now());
  token.expires = token.created + lifetime;
  const auto* user = snapshot_.user(who.user_id);
  if (!user) co_return Error{Code::conflict, "only users have tokens of their own", ""};
  std::string signed_token = sign_jwt(claims_of(Style::native, *user, token), options_.secret);
  auto keep = [token, made_with = who.credential](Book& book) {
    return book.records().change([&](std::int64_t version) -> Result<void> {
      auto valid = book.records().is_issued(made_with);
      if (!valid) return valid.take_error();
      if (!*valid) return Error{Code::unauthorized, "this sign-in has ended", ""};
      return book.records().add_issued(token, version);
    });
  };
  auto kept = co_await with_book(std::move(keep));
  if (!kept) co_return kept.take_error();
  co_return signed_token;
}

Task<Result<void>> Accounts::sign_out(std::string family) {
  auto end = [family](Book& book) {
    return book.records().change([&](std::int64_t version) { return book.records().revoke_family(family, store::now(), version); });
  };
  co_return co_await with_book(std::move(end));
}

Task<Result<void>> Accounts::revoke(std::string jti) {
  auto end = [jti](Book& book) {
    return book.records().change([&](std::int64_t version) -> Result<void> {
      auto gone = book.records().revoke_issued(jti, store::now(), version);
      if (!gone) return gone.take_error();
      return {};
    });
  };
  co_return co_await with_book(std::move(end));
}

Task<Result<void>> Accounts::change_password(Identity who, std::string old_password, std::string new_password, std::string address) {
  const auto* user = snapshot_.user(who.user_id);
  if (!user) co_return Error{Code::conflict, "only users have a password", ""};
  const auto begun = Clock::now();
  const store::UserRecord record = *user;
  // A stolen cookie must not be enough to guess on, from wherever.
  const std::string address_class = Guard::address_class(address);
  auto ask = [id = record.id, address_class](Book& book) { return book.records().knows_address(id, address_class, store::now() - address_known_for); };
  auto known = co_await with_book(std::move(ask));
  if (!known) co_return known.take_error();
  std::string account = record.username, from = address, hash = record.password, given = old_password;
  auto verdict = co_await try_password(std::move(account), std::move(from), *known, std::move(hash), std::move(given));
  if (!verdict) co_return verdict.take_error();
  if (!verdict->right) {
    co_await even_out(begun);
    co_return Error{Code::unauthorized, "the old password is wrong", "old"};
  }
  if (old_password == new_password) co_return Error{Code::bad_request, "the new password is the old one", "password"};
  std::string username = record.username, email = record.email.value_or("");
  auto fresh = co_await make_hash(std::move(new_password), std::move(username), std::move(email));
  if (!fresh) co_return fresh.take_error();
  Actor actor = actor_of(who, address);
  std::string id = record.id, family = who.family, made = *fresh;
  auto set = [actor, id, family, made](Book& book) { return book.set_password(actor, id, made, false, family); };
  co_return co_await with_book(std::move(set));
}

Task<Result<void>> Accounts::use_reset(std::string secret, std::string new_password, std::string address) {
  auto find = [secret](Book& book) { return book.user_of_reset(secret); };
  auto user = co_await with_book(std::move(find));
  if (!user) co_return user.take_error();
  std::string username = user->username, email = user->email.value_or("");
  auto fresh = co_await make_hash(std::move(new_password), std::move(username), std::move(email));
  if (!fresh) co_return fresh.take_error();  // the link stays
  auto set = [secret, made = *fresh, address](Book& book) { return book.take_reset(secret, made, address); };
  co_return co_await with_book(std::move(set));
}

}  // namespace myelin::accounts
