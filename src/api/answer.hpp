#pragma once
// From a session's answer to an HTTP response: content negotiation, and the rope as a streamed body. Arrays are encoded
// on the pool in bounded pieces; small answers are written at once.

#include <string>

#include "api/context.hpp"
#include "codec/encode.hpp"
#include "http/message.hpp"
#include "session/session.hpp"

namespace myelin::api {

/// What the client wants to read.
struct Wanted {
  codec::Format format = codec::Format::json;
  bool bare = false;  // NaN and infinities as bare tokens
  /// The call's meta field "nonfinite": text pieces must keep what the encoder needs.
  [[nodiscard]] const char* nonfinite() const { return bare || format == codec::Format::cbor ? "bare" : "null"; }
};

/// By `Accept`: application/cbor, or application/json with an optional parameter nonfinite=bare|null.
[[nodiscard]] Wanted negotiate(const Context& context, const http::Request& request);

/// Reads what an answer has in its memory file; nothing can be read without one.
[[nodiscard]] codec::Reader reader_of(std::shared_ptr<os::UniqueFd> memfd);

/// The response to a successful call; consumes the answer. `newline`: a final line break after JSON, as NEST Server.
[[nodiscard]] http::Response respond(Context& context, session::Answer answer, Wanted wanted, bool newline);

/// The same for a result that comes from elsewhere, through its reader.
[[nodiscard]] http::Response respond(Context& context, codec::Rope rope, codec::Reader reader, Wanted wanted, bool newline);

/// Whether the request's body is JSON by its content type (application/json, application/*+json).
[[nodiscard]] bool is_json(const http::Request& request);

/// Who asks, set by admission.
/// Who asks, as admitted; nobody where nothing was asked for.
[[nodiscard]] accounts::Identity identity_of(const http::Request& request);
[[nodiscard]] session::User user_of(const http::Request& request);

/// check_json of a request's body, on the pool when it is large.
async::Task<Result<void>> check_body(Context& context, const std::string& body);

}  // namespace myelin::api
