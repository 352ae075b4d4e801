#pragma once
// A rope → the bytes of an answer, as JSON or CBOR, a part at a time with bounded memory. The bytes do not
// depend on how the parts are cut. No I/O of its own: data in a memfd comes through the caller's Reader.
//
// JSON: text as it came, unchecked; arrays as nested lists without spaces, doubles as Python's repr (f32
// widened first). CBOR: text transcoded (cbor.hpp); arrays as typed arrays of RFC 8746, little-endian, in tag
// 40 when they have more than one dimension; boolean arrays as plain arrays of true and false.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/result.hpp"
#include "codec/rope.hpp"

namespace myelin::codec {

enum class Format { json, cbor };
enum class Nonfinite { null, bare };  // of JSON arrays: null, or NaN, Infinity, -Infinity

/// Reads memfd data at `offset` into the span; gives the bytes read, 0 at the end (which is then an error).
using Reader = std::function<Result<std::size_t>(std::uint64_t offset, std::span<char> into)>;

class Encoder {
 public:
  /// `rope` must outlive the encoder.
  Encoder(const Rope& rope, Format format, Nonfinite nonfinite);
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;
  ~Encoder();

  /// Everything was appended.
  [[nodiscard]] bool done() const;
  /// Appends about `target_bytes` (more by the text of 4,096 numbers or one string at most). worker_lost for
  /// malformed text in CBOR or a memfd that ends early; a Reader's error as it is. After an error the encoder
  /// can't go on.
  Result<void> next(std::string& out, std::size_t target_bytes, const Reader& read);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The whole answer at once, for small ones.
[[nodiscard]] Result<std::string> encode_all(const Rope& rope, Format format, Nonfinite nonfinite,
                                             const Reader& read);

}  // namespace myelin::codec
