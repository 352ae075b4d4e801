#pragma once
// openapi.json and its page, made from the route table once.

#include <string>
#include <vector>

#include "function/catalog.hpp"

namespace myelin::api::v1 {

[[nodiscard]] const std::string& openapi();
/// With an entry for each of these functions.
[[nodiscard]] std::string openapi_with(const std::vector<function::FunctionPtr>& functions);
/// One page without scripts that loads nothing.
[[nodiscard]] const std::string& reference_page();

}  // namespace myelin::api::v1
