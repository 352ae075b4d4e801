#include "codec/json_check.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "codec/scan.hpp"

namespace myelin::codec {
namespace {

using namespace scan;

constexpr std::size_t deepest = 1024;

class Checker {
 public:
  Checker(std::string_view text, const JsonLimits& limits)
      : begin_(text.data()),
        p_(text.data()),
        end_(text.data() + text.size()),
        max_depth_(std::min(limits.max_depth, deepest)),
        nonfinite_(limits.nonfinite) {}

  Result<void> run() {
    if (document()) return {};
    return Error{Code::bad_request, "invalid JSON at byte " + std::to_string(p_ - begin_) + ": " + what_, ""};
  }

 private:
  bool fail(const char* what) {
    what_ = what;
    return false;
  }
  bool fail_at(const char* where, const char* what) {
    p_ = where;
    return fail(what);
  }

  bool document() {
    for (;;) {  // here a value is expected
      p_ = skip_space(p_, end_);
      if (p_ == end_)
        return fail(p_ == begin_ ? "the text is empty" : "the text ends where a value is expected");
      switch (*p_) {
        case '{':
          if (!push(true)) return false;
          ++p_;
          p_ = skip_space(p_, end_);
          if (p_ == end_ || *p_ != '}') {
            if (!key()) return false;
            continue;
          }
          ++p_;
          pop();
          break;
        case '[':
          if (!push(false)) return false;
          ++p_;
          p_ = skip_space(p_, end_);
          if (p_ == end_ || *p_ != ']') continue;
          ++p_;
          pop();
          break;
        case '"':
          if (!string()) return false;
          break;
        case 't':
          if (!word("true")) return false;
          break;
        case 'f':
          if (!word("false")) return false;
          break;
        case 'n':
          if (!word("null")) return false;
          break;
        case 'N':
          if (!nonfinite_ || !word("NaN")) return fail("not a value");
          break;
        case 'I':
          if (!nonfinite_ || !word("Infinity")) return fail("not a value");
          break;
        case '-':
        case '0':
        case '1':
        case '2':
        case '3':
        case '4':
        case '5':
        case '6':
        case '7':
        case '8':
        case '9':
          if (!number()) return false;
          break;
        default:
          return fail("not a value");
      }
      for (;;) {  // here a value has ended
        p_ = skip_space(p_, end_);
        if (depth_ == 0) return p_ == end_ || fail("text after the end of the document");
        if (p_ == end_)
          return fail(object_ ? "the text ends within an object" : "the text ends within a list");
        if (*p_ == ',') {
          ++p_;
          if (object_ && !key()) return false;
          break;
        }
        if (*p_ != (object_ ? '}' : ']'))
          return fail(object_ ? "',' or '}' expected" : "',' or ']' expected");
        ++p_;
        pop();
      }
    }
  }

  bool push(bool object) {
    if (depth_ == max_depth_) return fail("nested too deeply");
    auto& word = stack_[depth_ / 64];
    const auto bit = std::uint64_t{1} << (depth_ % 64);
    word = object_ ? word | bit : word & ~bit;
    ++depth_;
    object_ = object;
    return true;
  }

  void pop() {
    --depth_;
    object_ = ((stack_[depth_ / 64] >> (depth_ % 64)) & 1) != 0;
  }

  bool word(std::string_view expected) {
    if (std::string_view(p_, static_cast<std::size_t>(end_ - p_)).substr(0, expected.size()) != expected)
      return fail("not a value");
    p_ += expected.size();
    return true;
  }

  bool number() {
    const char* p = p_;
    if (*p == '-') {
      ++p;
      if (nonfinite_ && p != end_ && *p == 'I') {
        const char* start = p_;
        p_ = p;
        return word("Infinity") || fail_at(start, "not a value");
      }
    }
    if (p == end_ || !is_digit(*p)) return fail_at(p, "a digit expected");
    if (*p++ != '0') {
      while (p != end_ && is_digit(*p)) ++p;
    } else if (p != end_ && is_digit(*p)) {
      return fail_at(p, "a number starts with 0");
    }
    if (p != end_ && *p == '.') {
      ++p;
      if (p == end_ || !is_digit(*p)) return fail_at(p, "a digit expected");
      while (p != end_ && is_digit(*p)) ++p;
    }
    if (p != end_ && (*p | 0x20) == 'e') {
      ++p;
      if (p != end_ && (*p == '+' || *p == '-')) ++p;
      if (p == end_ || !is_digit(*p)) return fail_at(p, "a digit expected");
      while (p != end_ && is_digit(*p)) ++p;
    }
    p_ = p;
    return true;
  }

  bool key() {
    p_ = skip_space(p_, end_);
    if (p_ == end_ || *p_ != '"') return fail("a key expected");
    if (!string()) return false;
    p_ = skip_space(p_, end_);
    if (p_ == end_ || *p_ != ':') return fail("':' expected");
    ++p_;
    return true;
  }

  bool string() {
    const char* p = p_ + 1;
    for (;;) {
      p = skip_plain(p, end_);
      if (p == end_) return fail_at(p, "the text ends within a string");
      const auto c = static_cast<unsigned char>(*p);
      if (c == '"') {
        p_ = p + 1;
        return true;
      }
      if (c == '\\') {
        p = escape(p);
        if (p == nullptr) return false;
      } else if (c < 0x20) {
        return fail_at(p, "a control character in a string");
      } else {
        const char* next = utf8_next(p, end_);
        if (next == nullptr) return fail_at(p, "not UTF-8");
        p = next;
      }
    }
  }

  // Past the escape at p, or nullptr with the error noted.
  const char* escape(const char* p) {
    if (end_ - p < 2) return fail_at(end_, "the text ends within a string"), nullptr;
    switch (p[1]) {
      case '"':
      case '\\':
      case '/':
      case 'b':
      case 'f':
      case 'n':
      case 'r':
      case 't':
        return p + 2;
      case 'u':
        break;
      default:
        return fail_at(p, "an unknown escape"), nullptr;
    }
    const int first = code_unit(p);
    if (first < 0) return fail_at(p, "four hex digits expected after \\u"), nullptr;
    if (is_low_surrogate(static_cast<unsigned>(first))) return fail_at(p, "half a surrogate pair"), nullptr;
    if (!is_high_surrogate(static_cast<unsigned>(first))) return p + 6;
    const int second = end_ - p >= 8 && p[6] == '\\' && p[7] == 'u' ? code_unit(p + 6) : -1;
    if (second < 0 || !is_low_surrogate(static_cast<unsigned>(second)))
      return fail_at(p, "half a surrogate pair"), nullptr;
    return p + 12;
  }

  [[nodiscard]] int code_unit(const char* p) const {
    if (end_ - p < 6) return -1;
    int value = 0;
    for (int i = 2; i < 6; ++i) {
      const int digit = hex_digit(p[i]);
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    return value;
  }

  const char* begin_;
  const char* p_;
  const char* end_;
  std::size_t max_depth_;
  std::size_t depth_ = 0;
  bool nonfinite_;
  bool object_ = false;  // the innermost open container is an object
  const char* what_ = "";
  std::array<std::uint64_t, deepest / 64> stack_{};
};

}  // namespace

Result<void> check_json(std::string_view text, const JsonLimits& limits) {
  return Checker(text, limits).run();
}

}  // namespace myelin::codec
