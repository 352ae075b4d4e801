#pragma once
// What an OpenID provider says (OpenID Connect Core 1.0, Discovery 1.0), read and judged. Pure functions over text: who asks the
// provider is api/oidc.
//
// An ID token is believed only if it is signed with RS256 or ES256 by a key of the provider's own list that is for that algorithm, is
// from this issuer, for this client, of this moment (a minute of leeway), and carries the nonce of this very sign-in. What the token
// says of its algorithm chooses among those two and nothing else.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "codec/json_value.hpp"

namespace myelin::accounts::oidc {

/// [oidc] of the configuration. Without an issuer there is no such sign-in.
struct Settings {
  std::string issuer, client_id;
  std::string client_secret;  // empty: a public client, which PKCE alone protects
  std::string name;           // on the button; empty: the issuer's host
  std::vector<std::string> scopes = {"openid", "profile", "email"};
  bool create_users = true;             // at their first sign-in
  std::string default_role = "guest";   // of those: guest or member
  std::string username_claim = "preferred_username";
  std::string groups_claim;             // empty: groups are Myelin's own matter
  std::vector<std::string> email_domains;  // empty: any, and none
};

/// Where a provider is to be asked.
struct Discovery {
  std::string authorization_endpoint, token_endpoint, jwks_uri, userinfo_endpoint;  // the last may be empty
  bool secret_in_body = false;  // the client's secret is no Authorization header there
  bool names_issuer = false;    // its answers by redirect always say `iss` (RFC 9207)
};
/// Of openid-configuration. Errors: unavailable (it is another issuer's, or can't be used).
[[nodiscard]] Result<Discovery> read_discovery(std::string_view text, std::string_view issuer);

/// Of an http:// or https:// address: its host in lower case, without port and brackets; "" for any other text, and where a user's
/// name or anything stands in it that two readers could read differently.
[[nodiscard]] std::string host_of(std::string_view url);
/// http:// on 127.0.0.0/8, ::1 or localhost: needs no TLS.
[[nodiscard]] bool is_here(std::string_view url);
/// Of what an issuer names: https, or, if the issuer itself is here, here too.
[[nodiscard]] bool may_ask(std::string_view url, std::string_view issuer);

/// The provider's public keys (RFC 7517) that can sign for us: RSA from 2048 bits, and P-256. Others are passed over.
class Keys {
 public:
  Keys();
  ~Keys();
  Keys(Keys&&) noexcept;
  Keys& operator=(Keys&&) noexcept;
  [[nodiscard]] static Result<Keys> read(std::string_view text);
  [[nodiscard]] std::size_t size() const;

  enum class Found { right, wrong, unknown_key };
  /// `kid` may be absent: then any key of the right kind.
  [[nodiscard]] Found verify(std::string_view algorithm, const std::optional<std::string>& kid, std::string_view text, std::string_view signature) const;

 private:
  struct Key;
  std::vector<Key> keys_;
};

struct Expected {
  std::string issuer, client_id, nonce;
};
/// The claims of a token that is right in all respects. Errors: unauthorized; its detail is "unknown_key" where newer keys may help,
/// its message is for the log and holds nothing of the token but names.
[[nodiscard]] Result<codec::Json> check_id_token(std::string_view token, const Keys& keys, const Expected& expected,
                                                 std::chrono::system_clock::time_point now);

/// S256 of RFC 7636.
[[nodiscard]] std::string challenge_of(std::string_view verifier);

/// Texts of a claim that is one text or a list of them; nothing where it is absent or something else.
[[nodiscard]] std::optional<std::vector<std::string>> texts_of(const codec::Json& claims, std::string_view name);

}  // namespace myelin::accounts::oidc
