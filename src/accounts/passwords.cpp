#include "accounts/passwords.hpp"

#include <crypt.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <zxcvbn.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <stdexcept>
#include <vector>

namespace myelin::accounts {
namespace {

constexpr unsigned long long passes = 2;
constexpr std::size_t memory_bytes = 19456 * 1024;
constexpr double least_bits = 16;
constexpr std::size_t judged = 64;  // characters; zxcvbn's work grows faster than the length
constexpr int most_rounds = 2'000'000;

bool is_argon2(std::string_view hash) { return hash.starts_with("$argon2id$"); }
bool is_pbkdf2(std::string_view hash) { return hash.starts_with("$pbkdf2-sha256$"); }
bool is_bcrypt(std::string_view hash) {
  return hash.size() == 60 && (hash.starts_with("$2a$") || hash.starts_with("$2b$") || hash.starts_with("$2y$"));
}

// Passlib's base64: "." for "+", no padding.
std::optional<std::vector<unsigned char>> from_passlib(std::string_view text) {
  std::string usual(text);
  std::replace(usual.begin(), usual.end(), '.', '+');
  std::vector<unsigned char> bytes(usual.size() + 1);  // libsodium takes no null, not even for nothing
  std::size_t size = 0;
  if (sodium_base642bin(bytes.data(), bytes.size(), usual.data(), usual.size(), nullptr, &size, nullptr,
                        sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0)
    return std::nullopt;
  bytes.resize(size);
  return bytes;
}

// $pbkdf2-sha256$ROUNDS$SALT$HASH
bool pbkdf2_fits(std::string_view hash, std::string_view password) {
  std::array<std::string_view, 3> parts;
  std::string_view rest = hash.substr(15);
  for (std::size_t i = 0; i < 3; ++i) {
    auto end = rest.find('$');
    if ((end == std::string_view::npos) != (i == 2)) return false;
    parts[i] = rest.substr(0, end);
    rest = i < 2 ? rest.substr(end + 1) : rest;
  }
  int rounds = 0;
  auto read = std::from_chars(parts[0].data(), parts[0].data() + parts[0].size(), rounds);
  if (read.ec != std::errc() || read.ptr != parts[0].data() + parts[0].size() || rounds < 1 || rounds > most_rounds) return false;
  auto salt = from_passlib(parts[1]), wanted = from_passlib(parts[2]);
  if (!salt || !wanted || wanted->size() != 32) return false;
  std::array<unsigned char, 32> made{};
  if (PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), salt->data(), static_cast<int>(salt->size()), rounds, EVP_sha256(),
                        static_cast<int>(made.size()), made.data()) != 1)
    return false;
  return sodium_memcmp(made.data(), wanted->data(), made.size()) == 0;
}

bool bcrypt_fits(std::string_view hash, std::string_view password) {
  auto work = std::make_unique<crypt_data>();
  const std::string phrase(password), setting(hash);
  if (phrase.find('\0') != std::string::npos) return false;
  const char* made = crypt_r(phrase.c_str(), setting.c_str(), work.get());
  return made != nullptr && std::string_view(made).size() == hash.size() && sodium_memcmp(made, hash.data(), hash.size()) == 0;
}

bool argon2_fits(std::string_view hash, std::string_view password) {
  const std::string text(hash);
  return crypto_pwhash_str_verify(text.c_str(), password.data(), password.size()) == 0;
}

void need_sodium() {
  static const bool ready = sodium_init() >= 0;
  if (!ready) throw std::runtime_error("libsodium cannot start");
}

}  // namespace

std::optional<std::string> weakness(std::string_view password, std::string_view username, std::string_view email) {
  std::size_t characters = 0;
  for (unsigned char c : password) characters += (c & 0xC0) != 0x80;
  if (characters < shortest_password) return "a password has at least 8 characters";
  if (password.size() > longest_password) return "a password has at most 256 bytes";
  if (password.find('\0') != std::string_view::npos) return "a password can't contain a zero byte";
  const std::string name(username), mail(email), mailbox(email.substr(0, email.find('@'))), begin(password.substr(0, judged));
  std::array<const char*, 5> known = {name.c_str(), mail.c_str(), mailbox.c_str(), "myelin", nullptr};
  std::array<const char*, 5> words{};
  std::size_t count = 0;
  for (const char* word : known)
    if (word && *word) words[count++] = word;
  if (ZxcvbnMatch(begin.c_str(), words.data(), nullptr) < least_bits)
    return "this password is among the first that are guessed: take a longer one, such as three or four unrelated words";
  return std::nullopt;
}

Result<std::string> hash_password(std::string_view password) {
  need_sodium();
  std::array<char, crypto_pwhash_STRBYTES> out{};
  if (crypto_pwhash_str_alg(out.data(), password.data(), password.size(), passes, memory_bytes, crypto_pwhash_ALG_ARGON2ID13) != 0)
    return Error{Code::unavailable, "there is no memory to hash the password; try again", ""};
  return std::string(out.data());
}

Verdict verify_password(std::string_view hash, std::string_view password) {
  need_sodium();
  if (password.size() > 4096) password = {};  // nobody's: a long one was never accepted
  Verdict verdict;
  if (is_argon2(hash)) {
    verdict.right = argon2_fits(hash, password);
    verdict.outdated = verdict.right && crypto_pwhash_str_needs_rehash(std::string(hash).c_str(), passes, memory_bytes) != 0;
  } else if (is_pbkdf2(hash)) {
    verdict.right = verdict.outdated = pbkdf2_fits(hash, password);
  } else if (is_bcrypt(hash)) {
    verdict.right = verdict.outdated = bcrypt_fits(hash, password);
  } else {
    verify_nothing(password);
  }
  return verdict;
}

void verify_nothing(std::string_view password) {
  static const std::string nobody = hash_password(make_password()).value();
  (void)argon2_fits(nobody, password);
}

bool is_known_hash(std::string_view hash) { return is_argon2(hash) || is_pbkdf2(hash) || is_bcrypt(hash); }

std::string make_password() {
  need_sodium();
  constexpr std::string_view letters = "abcdefghjkmnpqrstuvwxyz23456789";  // none that look alike
  std::string out;
  for (int i = 0; i < 20; ++i) {
    if (i > 0 && i % 5 == 0) out += '-';
    out += letters[randombytes_uniform(static_cast<std::uint32_t>(letters.size()))];
  }
  return out;
}

}  // namespace myelin::accounts
