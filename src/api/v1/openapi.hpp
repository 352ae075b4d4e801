#pragma once
// openapi.json and its page, made from the route table once.

#include <string>

namespace myelin::api::v1 {

[[nodiscard]] const std::string& openapi();
/// One page without scripts that loads nothing.
[[nodiscard]] const std::string& reference_page();

}  // namespace myelin::api::v1
