#include "api/neuroapi/python_json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>

#include "codec/number.hpp"

namespace myelin::api::neuroapi {
namespace {

constexpr std::size_t most_digits = 4300;  // of a whole number, as in Python

bool is_surrogate(std::uint32_t c) { return c >= 0xD800 && c <= 0xDFFF; }

void append_utf8(std::string& out, std::uint32_t c) {
  auto byte = [&out](std::uint32_t b) { out += static_cast<char>(b); };
  if (c < 0x80) return byte(c);
  if (c < 0x800) return byte(0xC0 | c >> 6), byte(0x80 | (c & 63));
  if (c < 0x10000) return byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
  byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
}

// The code point at `at`, which is moved past it; nullopt for what is no UTF-8. Surrogates are let through.
std::optional<std::uint32_t> next_code_point(std::string_view text, std::size_t& at) {
  const auto first = static_cast<unsigned char>(text[at++]);
  if (first < 0x80) return first;
  const int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
  if (first < 0xC2 || first > 0xF4) return std::nullopt;
  std::uint32_t c = first & (0x3F >> more);
  for (int i = 0; i < more; ++i) {
    if (at >= text.size() || (static_cast<unsigned char>(text[at]) & 0xC0) != 0x80) return std::nullopt;
    c = c << 6 | (static_cast<unsigned char>(text[at++]) & 0x3F);
  }
  const std::uint32_t least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
  if (c < least || c > 0x10FFFF) return std::nullopt;
  return c;
}

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    auto c = next_code_point(text, at);
    if (!c || is_surrogate(*c)) return false;
  }
  return true;
}

class Reader {
 public:
  Reader(std::string_view text, std::size_t depth) : text_(text), depth_(depth) {}

  Result<Value> read() {
    skip();
    Value value;
    if (!any(value, 0)) return wrong();
    skip();
    if (at_ < text_.size()) {
      fail("Extra data", at_);
      return wrong();
    }
    return value;
  }

 private:
  bool fail(std::string what, std::size_t where) {
    what_ = std::move(what);
    where_ = where;
    return false;
  }

  Error wrong() const {
    // Counted in characters, as Python's strings are.
    std::size_t line = 1, column = 1, count = 0;
    for (std::size_t i = 0; i < where_; ++i) {
      if ((static_cast<unsigned char>(text_[i]) & 0xC0) == 0x80) continue;
      ++count;
      ++column;
      if (text_[i] == '\n') ++line, column = 1;
    }
    return {Code::bad_request, what_ + ": line " + std::to_string(line) + " column " + std::to_string(column) + " (char " + std::to_string(count) + ")", ""};
  }

  [[nodiscard]] bool is(char c) const { return at_ < text_.size() && text_[at_] == c; }
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }
  bool word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  bool any(Value& out, std::size_t depth) {
    if (depth > depth_) return fail("Nested too deeply", at_);
    if (at_ >= text_.size()) return fail("Expecting value", at_);
    switch (text_[at_]) {
      case '"': {
        std::string text;
        if (!string(text)) return false;
        out = std::move(text);
        return true;
      }
      case '{': return object(out, depth);
      case '[': return array(out, depth);
      default: break;
    }
    if (word("null")) return out = Value(), true;
    if (word("true")) return out = Value(true), true;
    if (word("false")) return out = Value(false), true;
    if (word("NaN")) return out = Value(std::numeric_limits<double>::quiet_NaN()), true;
    if (word("Infinity")) return out = Value(std::numeric_limits<double>::infinity()), true;
    if (word("-Infinity")) return out = Value(-std::numeric_limits<double>::infinity()), true;
    return number(out);
  }

  bool number(Value& out) {
    const std::size_t begin = at_;
    std::size_t p = at_;
    auto digit = [this](std::size_t i) { return i < text_.size() && text_[i] >= '0' && text_[i] <= '9'; };
    if (p < text_.size() && text_[p] == '-') ++p;
    if (!digit(p)) return fail("Expecting value", begin);
    if (text_[p] == '0') ++p;
    else
      while (digit(p)) ++p;
    bool whole = true;
    if (p < text_.size() && text_[p] == '.' && digit(p + 1)) {
      whole = false;
      for (++p; digit(p);) ++p;
    }
    if (p < text_.size() && (text_[p] == 'e' || text_[p] == 'E')) {
      std::size_t e = p + 1;
      if (e < text_.size() && (text_[e] == '+' || text_[e] == '-')) ++e;
      if (digit(e)) {
        whole = false;
        while (digit(e)) ++e;
        p = e;
      }
    }
    const std::string_view digits = text_.substr(begin, p - begin);
    at_ = p;
    if (whole) {
      if (digits.size() > most_digits) return fail("Exceeds the limit (4300 digits) for integer string conversion", begin);
      out = Whole{std::string(digits == "-0" ? "0" : digits)};
      return true;
    }
    double value = 0;
    auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (read.ec == std::errc::result_out_of_range) {  // too large, or too small: strtod tells which
      value = std::strtod(std::string(digits).c_str(), nullptr);
    }
    out = value;
    return true;
  }

  bool hex4(std::uint32_t& out) {
    if (text_.size() - at_ < 4) return false;
    out = 0;
    auto read = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, out, 16);
    if (read.ec != std::errc() || read.ptr != text_.data() + at_ + 4) return false;
    at_ += 4;
    return true;
  }

  bool string(std::string& out) {
    const std::size_t begin = at_++;
    for (;;) {
      const std::size_t from = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' && static_cast<unsigned char>(text_[at_]) >= 0x20) ++at_;
      out.append(text_.substr(from, at_ - from));
      if (at_ >= text_.size()) return fail("Unterminated string starting at", begin);
      const char c = text_[at_];
      if (c == '"') return ++at_, true;
      if (c != '\\') return fail("Invalid control character at", at_);
      const std::size_t slash = at_++;
      if (at_ >= text_.size()) return fail("Unterminated string starting at", begin);
      constexpr std::string_view short_forms = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
      const char escaped = text_[at_++];
      if (auto found = short_forms.find(escaped); found != std::string_view::npos) {
        out += meant[found];
        continue;
      }
      if (escaped != 'u') return fail("Invalid \\escape", slash);
      std::uint32_t unit = 0;
      if (!hex4(unit)) return fail("Invalid \\uXXXX escape", slash + 1);
      if (unit >= 0xD800 && unit < 0xDC00 && text_.substr(at_, 2) == "\\u") {
        const std::size_t back = at_;
        at_ += 2;
        std::uint32_t low = 0;
        if (hex4(low) && low >= 0xDC00 && low <= 0xDFFF) unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        else at_ = back;
      }
      append_utf8(out, unit);
    }
  }

  bool object(Value& out, std::size_t depth) {
    Value::Object members;
    ++at_;
    skip();
    if (is('}')) return ++at_, out = std::move(members), true;
    for (;;) {
      if (!is('"')) return fail("Expecting property name enclosed in double quotes", at_);
      std::string name;
      if (!string(name)) return false;
      skip();
      if (!is(':')) return fail("Expecting ':' delimiter", at_);
      ++at_;
      skip();
      Value value;
      if (!any(value, depth + 1)) return false;
      members.emplace_back(std::move(name), std::move(value));
      skip();
      if (is('}')) break;
      if (!is(',')) return fail("Expecting ',' delimiter", at_);
      ++at_;
      skip();
    }
    ++at_;
    merge(members);
    out = std::move(members);
    return true;
  }

  // Of equal names one is left, without comparing each to each.
  static void merge(Value::Object& members) {
    std::vector<std::size_t> order(members.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return members[a].first < members[b].first; });
    std::vector<bool> gone(members.size());
    bool some = false;
    for (std::size_t i = 0; i < order.size();) {
      std::size_t end = i + 1;
      while (end < order.size() && members[order[end]].first == members[order[i]].first) gone[order[end++]] = some = true;
      if (end > i + 1) members[order[i]].second = std::move(members[order[end - 1]].second);
      i = end;
    }
    if (!some) return;
    Value::Object left;
    for (std::size_t i = 0; i < members.size(); ++i)
      if (!gone[i]) left.push_back(std::move(members[i]));
    members = std::move(left);
  }

  bool array(Value& out, std::size_t depth) {
    Value::Array items;
    ++at_;
    skip();
    if (is(']')) return ++at_, out = std::move(items), true;
    for (;;) {
      Value item;
      if (!any(item, depth + 1)) return false;
      items.push_back(std::move(item));
      skip();
      if (is(']')) break;
      if (!is(',')) return fail("Expecting ',' delimiter", at_);
      ++at_;
      skip();
    }
    ++at_;
    out = std::move(items);
    return true;
  }

  std::string_view text_;
  std::size_t depth_, at_ = 0, where_ = 0;
  std::string what_;
};

class Writer {
 public:
  explicit Writer(Layout layout)
      : indent_(layout == Layout::flask ? 2 : layout == Layout::restful ? 4 : 0),
        sorted_(layout == Layout::flask || layout == Layout::flask_compact),
        comma_(layout == Layout::flask || layout == Layout::restful_compact ? ", " : ","),
        colon_(layout == Layout::flask_compact ? ":" : ": ") {}

  void any(const Value& value, std::size_t depth) {
    if (value.is_null()) out += "null";
    else if (auto* b = value.boolean()) out += *b ? "true" : "false";
    else if (auto* w = value.whole()) out += w->digits;
    else if (auto* d = value.real()) real(*d);
    else if (auto* s = value.text()) quoted(*s);
    else if (auto* a = value.array()) array(*a, depth);
    else object(*value.object(), depth);
  }

  std::string out;

 private:
  void line(std::size_t depth) {
    if (indent_ == 0) return;
    out += '\n';
    out.append(indent_ * depth, ' ');
  }

  void real(double d) {
    if (!std::isfinite(d)) {
      out += codec::nonfinite_name(d);
      return;
    }
    char text[codec::max_number_chars];
    out.append(text, codec::write_double(text, d));
  }

  void unit(std::uint32_t u) {
    constexpr char hex[] = "0123456789abcdef";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += hex[u >> shift & 15];
  }

  void quoted(std::string_view text) {
    out += '"';
    for (std::size_t at = 0; at < text.size();) {
      std::uint32_t c = next_code_point(text, at).value_or(0xFFFD);
      switch (c) {
        case '"': out += "\\\""; break;
        case '\\': out += "\\\\"; break;
        case '\n': out += "\\n"; break;
        case '\r': out += "\\r"; break;
        case '\t': out += "\\t"; break;
        case '\b': out += "\\b"; break;
        case '\f': out += "\\f"; break;
        default:
          if (c >= 0x20 && c < 0x7f) out += static_cast<char>(c);
          else if (c < 0x10000) unit(c);
          else unit(0xD800 + ((c - 0x10000) >> 10)), unit(0xDC00 + ((c - 0x10000) & 0x3FF));
      }
    }
    out += '"';
  }

  void array(const Value::Array& items, std::size_t depth) {
    out += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += comma_;
      line(depth + 1);
      any(items[i], depth + 1);
    }
    if (!items.empty()) line(depth);
    out += ']';
  }

  void object(const Value::Object& members, std::size_t depth) {
    std::vector<const std::pair<std::string, Value>*> order;
    order.reserve(members.size());
    for (const auto& member : members) order.push_back(&member);
    if (sorted_) std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->first < b->first; });
    out += '{';
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i > 0) out += comma_;
      line(depth + 1);
      quoted(order[i]->first);
      out += colon_;
      any(order[i]->second, depth + 1);
    }
    if (!members.empty()) line(depth);
    out += '}';
  }

  std::size_t indent_;
  bool sorted_;
  std::string_view comma_, colon_;
};

}  // namespace

const Value* Value::find(std::string_view name) const {
  if (const auto* members = object())
    for (const auto& [key, value] : *members)
      if (key == name) return &value;
  return nullptr;
}

std::optional<double> Value::number() const {
  if (const auto* d = real()) return *d;
  if (const auto* b = boolean()) return *b ? 1.0 : 0.0;
  if (const auto* w = whole()) return std::strtod(w->digits.c_str(), nullptr);
  return std::nullopt;
}

std::string_view Value::python_type() const {
  constexpr std::string_view names[] = {"NoneType", "bool", "int", "float", "str", "list", "dict"};
  return names[data_.index()];
}

bool Value::falsy() const {
  if (is_null()) return true;
  if (const auto* t = text()) return t->empty();
  if (const auto* a = array()) return a->empty();
  if (const auto* o = object()) return o->empty();
  return number() == 0.0;
}

Result<Value> read_json(std::string_view text, std::size_t depth) {
  if (!is_utf8(text)) return Error{Code::bad_request, "the text is not UTF-8", ""};
  return Reader(text, depth).read();
}

std::string write_json(const Value& value, Layout layout) {
  Writer writer(layout);
  writer.any(value, 0);
  return std::move(writer.out) + "\n";
}

bool has_surrogates(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    auto c = next_code_point(text, at);
    if (!c || is_surrogate(*c)) return true;
  }
  return false;
}

}  // namespace myelin::api::neuroapi
