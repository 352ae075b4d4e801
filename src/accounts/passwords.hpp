#pragma once
// Passwords as text hashes. New ones are argon2id (19 MiB, 2 passes: OWASP's first choice of 2024); those that came from elsewhere
// (passlib's $pbkdf2-sha256$, bcrypt) are verified, and ask to be made anew. All functions but `weakness` take 10 to 100 ms of one
// core: on a pool, never on the loop. Thread-safe.

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace myelin::accounts {

constexpr std::size_t shortest_password = 8;
constexpr std::size_t longest_password = 256;  // bytes

/// Why a new password won't do, as a sentence; nothing when it does: at least 8 characters, and not among the first that are tried
/// (zxcvbn's estimate of 2^16 guesses; what the name and email of its user have in common with it counts nothing).
[[nodiscard]] std::optional<std::string> weakness(std::string_view password, std::string_view username, std::string_view email);

/// Errors: unavailable when there is no memory for it.
[[nodiscard]] Result<std::string> hash_password(std::string_view password);

struct Verdict {
  bool right = false;
  bool outdated = false;  // right, but to be hashed anew
};
/// An unknown or empty form of hash is wrong, after as much work as a right form takes.
[[nodiscard]] Verdict verify_password(std::string_view hash, std::string_view password);
/// The work of a verification, for users that don't exist.
void verify_nothing(std::string_view password);

/// A form that verify_password knows.
[[nodiscard]] bool is_known_hash(std::string_view hash);

/// 20 letters and digits in groups of five, about 100 bits: for a person to type once.
[[nodiscard]] std::string make_password();

}  // namespace myelin::accounts
