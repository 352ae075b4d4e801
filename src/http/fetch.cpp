#include "http/fetch.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace myelin::http {
namespace {

struct Receiving {
  std::string body;
  std::size_t limit = 0;
  bool too_large = false;
  const std::atomic<bool>* stop = nullptr;
};

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& receiving = *static_cast<Receiving*>(user);
  const std::size_t bytes = size * count;
  if (receiving.body.size() + bytes > receiving.limit) {
    receiving.too_large = true;
    return CURL_WRITEFUNC_ERROR;
  }
  receiving.body.append(data, bytes);
  return bytes;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto* stop = static_cast<Receiving*>(user)->stop;
  return stop && stop->load() ? 1 : 0;
}

}  // namespace

Result<Fetched> fetch(const Fetch& request) {
  static const bool started = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle(started ? curl_easy_init() : nullptr, curl_easy_cleanup);
  if (!handle) return Error{Code::unavailable, "libcurl can't be started", ""};
  CURL* easy = handle.get();
  Receiving receiving;
  receiving.limit = request.limit_bytes;
  receiving.stop = request.stop;
  char why[CURL_ERROR_SIZE] = "";
  const long deadline_ms = std::max<long>(1, static_cast<long>(request.deadline.count()));  // 0 would be no deadline
  curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, request.here ? "http,https" : "https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, deadline_ms);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, std::min(deadline_ms, 5'000L));
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "myelin/" MYELIN_VERSION);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, why);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &receiving);
  if (const char* trusted = std::getenv("SSL_CERT_FILE"); trusted && *trusted) curl_easy_setopt(easy, CURLOPT_CAINFO, trusted);
  curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &receiving);
  curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
  if (request.here) curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_slist* list = curl_slist_append(nullptr, "Accept: application/json");
  for (const auto& line : request.headers) list = curl_slist_append(list, line.c_str());
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list, curl_slist_free_all);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
  if (!request.form.empty()) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.form.c_str());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.form.size()));
  }
  const CURLcode done = curl_easy_perform(easy);
  if (receiving.too_large)
    return Error{Code::too_large, request.url + " answers with more than " + std::to_string(request.limit_bytes / 1024) + " KiB", ""};
  if (done != CURLE_OK) return Error{Code::unavailable, "no answer from " + request.url + ": " + (why[0] ? why : curl_easy_strerror(done)), ""};
  Fetched answer;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answer.status);
  answer.body = std::move(receiving.body);
  return answer;
}

}  // namespace myelin::http
