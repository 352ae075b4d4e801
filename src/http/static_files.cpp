#include "http/static_files.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/log.hpp"
#include "http/text.hpp"
#include "os/fd.hpp"

namespace myelin::http {
namespace {

/// The components of a decoded path, or nothing if one is empty in the middle, "." or "..", a dotfile, or
/// odd.
std::optional<std::vector<std::string>> components(std::string_view path) {
  std::vector<std::string> out;
  if (path.empty() || path.front() != '/' || path.size() > 4096) return std::nullopt;
  path.remove_prefix(1);
  while (!path.empty()) {
    const auto slash = std::min(path.find('/'), path.size());
    const auto piece = path.substr(0, slash);
    if (piece.empty() || piece.front() == '.' || piece.size() > 255) return std::nullopt;
    for (const unsigned char c : piece)
      if (c < 0x20 || c == 0x7f || c == '\\') return std::nullopt;
    out.emplace_back(piece);
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return out;
}

/// Opens beneath `root` without following any symbolic link; -1 and errno.
int open_beneath(int root, const std::vector<std::string>& parts) {
  static std::atomic<bool> has_openat2 = true;
  constexpr int flags =
      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY;  // a FIFO must not block the pool
  if (has_openat2) {
    std::string path;
    for (const auto& part : parts) path += (path.empty() ? "" : "/") + part;
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const long fd = ::syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return static_cast<int>(fd);
    if (errno == ENOSYS) has_openat2 = false;
  }
  // No component is "..", none is followed if a link: nothing outside can be reached, whatever is renamed
  // meanwhile.
  os::UniqueFd at(::openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (std::size_t i = 0; at.get() >= 0 && i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    at = os::UniqueFd(::openat(at.get(), parts[i].c_str(), last ? flags : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  }
  return at.release();
}

struct File {
  int error = 0;  // errno, or 0
  bool is_directory = false;
  bool too_large = false;
  std::string etag;
  std::time_t modified = 0;
  std::uint64_t size = 0;
  std::string name, body;
};

bool etag_listed(std::string_view list, std::string_view etag) {
  if (trim(list) == "*") return true;
  for (auto one = next_item(list); !one.empty(); one = next_item(list)) {
    if (one.starts_with("W/")) one.remove_prefix(2);
    if (one == etag) return true;
  }
  return false;
}

bool is_unchanged(const File& file, const std::string& if_none_match, const std::string& if_modified_since) {
  if (!if_none_match.empty()) return etag_listed(if_none_match, file.etag);
  if (if_modified_since.empty()) return false;
  const auto since = parse_http_date(if_modified_since);
  return since && file.modified <= *since;
}

/// Opens, looks, and reads unless the client has it already. On a pool thread.
File load(int root, std::vector<std::string> parts, bool ends_with_slash, std::uint64_t largest,
          const std::string& if_none_match, const std::string& if_modified_since) {
  File file;
  struct stat info {};
  os::UniqueFd fd(open_beneath(root, parts));
  const auto fail = [&](int error) {
    file.error = error;
    return file;
  };
  if (fd.get() < 0 || ::fstat(fd.get(), &info) != 0) return fail(errno);
  if (S_ISDIR(info.st_mode)) {
    file.is_directory = true;
    if (!ends_with_slash && !parts.empty())
      return file;  // the caller redirects, else relative links would break
    parts.emplace_back("index.html");
    fd = os::UniqueFd(open_beneath(root, parts));
    if (fd.get() < 0 || ::fstat(fd.get(), &info) != 0) return fail(errno);
  } else if (ends_with_slash) {
    return fail(ENOTDIR);
  }
  if (!S_ISREG(info.st_mode)) return fail(EACCES);
  file.is_directory = false;
  file.name = parts.back();
  file.size = static_cast<std::uint64_t>(info.st_size);
  file.modified = info.st_mtim.tv_sec;
  std::array<char, 64> tag{};
  const int n = std::snprintf(
      tag.data(), tag.size(), "\"%llx-%llx-%lx\"", static_cast<unsigned long long>(file.size),
      static_cast<unsigned long long>(info.st_mtim.tv_sec), static_cast<unsigned long>(info.st_mtim.tv_nsec));
  file.etag.assign(tag.data(), static_cast<std::size_t>(n));
  if (file.size > largest) {
    file.too_large = true;
    return file;
  }
  if (is_unchanged(file, if_none_match, if_modified_since)) return file;
  file.body.resize(file.size);
  std::size_t have = 0;
  while (have < file.body.size()) {
    const auto got = ::read(fd.get(), file.body.data() + have, file.body.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  file.body.resize(have);
  return file;
}

}  // namespace

struct StaticFiles::State {
  State(async::Pool& p, int fd, std::uint64_t most) : pool(p), root(fd), largest(most) {}
  async::Pool& pool;
  os::UniqueFd root;
  std::uint64_t largest;
};

Result<StaticFiles> StaticFiles::open(async::Pool& pool, const std::string& root, std::uint64_t largest) {
  const int fd = ::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Error{Code::not_found, "can't serve " + root + ": " + std::strerror(errno), {}};
  StaticFiles files;
  files.state_ = std::make_shared<State>(pool, fd, largest);
  return files;
}

namespace {
template <class S>
Task<Response> serve_from(std::shared_ptr<const S> state, std::string method, std::string path,
                          Headers headers) {
  if (method != "GET" && method != "HEAD") {
    auto response = problem(405, "method_not_allowed", "only GET and HEAD");
    response.headers.add("Allow", "GET, HEAD");
    co_return response;
  }
  auto parts = components(path);
  if (!parts) co_return problem(404, "not_found", "no such file");
  const bool slash = path.back() == '/';
  // The job owns all it needs: `state` keeps the root open.
  auto job = [state, parts = std::move(*parts), slash, none_match = std::string(headers.get("If-None-Match")),
              since = std::string(headers.get("If-Modified-Since"))] {
    return load(state->root.get(), parts, slash, state->largest, none_match, since);
  };
  auto& pool = state->pool;
  File file = co_await async::on_pool(pool, std::move(job));
  if (file.is_directory && !file.error) {
    auto response = reply(301, "text/plain; charset=utf-8", "moved\n");
    // Never "//host": the path's first component is not empty (components()).
    std::string to;
    for (const char c : path) to += c == '/' ? "/" : percent_encode(std::string_view(&c, 1));
    response.headers.add("Location", to + "/");
    co_return response;
  }
  if (file.error) {
    switch (file.error) {
      case ENOENT:
      case ENOTDIR:
      case ELOOP:
      case EXDEV:
      case EACCES:
      case EPERM:
      case ENAMETOOLONG:
      case ENXIO:
        co_return problem(404, "not_found", "no such file");
      default:
        log::error("static file " + path + ": " + std::strerror(file.error));
        co_return problem(file.error == EMFILE || file.error == ENFILE ? 503 : 500, "internal",
                          "can't read the file");
    }
  }
  if (file.too_large) co_return problem(500, "internal", "the file is larger than this server hands out");
  Response response;
  const bool unchanged = is_unchanged(file, std::string(headers.get("If-None-Match")),
                                      std::string(headers.get("If-Modified-Since")));
  response.status = unchanged ? 304 : 200;
  if (!unchanged) response.headers.add("Content-Type", std::string(content_type_of(file.name)));
  response.headers.add("ETag", file.etag);
  response.headers.add("Last-Modified", http_date(file.modified));
  response.headers.add("Cache-Control", "no-cache");  // keep, but ask each time: it costs a 304
  response.headers.add("X-Content-Type-Options", "nosniff");
  response.body = std::move(file.body);
  co_return response;
}
}  // namespace

Task<Response> StaticFiles::serve(std::string method, std::string path, Headers headers) const {
  return serve_from(state_, std::move(method), std::move(path), std::move(headers));
}

std::string_view content_type_of(std::string_view name) {
  const auto dot = name.rfind('.');
  const auto extension = dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
  constexpr std::array<std::pair<std::string_view, std::string_view>, 30> types{{
      {"html", "text/html; charset=utf-8"},
      {"htm", "text/html; charset=utf-8"},
      {"js", "text/javascript; charset=utf-8"},
      {"mjs", "text/javascript; charset=utf-8"},
      {"css", "text/css; charset=utf-8"},
      {"json", "application/json"},
      {"map", "application/json"},
      {"webmanifest", "application/manifest+json"},
      {"svg", "image/svg+xml"},
      {"png", "image/png"},
      {"jpg", "image/jpeg"},
      {"jpeg", "image/jpeg"},
      {"gif", "image/gif"},
      {"webp", "image/webp"},
      {"ico", "image/x-icon"},
      {"woff", "font/woff"},
      {"woff2", "font/woff2"},
      {"ttf", "font/ttf"},
      {"otf", "font/otf"},
      {"wasm", "application/wasm"},
      {"txt", "text/plain; charset=utf-8"},
      {"md", "text/markdown; charset=utf-8"},
      {"csv", "text/csv; charset=utf-8"},
      {"tsv", "text/tab-separated-values; charset=utf-8"},
      {"xml", "application/xml"},
      {"pdf", "application/pdf"},
      {"zip", "application/zip"},
      {"gz", "application/gzip"},
      {"mp4", "video/mp4"},
      {"cbor", "application/cbor"},
  }};
  for (const auto& [key, type] : types)
    if (iequals(extension, key)) return type;
  return "application/octet-stream";
}

}  // namespace myelin::http
