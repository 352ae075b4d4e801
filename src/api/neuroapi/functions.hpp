#pragma once
// The functions of /api/v1/function. A name is looked up in a list, never evaluated; each call has only what was sent with it.

#include <string>

#include "api/context.hpp"

namespace myelin::api::neuroapi {

/// What the function `name` gives for `params_json`, the JSON text of an object with its arguments: JSON text of the result. Errors:
/// not_found (no such function), bad_request (the message is Python's where the original's is known), too_many, deadline. Who has no
/// token (Role::anonymous) has smaller limits.
async::Task<Result<std::string>> call_function(Context& context, accounts::Identity who, std::string name, std::string params_json);

}  // namespace myelin::api::neuroapi
