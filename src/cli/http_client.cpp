#include "cli/http_client.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "cli/config.hpp"

namespace myelin::cli {
namespace {

constexpr std::size_t max_answer = 1ull << 30;
constexpr int tick_ms = 100;

struct Receiving {
  CURL* handle = nullptr;
  HttpAnswer answer;
  std::FILE* into = nullptr;
  bool too_large = false;
  int write_error = 0;
};

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& receiving = *static_cast<Receiving*>(user);
  std::size_t bytes = size * count;
  long status = 0;
  curl_easy_getinfo(receiving.handle, CURLINFO_RESPONSE_CODE, &status);
  if (receiving.into && status >= 200 && status < 300) {
    if (std::fwrite(data, 1, bytes, receiving.into) == bytes) return bytes;
    receiving.write_error = errno;
    return 0;
  }
  if (receiving.answer.body.size() + bytes > max_answer) {
    receiving.too_large = true;
    return 0;
  }
  receiving.answer.body.append(data, bytes);
  return bytes;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& receiving = *static_cast<Receiving*>(user);
  std::string_view line(data, size * count);
  if (line.substr(0, 5) == "HTTP/") receiving.answer.headers.clear();  // of an interim response
  auto colon = line.find(':');
  if (colon != std::string_view::npos) {
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && std::isspace(static_cast<unsigned char>(value.front()))) value.remove_prefix(1);
    while (!value.empty() && std::isspace(static_cast<unsigned char>(value.back()))) value.remove_suffix(1);
    receiving.answer.headers[name] = std::string(value);
  }
  return size * count;
}

std::string host_of(const std::string& url) {
  auto begin = url.find("://");
  std::string rest = begin == std::string::npos ? url : url.substr(begin + 3);
  if (!rest.empty() && rest.front() == '[') return rest.substr(1, rest.find(']') - 1);
  return rest.substr(0, rest.find_first_of(":/"));
}

}  // namespace

struct HttpClient::Impl {
  std::string url, socket, token, where;
  CURL* easy = nullptr;
  CURLM* multi = nullptr;
};

std::string HttpAnswer::header(const std::string& name) const {
  auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

HttpClient::HttpClient(std::string url, std::string socket, std::string token) : impl_(std::make_unique<Impl>()) {
  static const bool once = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  (void)once;
  impl_->where = socket.empty() ? url : socket;
  impl_->url = std::move(url);
  impl_->socket = std::move(socket);
  impl_->token = std::move(token);
  impl_->easy = curl_easy_init();
  impl_->multi = curl_multi_init();
}

HttpClient::~HttpClient() {
  if (!impl_) return;
  curl_easy_cleanup(impl_->easy);
  curl_multi_cleanup(impl_->multi);
}

HttpClient::HttpClient(HttpClient&&) noexcept = default;

const std::string& HttpClient::where() const { return impl_->where; }

Result<HttpAnswer> HttpClient::send(const HttpRequest& request, const std::function<bool()>& tick) {
  if (!impl_->easy || !impl_->multi) return Error{Code::unavailable, "libcurl can't be started: out of memory?", ""};
  CURL* easy = impl_->easy;
  curl_easy_reset(easy);  // keeps the connection
  Receiving receiving;
  receiving.handle = easy;
  receiving.into = request.into;
  char why[CURL_ERROR_SIZE] = "";

  std::string url = impl_->url + request.target;
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);  // a simulation of hours sends nothing meanwhile
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 10'000L);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "myelin/" MYELIN_VERSION);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, why);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &receiving);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &receiving);
  if (const char* trusted = std::getenv("SSL_CERT_FILE"); trusted && *trusted) curl_easy_setopt(easy, CURLOPT_CAINFO, trusted);
  if (!impl_->socket.empty()) curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, impl_->socket.c_str());
  if (!impl_->socket.empty() || is_loopback(host_of(impl_->url))) curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_slist* headers = curl_slist_append(nullptr, "Expect:");
  for (const auto& line : request.headers) headers = curl_slist_append(headers, line.c_str());
  if (!impl_->token.empty()) headers = curl_slist_append(headers, ("Authorization: Bearer " + impl_->token).c_str());
  if (!request.body.empty() || request.method == "POST" || request.method == "PATCH") {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    headers = curl_slist_append(headers, "Content-Type: application/json");
  }
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);

  curl_multi_add_handle(impl_->multi, easy);
  CURLcode result = CURLE_FAILED_INIT;
  bool done = false, given_up = false;
  while (!done && !given_up) {
    int running = 0;
    if (curl_multi_perform(impl_->multi, &running) != CURLM_OK) break;
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(impl_->multi, &left))
      if (message->msg == CURLMSG_DONE) {
        result = message->data.result;
        done = true;
      }
    if (done) break;
    curl_multi_poll(impl_->multi, nullptr, 0, tick_ms, nullptr);
    if (tick && !tick()) given_up = true;
  }
  curl_multi_remove_handle(impl_->multi, easy);
  curl_slist_free_all(headers);

  if (given_up) return Error{Code::interrupted, "given up", ""};
  if (receiving.too_large) return Error{Code::too_large, "the answer is above 1 GiB: keep the data as a run and use `myelin runs export`", ""};
  if (receiving.write_error != 0) return Error{Code::insufficient_storage, std::string("the file can't be written: ") + std::strerror(receiving.write_error), ""};
  if (result != CURLE_OK) {
    std::string reason = why[0] ? why : curl_easy_strerror(result);
    if (result == CURLE_COULDNT_CONNECT) reason = impl_->socket.empty() ? "nobody listens there" : "no server listens on this socket, or it is not yours";
    return Error{Code::unavailable, "no answer from " + impl_->where + ": " + reason, ""};
  }
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &receiving.answer.status);
  return std::move(receiving.answer);
}

std::string percent_encoded(std::string_view text) {
  static const char digits[] = "0123456789ABCDEF";
  std::string out;
  for (unsigned char c : text) {
    if (std::isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      out += static_cast<char>(c);
    } else {
      out += '%';
      out += digits[c >> 4];
      out += digits[c & 15];
    }
  }
  return out;
}

}  // namespace myelin::cli
