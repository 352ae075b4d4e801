#pragma once
// What the files of this face share: its routes, its answers, who asks.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/context.hpp"
#include "api/neuroapi/python_json.hpp"
#include "http/message.hpp"

namespace myelin::api::neuroapi {

using async::Task;

struct Route {
  enum class Kind { none, login, refresh, revoke_access, revoke_refresh, users, user, function, swagger_json, swagger_ui } kind = Kind::none;
  std::int64_t number = 0;  // of a user; -1 for one that is too large to be any
};

/// Who asks, as admitted.
struct Caller {
  accounts::Identity who;
  std::string jti;    // of the access or refresh token of a sign-in, else empty
  std::string token;  // as sent
};

/// The two layouts of texts: that of /auth and of what is wrong with a token, and that of /api.
[[nodiscard]] http::Response flask_reply(const Context& context, int status, const Value& value);
[[nodiscard]] http::Response restful_reply(const Context& context, int status, const Value& value);
/// {"msg": …}, in the first layout.
[[nodiscard]] http::Response say(const Context& context, int status, std::string_view message);
/// Status, title and sentence in HTML.
[[nodiscard]] http::Response page(int status, std::string_view sentence);
/// Of a user that there is not.
[[nodiscard]] http::Response no_such_user(const Context& context);
constexpr std::string_view not_found_sentence =
    "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.";

/// An accounts' error; conflict is 409, a weak password or a bad name 422 with its field.
[[nodiscard]] http::Response account_failure(const Context& context, const Error& error);

enum class TokenKind { access, refresh };
/// Finds out who asks by the Authorization header, or refuses in the original's words.
[[nodiscard]] std::optional<http::Response> recognise(Context& context, const http::Request& request, TokenKind kind, Caller& caller);

Task<http::Response> login(Context& context, http::Request request);
Task<http::Response> refresh(Context& context, Caller caller);
Task<http::Response> revoke(Context& context, Caller caller);
/// /api/v1/users and /api/v1/users/{number}.
Task<http::Response> users(Context& context, Route route, Caller caller, http::Request request);

}  // namespace myelin::api::neuroapi
