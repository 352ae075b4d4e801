#include "api/oidc.hpp"

#include <algorithm>

#include "accounts/guard.hpp"
#include "accounts/jwt.hpp"
#include "base/ids.hpp"
#include "base/log.hpp"
#include "http/fetch.hpp"
#include "http/text.hpp"

namespace myelin::api {
namespace {

using namespace accounts::oidc;  // NOLINT
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t threads = 4, waiting_most = 64, states_most = 20'000;
constexpr int of_one_address = 16;  // many may share one
constexpr seconds whole_sign_in{20}, one_request{10}, documents_live{3600}, failure_lives{3};
constexpr std::size_t document_bytes = 256 * 1024, token_bytes = 64 * 1024;
constexpr double refreshes_most = 4, refresh_every_s = 60;

Error busy() { return {Code::unavailable, "too many are signing in at once", ""}; }

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

void add(std::string& form, std::string_view name, std::string_view value) {
  if (!form.empty()) form += '&';
  form.append(name).append("=").append(http::percent_encode(value));
}

std::string base64(std::string_view text) {  // of a Basic header: with padding, in the usual alphabet
  std::string out = accounts::base64url(text);
  std::replace(out.begin(), out.end(), '-', '+');
  std::replace(out.begin(), out.end(), '_', '/');
  while (out.size() % 4 != 0) out += '=';
  return out;
}

// The provider's own text, for the log.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, 200));
  std::replace_if(out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return out;
}

// Some say true as a text.
bool verified(const codec::Json& claims) {
  return claims.get_bool("email_verified").value_or(false) || claims.get_string("email_verified") == "true";
}

}  // namespace

OidcProvider::OidcProvider(async::Loop& loop, Settings settings)
    : settings_(std::move(settings)), refreshes_left_(refreshes_most), refreshes_counted_(Clock::now()), pool_(loop, threads, waiting_most) {}

OidcProvider::Attempt OidcProvider::make_attempt(std::string redirect_uri) {
  return {random_hex(24), random_hex(24), random_hex(32), std::move(redirect_uri)};
}

bool OidcProvider::first_use(const std::string& state) {
  const auto now = Clock::now();
  if (used_.size() >= states_most) std::erase_if(used_, [now](const auto& one) { return one.second < now; });
  if (used_.size() >= states_most) used_.clear();  // somebody plays: the others must get in all the same
  return used_.try_emplace(state, now + attempt_lifetime).second;
}

Task<Result<std::string>> OidcProvider::begin(Attempt attempt) {
  if (Clock::now() >= authorize_until_) {
    if (pool_.waiting() >= waiting_most) co_return busy();
    const auto deadline = Clock::now() + whole_sign_in;
    auto work = [this, deadline] { return discovery(deadline); };
    auto where = co_await async::on_pool(pool_, std::move(work));
    if (!where) co_return where.take_error();
    authorize_at_ = where->authorization_endpoint.substr(0, where->authorization_endpoint.find('#'));
    authorize_until_ = Clock::now() + seconds(60);
  }
  std::string scope, query;
  for (const auto& one : settings_.scopes) scope += (scope.empty() ? "" : " ") + one;
  add(query, "response_type", "code");
  add(query, "client_id", settings_.client_id);
  add(query, "redirect_uri", attempt.redirect_uri);
  add(query, "scope", scope);
  add(query, "state", attempt.state);
  add(query, "nonce", attempt.nonce);
  add(query, "code_challenge", challenge_of(attempt.verifier));
  add(query, "code_challenge_method", "S256");
  co_return authorize_at_ + (authorize_at_.find('?') == std::string::npos ? "?" : "&") + query;
}

Task<Result<accounts::Person>> OidcProvider::finish(Attempt attempt, std::string code, std::optional<std::string> issuer, std::string address) {
  const std::string whose = accounts::Guard::address_class(address);
  if (pool_.waiting() >= waiting_most || in_flight_[whose] >= of_one_address) co_return busy();
  ++in_flight_[whose];
  const auto deadline = Clock::now() + whole_sign_in;  // waiting for a thread counts
  auto work = [this, attempt, code, issuer, deadline] { return exchange(attempt, code, issuer, deadline); };
  auto person = co_await async::on_pool(pool_, std::move(work));
  if (--in_flight_[whose] <= 0) in_flight_.erase(whose);
  co_return person;
}

// The body of a 200. Errors: unavailable; unauthorized for what the provider refuses (4xx).
Result<std::string> OidcProvider::ask(const std::string& url, std::string form, std::string authorization, std::size_t limit_bytes, Clock::time_point deadline) {
  http::Fetch request;
  request.url = url;
  request.here = is_here(url);
  request.form = std::move(form);
  if (!authorization.empty()) request.headers.push_back("Authorization: " + authorization);
  request.limit_bytes = limit_bytes;
  request.deadline = std::min<milliseconds>(one_request, std::chrono::duration_cast<milliseconds>(deadline - Clock::now()));
  request.stop = &stopping_;
  if (stopping_) return Error{Code::unavailable, "the server is stopping", ""};
  if (request.deadline.count() <= 0) return Error{Code::unavailable, settings_.issuer + " takes too long", ""};
  auto answer = http::fetch(request);
  if (!answer) return Error{Code::unavailable, answer.error().message, ""};
  if (answer->status == 200) return std::move(answer->body);
  std::string why = url + " answers " + std::to_string(answer->status);
  if (auto said = codec::Json::parse(answer->body)) {
    why += " " + shown(said->get_string("error").value_or(""));
    if (auto more = said->get_string("error_description")) why += ": " + shown(*more);
  }
  const bool refusal = answer->status >= 400 && answer->status < 500 && answer->status != 429 && answer->status != 404;
  return Error{refusal ? Code::unauthorized : Code::unavailable, std::move(why), ""};
}

Result<Discovery> OidcProvider::discovery(Clock::time_point deadline) {
  std::lock_guard lock(discovery_mutex_);
  if (discovery_ && Clock::now() < discovery_until_) return *discovery_;
  if (failure_ && Clock::now() < failure_until_) return Error(*failure_);
  std::string base = settings_.issuer;
  while (base.ends_with('/')) base.pop_back();
  auto text = ask(base + "/.well-known/openid-configuration", "", "", document_bytes, deadline);
  auto read = text ? read_discovery(*text, settings_.issuer) : Result<Discovery>(text.take_error());
  if (!read) {
    failure_ = Error{Code::unavailable, read.error().message, ""};
    failure_until_ = Clock::now() + failure_lives;
    return Error(*failure_);
  }
  failure_.reset();
  discovery_ = std::move(*read);
  discovery_until_ = Clock::now() + documents_live;
  return *discovery_;
}

Result<codec::Json> OidcProvider::believe(const Discovery& where, const std::string& token, const std::string& nonce, Clock::time_point deadline) {
  const Expected expected{settings_.issuer, settings_.client_id, nonce};
  std::lock_guard lock(keys_mutex_);
  const auto now = Clock::now();
  auto fetch_keys = [&]() -> Result<void> {
    auto text = ask(where.jwks_uri, "", "", document_bytes, deadline);
    if (!text) return Error{Code::unavailable, text.error().message, ""};
    auto read = Keys::read(*text);
    if (!read) return read.take_error();
    keys_ = std::move(*read);
    keys_until_ = now + documents_live;
    return {};
  };
  const bool fresh = now >= keys_until_;
  if (fresh)
    if (auto fetched = fetch_keys(); !fetched) return fetched.take_error();
  auto claims = check_id_token(token, keys_, expected, std::chrono::system_clock::now());
  if (claims || claims.error().detail != "unknown_key" || fresh) return claims;
  // The provider may have changed its keys. A token can be made up with any name of a key: so not at will.
  refreshes_left_ = std::min(refreshes_most, refreshes_left_ + std::chrono::duration<double>(now - refreshes_counted_).count() / refresh_every_s);
  refreshes_counted_ = now;
  if (refreshes_left_ < 1) return claims;
  refreshes_left_ -= 1;
  if (auto fetched = fetch_keys(); !fetched) return fetched.take_error();
  return check_id_token(token, keys_, expected, std::chrono::system_clock::now());
}

// Some providers tell most of a person at another address only, to who has the access token.
Result<codec::Json> OidcProvider::more_claims(const Discovery& where, codec::Json claims, const std::string& access_token, Clock::time_point deadline) {
  std::vector<std::string> wanted{settings_.username_claim};
  if (!settings_.groups_claim.empty()) wanted.push_back(settings_.groups_claim);
  if (std::find(settings_.scopes.begin(), settings_.scopes.end(), "email") != settings_.scopes.end()) wanted.push_back("email");
  const bool enough = std::all_of(wanted.begin(), wanted.end(), [&](const auto& name) { return claims.has(name); });
  const bool sendable = std::all_of(access_token.begin(), access_token.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  if (enough || where.userinfo_endpoint.empty() || access_token.empty() || !sendable) return claims;
  auto text = ask(where.userinfo_endpoint, "", "Bearer " + access_token, token_bytes, deadline);
  if (!text) return text.take_error();
  auto more = codec::Json::parse(*text);
  if (!more) return Error{Code::unavailable, where.userinfo_endpoint + " answers with no JSON object", ""};
  if (more->get_string("sub") != claims.get_string("sub")) return Error{Code::unauthorized, where.userinfo_endpoint + " tells of somebody else", ""};
  for (const auto& name : more->keys())
    if (!claims.has(name)) (void)claims.set_text(name, more->get_text(name).value_or("null"));
  return claims;
}

Result<accounts::Person> OidcProvider::who_is(const codec::Json& claims) const {
  accounts::Person person;
  person.issuer = settings_.issuer;
  person.subject = claims.get_string("sub").value_or("");
  if (verified(claims)) person.email = claims.get_string("email");
  if (!settings_.email_domains.empty()) {
    const std::string email = person.email.value_or("");
    const auto at = email.rfind('@');
    const std::string domain = at == std::string::npos ? "" : lower(email.substr(at + 1));
    const bool allowed = std::any_of(settings_.email_domains.begin(), settings_.email_domains.end(), [&](const auto& one) { return lower(one) == domain; });
    if (domain.empty() || !allowed) return Error{Code::forbidden, "subject " + shown(person.subject) + " has no verified email of an allowed domain", "email_not_allowed"};
  }
  person.username = claims.get_string(settings_.username_claim).value_or(person.email.value_or(person.subject));
  if (settings_.create_users) person.role = settings_.default_role;
  if (!settings_.groups_claim.empty()) {
    person.groups = texts_of(claims, settings_.groups_claim).value_or(std::vector<std::string>{});
    for (auto& group : *person.groups)
      if (group.starts_with('/')) group.erase(0, 1);  // Keycloak writes them as paths
  }
  return person;
}

Result<accounts::Person> OidcProvider::exchange(const Attempt& attempt, const std::string& code, const std::optional<std::string>& issuer,
                                                Clock::time_point deadline) {
  auto where = discovery(deadline);
  if (!where) return where.take_error();
  if (issuer ? *issuer != settings_.issuer : where->names_issuer)
    return Error{Code::unauthorized, "the answer is of another issuer (iss)", ""};
  std::string form, authorization;
  add(form, "grant_type", "authorization_code");
  add(form, "code", code);
  add(form, "redirect_uri", attempt.redirect_uri);
  add(form, "code_verifier", attempt.verifier);
  if (settings_.client_secret.empty() || where->secret_in_body) {
    add(form, "client_id", settings_.client_id);
    if (!settings_.client_secret.empty()) add(form, "client_secret", settings_.client_secret);
  } else {
    authorization = "Basic " + base64(http::percent_encode(settings_.client_id) + ":" + http::percent_encode(settings_.client_secret));
  }
  auto text = ask(where->token_endpoint, std::move(form), std::move(authorization), token_bytes, deadline);
  if (!text) return text.take_error();
  auto tokens = codec::Json::parse(*text);
  if (!tokens) return Error{Code::unavailable, where->token_endpoint + " answers with no JSON object", ""};
  auto id_token = tokens->get_string("id_token");
  if (!id_token) return Error{Code::unauthorized, where->token_endpoint + " answers without an ID token; is \"openid\" allowed for this client?", ""};
  auto claims = believe(*where, *id_token, attempt.nonce, deadline);
  if (!claims) return claims.take_error();
  claims = more_claims(*where, std::move(*claims), tokens->get_string("access_token").value_or(""), deadline);
  if (!claims) return claims.take_error();
  return who_is(*claims);
}

}  // namespace myelin::api
