#include "session/output_ring.hpp"

#include <algorithm>

namespace myelin::session {
namespace {

// Keeps valid UTF-8 and replaces each other byte, so that the text may stand in JSON.
std::string clean(std::string_view raw) {
  std::string out;
  out.reserve(raw.size());
  for (std::size_t i = 0; i < raw.size();) {
    unsigned char c = static_cast<unsigned char>(raw[i]);
    std::size_t length = c < 0x80 ? 1 : (c & 0xe0) == 0xc0 && c >= 0xc2 ? 2 : (c & 0xf0) == 0xe0 ? 3 : (c & 0xf8) == 0xf0 && c <= 0xf4 ? 4 : 0;
    bool valid = length > 0 && i + length <= raw.size();
    for (std::size_t k = 1; valid && k < length; ++k) valid = (static_cast<unsigned char>(raw[i + k]) & 0xc0) == 0x80;
    if (valid && length == 3) {
      unsigned char d = static_cast<unsigned char>(raw[i + 1]);
      valid = !(c == 0xe0 && d < 0xa0) && !(c == 0xed && d >= 0xa0);
    }
    if (valid && length == 4) {
      unsigned char d = static_cast<unsigned char>(raw[i + 1]);
      valid = !(c == 0xf0 && d < 0x90) && !(c == 0xf4 && d >= 0x90);
    }
    if (!valid) {
      out += '?';
      ++i;
    } else {
      out.append(raw.substr(i, length));
      i += length;
    }
  }
  return out;
}

}  // namespace

void OutputRing::append(std::string_view bytes) {
  if (bytes.size() >= bound_) {
    ring_.assign(bytes.substr(bytes.size() - bound_));
    next_ = 0;
    return;
  }
  std::size_t room = bound_ - ring_.size();
  std::size_t grow = std::min(room, bytes.size());
  ring_.append(bytes.substr(0, grow));
  bytes.remove_prefix(grow);
  while (!bytes.empty()) {
    std::size_t n = std::min(bytes.size(), bound_ - next_);
    std::copy_n(bytes.begin(), n, ring_.begin() + static_cast<std::ptrdiff_t>(next_));
    next_ = (next_ + n) % bound_;
    bytes.remove_prefix(n);
  }
}

std::string OutputRing::tail(std::size_t bytes) const {
  std::string all = ring_.size() < bound_ ? ring_ : ring_.substr(next_) + ring_.substr(0, next_);
  if (all.size() > bytes) {
    std::size_t begin = all.size() - bytes;
    std::size_t line = all.find('\n', begin);
    all.erase(0, line != std::string::npos && line + 1 < all.size() ? line + 1 : begin);
  }
  return clean(all);
}

}  // namespace myelin::session
