#pragma once
// The small grammars of HTTP: percent-encoding, query strings, tokens, hosts, dates, cookies. Pure functions.

#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace myelin::http {

using Pairs = std::vector<std::pair<std::string, std::string>>;

[[nodiscard]] bool iequals(std::string_view a, std::string_view b);
[[nodiscard]] std::string_view trim(std::string_view text);  // spaces and tabs
/// Takes the first item off a list with commas: trimmed, empty ones passed over; empty when none is left.
[[nodiscard]] std::string_view next_item(std::string_view& list);
[[nodiscard]] bool is_token(std::string_view text);          // RFC 9110 token, not empty
/// Nothing for a bad or NUL escape. `plus_is_space` for queries and forms.
[[nodiscard]] std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);
[[nodiscard]] std::string percent_encode(std::string_view text);  // all but unreserved characters
/// a=1&b=2 (also of application/x-www-form-urlencoded bodies) in order; a bad escape stays as it is.
[[nodiscard]] Pairs parse_query(std::string_view query);
/// The first value of `name`.
[[nodiscard]] std::optional<std::string> query_value(std::string_view query, std::string_view name);
/// The cookie's value in a Cookie header.
[[nodiscard]] std::optional<std::string> cookie_value(std::string_view header, std::string_view name);
/// The host of a Host field, as names are compared: lower-case, without port, brackets and last dot.
[[nodiscard]] std::string host_name(std::string_view host);
[[nodiscard]] std::string http_date(std::time_t time);  // IMF-fixdate
[[nodiscard]] std::optional<std::time_t> parse_http_date(std::string_view text);

}  // namespace myelin::http
