#pragma once
// JSON text → CBOR (RFC 8949), fed in chunks that may end anywhere, even within a character. Memory is
// bounded: at most 64 KiB of a string and one number are held. What comes out does not depend on how the text
// was cut.
//
// Lists and objects become indefinite-length arrays and maps; integers the shortest head, beyond 64 bits a
// bignum (tags 2 and 3); other numbers, NaN and ±Infinity 64-bit floats; strings definite up to 64 KiB of
// UTF-8, longer ones chunked. \u escapes of half a surrogate pair become U+FFFD. The text comes from a worker
// and is not trusted: malformed text, lists and objects nested over 1,024 deep and numbers of over 8,192
// characters are errors (worker_lost).

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace myelin::codec {

enum class CborMajor : std::uint8_t {
  unsigned_ = 0,
  negative = 1,
  bytes = 2,
  text = 3,
  array = 4,
  map = 5,
  tag = 6
};

void append_cbor_head(std::string& out, CborMajor major, std::uint64_t argument);

class CborTranscoder {
 public:
  /// Reads the next part of the text, appends to `out` what is complete.
  Result<void> feed(std::string_view text, std::string& out);
  /// A value follows that the caller appends itself; an error where no value may stand.
  Result<void> value_follows(std::string& out);
  /// The text has ended; an error when the document has not.
  Result<void> finish(std::string& out);

 private:
  enum class Mode : std::uint8_t { structure, scalar, string };
  enum class Expect : std::uint8_t { value, value_or_end, key, key_or_end, colon, comma_or_end, nothing };

  [[nodiscard]] bool wants_value() const {
    return expect_ == Expect::value || expect_ == Expect::value_or_end;
  }
  bool fail(const char* what);
  bool consume(const char* p, const char* end, std::string& out);
  bool structural(char c, std::string& out);
  const char* in_string(const char* p, const char* end, std::string& out);
  bool escaped(char c);
  bool code_unit(unsigned unit);
  void lone_surrogate();
  bool flush_long(std::string& out);
  bool end_string(std::string& out);
  bool end_scalar(std::string& out);
  bool number(std::string& out);
  void after_value();
  bool push(bool object);
  void pop();
  Result<void> outcome(bool ok);

  Mode mode_ = Mode::structure;
  Expect expect_ = Expect::value;
  bool key_ = false;         // the string being read is a key
  bool chunked_ = false;     // parts of it were written
  std::uint8_t escape_ = 0;  // in an escape: 1 after the backslash, 2…5 hex digits still to come + 1
  unsigned unit_ = 0;        // the code unit being read
  unsigned high_ = 0;        // a high surrogate that waits for its other half
  std::string token_;        // decoded string or raw scalar, so far
  std::size_t depth_ = 0;
  bool object_ = false;  // the innermost open container is an object
  std::array<std::uint64_t, 16> stack_{};
  std::uint64_t consumed_ = 0;  // characters before the current chunk
  const char* chunk_ = nullptr;
  const char* at_ = nullptr;
  const char* what_ = nullptr;  // the first error; sticks
};

}  // namespace myelin::codec
