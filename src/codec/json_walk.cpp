#include "codec/json_walk.hpp"

#include <algorithm>

#include "codec/scan.hpp"

namespace myelin::codec {

void JsonWalk::pause() {
  if (mode_ != Mode::scalar) return;
  mode_ = Mode::structure;
  visitor_.scalar(token_);
  token_.clear();
}

void JsonWalk::feed(std::string_view text) {
  const char* p = text.data();
  const char* const end = p + text.size();
  const char* given = p;  // up to here the visitor has seen it
  const auto give = [&](const char* to) {
    if (to != given) visitor_.raw({given, static_cast<std::size_t>(to - given)});
    given = to;
  };
  while (p != end) {
    if (mode_ == Mode::string) {
      if (escaped_) {
        escaped_ = false;
        if (is_key_ && token_.size() < longest_key) token_ += *p;
        ++p;
        continue;
      }
      // Bytes that are not ASCII stop the scan without ending the string.
      const char* stop = scan::skip_plain(p, end);
      if (is_key_ && token_.size() < longest_key)
        token_.append(p,
                      std::min<std::size_t>(static_cast<std::size_t>(stop - p), longest_key - token_.size()));
      if ((p = stop) == end) break;
      if (*p == '"') {
        mode_ = Mode::structure;
        give(p);
        if (is_key_) {
          key_next_ = false;
          visitor_.key(token_);
          token_.clear();
        } else {
          visitor_.string_end();
        }
      } else {
        escaped_ = *p == '\\';
        if (is_key_ && token_.size() < longest_key) token_ += *p;
      }
      ++p;
      continue;
    }
    const char c = *p;
    const bool scalar = scan::is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                        c == '+' || c == '.';
    if (scalar) {
      if (mode_ != Mode::scalar) {
        give(p);
        mode_ = Mode::scalar;
      }
      token_ += c;
      given = ++p;
      continue;
    }
    pause();
    ++p;
    switch (c) {
      case '{':
      case '[':
        give(p);
        objects_.push_back(c == '{');
        key_next_ = c == '{';
        visitor_.begin(c == '{');
        break;
      case '}':
      case ']':
        give(p - 1);
        visitor_.end(c == '}');
        if (!objects_.empty()) objects_.pop_back();
        key_next_ = false;
        break;
      case ',':
        key_next_ = !objects_.empty() && objects_.back();
        break;
      case '"':
        give(p);
        mode_ = Mode::string;
        is_key_ = key_next_;
        if (!is_key_) visitor_.string_begin();
        break;
      default:
        break;
    }
  }
  give(end);
}

}  // namespace myelin::codec
