#include "codec/json_value.hpp"

#include <boost/json.hpp>
#include <cmath>

#include "codec/json_check.hpp"
#include "codec/number.hpp"
#include "codec/scan.hpp"

namespace myelin::codec {
namespace {

namespace json = boost::json;

constexpr std::size_t max_depth = 32;

json::string_view view(std::string_view text) { return {text.data(), text.size()}; }
std::string_view view(const json::string& text) { return {text.data(), text.size()}; }

void append_escaped(std::string& out, unsigned unit) {
  constexpr char digits[] = "0123456789abcdef";
  const char text[6] = {
      '\\', 'u', digits[unit >> 12], digits[(unit >> 8) & 15], digits[(unit >> 4) & 15], digits[unit & 15]};
  out.append(text, 6);
}

char32_t decode(const char* p, const char* next) {
  const auto at = [&](int i) { return static_cast<char32_t>(static_cast<unsigned char>(p[i])); };
  switch (next - p) {
    case 2:
      return ((at(0) & 0x1F) << 6) | (at(1) & 0x3F);
    case 3:
      return ((at(0) & 0x0F) << 12) | ((at(1) & 0x3F) << 6) | (at(2) & 0x3F);
    default:
      return ((at(0) & 0x07) << 18) | ((at(1) & 0x3F) << 12) | ((at(2) & 0x3F) << 6) | (at(3) & 0x3F);
  }
}

Result<json::value> parse_value(std::string_view text) {
  // The checker first: it names the place, and knows limits that Boost.JSON does not.
  if (auto checked = check_json(text, {max_depth, false}); !checked) return checked.take_error();
  json::parse_options options;
  options.max_depth = max_depth + 1;
  boost::system::error_code error;
  json::value value = json::parse(view(text), error, {}, options);
  if (error) return Error{Code::bad_request, "invalid JSON: " + error.message(), ""};
  return value;
}

void append_object(std::string& out, const json::object& object) {
  char before = '{';
  for (const auto& item : object) {
    out += before;
    before = ',';
    append_quoted(out, {item.key().data(), item.key().size()});
    out += ':';
    append_json(out, item.value());
  }
  if (before == '{') out += '{';
  out += '}';
}

const json::value* find(const json::object& object, std::string_view key) {
  return object.if_contains(view(key));
}

}  // namespace

void append_quoted(std::string& out, std::string_view text, NonAscii non_ascii) {
  const char* p = text.data();
  const char* end = p + text.size();
  out += '"';
  while (p != end) {
    const char* stop = scan::skip_plain(p, end);
    out.append(p, stop);
    if ((p = stop) == end) break;
    const auto c = static_cast<unsigned char>(*p);
    if (c < 0x80) {
      ++p;
      switch (c) {
        case '"':
          out += "\\\"";
          break;
        case '\\':
          out += "\\\\";
          break;
        case '\b':
          out += "\\b";
          break;
        case '\f':
          out += "\\f";
          break;
        case '\n':
          out += "\\n";
          break;
        case '\r':
          out += "\\r";
          break;
        case '\t':
          out += "\\t";
          break;
        default:
          append_escaped(out, c);
      }
      continue;
    }
    const char* next = scan::utf8_next(p, end);
    const char32_t point = next != nullptr ? decode(p, next) : scan::replacement;
    if (non_ascii == NonAscii::keep) {
      char encoded[4];
      out.append(encoded, scan::put_utf8(encoded, point));
    } else if (point < 0x10000) {
      append_escaped(out, point);
    } else {
      append_escaped(out, 0xD800 + ((point - 0x10000) >> 10));
      append_escaped(out, 0xDC00 + ((point - 0x10000) & 0x3FF));
    }
    p = next != nullptr ? next : p + 1;
  }
  out += '"';
}

void append_json(std::string& out, const json::value& value) {
  char number[max_number_chars];
  switch (value.kind()) {
    case json::kind::null:
      out += "null";
      break;
    case json::kind::bool_:
      out += value.get_bool() ? "true" : "false";
      break;
    case json::kind::int64:
      out.append(number, write_integer(number, value.get_int64()));
      break;
    case json::kind::uint64:
      out.append(number, write_integer(number, value.get_uint64()));
      break;
    case json::kind::double_:
      if (std::isfinite(value.get_double()))
        out.append(number, write_double(number, value.get_double()));
      else
        out += "null";
      break;
    case json::kind::string:
      append_quoted(out, view(value.get_string()));
      break;
    case json::kind::array: {
      char before = '[';
      for (const json::value& item : value.get_array()) {
        out += before;
        before = ',';
        append_json(out, item);
      }
      if (before == '[') out += '[';
      out += ']';
      break;
    }
    case json::kind::object:
      append_object(out, value.get_object());
      break;
  }
}

std::string json_text(const json::value& value) {
  std::string text;
  append_json(text, value);
  return text;
}

Result<json::object> parse_object(std::string_view text) {
  auto value = parse_value(text);
  if (!value) return value.take_error();
  if (!value->is_object()) return Error{Code::bad_request, "invalid JSON: an object expected", ""};
  return std::move(value->get_object());
}

Json::Json() : object_(std::make_unique<json::object>()) {}
Json::Json(json::object object) : object_(std::make_unique<json::object>(std::move(object))) {}
Json::Json(const Json& other) : object_(std::make_unique<json::object>(*other.object_)) {}
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(Json other) noexcept {
  object_ = std::move(other.object_);
  return *this;
}
Json::~Json() = default;

Result<Json> Json::parse(std::string_view text) {
  auto object = parse_object(text);
  if (!object) return object.take_error();
  return Json(std::move(*object));
}

bool Json::has(std::string_view key) const { return find(*object_, key) != nullptr; }

bool Json::is_null(std::string_view key) const {
  const json::value* value = find(*object_, key);
  return value != nullptr && value->is_null();
}

std::vector<std::string> Json::keys() const {
  std::vector<std::string> keys;
  for (const auto& item : *object_) keys.emplace_back(item.key().data(), item.key().size());
  return keys;
}

std::optional<std::string> Json::get_string(std::string_view key) const {
  const json::value* value = find(*object_, key);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(view(value->get_string()));
}

std::optional<std::int64_t> Json::get_int(std::string_view key) const {
  const json::value* value = find(*object_, key);
  if (value == nullptr || !value->is_int64()) return std::nullopt;
  return value->get_int64();
}

std::optional<double> Json::get_double(std::string_view key) const {
  const json::value* value = find(*object_, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_double()) return value->get_double();
  if (value->is_int64()) return static_cast<double>(value->get_int64());
  if (value->is_uint64()) return static_cast<double>(value->get_uint64());
  return std::nullopt;
}

std::optional<bool> Json::get_bool(std::string_view key) const {
  const json::value* value = find(*object_, key);
  if (value == nullptr || !value->is_bool()) return std::nullopt;
  return value->get_bool();
}

std::optional<Json> Json::get_object(std::string_view key) const {
  const json::value* value = find(*object_, key);
  if (value == nullptr || !value->is_object()) return std::nullopt;
  return Json(value->get_object());
}

std::optional<std::vector<std::string>> Json::get_strings(std::string_view key) const {
  const json::value* value = find(*object_, key);
  if (value == nullptr || !value->is_array()) return std::nullopt;
  std::vector<std::string> strings;
  for (const json::value& item : value->get_array()) {
    if (!item.is_string()) return std::nullopt;
    strings.emplace_back(view(item.get_string()));
  }
  return strings;
}

std::optional<std::vector<Json>> Json::get_objects(std::string_view key) const {
  const json::value* value = find(*object_, key);
  if (value == nullptr || !value->is_array()) return std::nullopt;
  std::vector<Json> objects;
  for (const json::value& item : value->get_array()) {
    if (!item.is_object()) return std::nullopt;
    objects.emplace_back(item.get_object());
  }
  return objects;
}

std::optional<std::string> Json::get_text(std::string_view key) const {
  const json::value* value = find(*object_, key);
  if (value == nullptr) return std::nullopt;
  std::string text;
  append_json(text, *value);
  return text;
}

Json& Json::set(std::string_view key, std::string_view value) {
  object_->insert_or_assign(view(key), view(value));
  return *this;
}
Json& Json::set_bool(std::string_view key, bool value) {
  object_->insert_or_assign(view(key), value);
  return *this;
}
Json& Json::set_int(std::string_view key, std::int64_t value) {
  object_->insert_or_assign(view(key), value);
  return *this;
}
Json& Json::set_uint(std::string_view key, std::uint64_t value) {
  // As Boost.JSON's own parser: unsigned only where signed can't hold it, so that get_int reads back what was
  // set.
  if (value <= static_cast<std::uint64_t>(INT64_MAX)) return set_int(key, static_cast<std::int64_t>(value));
  object_->insert_or_assign(view(key), value);
  return *this;
}
Json& Json::set_double(std::string_view key, double value) {
  object_->insert_or_assign(view(key), value);
  return *this;
}
Json& Json::set(std::string_view key, const Json& value) {
  object_->insert_or_assign(view(key), *value.object_);
  return *this;
}
Json& Json::set(std::string_view key, const std::vector<std::string>& values) {
  json::array array;
  for (const std::string& value : values) array.emplace_back(view(value));
  object_->insert_or_assign(view(key), std::move(array));
  return *this;
}
Json& Json::set(std::string_view key, const std::vector<Json>& values) {
  json::array array;
  for (const Json& value : values) array.emplace_back(*value.object_);
  object_->insert_or_assign(view(key), std::move(array));
  return *this;
}
Json& Json::set_null(std::string_view key) {
  object_->insert_or_assign(view(key), nullptr);
  return *this;
}
Result<void> Json::set_text(std::string_view key, std::string_view text) {
  auto value = parse_value(text);
  if (!value) return value.take_error();
  object_->insert_or_assign(view(key), std::move(*value));
  return {};
}
Json& Json::remove(std::string_view key) {
  object_->erase(view(key));
  return *this;
}

std::string Json::text() const {
  std::string out;
  append_object(out, *object_);
  return out;
}

}  // namespace myelin::codec
