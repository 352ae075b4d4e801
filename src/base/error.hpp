#pragma once
// What can go wrong by a user, a file, a peer or a disk, as a value. Exceptions are for bugs only.
// One table (describe) maps each code to its HTTP status, its stable name, whether trying again can help, and how
// loudly it is logged. An Error is handled once: logged or returned, never both.

#include <string>
#include <string_view>
#include <utility>

namespace myelin {

enum class Code {
  bad_request,          // the request can't be understood
  invalid,              // it is understood, but values in it are wrong (detail: {"errors": [{"field", "message"}]})
  broken,               // the code that it names can't be used (detail: {"text", "file", "line"})
  unauthorized,         // no or wrong credentials
  forbidden,            // known, but not allowed
  not_found,            // no such thing
  method_not_allowed,   // the thing exists, the method does not
  timeout,              // the peer was too slow
  conflict,             // not in this state
  gone,                 // it ended; the detail says why
  too_large,            // a limit on size was exceeded
  header_too_large,     // the request head exceeds its limit
  misdirected,          // unknown Host
  call_failed,          // the user's script or call raised
  interrupted,          // the call was interrupted on request
  too_many,             // a queue is full; try again later
  unavailable,          // stopping, or a resource is missing now
  deadline,             // a call outlived its deadline
  insufficient_storage, // the disk is full
  quota,                // the user's share of the disk is used up
  worker_lost,          // the worker died
  internal,             // a bug or a broken host
};

struct CodeInfo {
  int http_status;
  std::string_view name;  // stable, in problem+json as "code"
  bool retryable;
  bool log_as_error;
};

[[nodiscard]] CodeInfo describe(Code code);

struct Error {
  Code code = Code::internal;
  std::string message;  // for the user: what is wrong and what to do
  std::string detail;   // more, optional (a JSON object for call_failed)
};

}  // namespace myelin
