#include "api/nest/reset_scan.hpp"

#include <cstddef>

namespace myelin::api::nest {
namespace {

bool name_character(char c) {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0;
}

// Index behind the string literal that starts at `i` (a quote), or the end for one that is not closed.
std::size_t skip_string(std::string_view s, std::size_t i) {
  char quote = s[i];
  bool triple = s.substr(i, 3) == std::string_view(quote == '"' ? "\"\"\"" : "'''");
  i += triple ? 3 : 1;
  while (i < s.size()) {
    if (s[i] == '\\') {
      i += 2;
    } else if (triple && s[i] == quote && s.substr(i, 3) == std::string_view(quote == '"' ? "\"\"\"" : "'''")) {
      return i + 3;
    } else if (!triple && (s[i] == quote || s[i] == '\n')) {
      return i + 1;
    } else {
      ++i;
    }
  }
  return s.size();
}

}  // namespace

bool names_reset_kernel(std::string_view source) {
  for (std::size_t i = 0; i < source.size();) {
    char c = source[i];
    if (c == '#') {
      while (i < source.size() && source[i] != '\n') ++i;
    } else if (c == '"' || c == '\'') {
      i = skip_string(source, i);
    } else if (name_character(c)) {
      std::size_t begin = i;
      while (i < source.size() && name_character(source[i])) ++i;
      if (source.substr(begin, i - begin) == "ResetKernel") return true;
    } else {
      ++i;
    }
  }
  return false;
}

}  // namespace myelin::api::nest
