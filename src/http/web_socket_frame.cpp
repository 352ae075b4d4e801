#include "http/web_socket_frame.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "http/text.hpp"

namespace myelin::http {
namespace {

/// FIPS 180-4. Only for the handshake, where it is no secret: a library for it would be more than this.
std::array<unsigned char, 20> sha1(std::string text) {
  std::array<std::uint32_t, 5> h{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  const std::uint64_t bits = text.size() * 8;
  text += '\x80';
  while (text.size() % 64 != 56) text += '\0';
  for (int shift = 56; shift >= 0; shift -= 8) text += static_cast<char>(bits >> shift & 255);
  for (std::size_t block = 0; block < text.size(); block += 64) {
    std::array<std::uint32_t, 80> w{};
    for (std::size_t i = 0; i < 64; ++i)
      w[i / 4] = w[i / 4] << 8 | static_cast<unsigned char>(text[block + i]);
    for (std::size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    auto [a, b, c, d, e] = h;
    for (std::size_t i = 0; i < 80; ++i) {
      const auto [f, k] = i < 20   ? std::pair((b & c) | (~b & d), 0x5a827999u)
                          : i < 40 ? std::pair(b ^ c ^ d, 0x6ed9eba1u)
                          : i < 60 ? std::pair((b & c) | (b & d) | (c & d), 0x8f1bbcdcu)
                                   : std::pair(b ^ c ^ d, 0xca62c1d6u);
      const auto next = std::rotl(a, 5) + f + e + k + w[i];
      e = d;
      d = c;
      c = std::rotl(b, 30);
      b = a;
      a = next;
    }
    h = {h[0] + a, h[1] + b, h[2] + c, h[3] + d, h[4] + e};
  }
  std::array<unsigned char, 20> out{};
  for (std::size_t i = 0; i < 20; ++i) out[i] = static_cast<unsigned char>(h[i / 4] >> (24 - i % 4 * 8));
  return out;
}

constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

template <std::size_t N>
std::string base64(const std::array<unsigned char, N>& bytes) {
  std::string out;
  for (std::size_t i = 0; i < N; i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (i + k < N ? bytes[i + k] : 0u);
    for (std::size_t k = 0; k < 4; ++k) out += i + k <= N ? base64_digits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

/// 16 bytes in base64.
bool is_key(std::string_view key) {
  if (key.size() != 24 || !key.ends_with("==")) return false;
  return std::all_of(key.begin(), key.end() - 2,
                     [](char c) { return base64_digits.find(c) != std::string_view::npos; });
}

}  // namespace

bool may_be_sent(std::uint16_t code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

std::string accept_key(std::string_view key) {
  return base64(sha1(std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
}

std::string_view handshake_flaw(const Request& request) {
  const auto& fields = request.headers;
  if (request.method != "GET" || request.minor_version != 1) return "it must be a GET of HTTP/1.1";
  if (request.has_body) return "it must have no body";
  if (!request.wants_web_socket()) return "it must say Connection: Upgrade and Upgrade: websocket";
  const auto versions = fields.all("Sec-WebSocket-Version");
  if (versions.size() != 1 || versions[0] != "13") return "Sec-WebSocket-Version must be 13";
  const auto keys = fields.all("Sec-WebSocket-Key");
  if (keys.size() != 1 || !is_key(keys[0])) return "Sec-WebSocket-Key must be 16 bytes in base64";
  return {};
}

void append_frame_head(std::string& out, Opcode opcode, std::uint64_t length) {
  out += static_cast<char>(0x80 | static_cast<int>(opcode));
  if (length < 126) {
    out += static_cast<char>(length);
    return;
  }
  const bool wide = length > 0xffff;
  out += static_cast<char>(wide ? 127 : 126);
  for (int shift = wide ? 56 : 8; shift >= 0; shift -= 8) out += static_cast<char>(length >> shift & 255);
}

std::string close_payload(std::uint16_t code, std::string_view reason) {
  std::string out;
  if (!may_be_sent(code)) return out;
  out += static_cast<char>(code >> 8);
  out += static_cast<char>(code & 255);
  if (reason.size() > most_control_bytes - 2) {
    auto end = most_control_bytes - 2;
    while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xc0) == 0x80) --end;
    reason = reason.substr(0, end);
  }
  if (Utf8 check; check.feed(reason) && check.complete()) out += reason;
  return out;
}

bool Utf8::feed(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (left_ == 0) {
      // ASCII, eight at a time.
      for (std::uint64_t word = 0; i + 8 <= bytes.size(); i += 8) {
        std::memcpy(&word, bytes.data() + i, 8);
        if ((word & 0x8080808080808080u) != 0) break;
      }
      if (i == bytes.size()) return true;
    }
    const auto c = static_cast<unsigned char>(bytes[i]);
    if (left_ > 0) {
      if (c < lowest_ || c > most_) return false;
      --left_;
      lowest_ = 0x80;
      most_ = 0xbf;
    } else if (c >= 0x80) {
      if (c < 0xc2 || c > 0xf4) return false;
      left_ = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
      if (c == 0xe0) lowest_ = 0xa0;
      if (c == 0xed) most_ = 0x9f;
      if (c == 0xf0) lowest_ = 0x90;
      if (c == 0xf4) most_ = 0x8f;
    }
  }
  return true;
}

void FrameReader::stop() {
  stopped_ = true;
  message_ = std::string();
  control_ = std::string();
}

void FrameReader::fail(FrameSink& sink, std::uint16_t code, const char* why) {
  stop();
  sink.on_error(code, why);
}

void FrameReader::feed(char* bytes, std::size_t count, FrameSink& sink) {
  while (!stopped_) {
    if (!in_payload_) {
      // Two bytes say how long the head is.
      const auto need = [this]() -> std::size_t {
        if (head_size_ < 2) return 2;
        const auto length = head_[1] & 127;
        return 6u + (length == 126 ? 2u : length == 127 ? 8u : 0u);
      };
      while (count > 0 && head_size_ < need()) {
        head_[head_size_++] = static_cast<unsigned char>(*bytes++);
        --count;
        // What can't become a frame of ours is refused before more is waited for.
        if (head_size_ == 2 && !read_head(sink)) return;
      }
      if (head_size_ < 2 || head_size_ < need()) return;
      if (!read_head(sink)) return;
      in_payload_ = true;
    }
    const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, count));
    // Byte by byte until the key starts at its first byte, then eight at a time.
    std::size_t i = 0;
    const auto one = [&] {
      bytes[i] = static_cast<char>(static_cast<unsigned char>(bytes[i]) ^ mask_[mask_at_]);
      mask_at_ = (mask_at_ + 1) & 3;
      ++i;
    };
    while (i < take && mask_at_ != 0) one();
    std::array<unsigned char, 8> twice{};
    for (std::size_t k = 0; k < 8; ++k) twice[k] = mask_[k & 3];
    for (const auto key = std::bit_cast<std::uint64_t>(twice); i + 8 <= take; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes + i, 8);
      word ^= key;
      std::memcpy(bytes + i, &word, 8);
    }
    while (i < take) one();
    const std::string_view payload(bytes, take);
    bytes += take;
    count -= take;
    left_ -= take;
    if (is_control()) {
      control_ += payload;
    } else {
      if (!binary_ && !utf8_.feed(payload)) return fail(sink, close_code::bad_data, "a text is not UTF-8");
      message_ += payload;
    }
    if (left_ > 0) return;
    end_frame(sink);
  }
}

/// Called with two bytes of the head, then with all of it. False: refused.
bool FrameReader::read_head(FrameSink& sink) {
  const auto bad = [&](const char* why) {
    fail(sink, close_code::protocol_error, why);
    return false;
  };
  final_ = (head_[0] & 0x80) != 0;
  opcode_ = head_[0] & 15;
  std::uint64_t length = head_[1] & 127;
  if (head_size_ == 2) {
    if ((head_[0] & 0x70) != 0) return bad("a reserved bit is set");
    if (opcode_ > 2 && (opcode_ < 8 || opcode_ > 10)) return bad("unknown opcode");
    if ((head_[1] & 0x80) == 0) return bad("a client's frame must be masked");
    if (is_control()) {
      if (!final_) return bad("a control frame must not be fragmented");
      if (length > most_control_bytes) return bad("a control frame is too long");
    } else {
      if (opcode_ == 0 && !in_message_) return bad("nothing to continue");
      if (opcode_ != 0 && in_message_) return bad("the message before is not complete");
    }
    return true;
  }
  std::size_t at = 2;
  if (length >= 126) {
    const auto bytes = length == 126 ? 2u : 8u;
    length = 0;
    for (; at < 2 + bytes; ++at) length = length << 8 | head_[at];
    if (length < (bytes == 2 ? 126u : 0x10000u) || length >> 63 != 0) return bad("bad frame length");
  }
  std::copy_n(head_.begin() + static_cast<std::ptrdiff_t>(at), 4, mask_.begin());
  mask_at_ = 0;
  left_ = length;
  if (is_control()) return true;
  if (length > limit_ || message_.size() > limit_ - length) {
    fail(sink, close_code::too_large, "the message is larger than allowed");
    return false;
  }
  if (opcode_ != 0) {
    binary_ = opcode_ == static_cast<int>(Opcode::binary);
    utf8_.reset();
  }
  in_message_ = true;
  return true;
}

void FrameReader::end_frame(FrameSink& sink) {
  in_payload_ = false;
  head_size_ = 0;
  if (is_control()) return end_control(sink);
  if (!final_) return;
  if (!binary_ && !utf8_.complete()) return fail(sink, close_code::bad_data, "a text is not UTF-8");
  in_message_ = false;
  sink.on_message(binary_, std::exchange(message_, {}));
}

void FrameReader::end_control(FrameSink& sink) {
  const auto payload = std::exchange(control_, {});
  if (opcode_ == static_cast<int>(Opcode::ping)) return sink.on_ping(payload);
  if (opcode_ == static_cast<int>(Opcode::pong)) return sink.on_pong();
  stop();
  if (payload.empty()) return sink.on_close(std::nullopt, {});
  const auto code =
      static_cast<std::uint16_t>(static_cast<unsigned char>(payload[0]) << 8 |
                                 (payload.size() > 1 ? static_cast<unsigned char>(payload[1]) : 0));
  if (payload.size() == 1 || !may_be_sent(code))
    return sink.on_error(close_code::protocol_error, "bad close code");
  const auto reason = std::string_view(payload).substr(2);
  if (Utf8 check; !check.feed(reason) || !check.complete())
    return sink.on_error(close_code::bad_data, "a close reason is not UTF-8");
  sink.on_close(code, reason);
}

}  // namespace myelin::http
