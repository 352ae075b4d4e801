#include "http/message.hpp"

#include <algorithm>

#include "http/text.hpp"

namespace myelin::http {

const std::string* Headers::find(std::string_view name) const {
  for (const auto& [key, value] : fields_)
    if (iequals(key, name)) return &value;
  return nullptr;
}

std::string_view Headers::get(std::string_view name) const {
  const auto* value = find(name);
  return value ? std::string_view(*value) : std::string_view();
}

std::vector<std::string_view> Headers::all(std::string_view name) const {
  std::vector<std::string_view> out;
  for (const auto& [key, value] : fields_)
    if (iequals(key, name)) out.emplace_back(value);
  return out;
}

bool Headers::lists(std::string_view name, std::string_view token) const {
  for (const auto& [key, value] : fields_) {
    if (!iequals(key, name)) continue;
    std::string_view list = value;
    for (auto item = next_item(list); !item.empty(); item = next_item(list))
      if (iequals(item, token)) return true;
  }
  return false;
}

void Headers::set(std::string_view name, std::string value) {
  remove(name);
  fields_.emplace_back(std::string(name), std::move(value));
}

void Headers::remove(std::string_view name) {
  std::erase_if(fields_, [&](const Field& field) { return iequals(field.first, name); });
}

bool Request::wants_web_socket() const {
  return method == "GET" && headers.lists("Connection", "upgrade") && headers.lists("Upgrade", "websocket");
}

namespace {

void append_json_string(std::string& out, std::string_view text) {
  constexpr char hex[] = "0123456789abcdef";
  out += '"';
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c == 0x7f) {
      out += "\\u00";
      out += hex[c >> 4];
      out += hex[c & 15];
    } else {
      out += static_cast<char>(c);
    }
  }
  out += '"';
}

Response problem_body(int status, std::string_view code, std::string_view message, bool retryable,
                      std::string_view detail) {
  std::string body = "{\"type\":\"about:blank\",\"title\":";
  append_json_string(body, reason_phrase(status));
  body += ",\"status\":" + std::to_string(status) + ",\"code\":";
  append_json_string(body, code);
  body += ",\"detail\":";
  append_json_string(body, message);
  if (retryable) body += ",\"retryable\":true";
  // Error::detail is a JSON object by contract (base/error.hpp); anything else goes out as text.
  if (!detail.empty()) {
    body += ",\"more\":";
    if (detail.front() == '{')
      body += detail;
    else
      append_json_string(body, detail);
  }
  body += '}';
  auto response = reply(status, "application/problem+json", std::move(body));
  if (retryable) response.headers.add("Retry-After", "1");
  return response;
}

}  // namespace

Response reply(int status, std::string content_type, std::string body) {
  Response response;
  response.status = status;
  response.headers.add("Content-Type", std::move(content_type));
  response.body = std::move(body);
  return response;
}

Response problem(const Error& error) {
  const auto info = describe(error.code);
  return problem_body(info.http_status, info.name, error.message, info.retryable, error.detail);
}

Response problem(int status, std::string_view code, std::string_view message) {
  return problem_body(status, code, message, status == 503 || status == 429, {});
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 423:
      return "Locked";
    case 424:
      return "Failed Dependency";
    case 426:
      return "Upgrade Required";
    case 428:
      return "Precondition Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 460:
      return "Checksum Mismatch";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "";
  }
}

}  // namespace myelin::http
