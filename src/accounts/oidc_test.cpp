#include "accounts/oidc.hpp"

#include <gtest/gtest.h>

#include "accounts/jwt.hpp"

using namespace myelin;
using namespace myelin::accounts;

namespace {

// RFC 7515, appendix A.3.
constexpr auto curve_key =
    R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})";
constexpr auto curve_text =
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
constexpr auto curve_signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

oidc::Keys keys(const std::string& list) {
  auto read = oidc::Keys::read("{\"keys\":[" + list + "]}");
  EXPECT_TRUE(read) << read.error().message;
  return read ? std::move(*read) : oidc::Keys();
}

std::size_t usable(const std::string& key) { return keys(key).size(); }

}  // namespace

TEST(Oidc, ChallengeIsThatOfTheStandard) {  // RFC 7636, appendix B
  EXPECT_EQ(oidc::challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

TEST(Oidc, SignatureOfTheStandardIsRightAndAnyOtherWrong) {
  using Found = oidc::Keys::Found;
  auto known = keys(curve_key);
  const std::string signature = *from_base64url(curve_signature);
  EXPECT_EQ(known.verify("ES256", std::nullopt, curve_text, signature), Found::right);
  EXPECT_EQ(known.verify("RS256", std::nullopt, curve_text, signature), Found::unknown_key);
  EXPECT_EQ(known.verify("ES256", "other", curve_text, signature), Found::unknown_key);
  EXPECT_NE(known.verify("ES256", std::nullopt, std::string(curve_text) + "A", signature), Found::right);
  for (const std::string& other : {std::string(), std::string(64, '\0'), std::string(64, '\xff'), signature.substr(1), signature + "A",
                                   std::string(32, '\0') + signature.substr(32), std::string(100'000, 'a')})
    EXPECT_NE(known.verify("ES256", std::nullopt, curve_text, other), Found::right);
  for (std::size_t i = 0; i < signature.size(); ++i) {
    std::string changed = signature;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_NE(known.verify("ES256", std::nullopt, curve_text, changed), Found::right);
  }
}

TEST(Oidc, KeysThatCanNotBeUsedArePassedOver) {
  EXPECT_EQ(usable(curve_key), 1U);
  EXPECT_EQ(usable(R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"})"), 0U)
      << "not on the curve";
  EXPECT_EQ(usable(R"({"kty":"EC","crv":"P-384","x":"AA","y":"AA"})"), 0U);
  EXPECT_EQ(usable(R"({"kty":"oct","k":"AAAA"})"), 0U);
  EXPECT_EQ(usable(R"({"kty":"RSA"},{"kty":5},{},{"kty":"RSA","n":"","e":""},{"kty":"RSA","n":"AQAB","e":"AQAB"})"), 0U);
  EXPECT_EQ(usable(R"({"kty":"RSA","e":"AQAB","n":")" + std::string(340, '_') + R"("})"), 0U) << "2040 bits";
  EXPECT_EQ(usable(R"({"kty":"RSA","e":"AQAB","n":")" + std::string(344, '_') + R"("})"), 1U);
  EXPECT_EQ(usable(R"({"kty":"RSA","e":"Ag","n":")" + std::string(344, '_') + R"("})"), 0U) << "even exponent";
  EXPECT_EQ(usable(R"({"kty":"RSA","alg":"RS512","e":"AQAB","n":")" + std::string(344, '_') + R"("})"), 0U);
  EXPECT_FALSE(oidc::Keys::read("[]"));
  EXPECT_FALSE(oidc::Keys::read(R"({"keys":{}})"));
}

TEST(Oidc, ATokenIsAThingOfThreeParts) {
  const oidc::Expected expected{"https://login.lab.example", "lab", "nonce"};
  auto known = keys(curve_key);
  const auto now = std::chrono::system_clock::now();
  for (const std::string& token : {std::string(), std::string("."), std::string(".."), std::string("..."), std::string("a.b"), std::string("{}.{}.{}"),
                                   std::string(curve_text), std::string(curve_text) + ".", std::string(200'000, '.')}) {
    auto checked = oidc::check_id_token(token, known, expected, now);
    ASSERT_FALSE(checked);
    EXPECT_EQ(checked.error().code, Code::unauthorized);
  }
  // Rightly signed, and of somebody else.
  auto checked = oidc::check_id_token(std::string(curve_text) + "." + curve_signature, known, expected, now);
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().message.find("joe"), std::string::npos);
  // By this server's own secret, if that were somebody's idea.
  checked = oidc::check_id_token(sign_jwt(R"({"iss":"https://login.lab.example"})", curve_key), known, expected, now);
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().message.find("HS256"), std::string::npos);
}

TEST(Oidc, AddressesThatMayBeAsked) {
  constexpr auto far = "https://login.lab.example/realms/x", here = "http://127.0.0.1:8080";
  EXPECT_TRUE(oidc::may_ask(far, far));
  EXPECT_TRUE(oidc::may_ask("https://elsewhere.example:8443/token", far));
  EXPECT_TRUE(oidc::may_ask("http://localhost/token", here));
  EXPECT_TRUE(oidc::may_ask("http://[::1]:80/token", here));
  for (const char* url : {"http://login.lab.example/", "http://127.0.0.1/", "ftp://login.lab.example/", "file:///etc/passwd", "", "https://", "https:///x",
                          "https://a@login.lab.example/", "https://login.lab.example\\@evil/", "https://login lab/", "https://login\n/", "//login/"})
    EXPECT_FALSE(oidc::may_ask(url, far)) << url;
  for (const char* url : {"http://127.0.0.1.evil.example/", "http://127.0.0.1@evil.example/", "http://localhost.evil/", "http://192.0.2.1/", "http://127.evil/"})
    EXPECT_FALSE(oidc::may_ask(url, here)) << url;
  EXPECT_EQ(oidc::host_of("https://Login.Lab.example:443/x?y"), "login.lab.example");
}

TEST(Oidc, DiscoveryIsOfThisIssuer) {
  const std::string issuer = "https://login.lab.example";
  auto document = [](const std::string& more) {
    return R"({"issuer":"https://login.lab.example","authorization_endpoint":"https://login.lab.example/a","token_endpoint":"https://login.lab.example/t","jwks_uri":"https://login.lab.example/k")" + more + "}";
  };
  auto read = oidc::read_discovery(document(R"(,"userinfo_endpoint":"http://login.lab.example/u","token_endpoint_auth_methods_supported":["client_secret_post"])"), issuer);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->token_endpoint, "https://login.lab.example/t");
  EXPECT_EQ(read->userinfo_endpoint, "") << "no https";
  EXPECT_TRUE(read->secret_in_body);
  EXPECT_FALSE(read->names_issuer);
  EXPECT_FALSE(oidc::read_discovery(document(""), issuer + "/"));
  EXPECT_FALSE(oidc::read_discovery(document(R"(,"jwks_uri":"http://login.lab.example/k")"), issuer));
  EXPECT_FALSE(oidc::read_discovery("[]", issuer));
}
