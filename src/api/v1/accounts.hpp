#pragma once
// What the routes of accounts share.

#include <boost/json.hpp>
#include <optional>
#include <string>

#include "api/v1/describe.hpp"

namespace myelin::api::v1 {

namespace json = boost::json;

/// The refusal where auth = "none".
[[nodiscard]] std::optional<http::Response> no_accounts(const Context& context);
/// Of an accounts' error: too_many has Retry-After; a detail names the field or the reason.
[[nodiscard]] http::Response account_problem(const Error& error);
[[nodiscard]] json::object describe_me(Context& context, const accounts::Identity& who);
[[nodiscard]] json::object describe(Context& context, const store::UserRecord& user);
/// The response, and with it a browser's sign-in; an empty one ends it.
[[nodiscard]] http::Response set_cookie(http::Response response, const std::string& secret, std::chrono::seconds lifetime);
/// Browsers keep a Secure cookie over TLS, and on this machine itself.
[[nodiscard]] bool cookie_works(const http::Request& request);
[[nodiscard]] bool own_origin(const http::Request& request);
/// Outer nothing: not a number from `low` to `high`; inner: not given.
[[nodiscard]] std::optional<std::optional<std::int64_t>> number_of(const std::optional<std::string>& text, std::int64_t low, std::int64_t high);
/// The scopes that a body names in `key`, a list of texts; nothing where it has none.
[[nodiscard]] Result<std::optional<accounts::Grants>> read_scopes(const codec::Json& body);

}  // namespace myelin::api::v1
