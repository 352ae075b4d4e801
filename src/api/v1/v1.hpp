#pragma once
// The native routes below /v1. Errors are problem+json with a stable `code`.

#include "api/context.hpp"
#include "http/message.hpp"

namespace myelin::api::v1 {

/// GET /v1/health: needs no token; says whether the server can work, nothing about users.
[[nodiscard]] http::Response health(const Context& context);

/// All other routes; the user is known. `request.path` starts with /v1.
async::Task<http::Response> handle(Context& context, http::Request request);

}  // namespace myelin::api::v1
