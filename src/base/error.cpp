#include "base/error.hpp"

namespace myelin {

CodeInfo describe(Code code) {
  switch (code) {
    case Code::bad_request: return {400, "bad_request", false, false};
    case Code::invalid: return {422, "invalid", false, false};
    case Code::broken: return {409, "broken", false, false};
    case Code::unauthorized: return {401, "unauthorized", false, false};
    case Code::forbidden: return {403, "forbidden", false, false};
    case Code::not_found: return {404, "not_found", false, false};
    case Code::method_not_allowed: return {405, "method_not_allowed", false, false};
    case Code::timeout: return {408, "timeout", true, false};
    case Code::conflict: return {409, "conflict", false, false};
    case Code::gone: return {410, "gone", false, false};
    case Code::too_large: return {413, "too_large", false, false};
    case Code::header_too_large: return {431, "header_too_large", false, false};
    case Code::misdirected: return {421, "misdirected", false, false};
    case Code::call_failed: return {400, "call_failed", false, false};
    case Code::interrupted: return {409, "interrupted", false, false};
    case Code::too_many: return {429, "too_many", true, false};
    case Code::unavailable: return {503, "unavailable", true, false};
    case Code::deadline: return {504, "deadline", false, false};
    case Code::insufficient_storage: return {507, "insufficient_storage", true, true};
    case Code::quota: return {507, "quota", false, false};
    case Code::worker_lost: return {410, "worker_lost", false, false};
    case Code::internal: return {500, "internal", false, true};
  }
  return {500, "internal", false, true};
}

}  // namespace myelin
