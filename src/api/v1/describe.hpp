#pragma once
// The shapes that several resources answer with.

#include <boost/json.hpp>
#include <string>

#include "api/answer.hpp"
#include "api/v1/route.hpp"
#include "codec/json_value.hpp"

namespace myelin::api::v1 {

[[nodiscard]] http::Response json_reply(int status, const boost::json::value& value);
[[nodiscard]] boost::json::object describe(const session::Status& status);
[[nodiscard]] boost::json::object describe(const session::Progress& progress);
[[nodiscard]] boost::json::object describe(const session::CheckpointStatus& checkpoint);
/// A call's error with what the worker said of it: problem+json.
[[nodiscard]] boost::json::object problem_of(const Error& error);
[[nodiscard]] http::Response call_problem(const Error& error);

/// The request's body as an object whose members are all among `texts`, which are texts or null, and `others` (commas between them).
/// An empty body is an empty object.
[[nodiscard]] Result<codec::Json> read_body(const http::Request& request, std::string_view texts, std::string_view others = "");

/// What a session or a checkpoint may be called: 1 to 64 characters, none of them a control character. Else the answer.
[[nodiscard]] std::optional<http::Response> refuse_name(std::string_view name);

/// The user's session; else the answer: 410 with the cause of one that ended, or 404.
struct Found {
  std::optional<session::Session> session;
  http::Response otherwise;
};
Task<Found> find_session(Context& context, session::User user, std::string id);

/// Where scripts are off, what the meta of `call` and `step` says of it (a comma and a member): only the engine's own functions are called,
/// since a dotted name of a global reaches any module.
[[nodiscard]] std::string scripts_off(const Context& context);

/// What a kept call answered, in the form that is wanted now; or its error as the call would have given it.
Task<http::Response> stored_answer(Context& context, session::User user, std::string id, Wanted wanted);

}  // namespace myelin::api::v1
