#include "http/cors.hpp"

#include <algorithm>
#include <optional>
#include <regex>

#include "http/text.hpp"

namespace myelin::http {
namespace {

constexpr std::size_t longest_origin = 256;  // also bounds what a regular expression may chew on
constexpr std::size_t most_patterns = 100;

struct Origin {
  std::string scheme, host, port;  // port as given, may be empty or (in a pattern) "*"
};

std::string lower(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

bool is_digits(std::string_view text) {
  return !text.empty() && text.size() <= 5 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// scheme://host[:port], nothing after it.
std::optional<Origin> split(std::string_view text, bool pattern) {
  const auto end = text.find("://");
  if (end == std::string_view::npos || end == 0) return std::nullopt;
  Origin out;
  out.scheme = lower(text.substr(0, end));
  text.remove_prefix(end + 3);
  std::size_t host_end = 0;
  if (!text.empty() && text.front() == '[') {
    host_end = text.find(']');
    if (host_end == std::string_view::npos) return std::nullopt;
    ++host_end;
  } else {
    host_end = std::min(text.find(':'), text.size());
  }
  out.host = lower(text.substr(0, host_end));
  const auto rest = text.substr(host_end);
  if (out.host.empty()) return std::nullopt;
  for (const unsigned char c : out.host) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
    const bool ipv6 = out.host.front() == '[' && (c == '[' || c == ']' || c == ':');
    if (!plain && !ipv6 && !(pattern && c == '*')) return std::nullopt;
  }
  if (rest.empty()) return out;
  if (rest.front() != ':') return std::nullopt;
  out.port = rest.substr(1);
  if (!is_digits(out.port) && !(pattern && out.port == "*")) return std::nullopt;
  return out;
}

std::string effective_port(const Origin& origin) {
  if (!origin.port.empty()) return origin.port;
  return origin.scheme == "https" ? "443" : origin.scheme == "http" ? "80" : "";
}

/// Label by label; a `*` in a label stands for any run of its characters, a lone one for a whole, non-empty
/// label.
bool match_label(std::string_view pattern, std::string_view label) {
  const auto star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == label;
  const auto before = pattern.substr(0, star), after = pattern.substr(star + 1);
  return label.size() > before.size() + after.size() && label.starts_with(before) && label.ends_with(after);
}

bool match_host(std::string_view pattern, std::string_view host) {
  for (;;) {
    const auto p = std::min(pattern.find('.'), pattern.size());
    const auto h = std::min(host.find('.'), host.size());
    if (!match_label(pattern.substr(0, p), host.substr(0, h))) return false;
    const bool pattern_ends = p == pattern.size(), host_ends = h == host.size();
    if (pattern_ends || host_ends) return pattern_ends && host_ends;
    pattern.remove_prefix(p + 1);
    host.remove_prefix(h + 1);
  }
}

}  // namespace

struct OriginPatterns::Pattern {
  Origin origin;
  std::optional<std::regex> expression;
};

Result<OriginPatterns> OriginPatterns::parse(std::string_view list) {
  OriginPatterns out;
  while (!list.empty()) {
    // A comma inside ^…$ belongs to the expression: it ends at "$," or at the end.
    auto end = std::min(list.find(','), list.size());
    const auto start = list.find_first_not_of(" \t");
    if (start != std::string_view::npos && list[start] == '^') {
      const auto close = list.find("$,");
      end = close == std::string_view::npos ? list.size() : close + 1;
    }
    const auto text = trim(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
    if (text.empty()) continue;
    const auto refuse = [&](const char* why) {
      return Error{Code::bad_request, "origin pattern '" + std::string(text) + "': " + why, {}};
    };
    if (out.patterns_.size() >= most_patterns) return refuse("too many patterns");
    if (text.size() > longest_origin) return refuse("too long");
    if (text == "*") {
      out.all_ = true;
      continue;
    }
    auto pattern = std::make_shared<Pattern>();
    if (text.front() == '^') {
      if (text.back() != '$') return refuse("a regular expression must end with $");
      try {
        pattern->expression.emplace(std::string(text), std::regex::ECMAScript);
      } catch (const std::regex_error&) {
        return refuse("not a regular expression");
      }
    } else {
      auto origin = split(text, true);
      if (!origin) return refuse("expected scheme://host[:port]");
      if (origin->scheme.find('*') != std::string::npos) return refuse("the scheme can't be a pattern");
      for (std::string_view rest = origin->host; !rest.empty();) {
        const auto dot = std::min(rest.find('.'), rest.size());
        const auto label = rest.substr(0, dot);
        if (std::count(label.begin(), label.end(), '*') > 1) return refuse("one * a label");
        rest.remove_prefix(std::min(dot + 1, rest.size()));
      }
      pattern->origin = std::move(*origin);
    }
    out.patterns_.push_back(std::move(pattern));
  }
  return out;
}

bool OriginPatterns::match(std::string_view text) const {
  if (text.empty() || text.size() > longest_origin) return false;
  if (all_) return true;
  const auto origin = split(text, false);
  for (const auto& pattern : patterns_) {
    if (pattern->expression) {
      try {
        if (std::regex_match(text.begin(), text.end(), *pattern->expression)) return true;
      } catch (const std::regex_error&) {  // too complex for this input: no match
      }
      continue;
    }
    if (!origin || origin->scheme != pattern->origin.scheme) continue;
    if (pattern->origin.port != "*" && effective_port(*origin) != effective_port(pattern->origin)) continue;
    if (match_host(pattern->origin.host, origin->host)) return true;
  }
  return false;
}

}  // namespace myelin::http
