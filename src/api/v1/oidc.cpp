// Signing in at an OpenID provider: the browser goes there and comes back with a code. What one sign-in must remember meanwhile the
// browser keeps, in a cookie that is signed, unreadable to scripts and gone after ten minutes. Whatever goes wrong, a browser ends on
// the page to sign in, which has a sentence for each code; programs get it as a problem.

#include "api/oidc.hpp"

#include "accounts/jwt.hpp"
#include "api/v1/accounts.hpp"
#include "api/v1/v1.hpp"
#include "base/log.hpp"
#include "http/text.hpp"

namespace myelin::api::v1 {
namespace {

constexpr std::string_view attempt_cookie = "__Host-myelin-oidc";

struct Failure {
  int status;
  const char* code;
  const char* message;
};
constexpr Failure no_provider{400, "no_provider", "this server has no OpenID provider: sign in by a password"};
constexpr Failure insecure{400, "insecure", "over plain http a browser's sign-in works on this machine only: use https (tls_cert, tls_key, or a proxy and public_url)"};
constexpr Failure unavailable{503, "provider_unavailable", "the OpenID provider can't be reached now; try again in a moment"};
constexpr Failure expired{400, "sign_in_expired", "this sign-in took longer than ten minutes, was used before, or was begun in another browser: begin again"};
constexpr Failure denied{403, "sign_in_denied", "the OpenID provider did not let you in"};
constexpr Failure refused{401, "sign_in_refused", "what the OpenID provider answered can't be believed; the server's log says why"};
constexpr Failure no_account{403, "no_account", "there is no account for you here: ask an admin for one"};
constexpr Failure name_taken{409, "name_taken", "your name is another account's here: if that is yours, ask an admin to link it to your sign-in"};
constexpr Failure no_name{403, "no_name", "the OpenID provider gave no name that an account can have: ask an admin for an account"};
constexpr Failure email_not_allowed{403, "email_not_allowed", "your email is not verified, or not of a domain that may sign in here"};
constexpr Failure inactive{403, "inactive", "this account is not active; an admin can activate it"};

bool wants_page(const http::Request& request) { return request.headers.get("Accept").find("text/html") != std::string_view::npos; }

void keep_attempt(http::Response& response, const std::string& value, std::chrono::seconds lifetime) {
  // Lax: the way back starts at the provider's page.
  response.headers.add("Set-Cookie", std::string(attempt_cookie) + "=" + value + "; Path=/; Max-Age=" + std::to_string(lifetime.count()) +
                                         "; Secure; HttpOnly; SameSite=Lax");
}

http::Response go_to(std::string location) {
  http::Response response;
  response.status = 302;
  response.headers.set("Location", std::move(location));
  response.headers.set("Cache-Control", "no-store");
  response.headers.set("Referrer-Policy", "no-referrer");
  return response;
}

// `app`: the page, as seen from the route.
http::Response fail(const http::Request& request, const char* app, const Failure& failure) {
  if (wants_page(request)) return go_to(std::string(app) + "?signin=" + failure.code);
  auto response = http::problem(failure.status, failure.code, failure.message);
  response.headers.set("Cache-Control", "no-store");
  if (failure.status == 503) response.headers.set("Retry-After", "3");
  return response;
}

Failure failure_of(const Error& error) {
  if (error.code == Code::unauthorized) return refused;
  if (error.code == Code::forbidden) return error.detail == "email_not_allowed" ? email_not_allowed : inactive;
  if (error.code == Code::not_found) return no_account;
  if (error.code == Code::conflict) return name_taken;
  if (error.code == Code::bad_request) return no_name;
  return unavailable;
}

// What signs the cookie can sign nothing else.
accounts::Secret cookie_key(Context& context) { return accounts::hash_secret("openid attempt " + context.accounts->who().secret()); }

std::string written(const OidcProvider::Attempt& attempt, const accounts::Secret& key) {
  const auto until = std::chrono::system_clock::now() + OidcProvider::attempt_lifetime;
  codec::Json claims;
  claims.set("state", attempt.state).set("nonce", attempt.nonce).set("verifier", attempt.verifier).set("redirect_uri", attempt.redirect_uri);
  claims.set("exp", std::chrono::duration_cast<std::chrono::seconds>(until.time_since_epoch()).count());
  return accounts::sign_jwt(claims.text(), key);
}

std::optional<OidcProvider::Attempt> attempt_of(const http::Request& request, const accounts::Secret& key) {
  for (std::string_view header : request.headers.all("Cookie")) {
    auto value = http::cookie_value(header, attempt_cookie);
    if (!value) continue;
    auto jwt = accounts::verify_jwt(*value, key, std::chrono::system_clock::now());
    if (jwt.fault != accounts::JwtFault::none) return std::nullopt;
    auto text = [&jwt](const char* name) { return jwt.claims.get_string(name).value_or(""); };
    return OidcProvider::Attempt{text("state"), text("nonce"), text("verifier"), text("redirect_uri")};
  }
  return std::nullopt;
}

Task<http::Response> begin(Context& context, Asked asked) {
  constexpr auto app = "../../app/";
  if (!context.accounts || !context.oidc) co_return fail(asked.request, app, no_provider);
  if (!cookie_works(asked.request)) co_return fail(asked.request, app, insecure);
  const std::string here = context.settings.public_url.empty()
                               ? (asked.request.secure ? "https://" : "http://") + std::string(asked.request.headers.get("Host"))
                               : context.settings.public_url;
  auto attempt = OidcProvider::make_attempt(here + "/v1/auth/oidc/callback");
  auto cookie = written(attempt, cookie_key(context));
  auto there = co_await context.oidc->begin(std::move(attempt));
  if (!there) {
    log::warning("OpenID provider: " + there.error().message);
    co_return fail(asked.request, app, failure_of(there.error()));
  }
  auto response = go_to(std::move(*there));
  keep_attempt(response, cookie, OidcProvider::attempt_lifetime);
  co_return response;
}

Task<http::Response> come_back(Context& context, http::Request request) {
  constexpr auto app = "../../../app/";
  auto given = [&request](const char* name) { return http::query_value(request.query, name); };
  auto attempt = attempt_of(request, cookie_key(context));
  const std::string state = given("state").value_or("");
  if (!attempt || state.empty() || state != attempt->state || !context.oidc->first_use(state)) co_return fail(request, app, expired);
  if (auto error = given("error")) {
    if (*error == "access_denied" || *error == "login_required" || *error == "interaction_required") co_return fail(request, app, denied);
    std::string said = error->substr(0, 100);
    std::erase_if(said, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    log::warning("OpenID provider: it sends the browser back with the error \"" + said + "\"");
    co_return fail(request, app, *error == "temporarily_unavailable" || *error == "server_error" ? unavailable : refused);
  }
  auto code = given("code");
  if (!code || code->empty() || code->size() > 4096) co_return fail(request, app, refused);
  std::string the_code = std::move(*code), address = request.remote_address;
  auto issuer = given("iss");
  std::string from = address;
  auto person = co_await context.oidc->finish(std::move(*attempt), std::move(the_code), std::move(issuer), std::move(from));
  if (!person) {
    log::warning("OpenID sign-in from " + address + ": " + person.error().message);
    if (person.error().code == Code::forbidden) {
      accounts::Actor provider{"provider", context.oidc->issuer(), address};
      std::string why = person.error().message;
      auto note = [provider, why](accounts::Book& book) { return book.note(provider, "sign_in.failed", "", why); };
      auto noted = co_await context.accounts->with_book(std::move(note));
      if (!noted) log::warning("the audit log can't be written: " + noted.error().message);
    }
    co_return fail(request, app, failure_of(person.error()));
  }
  std::string client = "browser";
  accounts::Person who = std::move(*person);
  auto done = co_await context.accounts->sign_in_by_provider(std::move(who), std::move(client), std::move(address));
  if (!done) {
    const auto failure = failure_of(done.error());
    if (failure.status == 503) log::warning("OpenID sign-in: " + done.error().message);
    co_return fail(request, app, failure);
  }
  co_return set_cookie(go_to(app), done->cookie, done->expires_in);
}

Task<http::Response> callback(Context& context, Asked asked) {
  if (!context.accounts || !context.oidc) co_return fail(asked.request, "../../../app/", no_provider);
  auto response = co_await come_back(context, std::move(asked.request));
  keep_attempt(response, "", std::chrono::seconds(0));
  co_return response;
}

}  // namespace

std::vector<Route> oidc_routes() {
  return {
      {.method = "GET", .pattern = "/v1/auth/oidc", .handler = begin, .needs = "open", .tag = "auth",
       .summary = "For browsers: sign in at the OpenID provider, if there is one", .status = 302},
      {.method = "GET", .pattern = "/v1/auth/oidc/callback", .handler = callback, .needs = "open", .tag = "auth",
       .summary = "Where the OpenID provider sends the browser back to", .query = "code,state,iss,error", .status = 302},
  };
}

}  // namespace myelin::api::v1
