#pragma once
// What the routes of functions, packages and sweeps share.

#include "api/v1/route.hpp"
#include "function/functions.hpp"

namespace myelin::api::v1 {

/// A function as it is listed.
[[nodiscard]] boost::json::object describe(const function::Function& f);
/// The answer to a call with this request.
Task<http::Response> invoke(Context& context, Asked asked, function::FunctionPtr of);

}  // namespace myelin::api::v1
