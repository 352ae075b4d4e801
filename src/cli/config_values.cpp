#include "cli/config_values.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <map>
#include <sstream>

namespace myelin::cli {
namespace conf {

std::string shown(const Given& given) {
  std::ostringstream out;
  std::visit(
      [&](const auto& v) {
        using V = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<V, std::string>)
          out << '"' << v << '"';
        else if constexpr (std::is_same_v<V, bool>)
          out << (v ? "true" : "false");
        else if constexpr (std::is_same_v<V, std::vector<std::string>>)
          out << "a list";
        else
          out << v;
      },
      given.raw);
  return out.str();
}

std::string trimmed(std::string_view text) {
  auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  auto last = text.find_last_not_of(" \t\r\n");
  return std::string(text.substr(first, last - first + 1));
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    auto end = text.find(separator);
    auto part = trimmed(text.substr(0, end));
    if (!part.empty()) parts.push_back(part);
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string set_number(std::uint64_t& to, const Given& given, std::uint64_t low, std::uint64_t high) {
  std::optional<std::uint64_t> value;
  if (auto* n = std::get_if<std::int64_t>(&given.raw); n != nullptr && *n >= 0)
    value = static_cast<std::uint64_t>(*n);
  if (auto* s = std::get_if<std::string>(&given.raw); s != nullptr && given.is_text)
    value = whole_number(trimmed(*s));
  if (!value || *value < low || *value > high) {
    return "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
  }
  to = *value;
  return {};
}

std::string set_text(std::string& to, const Given& given) {
  auto* text = std::get_if<std::string>(&given.raw);
  if (text == nullptr) return "a text";
  to = *text;
  return {};
}

std::string set_bool(bool& to, const Given& given) {
  if (auto* b = std::get_if<bool>(&given.raw)) {
    to = *b;
    return {};
  }
  if (auto* s = std::get_if<std::string>(&given.raw); s != nullptr && given.is_text) {
    auto text = lower(trimmed(*s));
    if (text == "true" || text == "yes" || text == "t" || text == "1" || text == "on") return to = true, "";
    if (text == "false" || text == "no" || text == "f" || text == "0" || text == "off") return to = false, "";
  }
  return "true or false";
}

std::string set_list(std::vector<std::string>& to, const Given& given) {
  if (auto* list = std::get_if<std::vector<std::string>>(&given.raw)) {
    to = *list;
    return {};
  }
  if (auto* s = std::get_if<std::string>(&given.raw); s != nullptr && given.is_text) {
    to = split(*s, ',');
    return {};
  }
  return "a list of texts";
}

fs::path resolved(const std::string& text, const Given& given) {
  fs::path path = text;
  if (text == "~" || text.rfind("~/", 0) == 0)
    path = given.home / text.substr(std::min<std::size_t>(2, text.size()));
  if (path.is_relative()) path = given.base / path;
  return path.lexically_normal();
}

std::string set_path(fs::path& to, const Given& given) {
  std::string text;
  if (!set_text(text, given).empty() || text.empty()) return "a path";
  to = resolved(text, given);
  return {};
}

std::string set_amount(Amount& to, const Given& given, bool share_allowed) {
  const std::string must_be = share_allowed ? "a size like \"8GiB\" or a share like \"60%\""
                                            : "a size like \"2GiB\", or a number of bytes";
  if (auto* n = std::get_if<std::int64_t>(&given.raw)) {
    if (*n < 0) return must_be;
    to = {static_cast<std::uint64_t>(*n), 0};
    return {};
  }
  auto* text = std::get_if<std::string>(&given.raw);
  if (text == nullptr) return must_be;
  auto amount = parse_amount(trimmed(*text));
  if (!amount || (amount->percent != 0 && !share_allowed)) return must_be;
  to = *amount;
  return {};
}


std::string set_program(std::string& to, const Given& given) {
  std::string text;
  if (!set_text(text, given).empty() || text.empty()) return "a path, or a program's name";
  to = text.find('/') == std::string::npos ? text : resolved(text, given).string();
  return {};
}

std::string set_address(std::optional<FaceAddress>& to, const Given& given) {
  const std::string must_be = "HOST:PORT, such as 127.0.0.1:5000";
  std::string text;
  if (!set_text(text, given).empty()) return must_be;
  const auto colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return must_be;
  auto port = whole_number(std::string_view(text).substr(colon + 1));
  std::string host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  else if (host.find(':') != std::string::npos) return must_be;
  if (!port || *port > 65535 || host.find_first_of(" /\t\n@?#") != std::string::npos) return must_be;
  to = FaceAddress{lower(host), static_cast<std::uint16_t>(*port)};
  return {};
}

std::string set_token(std::string& to, const Given& given) {
  std::string text;
  if (!set_text(text, given).empty()) return "a text";
  if (text.empty() || text.size() > 512 ||
      !std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; })) {
    return "1 to 512 printable ASCII characters without spaces (it travels in a header)";
  }
  to = text;
  return {};
}

Result<std::optional<std::string>> read_file(const fs::path& path, std::size_t limit_bytes) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::optional<std::string>();
    return Error{Code::bad_request, path.string() + " cannot be read: " + std::strerror(errno), ""};
  }
  std::string text;
  char buffer[65536];
  ssize_t size = 0;
  while ((size = ::read(fd, buffer, sizeof buffer)) > 0 || (size < 0 && errno == EINTR)) {
    if (size > 0) text.append(buffer, static_cast<std::size_t>(size));
    if (text.size() > limit_bytes) break;
  }
  int error = size < 0 ? errno : 0;
  ::close(fd);
  if (error != 0)
    return Error{Code::bad_request, path.string() + " cannot be read: " + std::strerror(error), ""};
  if (text.size() > limit_bytes) return Error{Code::bad_request, path.string() + " is too large", ""};
  return std::optional<std::string>(std::move(text));
}

bool others_can_read(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && (info.st_mode & 0077) != 0;
}

}  // namespace conf

std::uint64_t Amount::of(std::uint64_t whole_bytes) const {
  if (percent == 0) return bytes;
  return static_cast<std::uint64_t>(static_cast<double>(whole_bytes) * percent / 100.0);
}

Result<Amount> parse_amount(std::string_view text) {
  Error wrong{Code::bad_request, "not a size: \"" + std::string(text) + "\"", ""};
  double value = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(value) || value < 0 || std::signbit(value)) return wrong;
  auto unit = conf::trimmed(std::string_view(end, static_cast<std::size_t>(text.data() + text.size() - end)));
  if (unit == "%") {
    if (value <= 0 || value > 100) return wrong;
    return Amount{0, value};
  }
  static const std::map<std::string, double> units = {
      {"", 1},     {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
      {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  auto factor = units.find(unit);
  if (factor == units.end()) return wrong;
  double bytes = value * factor->second;
  if (bytes > 0x1p62 || (factor->second == 1 && bytes != std::floor(bytes))) return wrong;
  return Amount{static_cast<std::uint64_t>(bytes), 0};
}

}  // namespace myelin::cli
