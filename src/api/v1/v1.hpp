#pragma once
// The native routes below /v1 (spec/native-api.md). Errors are problem+json with a stable `code`.

#include "api/context.hpp"
#include "http/message.hpp"

namespace myelin::api::v1 {

/// Whether a path needs no token: health and the description.
[[nodiscard]] bool is_open(std::string_view path);

/// Any route below /v1; who asks is in request.context, but for the open ones.
async::Task<http::Response> handle(Context& context, http::Request request);

}  // namespace myelin::api::v1
