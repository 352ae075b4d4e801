#pragma once
// JSON as Python's json module reads and writes it, because NeuroAPI's clients see its words and its spacing: whole numbers of any
// size, NaN and Infinity, lone surrogates, its messages with line and column, its text forms. Pure functions.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.hpp"

namespace myelin::api::neuroapi {

/// A whole number by its digits, as they were given (without a minus before zero).
struct Whole {
  std::string digits;
};

/// An object keeps the order of its members; of equal names the last value counts, at the first one's place.
class Value {
 public:
  using Array = std::vector<Value>;
  using Object = std::vector<std::pair<std::string, Value>>;

  Value() = default;
  Value(std::nullptr_t) {}                                     // NOLINT: implicit by design
  Value(bool b) : data_(b) {}                                  // NOLINT
  Value(double d) : data_(d) {}                                // NOLINT
  Value(Whole w) : data_(std::move(w)) {}                      // NOLINT
  Value(std::int64_t n) : data_(Whole{std::to_string(n)}) {}   // NOLINT
  Value(int n) : Value(std::int64_t{n}) {}                     // NOLINT
  Value(std::string s) : data_(std::move(s)) {}                // NOLINT
  Value(const char* s) : data_(std::string(s)) {}              // NOLINT
  Value(Array a) : data_(std::move(a)) {}                      // NOLINT
  Value(Object o) : data_(std::move(o)) {}                     // NOLINT

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  [[nodiscard]] const bool* boolean() const { return std::get_if<bool>(&data_); }
  [[nodiscard]] const Whole* whole() const { return std::get_if<Whole>(&data_); }
  [[nodiscard]] const double* real() const { return std::get_if<double>(&data_); }
  /// Bytes as in UTF-8; a lone surrogate has the three bytes that its code point would have.
  [[nodiscard]] const std::string* text() const { return std::get_if<std::string>(&data_); }
  [[nodiscard]] const Array* array() const { return std::get_if<Array>(&data_); }
  [[nodiscard]] const Object* object() const { return std::get_if<Object>(&data_); }
  [[nodiscard]] Object* object() { return std::get_if<Object>(&data_); }
  /// Of an object: the member, or nullptr.
  [[nodiscard]] const Value* find(std::string_view name) const;
  /// Whole, real, or a boolean, which is a number to Python; of a whole one the nearest. nullopt for all else.
  [[nodiscard]] std::optional<double> number() const;
  /// "str", "int", "NoneType", …
  [[nodiscard]] std::string_view python_type() const;
  /// What `if value` takes for false: null, false, 0, "", [], {}.
  [[nodiscard]] bool falsy() const;

 private:
  std::variant<std::monostate, bool, Whole, double, std::string, Array, Object> data_;
};

/// The error's message is Python's: "Expecting value: line 1 column 1 (char 0)". bad_request also where the text is not UTF-8, or
/// nested deeper than `depth`.
[[nodiscard]] Result<Value> read_json(std::string_view text, std::size_t depth);

/// How a text is laid out; each ends with a newline, and writes what is not ASCII as \uXXXX.
enum class Layout {
  flask,           // 2 spaces, sorted, a blank after each comma
  flask_compact,   // no spaces, sorted
  restful,         // 4 spaces, in order
  restful_compact  // ", " and ": ", in order
};
[[nodiscard]] std::string write_json(const Value& value, Layout layout);

/// Whether a text holds code points that UTF-8 has no place for.
[[nodiscard]] bool has_surrogates(std::string_view text);

}  // namespace myelin::api::neuroapi
