#pragma once
// The native routes below /v1 (spec/native-api.md). Errors are problem+json with a stable `code`.

#include "api/context.hpp"
#include "http/message.hpp"

namespace myelin::api::v1 {

/// The cookie of a sign-in by a browser.
constexpr std::string_view cookie_name = "__Host-myelin";

/// Whether a route needs no sign-in.
[[nodiscard]] bool is_open(std::string_view method, std::string_view path);

/// Any route below /v1; who asks is in request.context, but for the open ones.
async::Task<http::Response> handle(Context& context, http::Request request);

}  // namespace myelin::api::v1
