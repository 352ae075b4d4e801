#pragma once
// A call's parameters against a declaration: what is wrong, field by field, and the one text that stands for all ways to write the same.

#include <string>
#include <vector>

#include "function/declaration.hpp"

namespace myelin::function {

struct FieldError {
  std::string field;  // "amp", "xs[3]"
  std::string message;
};

/// At most 100, in the order of the declaration. None for an untyped function: Python itself says what is wrong there.
[[nodiscard]] std::vector<FieldError> check(const Declaration& declaration, const json::object& given);
/// Of these values alone; nothing is missing.
[[nodiscard]] std::vector<FieldError> check_some(const Declaration& declaration, const json::object& some);

/// The parameters with defaults filled in, names sorted, numbers as the function gets them. Nothing where a parameter of any type is
/// given: two texts of one value can't be told from two values then.
[[nodiscard]] std::optional<std::string> canonical(const Declaration& declaration, const json::object& given);

/// JSON text whose bare NaN, Infinity and -Infinity are texts, so that it can be read and the field be named.
[[nodiscard]] std::string with_quoted_nonfinite(std::string_view text);

/// A value for a message: short JSON.
[[nodiscard]] std::string shown(const json::value& value);

}  // namespace myelin::function
