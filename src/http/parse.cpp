#include "http/parse.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "http/text.hpp"

namespace myelin::http {
namespace {

constexpr std::size_t most_overhead = 8 * 1024;

/// A value byte: visible, space, tab or obs-text. No other control character may pass.
constexpr bool is_value_byte(unsigned char c) { return (c >= 0x20 && c != 0x7f) || c == '\t'; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_host(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80 ||
           std::strchr("-._~!$&'()*+;=:[]%", c) != nullptr;
  });
}

Refusal bad(const char* why) { return {400, why}; }

/// Digits only, no sign, no list, no overflow.
std::optional<std::uint64_t> parse_length(std::string_view text) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

Refusal parse_target(std::string_view target, Request& request, std::string_view& authority) {
  for (const unsigned char c : target)
    if (c <= 0x20 || c == 0x7f || c == '#') return bad("bad request target");
  request.target = target;
  std::string_view rest = target;
  if (rest == "*") {
    if (request.method != "OPTIONS") return bad("bad request target");
    request.path.assign(1, '*');
    return {};
  }
  if (rest.front() != '/') {
    const auto scheme = rest.find("://");
    if (scheme == std::string_view::npos) return bad("bad request target");
    const auto name = rest.substr(0, scheme);
    if (!iequals(name, "http") && !iequals(name, "https")) return bad("bad request target");
    rest.remove_prefix(scheme + 3);
    const auto end = std::min(rest.find_first_of("/?"), rest.size());
    authority = rest.substr(0, end);
    if (authority.empty() || !is_host(authority)) return bad("bad request target");
    rest.remove_prefix(end);
  }
  const auto question = rest.find('?');
  if (question != std::string_view::npos) {
    request.query = rest.substr(question + 1);
    rest = rest.substr(0, question);
  }
  if (rest.empty()) rest = "/";
  if (rest.find('%') == std::string_view::npos) {
    request.path = rest;
    return {};
  }
  auto path = percent_decode(rest);
  if (!path) return bad("bad percent escape in the path");
  request.path = std::move(*path);
  return {};
}

Refusal parse_request_line(std::string_view line, Request& request, std::string_view& authority) {
  const auto first = line.find(' ');
  if (first == std::string_view::npos || first > 32 || !is_token(line.substr(0, first)))
    return bad("bad request line");
  const auto second = line.find(' ', first + 1);
  if (second == std::string_view::npos || second == first + 1) return bad("bad request line");
  const auto version = line.substr(second + 1);
  if (version.size() != 8 || version.substr(0, 5) != "HTTP/" || version[6] != '.')
    return bad("bad request line");
  const char major = version[5], minor = version[7];
  if (major < '0' || major > '9' || minor < '0' || minor > '9') return bad("bad request line");
  if (major != '1') return {505, "HTTP/1.1 only"};
  request.minor_version = minor == '0' ? 0 : 1;
  request.method = line.substr(0, first);
  return parse_target(line.substr(first + 1, second - first - 1), request, authority);
}

}  // namespace

HeadScanner::State HeadScanner::scan(std::string_view bytes) {
  // No request starts with a control character: a TLS handshake or garbage is refused at once.
  if (at_ == 0 && !bytes.empty() && static_cast<unsigned char>(bytes[0]) <= 0x20) return State::bad;
  for (;;) {
    const auto* newline = static_cast<const char*>(std::memchr(bytes.data() + at_, '\n', bytes.size() - at_));
    if (newline == nullptr) return State::more;
    const auto end = static_cast<std::size_t>(newline - bytes.data());
    if (end == at_ || bytes[end - 1] != '\r') return State::bad;  // bare LF
    const bool empty = end == at_ + 1;
    at_ = end + 1;
    if (empty) return State::complete;
  }
}

Refusal parse_head(std::string_view head, std::size_t max_fields, Request& request, Framing& framing) {
  request.method.clear();
  request.target.clear();
  request.path.clear();
  request.query.clear();
  request.headers.clear();
  request.body.clear();
  request.has_body = false;
  request.content_length.reset();
  request.context.reset();
  request.gone.reset();
  framing = Framing{};

  std::string_view authority;
  auto eol = head.find("\r\n");
  if (eol == std::string_view::npos) return bad("bad request line");
  if (const auto refusal = parse_request_line(head.substr(0, eol), request, authority)) return refusal;
  head.remove_prefix(eol + 2);

  int hosts = 0, encodings = 0;
  bool close = false, keep = false, expect = false, unknown_expect = false, chunked = false,
       known_encoding = true;
  std::size_t fields = 0;
  for (;;) {
    eol = head.find("\r\n");
    if (eol == std::string_view::npos) return bad("bad header field");
    if (eol == 0) break;
    const auto line = head.substr(0, eol);
    head.remove_prefix(eol + 2);
    if (++fields > max_fields) return {431, "too many header fields"};
    // A line that starts with a space is obsolete folding; a space before the colon makes no token. Both end
    // here.
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return bad("bad header field");
    const auto name = line.substr(0, colon);
    const auto value = trim(line.substr(colon + 1));
    for (const unsigned char c : value)
      if (!is_value_byte(c)) return bad("bad character in a header field");
    switch (name.size()) {
      case 4:
        if (iequals(name, "host")) {
          ++hosts;
          if (!is_host(value)) return bad("bad Host");
        }
        break;
      case 6:
        if (iequals(name, "expect")) {
          expect = iequals(value, "100-continue");
          unknown_expect = !expect;
        }
        break;
      case 10:
        if (iequals(name, "connection")) {
          std::string_view list = value;
          for (auto option = next_item(list); !option.empty(); option = next_item(list)) {
            close = close || iequals(option, "close");
            keep = keep || iequals(option, "keep-alive");
          }
        }
        break;
      case 14:
        if (iequals(name, "content-length")) {
          if (request.content_length) return bad("more than one Content-Length");
          request.content_length = parse_length(value);
          if (!request.content_length) return bad("bad Content-Length");
        }
        break;
      case 17:
        if (iequals(name, "transfer-encoding")) {
          ++encodings;
          chunked = iequals(value, "chunked");
          known_encoding = known_encoding && chunked;
        }
        break;
      default:
        break;
    }
    request.headers.add(std::string(name), std::string(value));
  }

  if (hosts > 1 || (hosts == 0 && request.minor_version == 1)) return bad("exactly one Host is needed");
  if (!authority.empty()) request.headers.set("Host", std::string(authority));  // RFC 9112 3.2.2
  if (encodings > 0) {
    if (request.content_length) return bad("both Content-Length and Transfer-Encoding");
    if (request.minor_version == 0) return bad("Transfer-Encoding in HTTP/1.0");
    if (!known_encoding) return {501, "unknown Transfer-Encoding"};
    if (encodings > 1) return bad("more than one Transfer-Encoding");
  }
  if (unknown_expect && request.minor_version == 1) return {417, "unknown Expect"};
  framing.chunked = chunked;
  framing.content_length = request.content_length.value_or(0);
  request.has_body = chunked || framing.content_length > 0;
  framing.expect_continue = expect && request.minor_version == 1 && request.has_body;
  framing.keep_alive = !close && (request.minor_version == 1 || keep);
  return {};
}

ChunkDecoder::State ChunkDecoder::feed(std::string_view in, std::size_t& used, std::string& out,
                                       std::uint64_t limit) {
  used = 0;
  while (at_ != At::done) {
    if (used == in.size()) return State::more;
    if (at_ == At::data) {
      const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size() - used));
      out.append(in.substr(used, take));
      used += take;
      left_ -= take;
      if (left_ == 0) at_ = At::data_cr;
      continue;
    }
    const char c = in[used++];
    switch (at_) {
      case At::size_first:
      case At::size: {
        const int digit = hex_digit(c);
        if (digit >= 0) {
          if (++digits_ > 15) return State::bad;  // also bounds leading zeros
          left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
          at_ = At::size;
          break;
        }
        if (at_ == At::size_first) return State::bad;
        if (c == ';')
          at_ = At::extension;
        else if (c == '\r')
          at_ = At::size_lf;
        else
          return State::bad;
        break;
      }
      case At::extension:
        if (c == '\r')
          at_ = At::size_lf;
        else if (!is_value_byte(static_cast<unsigned char>(c)) || ++overhead_ > most_overhead)
          return State::bad;
        break;
      case At::size_lf:
        if (c != '\n') return State::bad;
        digits_ = 0;
        if (left_ > limit || out.size() > limit - left_) return State::too_large;
        at_ = left_ == 0 ? At::trailer_start : At::data;
        break;
      case At::data_cr:
        if (c != '\r') return State::bad;
        at_ = At::data_lf;
        break;
      case At::data_lf:
        if (c != '\n') return State::bad;
        at_ = At::size_first;
        break;
      case At::trailer_start:
        if (c == '\r') {
          at_ = At::end_lf;
          break;
        }
        if (!is_token(std::string_view(&c, 1))) return State::bad;
        at_ = At::trailer;
        if (++overhead_ > most_overhead) return State::bad;
        break;
      case At::trailer:
        if (c == '\r')
          at_ = At::trailer_lf;
        else if (!is_value_byte(static_cast<unsigned char>(c)) || ++overhead_ > most_overhead)
          return State::bad;
        break;
      case At::trailer_lf:
        if (c != '\n') return State::bad;
        at_ = At::trailer_start;
        break;
      case At::end_lf:
        if (c != '\n') return State::bad;
        at_ = At::done;
        break;
      case At::data:
      case At::done:
        break;
    }
  }
  return State::done;
}

}  // namespace myelin::http
