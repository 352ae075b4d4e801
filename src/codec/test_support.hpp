#pragma once
// What the codec tests share: a seed that is printed, rope building by hand, and a small CBOR decoder of its
// own.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "codec/encode.hpp"
#include "codec/rope.hpp"

namespace myelin::codec::test {

/// A new seed each run; MYELIN_TEST_SEED repeats one.
inline std::uint64_t seed() {
  static const std::uint64_t value = [] {
    const char* given = std::getenv("MYELIN_TEST_SEED");
    const std::uint64_t s = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("MYELIN_TEST_SEED=%llu\n", static_cast<unsigned long long>(s));
    return s;
  }();
  return value;
}

inline std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return bytes;
}

inline std::string to_hex(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
    hex += digits;
  }
  return hex;
}

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Builds the body of a result frame, and the memfd's content beside it.
class RopeBuilder {
 public:
  RopeBuilder& text(std::string_view text, bool memfd = false) { return add(0, 0, {}, text, memfd); }
  RopeBuilder& array(Dtype dtype, std::vector<std::uint64_t> shape, std::string_view data,
                     bool memfd = false) {
    return add(1, static_cast<int>(dtype), shape, data, memfd);
  }
  [[nodiscard]] std::string body() const {
    std::string bytes;
    put(bytes, count_);
    return bytes + table_ + payload_;
  }
  [[nodiscard]] const std::string& memfd() const { return memfd_; }
  [[nodiscard]] Rope rope() const {
    auto rope = parse_rope(body(), has_memfd_, memfd_.size());
    if (!rope) ADD_FAILURE() << rope.error().message;
    return std::move(*rope);
  }
  /// Gives at most `most` bytes at once, as pread may.
  [[nodiscard]] Reader reader(std::size_t most = SIZE_MAX) const {
    return [this, most](std::uint64_t offset, std::span<char> into) -> Result<std::size_t> {
      if (offset >= memfd_.size()) return std::size_t{0};
      return memfd_.copy(into.data(), std::min(most, into.size()), offset);
    };
  }

  template <class T>
  static void put(std::string& bytes, T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }

 private:
  RopeBuilder& add(int kind, int dtype, const std::vector<std::uint64_t>& shape, std::string_view data,
                   bool memfd) {
    ++count_;
    has_memfd_ |= memfd;
    for (const int byte : {kind, dtype, static_cast<int>(shape.size()), memfd ? 1 : 0})
      table_ += static_cast<char>(byte);
    put(table_, std::uint32_t{0});
    put(table_, std::uint64_t{data.size()});
    put(table_, std::uint64_t{memfd ? memfd_.size() : payload_.size()});
    for (const std::uint64_t n : shape) put(table_, n);
    (memfd ? memfd_ : payload_).append(data);
    return *this;
  }
  std::uint32_t count_ = 0;
  bool has_memfd_ = false;
  std::string table_, payload_, memfd_;
};

/// Encodes with a target size, counting on progress.
inline Result<std::string> encode(const Rope& rope, Format format, Nonfinite nonfinite, const Reader& read,
                                  std::size_t target) {
  std::string out;
  Encoder encoder(rope, format, nonfinite);
  while (!encoder.done())
    if (auto step = encoder.next(out, target, read); !step) return step.take_error();
  return out;
}

/// CBOR → a notation like that of RFC 8949, section 8: typed arrays as their elements, bignums as hex, floats
/// as repr-ish
/// %.17g. Throws std::runtime_error on anything malformed.
class CborReader {
 public:
  explicit CborReader(std::string_view bytes) : bytes_(bytes) {}
  std::string document() {
    std::string text = item();
    if (at_ != bytes_.size()) throw std::runtime_error("bytes left over");
    return text;
  }

 private:
  std::uint8_t byte() {
    if (at_ == bytes_.size()) throw std::runtime_error("truncated");
    return static_cast<std::uint8_t>(bytes_[at_++]);
  }
  std::uint64_t big(int size) {
    std::uint64_t value = 0;
    while (size-- > 0) value = value << 8 | byte();
    return value;
  }
  std::uint64_t argument(int info) {
    if (info < 24) return static_cast<std::uint64_t>(info);
    if (info > 27) throw std::runtime_error("bad head");
    return big(1 << (info - 24));
  }
  std::string_view take(std::uint64_t size) {
    if (size > bytes_.size() - at_) throw std::runtime_error("truncated");
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  bool at_break() {
    if (at_ == bytes_.size()) throw std::runtime_error("truncated");
    if (static_cast<std::uint8_t>(bytes_[at_]) != 0xff) return false;
    ++at_;
    return true;
  }
  static std::string number(double v) {
    if (std::isnan(v)) return "NaN";
    if (std::isinf(v)) return v > 0 ? "Infinity" : "-Infinity";
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", v);
    std::string s = text;
    return s.find_first_of(".en") == std::string::npos ? s + ".0" : s;
  }
  template <class T>
  std::string typed(std::string_view data) {
    if (data.size() % sizeof(T) != 0) throw std::runtime_error("bad typed array");
    std::string text = "[";
    for (std::size_t i = 0; i < data.size(); i += sizeof(T)) {
      T value;
      std::memcpy(&value, data.data() + i, sizeof value);
      if (i != 0) text += ',';
      if constexpr (std::is_floating_point_v<T>)
        text += number(value);
      else
        text += std::to_string(value);
    }
    return text + "]";
  }
  std::string_view byte_string() {
    const int first = byte();
    if (first >> 5 != 2) throw std::runtime_error("byte string expected");
    return take(argument(first & 31));
  }

  std::string item() {
    const int first = byte(), major = first >> 5, info = first & 31;
    std::string text;
    switch (major) {
      case 0:
        return std::to_string(argument(info));
      case 1: {
        const std::uint64_t n = argument(info);
        return n == UINT64_MAX ? "-18446744073709551616" : "-" + std::to_string(n + 1);
      }
      case 3: {
        if (info != 31) return '"' + std::string(take(argument(info))) + '"';
        text = "\"";
        while (!at_break()) {
          const int part = byte();
          if (part >> 5 != 3) throw std::runtime_error("bad part");
          text += take(argument(part & 31));
        }
        return text + '"';
      }
      case 4: {
        std::uint64_t n = info == 31 ? UINT64_MAX : argument(info);
        text = "[";
        while (info == 31 ? !at_break() : n-- > 0) text += (text.size() > 1 ? "," : "") + item();
        return text + "]";
      }
      case 5:
        if (info != 31) throw std::runtime_error("a definite map");
        text = "{";
        while (!at_break()) {
          if (text.size() > 1) text += ',';
          text += item();
          text += ':' + item();
        }
        return text + "}";
      case 6:
        break;
      case 7:
        switch (info) {
          case 20:
            return "false";
          case 21:
            return "true";
          case 22:
            return "null";
          case 27:
            return number(std::bit_cast<double>(big(8)));
          default:
            throw std::runtime_error("bad simple value");
        }
      default:
        throw std::runtime_error("bytes without a tag");
    }
    const std::uint64_t tag = argument(info);
    switch (tag) {
      case 2:
        return "0x" + to_hex(byte_string());
      case 3:
        return "-1-0x" + to_hex(byte_string());
      case 40:
        return "40(" + item() + ")";
      case 64:
        return "64(" + typed<std::uint8_t>(byte_string()) + ")";
      case 69:
        return "69(" + typed<std::uint16_t>(byte_string()) + ")";
      case 70:
        return "70(" + typed<std::uint32_t>(byte_string()) + ")";
      case 71:
        return "71(" + typed<std::uint64_t>(byte_string()) + ")";
      case 72:
        return "72(" + typed<std::int8_t>(byte_string()) + ")";
      case 77:
        return "77(" + typed<std::int16_t>(byte_string()) + ")";
      case 78:
        return "78(" + typed<std::int32_t>(byte_string()) + ")";
      case 79:
        return "79(" + typed<std::int64_t>(byte_string()) + ")";
      case 85:
        return "85(" + typed<float>(byte_string()) + ")";
      case 86:
        return "86(" + typed<double>(byte_string()) + ")";
      default:
        throw std::runtime_error("unknown tag");
    }
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
};

}  // namespace myelin::codec::test
