#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/ids.hpp"
#include "cli/config_values.hpp"

namespace myelin::cli {

using namespace conf;  // NOLINT

Result<OperatorToken> operator_token(const Config& config) {
  if (config.auth == Auth::none) return OperatorToken{};
  if (config.token) return OperatorToken{*config.token, std::nullopt, ""};
  fs::path path = config.token_file.value_or(config.data / "token");
  auto existing = [&]() -> Result<std::optional<OperatorToken>> {
    auto text = read_file(path, 4096);
    if (!text) return text.take_error();
    if (!*text) return std::optional<OperatorToken>();
    std::string token;
    auto must_be = set_token(token, Given{trimmed(**text), true, {}, {}});
    if (!must_be.empty()) {
      return Error{Code::bad_request, "the token in " + path.string() + " must be " + must_be, ""};
    }
    OperatorToken out{token, path, ""};
    if (others_can_read(path)) out.warning = path.string() + " can be read by others: chmod 600 it";
    return std::optional<OperatorToken>(std::move(out));
  };
  auto found = existing();
  if (!found) return found.take_error();
  if (*found) return std::move(**found);
  if (config.token_file) return Error{Code::bad_request, "there is no token file " + path.string(), ""};

  auto failed = [&](const char* what) {
    return Error{Code::unavailable, std::string(what) + " " + path.string() + ": " + std::strerror(errno),
                 ""};
  };
  if (!fs::exists(config.data)) {
    std::error_code error;
    fs::create_directories(config.data.parent_path(), error);
    if (::mkdir(config.data.c_str(), 0700) != 0 && errno != EEXIST)
      return failed("cannot make the folder of");
  }
  // Written beside, then linked: the name never shows half a token, and only the first of several writers
  // gets it.
  std::string beside = (config.data / ".token-XXXXXX").string();
  int fd = ::mkostemp(beside.data(), O_CLOEXEC);  // 0600
  if (fd < 0) return failed("cannot write");
  std::string token = random_hex(24);
  std::string line = token + "\n";
  bool written =
      ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && ::fsync(fd) == 0;
  int error = errno;
  ::close(fd);
  bool linked = written && ::link(beside.c_str(), path.c_str()) == 0;
  if (written && !linked) error = errno;
  ::unlink(beside.c_str());
  if (!linked && error != EEXIST) {
    errno = error;
    return failed("cannot write");
  }
  if (int folder = ::open(config.data.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
  found = existing();
  if (!found) return found.take_error();
  if (!*found) return Error{Code::unavailable, path.string() + " vanished", ""};
  return std::move(**found);
}

}  // namespace myelin::cli
