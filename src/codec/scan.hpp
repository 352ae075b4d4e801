#pragma once
// Byte scanning shared by the JSON checker, the quoter and the CBOR transcoder. Internal to this room.

#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace myelin::codec::scan {

/// What stands for text that is not valid Unicode.
inline constexpr char32_t replacement = 0xFFFD;

inline bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }
inline bool is_plain(char c) {
  const auto u = static_cast<unsigned char>(c);
  return u >= 0x20 && u < 0x80 && u != '"' && u != '\\';
}

inline const char* skip_space(const char* p, const char* end) {
  while (p != end && is_space(*p)) ++p;
  return p;
}

/// The first byte of [p, end) that is a quote, a backslash, a control character or not ASCII; `end` if there
/// is none.
inline const char* skip_plain(const char* p, const char* end) {
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
  while (end - p >= 16) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i stop = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash)),
                                      _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(x, control), x), x));
    const int mask = _mm_movemask_epi8(stop);  // the top bit of x itself says "not ASCII"
    if (mask != 0) return p + std::countr_zero(static_cast<unsigned>(mask));
    p += 16;
  }
#endif
  while (p != end && is_plain(*p)) ++p;
  return p;
}

/// Past the UTF-8 sequence at p (RFC 3629: shortest form, no surrogates, at most U+10FFFF), or nullptr. Needs
/// p != end.
inline const char* utf8_next(const char* p, const char* end) {
  const auto at = [&](int i) { return static_cast<unsigned char>(p[i]); };
  const auto tail = [&](int i) { return (at(i) & 0xC0) == 0x80; };
  const unsigned char first = at(0);
  const auto left = end - p;
  if (first < 0x80) return p + 1;
  if (first < 0xC2) return nullptr;
  if (first < 0xE0) return left >= 2 && tail(1) ? p + 2 : nullptr;
  if (first < 0xF0) {
    if (left < 3 || !tail(1) || !tail(2)) return nullptr;
    if (first == 0xE0 && at(1) < 0xA0) return nullptr;
    if (first == 0xED && at(1) >= 0xA0) return nullptr;
    return p + 3;
  }
  if (first > 0xF4 || left < 4 || !tail(1) || !tail(2) || !tail(3)) return nullptr;
  if (first == 0xF0 && at(1) < 0x90) return nullptr;
  if (first == 0xF4 && at(1) >= 0x90) return nullptr;
  return p + 4;
}

/// Whether [p, end) is valid UTF-8 (see utf8_next).
inline bool valid_utf8(const char* p, const char* end) {
  for (;;) {
    while (end - p >= 8) {
      std::uint64_t word;
      std::memcpy(&word, p, 8);
      if ((word & 0x8080808080808080U) != 0) break;
      p += 8;
    }
    if (p == end) return true;
    p = utf8_next(p, end);
    if (p == nullptr) return false;
  }
}

/// Writes `c` (at most U+10FFFF, no surrogate) as UTF-8; returns past its 1 to 4 bytes.
inline char* put_utf8(char* p, char32_t c) {
  if (c < 0x80) {
    *p++ = static_cast<char>(c);
  } else if (c < 0x800) {
    *p++ = static_cast<char>(0xC0 | (c >> 6));
    *p++ = static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *p++ = static_cast<char>(0xE0 | (c >> 12));
    *p++ = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *p++ = static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *p++ = static_cast<char>(0xF0 | (c >> 18));
    *p++ = static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    *p++ = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *p++ = static_cast<char>(0x80 | (c & 0x3F));
  }
  return p;
}

/// The value of a hex digit, or -1.
inline int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

inline bool is_high_surrogate(unsigned c) { return (c & 0xFC00) == 0xD800; }
inline bool is_low_surrogate(unsigned c) { return (c & 0xFC00) == 0xDC00; }

}  // namespace myelin::codec::scan
