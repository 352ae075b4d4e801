#include "codec/cbor.hpp"

#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <vector>

#include "codec/scan.hpp"

namespace myelin::codec {
namespace {

using namespace scan;

constexpr std::size_t longest_string_part = 64 * 1024;
constexpr std::size_t longest_number = 8192;
constexpr std::size_t deepest = 1024;

template <class T>
void append_big_endian(std::string& out, T value) {
  char bytes[sizeof value];
  for (std::size_t i = 0; i < sizeof value; ++i)
    bytes[i] = static_cast<char>(value >> (8 * (sizeof value - 1 - i)));
  out.append(bytes, sizeof value);
}

void append_float(std::string& out, double v) {
  char bytes[9] = {'\xfb'};
  const auto bits = std::bit_cast<std::uint64_t>(v);
  for (int i = 0; i < 8; ++i) bytes[i + 1] = static_cast<char>(bits >> (8 * (7 - i)));
  out.append(bytes, sizeof bytes);
}

bool is_scalar(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '+' || c == '.';
}

struct Shape {  // of a JSON number
  bool valid = false;
  bool integer = true;
};

Shape shape_of(std::string_view text) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t start = i;
    while (i < text.size() && is_digit(text[i])) ++i;
    return i - start;
  };
  Shape shape;
  if (i < text.size() && text[i] == '-') ++i;
  const bool zero = i < text.size() && text[i] == '0';
  const std::size_t whole = digits();
  if (whole == 0 || (zero && whole > 1)) return shape;
  if (i < text.size() && text[i] == '.') {
    ++i;
    shape.integer = false;
    if (digits() == 0) return shape;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    shape.integer = false;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (digits() == 0) return shape;
  }
  shape.valid = i == text.size();
  return shape;
}

// A number that from_chars found out of range: infinite or zero, by the decimal exponent of its first digit.
double out_of_range(std::string_view text) {
  const bool negative = text.front() == '-';
  if (negative) text.remove_prefix(1);
  long long exponent = 0;
  const std::size_t e = text.find_first_of("eE");
  if (e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    const bool below = digits.front() == '-';
    if (digits.front() == '+' || below) digits.remove_prefix(1);
    for (const char c : digits) exponent = std::min(exponent * 10 + (c - '0'), 1'000'000'000LL);
    if (below) exponent = -exponent;
    text = text.substr(0, e);
  }
  const std::size_t point = std::min(text.find('.'), text.size());
  const std::size_t first = text.find_first_of("123456789");
  exponent += static_cast<long long>(point) - static_cast<long long>(first);  // only its sign counts
  const double size = exponent > 0 ? std::numeric_limits<double>::infinity() : 0.0;
  return negative ? -size : size;
}

// Tag 2 or 3 with the magnitude's bytes; for a negative number CBOR stores |n| - 1.
void append_bignum(std::string& out, std::string_view digits, bool negative) {
  std::vector<std::uint32_t> limbs;  // least significant first
  for (std::size_t i = 0; i < digits.size();) {
    std::uint64_t carry = 0, scale = 1;
    for (std::size_t k = 0; k < 9 && i < digits.size(); ++k, ++i, scale *= 10)
      carry = carry * 10 + static_cast<std::uint64_t>(digits[i] - '0');
    for (std::uint32_t& limb : limbs) {
      carry += limb * scale;
      limb = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry != 0) limbs.push_back(static_cast<std::uint32_t>(carry));
  }
  if (negative)
    for (std::uint32_t& limb : limbs)
      if (limb-- != 0) break;
  std::string bytes;
  for (auto limb = limbs.rbegin(); limb != limbs.rend(); ++limb) append_big_endian(bytes, *limb);
  bytes.erase(0, std::min(bytes.find_first_not_of('\0'), bytes.size()));
  append_cbor_head(out, CborMajor::tag, negative ? 3 : 2);
  append_cbor_head(out, CborMajor::bytes, bytes.size());
  out += bytes;
}

}  // namespace

void append_cbor_head(std::string& out, CborMajor major, std::uint64_t argument) {
  const auto first = [&](unsigned info) {
    out += static_cast<char>((static_cast<unsigned>(major) << 5) | info);
  };
  if (argument < 24) {
    first(static_cast<unsigned>(argument));
  } else if (argument <= 0xFF) {
    first(24);
    out += static_cast<char>(argument);
  } else if (argument <= 0xFFFF) {
    first(25);
    append_big_endian(out, static_cast<std::uint16_t>(argument));
  } else if (argument <= 0xFFFFFFFF) {
    first(26);
    append_big_endian(out, static_cast<std::uint32_t>(argument));
  } else {
    first(27);
    append_big_endian(out, argument);
  }
}

Result<void> CborTranscoder::feed(std::string_view text, std::string& out) {
  if (what_ != nullptr) return outcome(false);
  chunk_ = at_ = text.data();
  const bool ok = consume(text.data(), text.data() + text.size(), out);
  if (ok) {
    consumed_ += text.size();
    at_ = chunk_;
  }
  return outcome(ok);
}

Result<void> CborTranscoder::value_follows(std::string& out) {
  if (what_ != nullptr) return outcome(false);
  if (mode_ == Mode::scalar && !end_scalar(out)) return outcome(false);
  if (mode_ == Mode::string || !wants_value()) return outcome(fail("an array where no value may stand"));
  after_value();
  return {};
}

Result<void> CborTranscoder::finish(std::string& out) {
  if (what_ != nullptr) return outcome(false);
  if (mode_ == Mode::scalar && !end_scalar(out)) return outcome(false);
  if (mode_ == Mode::string || expect_ != Expect::nothing) return outcome(fail("the text ends too early"));
  return {};
}

Result<void> CborTranscoder::outcome(bool ok) {
  if (ok) return {};
  return Error{Code::worker_lost,
               "The session sent a broken result: invalid JSON at byte " +
                   std::to_string(consumed_ + static_cast<std::uint64_t>(at_ - chunk_)) +
                   " of its text: " + what_,
               ""};
}

bool CborTranscoder::fail(const char* what) {
  what_ = what;
  return false;
}

bool CborTranscoder::consume(const char* p, const char* end, std::string& out) {
  while (p != end) {
    at_ = p;
    switch (mode_) {
      case Mode::structure:
        if (!structural(*p++, out)) return false;
        break;
      case Mode::scalar: {
        const char* start = p;
        while (p != end && is_scalar(*p)) ++p;
        if (static_cast<std::size_t>(p - start) > longest_number - token_.size())
          return fail("a number too long");
        token_.append(start, p);
        if (p != end && !end_scalar(out)) return false;
        break;
      }
      case Mode::string:
        p = in_string(p, end, out);
        if (p == nullptr) return false;
        break;
    }
  }
  return true;
}

bool CborTranscoder::structural(char c, std::string& out) {
  switch (c) {
    case ' ':
    case '\n':
    case '\r':
    case '\t':
      return true;
    case '{':
      if (!wants_value()) return fail("'{' not expected");
      out += '\xbf';
      return push(true);
    case '[':
      if (!wants_value()) return fail("'[' not expected");
      out += '\x9f';
      return push(false);
    case '}':
      if (expect_ != Expect::key_or_end && !(expect_ == Expect::comma_or_end && object_))
        return fail("'}' not expected");
      out += '\xff';
      pop();
      return true;
    case ']':
      if (expect_ != Expect::value_or_end && !(expect_ == Expect::comma_or_end && !object_))
        return fail("']' not expected");
      out += '\xff';
      pop();
      return true;
    case ',':
      if (expect_ != Expect::comma_or_end) return fail("',' not expected");
      expect_ = object_ ? Expect::key : Expect::value;
      return true;
    case ':':
      if (expect_ != Expect::colon) return fail("':' not expected");
      expect_ = Expect::value;
      return true;
    case '"':
      key_ = expect_ == Expect::key || expect_ == Expect::key_or_end;
      if (!key_ && !wants_value()) return fail("a string not expected");
      mode_ = Mode::string;
      token_.clear();
      chunked_ = false;
      escape_ = 0;
      high_ = 0;
      return true;
    default:
      if (!wants_value() || !is_scalar(c)) return fail("not a value");
      mode_ = Mode::scalar;
      token_.assign(1, c);
      return true;
  }
}

void CborTranscoder::after_value() { expect_ = depth_ == 0 ? Expect::nothing : Expect::comma_or_end; }

bool CborTranscoder::push(bool object) {
  if (depth_ == deepest) return fail("nested too deeply");
  auto& word = stack_[depth_ / 64];
  const auto bit = std::uint64_t{1} << (depth_ % 64);
  word = object_ ? word | bit : word & ~bit;
  ++depth_;
  object_ = object;
  expect_ = object ? Expect::key_or_end : Expect::value_or_end;
  return true;
}

void CborTranscoder::pop() {
  --depth_;
  object_ = ((stack_[depth_ / 64] >> (depth_ % 64)) & 1) != 0;
  after_value();
}

const char* CborTranscoder::in_string(const char* p, const char* end, std::string& out) {
  if (escape_ != 0) return escaped(*p) ? p + 1 : nullptr;
  const char* start = p;
  for (;
       ;) {  // a run without quote, backslash and control characters; its UTF-8 is checked when it is written
    p = skip_plain(p, end);
    if (p == end || static_cast<unsigned char>(*p) < 0x80) break;
    while (p != end && static_cast<unsigned char>(*p) >= 0x80) ++p;
  }
  if (p != start) {
    lone_surrogate();
    token_.append(start, p);
    if (!flush_long(out)) return nullptr;
    if (p == end) return p;
  }
  at_ = p;
  if (*p == '"') {
    lone_surrogate();
    return end_string(out) ? p + 1 : nullptr;
  }
  if (*p == '\\') {
    escape_ = 1;
    return flush_long(out) ? p + 1 : nullptr;
  }
  return fail("a control character in a string"), nullptr;
}

// One character of an escape.
bool CborTranscoder::escaped(char c) {
  if (escape_ > 1) {
    const int digit = hex_digit(c);
    if (digit < 0) return fail("four hex digits expected after \\u");
    unit_ = unit_ * 16 + static_cast<unsigned>(digit);
    if (--escape_ > 1) return true;
    escape_ = 0;
    return code_unit(unit_);
  }
  if (c == 'u') {
    escape_ = 5;
    unit_ = 0;
    return true;
  }
  lone_surrogate();
  escape_ = 0;
  switch (c) {
    case '"':
    case '\\':
    case '/':
      token_ += c;
      return true;
    case 'b':
      token_ += '\b';
      return true;
    case 'f':
      token_ += '\f';
      return true;
    case 'n':
      token_ += '\n';
      return true;
    case 'r':
      token_ += '\r';
      return true;
    case 't':
      token_ += '\t';
      return true;
    default:
      return fail("an unknown escape");
  }
}

bool CborTranscoder::code_unit(unsigned unit) {
  char encoded[4];
  if (is_low_surrogate(unit) && high_ != 0) {
    const char32_t point = 0x10000 + ((high_ & 0x3FF) << 10) + (unit & 0x3FF);
    high_ = 0;
    token_.append(encoded, put_utf8(encoded, point));
    return true;
  }
  lone_surrogate();
  if (is_high_surrogate(unit))
    high_ = unit;
  else
    token_.append(encoded, put_utf8(encoded, is_low_surrogate(unit) ? replacement : unit));
  return true;
}

void CborTranscoder::lone_surrogate() {
  if (high_ == 0) return;
  high_ = 0;
  char encoded[4];
  token_.append(encoded, put_utf8(encoded, replacement));
}

// Writes the parts of a string that is longer than one part, cut only where a character ends.
bool CborTranscoder::flush_long(std::string& out) {
  std::size_t from = 0;
  while (token_.size() - from > longest_string_part) {
    std::size_t cut = from + longest_string_part;
    for (int back = 0; back < 4 && (static_cast<unsigned char>(token_[cut]) & 0xC0) == 0x80; ++back) --cut;
    if (!valid_utf8(token_.data() + from, token_.data() + cut)) return fail("not UTF-8");
    if (!chunked_) out += '\x7f';
    chunked_ = true;
    append_cbor_head(out, CborMajor::text, cut - from);
    out.append(token_, from, cut - from);
    from = cut;
  }
  if (from != 0) token_.erase(0, from);
  return true;
}

bool CborTranscoder::end_string(std::string& out) {
  if (!flush_long(out)) return false;
  if (!valid_utf8(token_.data(), token_.data() + token_.size())) return fail("not UTF-8");
  append_cbor_head(out, CborMajor::text, token_.size());
  out += token_;
  if (chunked_) out += '\xff';
  mode_ = Mode::structure;
  if (key_)
    expect_ = Expect::colon;
  else
    after_value();
  return true;
}

bool CborTranscoder::end_scalar(std::string& out) {
  mode_ = Mode::structure;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (is_digit(token_.back())) {  // no word ends so
    if (!number(out)) return false;
  } else if (token_ == "true") {
    out += '\xf5';
  } else if (token_ == "false") {
    out += '\xf4';
  } else if (token_ == "null") {
    out += '\xf6';
  } else if (token_ == "NaN") {
    append_float(out, std::numeric_limits<double>::quiet_NaN());
  } else if (token_ == "Infinity") {
    append_float(out, infinity);
  } else if (token_ == "-Infinity") {
    append_float(out, -infinity);
  } else {
    return fail("not a value");
  }
  after_value();
  return true;
}

bool CborTranscoder::number(std::string& out) {
  const Shape shape = shape_of(token_);
  if (!shape.valid) return fail("not a value");
  const char* p = token_.data();
  const char* end = p + token_.size();
  if (!shape.integer) {
    double v = 0;
    if (std::from_chars(p, end, v).ec != std::errc{}) v = out_of_range(token_);
    append_float(out, v);
    return true;
  }
  const bool negative = *p == '-';
  if (negative) ++p;
  std::uint64_t size = 0;
  if (negative &&
      std::string_view(token_).substr(1) == "18446744073709551616") {  // the last without a bignum
    append_cbor_head(out, CborMajor::negative, std::numeric_limits<std::uint64_t>::max());
    return true;
  }
  if (std::from_chars(p, end, size).ec != std::errc{})
    append_bignum(out, {p, static_cast<std::size_t>(end - p)}, negative);
  else if (negative && size != 0)
    append_cbor_head(out, CborMajor::negative, size - 1);
  else
    append_cbor_head(out, CborMajor::unsigned_, size);
  return true;
}

}  // namespace myelin::codec
