#include "accounts/jwt.hpp"

#include <sodium.h>

#include <cstring>

namespace myelin::accounts {
namespace {

using Mac = std::array<unsigned char, crypto_auth_hmacsha256_BYTES>;

Mac mac_of(std::string_view text, const Secret& secret) {
  // The key may have any length (RFC 2104), unlike crypto_auth_hmacsha256's.
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, reinterpret_cast<const unsigned char*>(secret.data()), secret.size());
  crypto_auth_hmacsha256_update(&state, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  Mac mac{};
  crypto_auth_hmacsha256_final(&state, mac.data());
  return mac;
}

std::string_view bytes_of(const Mac& mac) { return {reinterpret_cast<const char*>(mac.data()), mac.size()}; }

}  // namespace

std::string base64url(std::string_view bytes) {
  std::string out(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_URLSAFE_NO_PADDING), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  out.resize(std::strlen(out.c_str()));
  return out;
}

std::optional<std::string> from_base64url(std::string_view text) {
  std::string out(text.size() + 1, '\0');
  std::size_t size = 0;
  if (sodium_base642bin(reinterpret_cast<unsigned char*>(out.data()), out.size(), text.data(), text.size(), nullptr, &size, nullptr,
                        sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
    return std::nullopt;
  out.resize(size);
  return out;
}

std::string sign_jwt(std::string_view claims, const Secret& secret) {
  static const std::string head = base64url(R"({"typ":"JWT","alg":"HS256"})");
  std::string token = head + "." + base64url(claims);
  return token + "." + base64url(bytes_of(mac_of(token, secret)));
}

Jwt verify_jwt(std::string_view token, const Secret& secret, std::chrono::system_clock::time_point now) {
  auto fault = [](JwtFault what) { return Jwt{what, {}}; };
  auto first = token.find('.');
  auto second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos) return fault(JwtFault::segments);
  auto head_text = from_base64url(token.substr(0, first));
  if (!head_text) return fault(JwtFault::malformed);
  auto head = codec::Json::parse(*head_text);
  if (!head) return fault(JwtFault::malformed);
  if (head->get_string("alg") != "HS256" || head->has("crit")) return fault(JwtFault::algorithm);
  auto given = from_base64url(token.substr(second + 1));
  const Mac mac = mac_of(token.substr(0, second), secret);
  if (!given || given->size() != mac.size() || sodium_memcmp(given->data(), mac.data(), mac.size()) != 0) return fault(JwtFault::signature);
  auto payload = from_base64url(token.substr(first + 1, second - first - 1));
  auto claims = payload ? codec::Json::parse(*payload) : Result<codec::Json>(Error{});
  if (!claims) return fault(JwtFault::malformed);
  Jwt jwt{JwtFault::none, std::move(*claims)};
  const double seconds = std::chrono::duration<double>(now.time_since_epoch()).count();
  if (auto from = jwt.claims.get_double("nbf"); from && *from > seconds) jwt.fault = JwtFault::not_yet;
  else if (auto until = jwt.claims.get_double("exp"); !until || *until <= seconds) jwt.fault = JwtFault::expired;
  return jwt;
}

}  // namespace myelin::accounts
