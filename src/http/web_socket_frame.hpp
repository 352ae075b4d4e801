#pragma once
// WebSocket frames (RFC 6455) as bytes: the reader of a client's frames, the writer of a server's, and the
// handshake's key. Strict, no I/O. No extension is spoken, so every reserved bit is an error.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace myelin::http {

enum class Opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

/// Close codes of RFC 6455, 7.4.1 that the server itself uses.
namespace close_code {
inline constexpr std::uint16_t normal = 1000, going_away = 1001, protocol_error = 1002, bad_data = 1007,
                               too_large = 1009, internal_error = 1011, try_again_later = 1013;
}
/// True if an endpoint may send this code.
[[nodiscard]] bool may_be_sent(std::uint16_t code);

/// Sec-WebSocket-Accept of a key.
[[nodiscard]] std::string accept_key(std::string_view key);
/// Empty if the request is a handshake that can be accepted, else what is wrong with it.
[[nodiscard]] std::string_view handshake_flaw(const Request& request);

inline constexpr std::size_t most_head_bytes = 14;
inline constexpr std::size_t most_control_bytes = 125;
/// The head of an unmasked, final frame.
void append_frame_head(std::string& out, Opcode opcode, std::uint64_t length);
/// A Close frame's payload; a code that may not be sent makes it empty, a long reason is cut between
/// characters.
[[nodiscard]] std::string close_payload(std::uint16_t code, std::string_view reason);

/// UTF-8, checked as the bytes come. Refuses surrogates, overlong forms and what is above U+10FFFF at the
/// first byte that shows it.
class Utf8 {
 public:
  [[nodiscard]] bool feed(std::string_view bytes);
  [[nodiscard]] bool complete() const { return left_ == 0; }
  void reset() { *this = Utf8(); }

 private:
  unsigned left_ = 0;                          // continuation bytes that must follow
  unsigned char lowest_ = 0x80, most_ = 0xbf;  // of the next one
};

/// What a FrameReader found. After on_close and on_error it reads nothing more.
class FrameSink {
 public:
  virtual void on_message(bool binary, std::string data) = 0;
  virtual void on_ping(std::string_view payload) = 0;
  virtual void on_pong() = 0;
  virtual void on_close(std::optional<std::uint16_t> code, std::string_view reason) = 0;
  virtual void on_error(std::uint16_t code, const char* why) = 0;

 protected:
  ~FrameSink() = default;
};

/// Reads a client's frames from a stream of bytes, cut anywhere. Holds the message that is not complete yet,
/// and grows with what came, never with what was announced.
class FrameReader {
 public:
  explicit FrameReader(std::uint64_t message_limit) : limit_(message_limit) {}
  /// `bytes` are unmasked in place.
  void feed(char* bytes, std::size_t count, FrameSink& sink);
  [[nodiscard]] std::size_t held() const { return message_.size(); }
  void stop();  // reads nothing more, holds nothing more

 private:
  bool read_head(FrameSink& sink);
  void end_frame(FrameSink& sink);
  void end_control(FrameSink& sink);
  void fail(FrameSink& sink, std::uint16_t code, const char* why);
  [[nodiscard]] bool is_control() const { return (opcode_ & 8) != 0; }

  const std::uint64_t limit_;
  std::array<unsigned char, most_head_bytes> head_{};
  std::uint8_t head_size_ = 0;
  bool in_payload_ = false, stopped_ = false;
  bool final_ = false;
  std::uint8_t opcode_ = 0;  // of this frame
  std::array<unsigned char, 4> mask_{};
  std::uint8_t mask_at_ = 0;
  bool in_message_ = false, binary_ = false;  // the message's frames so far
  std::uint64_t left_ = 0;                    // of this frame's payload
  Utf8 utf8_;
  std::string message_;
  std::string control_;
};

}  // namespace myelin::http
