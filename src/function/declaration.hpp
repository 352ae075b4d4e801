#pragma once
// What a function says of itself: its parameters with types, units and bounds, its results, plots and limits. It comes from a worker that
// ran the author's code, so nothing in it is believed before parse_declaration has looked at it. Pure values; no I/O.

#include <boost/json.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace myelin::function {

namespace json = boost::json;

enum class Kind { any, boolean, integer, number, text, choice, list, array, object, null, file, session, run };
[[nodiscard]] const char* name_of(Kind kind);

/// The type of a parameter's value, or of a list's items.
struct Type {
  Kind kind = Kind::any;
  bool nullable = false;
  std::optional<double> minimum, maximum;  // of a number, or of each number of an array
  json::array choices;                     // of Kind::choice
  std::shared_ptr<const Type> items;       // of Kind::list, if said
  std::optional<std::size_t> length;       // of Kind::list, if fixed
};

struct Parameter {
  std::string name, title, unit, help;
  std::vector<std::string> dims;
  Type type;
  bool required = true;
  std::optional<json::value> default_value;  // absent though not required: one that has no JSON
};

struct Limits {
  double seconds = 0;              // 0: none of its own
  std::uint64_t memory_bytes = 0;  // 0: none of its own
};

struct Declaration {
  std::string name, title, description, engine, signature;
  bool deterministic = false, is_public = false;
  bool typed = false;     // a parameter says more than its name: then parameters are checked before the call
  bool variadic = false;  // takes names beyond its parameters
  std::vector<Parameter> parameters;
  std::vector<std::string> pictures;  // names of results that are pictures, as its plots have them
  json::object results;               // name -> {"unit","dims","help"}
  json::array plots;
  Limits limits;
  int line = 0;  // in its file; 0: not known

  [[nodiscard]] const Parameter* find(std::string_view parameter) const;
};

/// A name of a package or a function: letters, digits and _, not first a digit, at most 64.
[[nodiscard]] bool is_name(std::string_view text);

/// bad_request, with a sentence, for what is no declaration.
[[nodiscard]] Result<Declaration> parse_declaration(const json::value& said);

/// JSON Schema (2020-12) of the object `parameters`.
[[nodiscard]] json::object schema_of(const Declaration& declaration);
/// As it is given out: what parse_declaration understood, `parameters` with the members of spec/native-api.md.
[[nodiscard]] json::object describe(const Declaration& declaration);

}  // namespace myelin::function
