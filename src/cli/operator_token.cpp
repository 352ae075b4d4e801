#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/ids.hpp"
#include "cli/config_values.hpp"
#include "os/failure.hpp"
#include "os/whole_file.hpp"

namespace myelin::cli {

using namespace conf;  // NOLINT

namespace {

// A file with this line, unless it is there already. Written beside, then linked: the name never shows half a line, and only the
// first of several writers gets it.
Result<void> make_once(const fs::path& folder, const fs::path& path, const std::string& text) {
  if (!fs::exists(folder)) {
    std::error_code error;
    fs::create_directories(folder.parent_path(), error);
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return os::failure("cannot make the folder of " + path.string());
  }
  auto beside = os::write_beside(path.string(), text + "\n");
  if (!beside) return beside.take_error();
  const int error = ::link(beside->c_str(), path.c_str()) == 0 ? 0 : errno;
  ::unlink(beside->c_str());
  if (error != 0 && error != EEXIST) return os::failure("cannot write " + path.string(), error);
  (void)os::sync_directory(folder.string());
  return {};
}

}  // namespace

Result<std::string> signing_secret(const Config& config) {
  if (config.secret_key) return *config.secret_key;
  const fs::path path = config.data / "secret";
  if (auto made = make_once(config.data, path, random_hex(32)); !made) return made.take_error();
  auto text = read_file(path, 4096);
  if (!text) return text.take_error();
  std::string secret(trimmed(text->value_or("")));
  if (secret.size() < 32) return Error{Code::internal, path.string() + " is damaged: remove it, then all sign in anew", ""};
  if (others_can_read(path)) return Error{Code::forbidden, path.string() + " can be read by others: remove it, then all sign in anew", ""};
  return secret;
}

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

  if (auto made = make_once(config.data, path, random_hex(24)); !made) return made.take_error();
  found = existing();
  if (!found) return found.take_error();
  if (!*found) return Error{Code::unavailable, path.string() + " vanished", ""};
  return std::move(**found);
}

}  // namespace myelin::cli
