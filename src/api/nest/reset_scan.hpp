#pragma once
// Tells whether a script names ResetKernel, without running it.

#include <string_view>

namespace myelin::api::nest {

/// True if the Python source has the name ResetKernel outside comments and string literals: it may be called by another name. Used
/// only to decide whether a script may start a fresh kernel after one was lost; a script that hides the call gets the KernelLost
/// answer once more, never a wrong result.
[[nodiscard]] bool names_reset_kernel(std::string_view source);

}  // namespace myelin::api::nest
