#include "accounts/oidc.hpp"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

#include <algorithm>
#include <boost/json.hpp>

#include "accounts/jwt.hpp"

namespace myelin::accounts::oidc {
namespace {

constexpr std::size_t token_bytes = 32 * 1024, keys_read = 100;
constexpr double leeway_s = 60;
constexpr int rsa_bits_least = 2048, rsa_bits_most = 8192;

template <auto free>
struct Free {
  void operator()(auto* it) const { free(it); }
};
using Pkey = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using PkeyContext = std::unique_ptr<EVP_PKEY_CTX, Free<EVP_PKEY_CTX_free>>;
using ParamBuilder = std::unique_ptr<OSSL_PARAM_BLD, Free<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Free<OSSL_PARAM_free>>;
using Number = std::unique_ptr<BIGNUM, Free<BN_free>>;
using Signature = std::unique_ptr<ECDSA_SIG, Free<ECDSA_SIG_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Free<EVP_MD_CTX_free>>;

const unsigned char* bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
Number number_of(std::string_view big_endian) { return Number(BN_bin2bn(bytes(big_endian), static_cast<int>(big_endian.size()), nullptr)); }

Pkey key_from(const char* kind, OSSL_PARAM_BLD* builder) {
  Params params(OSSL_PARAM_BLD_to_param(builder));
  PkeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr));
  EVP_PKEY* key = nullptr;
  if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1)
    return nullptr;
  return Pkey(key);
}

Pkey rsa_key(const codec::Json& jwk) {
  auto n = from_base64url(jwk.get_string("n").value_or("")), e = from_base64url(jwk.get_string("e").value_or(""));
  if (!n || !e || n->empty() || e->empty() || n->size() > rsa_bits_most / 8 + 1 || e->size() > 8) return nullptr;
  Number modulus = number_of(*n), exponent = number_of(*e);
  ParamBuilder builder(OSSL_PARAM_BLD_new());
  if (!modulus || !exponent || !builder || !BN_is_odd(exponent.get()) || BN_is_one(exponent.get()) ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get()) != 1)
    return nullptr;
  Pkey key = key_from("RSA", builder.get());
  if (key && (EVP_PKEY_get_bits(key.get()) < rsa_bits_least || EVP_PKEY_get_bits(key.get()) > rsa_bits_most)) return nullptr;
  return key;
}

Pkey p256_key(const codec::Json& jwk) {
  auto x = from_base64url(jwk.get_string("x").value_or("")), y = from_base64url(jwk.get_string("y").value_or(""));
  if (jwk.get_string("crv") != "P-256" || !x || !y || x->size() != 32 || y->size() != 32) return nullptr;
  const std::string point = '\x04' + *x + *y;
  ParamBuilder builder(OSSL_PARAM_BLD_new());
  if (!builder || OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1)
    return nullptr;
  return key_from("EC", builder.get());  // a point that is not on the curve is refused there
}

// RFC 7518 section 3.4: r and s, 32 bytes each; OpenSSL wants them in DER.
std::string der_of(std::string_view raw) {
  if (raw.size() != 64) return "";
  Signature signature(ECDSA_SIG_new());
  Number r = number_of(raw.substr(0, 32)), s = number_of(raw.substr(32));
  if (!signature || !r || !s || ECDSA_SIG_set0(signature.get(), r.get(), s.get()) != 1) return "";
  (void)r.release();  // they are the signature's now
  (void)s.release();
  const int size = i2d_ECDSA_SIG(signature.get(), nullptr);
  if (size <= 0) return "";
  std::string der(static_cast<std::size_t>(size), '\0');
  auto* at = reinterpret_cast<unsigned char*>(der.data());
  i2d_ECDSA_SIG(signature.get(), &at);
  return der;
}

Error refused(std::string why, std::string detail = "") { return {Code::unauthorized, "the ID token " + std::move(why), std::move(detail)}; }

// For the log: what a provider sent must not break its lines.
std::string plain(std::string_view text) {
  std::string out(text.substr(0, 120));
  std::replace_if(out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return out;
}

}  // namespace

struct Keys::Key {
  std::string algorithm;  // RS256 or ES256: what it can sign
  std::optional<std::string> id;
  Pkey key;
};

Keys::Keys() = default;
Keys::~Keys() = default;
Keys::Keys(Keys&&) noexcept = default;
Keys& Keys::operator=(Keys&&) noexcept = default;
std::size_t Keys::size() const { return keys_.size(); }

Result<Keys> Keys::read(std::string_view text) {
  auto document = codec::Json::parse(text);
  auto list = document ? document->get_objects("keys") : std::nullopt;
  if (!list) return Error{Code::unavailable, "the provider's list of keys is none", ""};
  Keys out;
  for (const auto& jwk : *list) {
    if (out.keys_.size() == keys_read) break;
    const std::string kind = jwk.get_string("kty").value_or("");
    const std::string algorithm = kind == "RSA" ? "RS256" : kind == "EC" ? "ES256" : "";
    if (algorithm.empty() || jwk.get_string("use").value_or("sig") != "sig" || jwk.get_string("alg").value_or(algorithm) != algorithm) continue;
    if (auto operations = jwk.get_strings("key_ops"); operations && std::find(operations->begin(), operations->end(), "verify") == operations->end()) continue;
    Pkey key = kind == "RSA" ? rsa_key(jwk) : p256_key(jwk);
    if (key) out.keys_.push_back({algorithm, jwk.get_string("kid"), std::move(key)});
  }
  return out;
}

Keys::Found Keys::verify(std::string_view algorithm, const std::optional<std::string>& kid, std::string_view text, std::string_view signature) const {
  Found found = Found::unknown_key;
  const std::string der = algorithm == "ES256" ? der_of(signature) : std::string(signature);
  for (const auto& key : keys_) {
    if (key.algorithm != algorithm || (kid && key.id != kid)) continue;
    found = Found::wrong;
    DigestContext context(EVP_MD_CTX_new());
    if (context && EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.key.get()) == 1 &&
        EVP_DigestVerify(context.get(), bytes(der), der.size(), bytes(text), text.size()) == 1)
      return Found::right;
  }
  // Of a token that names no key: perhaps a newer one signed it.
  return found == Found::wrong && !kid ? Found::unknown_key : found;
}

std::string host_of(std::string_view url) {
  std::string text;
  for (unsigned char c : url.substr(0, 2048)) {
    if (c <= 0x20 || c >= 0x7f || c == '\\') return "";
    text += static_cast<char>(std::tolower(c));
  }
  std::string_view rest = text;
  if (rest.starts_with("https://")) rest.remove_prefix(8);
  else if (rest.starts_with("http://")) rest.remove_prefix(7);
  else return "";
  rest = rest.substr(0, rest.find_first_of("/?#"));
  if (rest.find('@') != std::string_view::npos) return "";
  if (!rest.starts_with('[')) return std::string(rest.substr(0, rest.find(':')));
  const auto end = rest.find(']');
  return end == std::string_view::npos ? "" : std::string(rest.substr(1, end - 1));
}

bool is_here(std::string_view url) {
  if (!url.starts_with("http://")) return false;
  const std::string host = host_of(url);
  return host == "localhost" || host == "::1" ||
         (host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3 && host.find_first_not_of("0123456789.") == std::string::npos);
}

bool may_ask(std::string_view url, std::string_view issuer) {
  return (url.starts_with("https://") && !host_of(url).empty()) || (is_here(url) && is_here(issuer));
}

Result<Discovery> read_discovery(std::string_view text, std::string_view issuer) {
  auto document = codec::Json::parse(text);
  if (!document) return Error{Code::unavailable, "openid-configuration of " + std::string(issuer) + " is no JSON object", ""};
  if (document->get_string("issuer") != issuer)
    return Error{Code::unavailable, "openid-configuration of " + std::string(issuer) + " is of the issuer \"" + plain(document->get_string("issuer").value_or("")) + "\": oidc.issuer must be exactly that, if it is meant", ""};
  Discovery out;
  auto take = [&](const char* name, std::string& to) {
    to = document->get_string(name).value_or("");
    return may_ask(to, issuer);
  };
  for (auto& [name, to] : {std::pair<const char*, std::string&>{"authorization_endpoint", out.authorization_endpoint},
                           {"token_endpoint", out.token_endpoint},
                           {"jwks_uri", out.jwks_uri}})
    if (!take(name, to)) return Error{Code::unavailable, "openid-configuration of " + std::string(issuer) + " has no https address as " + name, ""};
  if (!take("userinfo_endpoint", out.userinfo_endpoint)) out.userinfo_endpoint.clear();
  if (auto methods = document->get_strings("token_endpoint_auth_methods_supported")) {
    auto has = [&](const char* method) { return std::find(methods->begin(), methods->end(), method) != methods->end(); };
    out.secret_in_body = has("client_secret_post") && !has("client_secret_basic");
  }
  out.names_issuer = document->get_bool("authorization_response_iss_parameter_supported").value_or(false);
  return out;
}

std::optional<std::vector<std::string>> texts_of(const codec::Json& claims, std::string_view name) {
  if (auto one = claims.get_string(name)) return std::vector<std::string>{std::move(*one)};
  return claims.get_strings(name);
}

Result<codec::Json> check_id_token(std::string_view token, const Keys& keys, const Expected& expected, std::chrono::system_clock::time_point now) {
  if (token.size() > token_bytes) return refused("is too large");
  const auto first = token.find('.'), second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) return refused("has not three parts");
  auto head_text = from_base64url(token.substr(0, first));
  auto head = head_text ? codec::Json::parse(*head_text) : Result<codec::Json>(Error{});
  if (!head) return refused("has no readable header");
  const std::string algorithm = head->get_string("alg").value_or("");
  if (algorithm != "RS256" && algorithm != "ES256") return refused("is signed with \"" + plain(algorithm) + "\": RS256 and ES256 are believed, set one for this client at the provider");
  if (head->has("crit")) return refused("asks for extensions that nobody here knows");
  auto signature = from_base64url(token.substr(second + 1));
  auto payload = from_base64url(token.substr(first + 1, second - first - 1));
  if (!signature || !payload) return refused("is not written in base64url");
  if (head->has("kid") && !head->get_string("kid")) return refused("names its key by no text");
  switch (keys.verify(algorithm, head->get_string("kid"), token.substr(0, second), *signature)) {
    case Keys::Found::right: break;
    case Keys::Found::wrong: return refused("has a wrong signature");
    case Keys::Found::unknown_key: return refused("is signed by a key that the provider does not list for " + algorithm, "unknown_key");
  }
  auto claims = codec::Json::parse(*payload);
  if (!claims) return refused("holds no JSON object");

  if (claims->get_string("iss") != expected.issuer) return refused("is of the issuer \"" + plain(claims->get_string("iss").value_or("")) + "\"");
  auto audience = texts_of(*claims, "aud");
  if (!audience || std::find(audience->begin(), audience->end(), expected.client_id) == audience->end()) return refused("is for another client");
  if (claims->has("azp") ? claims->get_string("azp") != expected.client_id : audience->size() > 1) return refused("was made for another client (azp)");
  const double seconds = std::chrono::duration<double>(now.time_since_epoch()).count();
  auto until = claims->get_double("exp"), made = claims->get_double("iat"), from = claims->get_double("nbf");
  if (!until || !made || (claims->has("nbf") && !from)) return refused("does not say when it was made and until when it is valid");
  if (*until + leeway_s <= seconds) return refused("has expired; are the clocks of both servers right?");
  if (*made - leeway_s > seconds || (from && *from - leeway_s > seconds)) return refused("is from the future; are the clocks of both servers right?");
  if (expected.nonce.empty() || claims->get_string("nonce") != expected.nonce) return refused("is not of this sign-in (nonce)");
  const std::string subject = claims->get_string("sub").value_or("");
  if (subject.empty() || subject.size() > 255) return refused("does not say whom it is about (sub)");
  return claims;
}

std::string challenge_of(std::string_view verifier) {
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(bytes(verifier), verifier.size(), hash);
  return base64url({reinterpret_cast<const char*>(hash), sizeof hash});
}

}  // namespace myelin::accounts::oidc
