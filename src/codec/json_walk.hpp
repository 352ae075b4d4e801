#pragma once
// Walks through JSON text in parts that may be cut anywhere, and tells a visitor what it meets. Checks
// nothing: what is not JSON gives some sequence of visits (feed a CborTranscoder first to refuse it). Memory
// is bounded by the nesting and one number.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace myelin::codec {

struct JsonVisitor {
  virtual ~JsonVisitor() = default;
  /// Every byte of the text in order, but for scalars.
  virtual void raw(std::string_view text) = 0;
  /// A number, true, false, null, NaN, Infinity or -Infinity, as written.
  virtual void scalar(std::string_view token) = 0;
  virtual void begin(bool object) = 0;  // after its bracket was given to raw
  virtual void end(bool object) = 0;    // before
  /// A key as written between its quotes; the first 256 bytes.
  virtual void key(std::string_view text) = 0;
  virtual void string_begin() = 0;  // a string value: what raw gives until string_end is its content
  virtual void string_end() = 0;
};

class JsonWalk {
 public:
  explicit JsonWalk(JsonVisitor& visitor) : visitor_(visitor) {}
  void feed(std::string_view text);
  /// The text ends, or a value comes that is not text.
  void pause();

 private:
  enum class Mode { structure, scalar, string };
  static constexpr std::size_t longest_key = 256;
  JsonVisitor& visitor_;
  Mode mode_ = Mode::structure;
  bool key_next_ = false;  // a string would be a key
  bool is_key_ = false;
  bool escaped_ = false;
  std::string token_;          // of a scalar or key
  std::vector<bool> objects_;  // the open containers
};

}  // namespace myelin::codec
