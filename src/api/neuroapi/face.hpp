#pragma once
// NeuroAPI's routes: /auth/…, /api/v1/users, /api/v1/function, /swagger.json, /swagger-ui. Statuses, shapes and texts are those of its
// development mode; what differs on purpose is listed in docs/neuroapi-differences.md.

#include <optional>

#include "api/context.hpp"
#include "http/message.hpp"

namespace myelin::api::neuroapi {

/// What can be said from the request's head: no such path, wrong method, no valid token. Else who asks is in request.context, and how
/// much they may send in request.body_limit.
[[nodiscard]] std::optional<http::Response> admit(Context& context, http::Request& request);
/// After admit().
async::Task<http::Response> handle(Context& context, http::Request request);

}  // namespace myelin::api::neuroapi
