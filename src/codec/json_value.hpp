#pragma once
// The small JSON documents that the server itself reads and writes: problems, configurations, zygote
// messages. Not for results (those are ropes). Boost.JSON stays behind this header; who needs its values
// includes <boost/json.hpp>.

#include <boost/json/fwd.hpp>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace myelin::codec {

enum class NonAscii { keep, escape };  // escape: \uXXXX, beyond the basic plane as a surrogate pair

/// Appends `text` as a JSON string with its quotes. What is not UTF-8 becomes U+FFFD.
void append_quoted(std::string& out, std::string_view text, NonAscii non_ascii = NonAscii::keep);
/// Appends compact JSON; numbers as in number.hpp, those that are not finite as null.
void append_json(std::string& out, const boost::json::value& value);
/// The same as a text of its own. Boost.JSON's own serialize writes 12.5 as 1.25E1, which people don't.
[[nodiscard]] std::string json_text(const boost::json::value& value);

/// RFC 8259 text that is one object; bad_request otherwise (too deep: more than 32 levels).
[[nodiscard]] Result<boost::json::object> parse_object(std::string_view text);

/// A JSON object. A getter gives nothing when the key is absent or holds another type.
class Json {
 public:
  Json();
  explicit Json(boost::json::object object);
  Json(const Json& other);
  Json(Json&& other) noexcept;  // leaves `other` only to be assigned or destroyed
  Json& operator=(Json other) noexcept;
  ~Json();

  [[nodiscard]] static Result<Json> parse(std::string_view text);

  [[nodiscard]] bool has(std::string_view key) const;
  [[nodiscard]] bool is_null(std::string_view key) const;
  [[nodiscard]] std::vector<std::string> keys() const;
  [[nodiscard]] std::optional<std::string> get_string(std::string_view key) const;
  [[nodiscard]] std::optional<std::int64_t> get_int(std::string_view key) const;
  [[nodiscard]] std::optional<double> get_double(std::string_view key) const;  // an integer too
  [[nodiscard]] std::optional<bool> get_bool(std::string_view key) const;
  [[nodiscard]] std::optional<Json> get_object(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<std::string>> get_strings(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<Json>> get_objects(std::string_view key) const;
  /// Any value, as JSON text.
  [[nodiscard]] std::optional<std::string> get_text(std::string_view key) const;

  Json& set(std::string_view key, std::string_view value);
  Json& set(std::string_view key, const char* value) { return set(key, std::string_view(value)); }
  Json& set(std::string_view key, const std::string& value) { return set(key, std::string_view(value)); }
  Json& set(std::string_view key, std::same_as<bool> auto value) { return set_bool(key, value); }
  Json& set(std::string_view key, std::signed_integral auto value) { return set_int(key, value); }
  Json& set(std::string_view key,
            std::unsigned_integral auto value) requires(!std::same_as<decltype(value), bool>) {
    return set_uint(key, value);
  }
  Json& set(std::string_view key, std::floating_point auto value) { return set_double(key, value); }
  Json& set(std::string_view key, const Json& value);
  Json& set(std::string_view key, const std::vector<std::string>& values);
  Json& set(std::string_view key, const std::vector<Json>& values);
  Json& set_null(std::string_view key);
  /// `text` must be JSON; bad_request otherwise.
  Result<void> set_text(std::string_view key, std::string_view text);
  Json& remove(std::string_view key);

  [[nodiscard]] std::string text() const;
  [[nodiscard]] const boost::json::object& object() const { return *object_; }
  [[nodiscard]] boost::json::object& object() { return *object_; }

 private:
  Json& set_bool(std::string_view key, bool value);
  Json& set_int(std::string_view key, std::int64_t value);
  Json& set_uint(std::string_view key, std::uint64_t value);
  Json& set_double(std::string_view key, double value);
  std::unique_ptr<boost::json::object> object_;
};

}  // namespace myelin::codec
