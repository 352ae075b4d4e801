#include "function/check.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "codec/json_value.hpp"

namespace myelin::function {
namespace {

constexpr std::size_t most_errors = 100;
constexpr double exact_integers = 9007199254740992.0;  // beyond 2^53 a double is no integer that one can be sure of

std::string number_text(double number) {
  char text[32];
  auto end = std::to_chars(text, text + sizeof text, number).ptr;
  return {text, end};
}

std::string range_text(const Type& type) {
  if (type.minimum && type.maximum) return "must be between " + number_text(*type.minimum) + " and " + number_text(*type.maximum);
  if (type.minimum) return "must be at least " + number_text(*type.minimum);
  return "must be at most " + number_text(*type.maximum);
}

bool outside(const Type& type, double number) { return (type.minimum && number < *type.minimum) || (type.maximum && number > *type.maximum); }

bool is_nonfinite_text(const json::value& value) {
  return value.is_string() && (value.get_string() == "NaN" || value.get_string() == "Infinity" || value.get_string() == "-Infinity");
}

// Numbers of equal value are equal choices, 1 and 1.0 too; true is no 1.
bool same(const json::value& a, const json::value& b) {
  if (a.is_number() && b.is_number()) return a.to_number<double>() == b.to_number<double>();
  return a == b;
}

class Checker {
 public:
  explicit Checker(std::vector<FieldError>& errors) : errors_(errors) {}

  void value(const std::string& field, const Type& type, const json::value& given) {
    if (errors_.size() >= most_errors) return;
    if (given.is_null()) {
      if (!type.nullable && type.kind != Kind::null && type.kind != Kind::any &&
          !(type.kind == Kind::choice && std::any_of(type.choices.begin(), type.choices.end(), [](auto& c) { return c.is_null(); })))
        wrong(field, "may not be null");
      return;
    }
    switch (type.kind) {
      case Kind::any: return;
      case Kind::boolean:
        if (!given.is_bool()) mismatch(field, "true or false", given);
        return;
      case Kind::integer: return integer(field, type, given);
      case Kind::number: return number(field, type, given);
      case Kind::text:
        if (!given.is_string()) mismatch(field, "a text", given);
        return;
      case Kind::choice: {
        if (std::any_of(type.choices.begin(), type.choices.end(), [&](auto& choice) { return same(choice, given); })) return;
        std::string all;
        for (auto& choice : type.choices) all += (all.empty() ? "" : ", ") + shown(choice);
        wrong(field, "must be one of " + all + ", not " + shown(given));
        return;
      }
      case Kind::list: return list(field, type, given);
      case Kind::array: {
        if (!given.is_array()) return mismatch(field, "an array of numbers", given);
        std::vector<std::size_t> shape;
        array(field, type, given.get_array(), 0, shape);
        return;
      }
      case Kind::object:
        if (!given.is_object()) mismatch(field, "an object", given);
        return;
      case Kind::null: return mismatch(field, "null", given);
      case Kind::file:
        if (!given.is_string() || given.get_string().empty()) mismatch(field, "the path of a file in your ~/work", given);
        return;
      case Kind::run:
        if (!given.is_string() || !given.get_string().starts_with("r_")) mismatch(field, "the id of a run (r_…)", given);
        return;
      case Kind::session: {
        bool good = given.is_object() && given.get_object().size() == 2;
        if (good) {
          auto* id = given.get_object().if_contains("session");
          auto* names = given.get_object().if_contains("names");
          good = id && id->is_string() && id->get_string().starts_with("s_") && names && names->is_array() &&
                 std::all_of(names->get_array().begin(), names->get_array().end(), [](auto& name) { return name.is_string(); });
        }
        if (!good) mismatch(field, "an object like {\"session\": \"s_…\", \"names\": [\"v\"]}", given);
        return;
      }
    }
  }

  void wrong(const std::string& field, std::string message) {
    if (errors_.size() < most_errors) errors_.push_back({field, std::move(message)});
  }

 private:
  void mismatch(const std::string& field, std::string_view what, const json::value& given) { wrong(field, "must be " + std::string(what) + ", not " + shown(given)); }

  void integer(const std::string& field, const Type& type, const json::value& given) {
    if (given.is_int64() || given.is_uint64()) {
      if (given.is_uint64() && given.get_uint64() > static_cast<std::uint64_t>(INT64_MAX)) return wrong(field, "is too large for an integer of 64 bits");
      if (outside(type, given.to_number<double>())) wrong(field, range_text(type) + ", not " + shown(given));
      return;
    }
    if (!given.is_double()) return mismatch(field, "a whole number", given);
    double number = given.get_double();
    if (number != std::floor(number)) return mismatch(field, "a whole number", given);
    if (std::abs(number) > exact_integers) return wrong(field, "is too large for an integer of 64 bits");
    if (outside(type, number)) wrong(field, range_text(type) + ", not " + shown(given));
  }

  void number(const std::string& field, const Type& type, const json::value& given) {
    if (is_nonfinite_text(given)) return wrong(field, "must be a finite number, not " + std::string(given.get_string()));
    if (!given.is_number()) return mismatch(field, "a number", given);
    if (!std::isfinite(given.to_number<double>())) return wrong(field, "is too large for a number");
    if (outside(type, given.to_number<double>())) wrong(field, range_text(type) + ", not " + shown(given));
  }

  void list(const std::string& field, const Type& type, const json::value& given) {
    if (!given.is_array()) return mismatch(field, "a list", given);
    auto& items = given.get_array();
    if (type.length && items.size() != *type.length)
      return wrong(field, "must have " + std::to_string(*type.length) + " values, not " + std::to_string(items.size()));
    if (!type.items || type.items->kind == Kind::any) return;
    for (std::size_t i = 0; i < items.size() && errors_.size() < most_errors; ++i) value(field + "[" + std::to_string(i) + "]", *type.items, items[i]);
  }

  // Nested lists of numbers that are equally long on each level.
  bool array(const std::string& field, const Type& type, const json::array& given, std::size_t depth, std::vector<std::size_t>& shape) {
    if (depth >= 8) return wrong(field, "has more than 8 dimensions"), false;
    if (shape.size() == depth) shape.push_back(given.size());
    else if (shape[depth] != given.size()) return wrong(field, "has lists of different lengths"), false;
    for (std::size_t i = 0; i < given.size(); ++i) {
      auto& item = given[i];
      if (item.is_array()) {
        if (i > 0 && !given[0].is_array()) return wrong(field, "has numbers beside lists"), false;
        if (!array(field + "[" + std::to_string(i) + "]", type, item.get_array(), depth + 1, shape)) return false;
        continue;
      }
      if (shape.size() > depth + 1) return wrong(field, "has numbers beside lists"), false;
      if (item.is_bool()) continue;
      auto before = errors_.size();
      number(field + "[" + std::to_string(i) + "]", type, item);
      if (errors_.size() != before) return false;
    }
    return true;
  }

  std::vector<FieldError>& errors_;
};

// As the function gets it; false for what depends on more than the text.
bool append(std::string& out, const Type& type, const json::value& value) {
  if (value.is_null()) {
    out += "null";
    return true;
  }
  switch (type.kind) {
    case Kind::any:
    case Kind::object:
    case Kind::file:
    case Kind::session:
    case Kind::run: return false;
    case Kind::number:  // an int stays one where a function takes both
      out += value.is_double() ? number_text(value.get_double()) : json::serialize(value) + "i";
      return true;
    case Kind::integer:
      out += value.is_double() ? std::to_string(static_cast<std::int64_t>(value.get_double())) : json::serialize(value);
      return true;
    case Kind::choice:
      for (auto& choice : type.choices)
        if (same(choice, value)) {
          codec::append_json(out, choice);
          return true;
        }
      return false;
    case Kind::list: {
      if (!value.is_array() || !type.items) return false;
      out += '[';
      for (auto& item : value.get_array()) {
        if (out.back() != '[') out += ',';
        if (!append(out, *type.items, item)) return false;
      }
      out += ']';
      return true;
    }
    case Kind::array: {
      if (!value.is_array()) return false;
      out += '[';
      for (auto& item : value.get_array()) {
        if (out.back() != '[') out += ',';
        if (item.is_array()) {
          if (!append(out, type, item)) return false;
        } else {
          codec::append_json(out, item);  // whole numbers make an array of another type
        }
      }
      out += ']';
      return true;
    }
    case Kind::boolean:
    case Kind::text:
    case Kind::null: break;
  }
  codec::append_json(out, value);
  return true;
}

}  // namespace

std::string shown(const json::value& value) {
  std::string text;
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  codec::append_json(text, value);
  if (text.size() > 80) {
    text.resize(76);
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0) == 0x80) text.pop_back();
    if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0xC0) text.pop_back();
    text += "…";
  }
  return text;
}

namespace {

std::vector<FieldError> check_fields(const Declaration& declaration, const json::object& given, bool all) {
  std::vector<FieldError> errors;
  if (!declaration.typed) return errors;
  Checker checker(errors);
  for (auto& parameter : declaration.parameters) {
    auto* value = given.if_contains(parameter.name);
    if (value) checker.value(parameter.name, parameter.type, *value);
    else if (all && parameter.required) checker.wrong(parameter.name, "is missing");
  }
  if (!declaration.variadic)
    for (auto& [key, value] : given) {
      if (declaration.find(key)) continue;
      std::string known;
      for (auto& parameter : declaration.parameters) known += (known.empty() ? "" : ", ") + parameter.name;
      checker.wrong(std::string(key).substr(0, 200), known.empty() ? "is not known: the function takes no parameters" : "is not known; there are: " + known);
    }
  return errors;
}

}  // namespace

std::vector<FieldError> check(const Declaration& declaration, const json::object& given) { return check_fields(declaration, given, true); }
std::vector<FieldError> check_some(const Declaration& declaration, const json::object& some) { return check_fields(declaration, some, false); }

std::optional<std::string> canonical(const Declaration& declaration, const json::object& given) {
  if (!declaration.typed || declaration.variadic) return std::nullopt;
  std::map<std::string, std::string> members;
  for (auto& parameter : declaration.parameters) {
    auto* value = given.if_contains(parameter.name);
    std::string text;
    if (value) {
      if (!append(text, parameter.type, *value)) return std::nullopt;
    } else if (parameter.default_value) {
      // A default reaches the function as the author wrote it, which may be no value of the type: marked, unless it is one.
      std::vector<FieldError> errors;
      Checker checker(errors);
      checker.value(parameter.name, parameter.type, *parameter.default_value);
      if (!errors.empty() || !append(text, parameter.type, *parameter.default_value)) text = "default";
    } else {
      text = "default";
    }
    members[parameter.name] = std::move(text);
  }
  std::string out = "{";
  for (auto& [name, text] : members) {
    if (out.size() > 1) out += ',';
    codec::append_quoted(out, name);
    out += ':' + text;
  }
  return out + "}";
}

std::string with_quoted_nonfinite(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quoted) {
      out += c;
      if (c == '\\' && i + 1 < text.size()) out += text[++i];
      else if (c == '"') quoted = false;
      continue;
    }
    if (c == '"') quoted = true;
    bool replaced = false;
    for (std::string_view word : {"NaN", "Infinity", "-Infinity"})
      if (text.substr(i, word.size()) == word) {
        out += '"' + std::string(word) + '"';
        i += word.size() - 1;
        replaced = true;
        break;
      }
    if (!replaced) out += c;
  }
  return out;
}

}  // namespace myelin::function
