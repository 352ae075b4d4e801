#include "accounts/passwords.hpp"

#include <gtest/gtest.h>

#include <chrono>

#include "accounts/jwt.hpp"

using namespace myelin::accounts;

TEST(Passwords, CommonShortAndOwnNamesAreRefused) {
  for (const char* bad : {"", "short", "password", "Password1", "12345678", "qwertyuiop", "iloveyou", "P@ssw0rd", "annaanna", "myelin123", "aaaaaaaaaaaa"})
    EXPECT_TRUE(weakness(bad, "anna", "anna@lab.example")) << bad;
  for (const char* good : {"correct horse battery", "xk3Qz9aa", "hodgkin1952", "ÜberraschungÄpfel"})
    EXPECT_FALSE(weakness(good, "anna", "anna@lab.example")) << good;
  EXPECT_TRUE(weakness(std::string(257, 'x'), "anna", ""));
  EXPECT_TRUE(weakness(std::string("with\0zero byte", 14), "anna", ""));
}

TEST(Passwords, HashesAreVerified) {
  auto hash = hash_password("correct horse battery");
  ASSERT_TRUE(hash);
  EXPECT_EQ(hash->substr(0, 31), "$argon2id$v=19$m=19456,t=2,p=1$");
  EXPECT_TRUE(verify_password(*hash, "correct horse battery").right);
  EXPECT_FALSE(verify_password(*hash, "correct horse battery").outdated);
  EXPECT_FALSE(verify_password(*hash, "correct horse batterx").right);
  EXPECT_FALSE(verify_password("", "").right);
  EXPECT_FALSE(verify_password("clear text", "clear text").right);
}

TEST(Passwords, HashesFromElsewhereAreVerifiedAndOutdated) {
  // Made by Python's hashlib in passlib's form, and by crypt(3), for "correct horse battery".
  struct {
    const char* hash;
  } known[] = {{"$pbkdf2-sha256$29000$MTIzNDU2Nzg5MDEyMzQ1Ng$G1Cd6XccfP44GgK0.qsws4Vouv9PqYHdhTYVBFQJ79I"}, {"$2b$08$abcdefghijklmnopqrstuuwezlW09AGl.Qc8oiYvHEzrpumH/GaSu"}};
  for (auto& one : known) {
    EXPECT_TRUE(is_known_hash(one.hash));
    auto verdict = verify_password(one.hash, "correct horse battery");
    EXPECT_TRUE(verdict.right && verdict.outdated) << one.hash;
    EXPECT_FALSE(verify_password(one.hash, "wrong horse battery").right);
  }
  for (const char* odd : {"$pbkdf2-sha256$", "$pbkdf2-sha256$0$YQ$YQ", "$pbkdf2-sha256$999999999$YQ$YQ", "$pbkdf2-sha256$1$$", "$2b$", "$argon2id$v=19$"})
    EXPECT_FALSE(verify_password(odd, "x").right) << odd;
}

TEST(Jwt, SignedTokensAreVerified) {
  const Secret secret(40, 's');
  const auto now = std::chrono::system_clock::from_time_t(1'800'000'000);
  auto token = sign_jwt(R"({"nbf":1800000000,"exp":1800000900,"type":"access"})", secret);
  auto good = verify_jwt(token, secret, now);
  EXPECT_EQ(good.fault, JwtFault::none);
  EXPECT_EQ(good.claims.get_string("type"), "access");
  EXPECT_EQ(verify_jwt(token, Secret(40, 'x'), now).fault, JwtFault::signature);
  EXPECT_EQ(verify_jwt(token, secret, now + std::chrono::seconds(900)).fault, JwtFault::expired);
  EXPECT_EQ(verify_jwt(token, secret, now - std::chrono::seconds(1)).fault, JwtFault::not_yet);
  EXPECT_EQ(verify_jwt("a.b", secret, now).fault, JwtFault::segments);
  EXPECT_EQ(verify_jwt("a.b.c", secret, now).fault, JwtFault::malformed);
  auto none = base64url(R"({"typ":"JWT","alg":"none"})") + "." + base64url(R"({"exp":1900000000})") + ".";
  EXPECT_EQ(verify_jwt(none, secret, now).fault, JwtFault::algorithm);
  auto cut = token.substr(0, token.size() - 1);
  EXPECT_EQ(verify_jwt(cut, secret, now).fault, JwtFault::signature);
  auto eternal = sign_jwt(R"({"type":"access"})", secret);
  EXPECT_EQ(verify_jwt(eternal, secret, now).fault, JwtFault::expired);  // a token without an end is none of ours
}

// RFC 7515, appendix A.1: the key's bytes and the signature of its example.
TEST(Jwt, AgreesWithTheStandardsExample) {
  auto key = from_base64url("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
  ASSERT_TRUE(key);
  const std::string token =
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
      ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
  auto jwt = verify_jwt(token, *key, std::chrono::system_clock::from_time_t(1'300'000'000));
  EXPECT_EQ(jwt.fault, JwtFault::none);
  EXPECT_EQ(jwt.claims.get_string("iss"), "joe");
}
