#pragma once
// A failed system call as an Error. Used inside os/ and by whoever else calls the kernel through it.

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace myelin::os {

/// "what: strerror(number)". ENOSPC and EDQUOT become insufficient_storage, ENOENT not_found, EACCES and EPERM stay
/// internal (the server's own rights are wrong), EMFILE, ENFILE, ENOMEM and EAGAIN unavailable.
[[nodiscard]] Error failure(std::string_view what, int number);
/// The same with the current errno; call it before anything else changes it.
[[nodiscard]] Error failure(std::string_view what);

}  // namespace myelin::os
