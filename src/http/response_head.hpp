#pragma once
// The head of a response as bytes. Fields that frame the message or name the server are the server's alone.

#include <cstdint>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace myelin::http {

struct HeadOptions {
  bool chunked = false;
  bool keep_alive = true;
  bool upgrade = false;         // Connection also lists Upgrade
  int minor_version = 1;        // of the request
  std::string_view own_fields;  // Date, complete lines
};

/// Appends the head with its empty line. False, and nothing appended: a field would split the message.
[[nodiscard]] bool append_head(std::string& out, const Response& response, const HeadOptions& options);
/// The first line of a chunk.
void append_chunk_size(std::string& out, std::uint64_t size);
/// 1xx, 204 and 304 have no body, whatever the handler says.
[[nodiscard]] bool has_no_body(int status);

}  // namespace myelin::http
