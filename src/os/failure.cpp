#include "os/failure.hpp"

#include <cerrno>
#include <system_error>

namespace myelin::os {

Error failure(std::string_view what, int number) {
  Code code = Code::internal;
  switch (number) {
    case ENOSPC:
    case EDQUOT: code = Code::insufficient_storage; break;
    case ENOENT: code = Code::not_found; break;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN: code = Code::unavailable; break;
    default: break;
  }
  return {code, std::string(what) + ": " + std::generic_category().message(number), {}};
}

Error failure(std::string_view what) { return failure(what, errno); }

}  // namespace myelin::os
