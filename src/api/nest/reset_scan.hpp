#pragma once
// Tells whether a script calls ResetKernel, without running it.

#include <string_view>

namespace myelin::api::nest {

/// True if the Python source has the name ResetKernel followed by an opening parenthesis outside comments and string
/// literals. Used only to decide whether a script may start a fresh kernel after one was lost; a script that hides the
/// call gets the KernelLost answer once more, never a wrong result.
[[nodiscard]] bool calls_reset_kernel(std::string_view source);

}  // namespace myelin::api::nest
