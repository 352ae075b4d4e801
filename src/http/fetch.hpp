#pragma once
// The server as a client: one small request to another server, e.g. an OpenID provider. Blocks, so on a pool thread; bounded in time
// and size, follows no redirects. libcurl stays behind this header: it knows TLS, the system's authorities and its proxies.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace myelin::http {

struct Fetch {
  std::string url;                   // https
  bool here = false;                 // on this machine itself: http too, and by no proxy
  std::string form;                  // if not empty: POSTed as application/x-www-form-urlencoded
  std::vector<std::string> headers;  // "Name: value"
  std::size_t limit_bytes = 256 * 1024;
  std::chrono::milliseconds deadline{10'000};  // for all of it
  const std::atomic<bool>* stop = nullptr;     // when it turns true the request is given up, within a second
};

struct Fetched {
  long status = 0;
  std::string body;
};

/// Any status is an answer. Errors: unavailable (no answer in time, no connection, no trust), too_large.
[[nodiscard]] Result<Fetched> fetch(const Fetch& request);

}  // namespace myelin::http
