#pragma once
// Values of settings as they were given, and how each kind of setting takes one. Used by the files config*.cpp only.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "cli/config.hpp"

namespace myelin::cli::conf {

namespace fs = std::filesystem;

using Raw = std::variant<std::string, std::int64_t, double, bool, std::vector<std::string>>;

struct Given {
  Raw raw;
  bool is_text = false;  // from a flag or a variable: all types are written as text
  fs::path base;         // where relative paths start
  fs::path home;
};

std::string shown(const Given& given);
std::string trimmed(std::string_view text);
std::string lower(std::string_view text);
std::string upper(std::string_view text);
/// The parts, trimmed; empty ones are left out.
std::vector<std::string> split(std::string_view text, char separator);
std::optional<std::uint64_t> whole_number(std::string_view text);

/// A relative path starts at the given base, "~/" is the home.
fs::path resolved(const std::string& text, const Given& given);

// A setter returns "" or what the value must be ("a number from 0 to 65535").
using Setter = std::function<std::string(Config&, const Given&)>;

std::string set_number(std::uint64_t& to, const Given& given, std::uint64_t low, std::uint64_t high);
std::string set_text(std::string& to, const Given& given);
std::string set_bool(bool& to, const Given& given);
std::string set_list(std::vector<std::string>& to, const Given& given);
std::string set_path(fs::path& to, const Given& given);
std::string set_amount(Amount& to, const Given& given, bool share_allowed);
/// A program: a name stays a name (to be found in PATH), anything with a slash is a path.
std::string set_program(std::string& to, const Given& given);
/// "HOST:PORT", an IPv6 address in brackets.
std::string set_address(std::optional<FaceAddress>& to, const Given& given);
std::string set_token(std::string& to, const Given& given);

template <class E>
std::string set_choice(E& to, const Given& given, std::initializer_list<std::pair<const char*, E>> choices) {
  std::string text;
  (void)set_text(text, given);
  std::string must_be;
  for (const auto& [name, value] : choices) {
    if (text == name) return to = value, "";
    must_be.append(must_be.empty() ? "\"" : " or \"").append(name).append("\"");
  }
  return must_be;
}

/// The text of a file; nullopt if there is none.
Result<std::optional<std::string>> read_file(const fs::path& path, std::size_t limit_bytes);
bool others_can_read(const fs::path& path);

}  // namespace myelin::cli::conf
