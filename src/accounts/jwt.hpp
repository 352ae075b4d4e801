#pragma once
// JSON Web Tokens (RFC 7519) signed with HS256 by this server; those of OpenID providers are oidc.hpp's. Which algorithm is right is
// the verifier's knowledge, never the token's. Pure functions.

#include <array>
#include <chrono>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "codec/json_value.hpp"

namespace myelin::accounts {

/// 32 bytes or more.
using Secret = std::string;

[[nodiscard]] std::string base64url(std::string_view bytes);                       // RFC 4648 section 5, without padding
[[nodiscard]] std::optional<std::string> from_base64url(std::string_view text);

/// `claims`: JSON text of one object, kept in its order.
[[nodiscard]] std::string sign_jwt(std::string_view claims, const Secret& secret);

enum class JwtFault { none, segments, algorithm, malformed, signature, not_yet, expired };

struct Jwt {
  JwtFault fault = JwtFault::none;
  codec::Json claims;  // also of one that has expired, or is not yet valid
};
/// Looks, in this order, at its form, its algorithm, its signature, nbf and exp.
[[nodiscard]] Jwt verify_jwt(std::string_view token, const Secret& secret, std::chrono::system_clock::time_point now);

}  // namespace myelin::accounts
