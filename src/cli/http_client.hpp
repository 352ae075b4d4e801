#pragma once
// HTTP for the command line: one request at a time, over TCP or a Unix socket. libcurl stays behind this header.

#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace myelin::cli {

struct HttpAnswer {
  long status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  [[nodiscard]] bool ok() const { return status >= 200 && status < 300; }
  [[nodiscard]] std::string header(const std::string& name) const;  // "" if there is none
};

struct HttpRequest {
  std::string method = "GET";
  std::string target;                // "/v1/…", percent-encoded
  std::string body;                  // sent as JSON when not empty
  std::vector<std::string> headers;  // "Name: value"
  std::FILE* into = nullptr;         // where the body of a 2xx answer goes instead of `body`
};

class HttpClient {
 public:
  /// `url`: http(s)://host:port, without a slash at its end. With `socket` (a path) the host of `url` is only a name.
  HttpClient(std::string url, std::string socket, std::string token);
  ~HttpClient();
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) = delete;

  /// Waits for as long as the answer takes; `tick` is called about every 100 ms meanwhile, and false from it gives up.
  /// Errors: unavailable (no connection, or it broke), interrupted (tick), too_large (an answer above 1 GiB).
  Result<HttpAnswer> send(const HttpRequest& request, const std::function<bool()>& tick = {});
  /// Where it sends to, for people.
  [[nodiscard]] const std::string& where() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Everything but letters, digits and -._~ as %XX.
[[nodiscard]] std::string percent_encoded(std::string_view text);

}  // namespace myelin::cli
