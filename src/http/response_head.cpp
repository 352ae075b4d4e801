#include "http/response_head.hpp"

#include <array>

#include "http/text.hpp"

namespace myelin::http {
namespace {

void append_number(std::string& out, std::uint64_t value) {
  std::array<char, 20> digits;
  auto at = digits.size();
  do {
    digits[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  out.append(digits.data() + at, digits.size() - at);
}

bool is_own_field(std::string_view name) {
  switch (name.size()) {
    case 4:
      return iequals(name, "date");
    case 6:
      return iequals(name, "server");
    case 10:
      return iequals(name, "connection") || iequals(name, "keep-alive");
    case 14:
      return iequals(name, "content-length");
    case 17:
      return iequals(name, "transfer-encoding");
    default:
      return false;
  }
}

bool is_clean_value(std::string_view value) {
  for (const unsigned char c : value)
    if ((c < 0x20 && c != '\t') || c == 0x7f) return false;
  return true;
}

}  // namespace

bool has_no_body(int status) { return status < 200 || status == 204 || status == 304; }

void append_chunk_size(std::string& out, std::uint64_t size) {
  constexpr char hex[] = "0123456789abcdef";
  std::array<char, 16> digits;
  auto at = digits.size();
  do digits[--at] = hex[size & 15];
  while ((size >>= 4) != 0);
  out.append(digits.data() + at, digits.size() - at);
  out += "\r\n";
}

bool append_head(std::string& out, const Response& response, const HeadOptions& options) {
  const auto start = out.size();
  const int status = response.status;
  out += "HTTP/1.1 ";
  append_number(out, static_cast<std::uint64_t>(status));
  out += ' ';
  out += reason_phrase(status);
  out += "\r\n";
  out += options.own_fields;
  for (const auto& [name, value] : response.headers) {
    if (is_own_field(name)) continue;
    if (!is_token(name) || !is_clean_value(value)) {
      out.resize(start);
      return false;
    }
    out += name;
    out += ": ";
    out += value;
    out += "\r\n";
  }
  if (!has_no_body(status)) {
    if (options.chunked) {
      out += "Transfer-Encoding: chunked\r\n";
    } else if (!response.stream || response.stream->length()) {
      out += "Content-Length: ";
      append_number(out, response.stream ? *response.stream->length() : response.body.size());
      out += "\r\n";
    }
  }
  if (options.upgrade)
    out += options.keep_alive ? "Connection: Upgrade\r\n" : "Connection: Upgrade, close\r\n";
  else if (!options.keep_alive)
    out += "Connection: close\r\n";
  else if (options.minor_version == 0)
    out += "Connection: keep-alive\r\n";
  out += "\r\n";
  return true;
}

}  // namespace myelin::http
