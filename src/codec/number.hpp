#pragma once
// Numbers as text. Doubles come out exactly as Python's repr writes them (the shortest digits that read back
// the same, fixed notation for 1e-4 ≤ |v| < 1e16), so that an answer does not depend on who wrote it.

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace myelin::codec {

inline constexpr std::size_t max_number_chars = 32;  // room that every writer below needs

namespace detail {

// ".0", ".5", ".25", ".125": the decimals of r/1000 without trailing zeros.
struct Decimals {
  char text[4];
  std::uint32_t length;
};
constexpr std::array<Decimals, 1000> make_decimals() {
  std::array<Decimals, 1000> table{};
  for (unsigned r = 0; r < 1000; ++r) {
    Decimals& d = table[r];
    d.text[0] = '.';
    d.text[1] = static_cast<char>('0' + r / 100);
    d.text[2] = static_cast<char>('0' + r / 10 % 10);
    d.text[3] = static_cast<char>('0' + r % 10);
    d.length = r % 10 != 0 ? 4 : r % 100 != 0 ? 3 : 2;
  }
  return table;
}
inline constexpr auto decimals = make_decimals();

}  // namespace detail

template <class Integer>
char* write_integer(char* p, Integer value) {
  return std::to_chars(p, p + max_number_chars, value).ptr;
}

/// A finite v; returns past its last character.
inline char* write_double(char* p, double v) {
  const double size = std::fabs(v);
  if ((size < 1e-4 && v != 0) || size >= 1e16)
    return std::to_chars(p, p + max_number_chars, v, std::chars_format::scientific).ptr;
  p = std::to_chars(p, p + max_number_chars, v, std::chars_format::fixed).ptr;
  if (static_cast<double>(static_cast<std::int64_t>(v)) == v) {
    *p++ = '.';
    *p++ = '0';
  }
  return p;
}

/// As write_double, several times faster, when v has at most three decimals and is not huge; otherwise
/// nullptr. Exact: k/1000.0 == v with |k| < 9e14 means that k/1000, having at most 15 digits, is the shortest
/// that reads back as v.
inline char* write_on_grid(char* p, double v) {
  if (!(std::fabs(v) < 9e11)) return nullptr;
  const auto k = static_cast<std::int64_t>(v * 1000 + (v < 0 ? -0.5 : 0.5));
  if (static_cast<double>(k) / 1000.0 != v) return nullptr;
  auto u = static_cast<std::uint64_t>(k);
  if (k < 0) {
    *p++ = '-';
    u = 0 - u;
  } else if (k == 0 && std::signbit(v)) {
    return nullptr;
  }
  p = write_integer(p, u / 1000);
  const detail::Decimals& d = detail::decimals[u % 1000];
  std::memcpy(p, d.text, 4);
  return p + d.length;
}

/// NaN, Infinity or -Infinity, for a v that is not finite.
inline std::string_view nonfinite_name(double v) {
  return std::isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity";
}

}  // namespace myelin::codec
