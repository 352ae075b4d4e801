#include "function/declaration.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace myelin::function {
namespace {

constexpr std::size_t most_parameters = 256, most_text = 64 << 10, most_names = 256;
constexpr std::size_t deepest_type = 8;

constexpr std::array kind_names{"any", "boolean", "integer", "number", "text", "choice", "list", "array", "object", "null", "file", "session", "run"};

Error refuse(std::string text) { return {Code::bad_request, "the declaration is broken: " + std::move(text), ""}; }

std::string text_of(const json::object& o, std::string_view key) {
  auto* value = o.if_contains(key);
  if (!value || !value->is_string()) return "";
  return std::string(value->get_string()).substr(0, most_text);
}

bool flag_of(const json::object& o, std::string_view key) {
  auto* value = o.if_contains(key);
  return value && value->is_bool() && value->get_bool();
}

std::optional<double> number_of(const json::object& o, std::string_view key) {
  auto* value = o.if_contains(key);
  if (!value || !value->is_number()) return std::nullopt;
  double number = value->to_number<double>();
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

std::vector<std::string> texts_of(const json::object& o, std::string_view key) {
  std::vector<std::string> out;
  auto* value = o.if_contains(key);
  if (!value || !value->is_array()) return out;
  for (auto& one : value->get_array())
    if (one.is_string() && out.size() < most_names) out.push_back(std::string(one.get_string()).substr(0, 256));
  return out;
}

json::array array_of(const std::vector<std::string>& texts) {
  json::array out;
  for (auto& text : texts) out.push_back(json::string(text));
  return out;
}

Result<Type> parse_type(const json::object& said, std::size_t depth) {
  if (depth > deepest_type) return refuse("lists in lists are too deep");
  Type type;
  std::string kind = text_of(said, "kind");
  auto found = std::find(kind_names.begin(), kind_names.end(), kind);
  if (found == kind_names.end()) return refuse("unknown kind '" + kind.substr(0, 40) + "'");
  type.kind = static_cast<Kind>(found - kind_names.begin());
  type.nullable = flag_of(said, "nullable");
  type.minimum = number_of(said, "minimum");
  type.maximum = number_of(said, "maximum");
  if (type.minimum && type.maximum && *type.minimum > *type.maximum) return refuse("a range is empty");
  if (type.kind == Kind::choice) {
    auto* choices = said.if_contains("choices");
    if (!choices || !choices->is_array() || choices->get_array().empty() || choices->get_array().size() > most_names) return refuse("choices are missing, or too many");
    for (auto& choice : choices->get_array()) {
      if (choice.is_structured() || (choice.is_string() && choice.get_string().size() > 4096)) return refuse("a choice is a text, a number or a boolean");
      type.choices.push_back(choice);
    }
  }
  if (type.kind == Kind::list) {
    if (auto* items = said.if_contains("items")) {
      if (!items->is_object()) return refuse("items is an object");
      auto inner = parse_type(items->get_object(), depth + 1);
      if (!inner) return inner.take_error();
      type.items = std::make_shared<const Type>(std::move(*inner));
    }
    if (auto length = number_of(said, "length"); length && *length >= 0 && *length <= 1e6) type.length = static_cast<std::size_t>(*length);
  }
  return type;
}

json::value number_json(double number) {
  if (number == std::floor(number) && std::abs(number) < 1e15) return static_cast<std::int64_t>(number);
  return number;
}

void describe_type(json::object& out, const Type& type) {
  out["kind"] = name_of(type.kind);
  if (type.nullable) out["nullable"] = true;
  if (type.minimum) out["minimum"] = number_json(*type.minimum);
  if (type.maximum) out["maximum"] = number_json(*type.maximum);
  if (type.kind == Kind::choice) out["choices"] = type.choices;
  if (type.items) {
    json::object items;
    describe_type(items, *type.items);
    out["items"] = std::move(items);
  }
  if (type.length) out["length"] = *type.length;
}

json::object schema_of(const Type& type) {
  json::object schema;
  const char* name = nullptr;
  switch (type.kind) {
    case Kind::any: break;
    case Kind::boolean: name = "boolean"; break;
    case Kind::integer: name = "integer"; break;
    case Kind::number: name = "number"; break;
    case Kind::text: name = "string"; break;
    case Kind::null: name = "null"; break;
    case Kind::object: name = "object"; break;
    case Kind::list:
    case Kind::array: name = "array"; break;
    case Kind::choice: {
      auto choices = type.choices;
      if (type.nullable) choices.push_back(nullptr);
      schema["enum"] = std::move(choices);
      return schema;
    }
    case Kind::file:
      name = "string";
      schema["description"] = "path of a file in your ~/work";
      break;
    case Kind::run:
      name = "string";
      schema["pattern"] = "^r_";
      break;
    case Kind::session:
      name = "object";
      schema["required"] = json::array{"session", "names"};
      schema["properties"] = json::object{{"session", json::object{{"type", "string"}, {"pattern", "^s_"}}},
                                          {"names", json::object{{"type", "array"}, {"items", json::object{{"type", "string"}}}}}};
      break;
  }
  if (name) {
    if (type.nullable) schema["type"] = json::array{name, "null"};
    else schema["type"] = name;
  }
  auto bounds = [&](json::object& of) {
    if (type.minimum) of["minimum"] = number_json(*type.minimum);
    if (type.maximum) of["maximum"] = number_json(*type.maximum);
  };
  if (type.kind == Kind::number || type.kind == Kind::integer) bounds(schema);
  if (type.kind == Kind::array) {
    json::object number{{"type", json::array{"number", "array", "boolean"}}};
    bounds(number);
    schema["items"] = std::move(number);
  }
  if (type.items) schema["items"] = schema_of(*type.items);
  if (type.length) schema["minItems"] = schema["maxItems"] = *type.length;
  return schema;
}

}  // namespace

const char* name_of(Kind kind) { return kind_names[static_cast<std::size_t>(kind)]; }

bool is_name(std::string_view text) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (text.empty() || text.size() > 64 || !letter(text[0])) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

const Parameter* Declaration::find(std::string_view parameter) const {
  for (auto& one : parameters)
    if (one.name == parameter) return &one;
  return nullptr;
}

Result<Declaration> parse_declaration(const json::value& said) {
  if (!said.is_object()) return refuse("it is no object");
  auto& o = said.get_object();
  Declaration d;
  d.name = text_of(o, "name");
  if (!is_name(d.name)) return refuse("'" + d.name.substr(0, 80) + "' is no name of a function");
  d.title = text_of(o, "title").substr(0, 200);
  d.description = text_of(o, "description");
  d.engine = text_of(o, "engine").substr(0, 64);
  d.signature = text_of(o, "signature").substr(0, 4096);
  d.deterministic = flag_of(o, "deterministic");
  d.is_public = flag_of(o, "public");
  d.typed = flag_of(o, "typed");
  d.variadic = flag_of(o, "variadic");
  if (auto line = number_of(o, "line"); line && *line > 0 && *line < 1e8) d.line = static_cast<int>(*line);
  auto* parameters = o.if_contains("parameters");
  if (parameters && parameters->is_array()) {
    if (parameters->get_array().size() > most_parameters) return refuse(d.name + " has more than " + std::to_string(most_parameters) + " parameters");
    for (auto& one : parameters->get_array()) {
      if (!one.is_object()) return refuse("a parameter is an object");
      auto& p = one.get_object();
      Parameter made;
      made.name = text_of(p, "name");
      if (made.name.empty() || made.name.size() > 200 || d.find(made.name)) return refuse(d.name + ": a parameter has no name of its own");
      made.title = text_of(p, "title").substr(0, 200);
      made.unit = text_of(p, "unit").substr(0, 64);
      made.help = text_of(p, "help").substr(0, 4096);
      made.dims = texts_of(p, "dims");
      auto type = parse_type(p, 0);
      if (!type) return type.take_error();
      made.type = std::move(*type);
      made.required = flag_of(p, "required");
      if (auto* value = p.if_contains("default")) made.default_value = *value;
      d.parameters.push_back(std::move(made));
    }
  }
  if (auto* results = o.if_contains("results"); results && results->is_object())
    for (auto& [key, value] : results->get_object()) {
      if (!value.is_object() || d.results.size() >= most_names) continue;
      d.results[std::string_view(key).substr(0, 200)] = json::object{{"unit", text_of(value.get_object(), "unit").substr(0, 64)},
                                                                      {"dims", array_of(texts_of(value.get_object(), "dims"))},
                                                                      {"help", text_of(value.get_object(), "help").substr(0, 4096)}};
    }
  json::array plots;
  if (auto* given = o.if_contains("plots"); given && given->is_array())
    for (auto& one : given->get_array()) {
      if (!one.is_object() || plots.size() >= 64) continue;
      auto& p = one.get_object();
      std::string kind = text_of(p, "kind");
      if (kind == "picture") {
        std::string name = text_of(p, "name").substr(0, 200);
        d.pictures.push_back(name);
        plots.push_back(json::object{{"kind", kind}, {"name", name}, {"title", text_of(p, "title").substr(0, 200)}});
      } else if (kind == "line" || kind == "dots") {
        plots.push_back(json::object{{"kind", kind}, {"x", text_of(p, "x").substr(0, 200)}, {"y", array_of(texts_of(p, "y"))}, {"title", text_of(p, "title").substr(0, 200)}});
      }
    }
  d.plots = std::move(plots);
  if (auto* limits = o.if_contains("limits"); limits && limits->is_object()) {
    if (auto seconds = number_of(limits->get_object(), "seconds"); seconds && *seconds > 0 && *seconds < 1e9) d.limits.seconds = *seconds;
    if (auto bytes = number_of(limits->get_object(), "memory_bytes"); bytes && *bytes > 0 && *bytes < 1e15) d.limits.memory_bytes = static_cast<std::uint64_t>(*bytes);
  }
  return d;
}

json::object schema_of(const Declaration& d) {
  json::object properties;
  json::array required;
  for (auto& p : d.parameters) {
    auto schema = schema_of(p.type);
    if (!p.title.empty()) schema["title"] = p.title;
    std::string about = p.help;
    if (!p.unit.empty()) about += (about.empty() ? "in " : ", in ") + p.unit;
    if (!about.empty()) schema["description"] = about;
    if (!p.unit.empty()) schema["x-unit"] = p.unit;
    if (p.default_value) schema["default"] = *p.default_value;
    properties[p.name] = std::move(schema);
    if (p.required) required.push_back(json::string(p.name));
  }
  json::object schema{{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", d.variadic}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

json::object describe(const Declaration& d) {
  json::array parameters;
  for (auto& p : d.parameters) {
    json::object o{{"name", p.name}, {"required", p.required}};
    describe_type(o, p.type);
    if (p.default_value) o["default"] = *p.default_value;
    if (!p.title.empty()) o["title"] = p.title;
    if (!p.unit.empty()) o["unit"] = p.unit;
    if (!p.help.empty()) o["help"] = p.help;
    if (!p.dims.empty()) o["dims"] = array_of(p.dims);
    parameters.push_back(std::move(o));
  }
  json::object limits;
  if (d.limits.seconds > 0) limits["seconds"] = d.limits.seconds;
  if (d.limits.memory_bytes > 0) limits["memory_bytes"] = d.limits.memory_bytes;
  return {{"name", d.name}, {"title", d.title}, {"description", d.description}, {"engine", d.engine}, {"signature", d.signature},
          {"deterministic", d.deterministic}, {"public", d.is_public}, {"typed", d.typed}, {"variadic", d.variadic},
          {"parameters", std::move(parameters)}, {"results", d.results}, {"plots", d.plots}, {"limits", std::move(limits)}};
}

}  // namespace myelin::function
