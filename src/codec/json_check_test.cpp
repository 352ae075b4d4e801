#include "codec/json_check.hpp"

#include <boost/json.hpp>

#include "codec/test_support.hpp"

using namespace myelin;
using namespace myelin::codec;

namespace {

std::string verdict(std::string_view text, const JsonLimits& limits = {}) {
  auto checked = check_json(text, limits);
  return checked ? "ok" : checked.error().message;
}

bool boost_accepts(const std::string& text) {
  boost::json::parse_options options;
  options.max_depth = 65;
  boost::system::error_code error;
  (void)boost::json::parse(text, error, {}, options);
  // It stops at an exponent beyond its own range; the grammar has no range.
  if (error == boost::json::error::exponent_overflow) return check_json(text, {64, false}).ok();
  return !error;
}

// A random document, spaces and escapes included.
class Maker {
 public:
  explicit Maker(std::mt19937_64& random) : random_(random) {}
  std::string value(int depth) {
    switch (below(depth > 0 ? 9 : 7)) {
      case 0:
        return pick({"true", "false", "null"});
      case 1:
        return std::to_string(static_cast<std::int64_t>(random_()));
      case 2:
        return pick({"0", "-0", "0.5", "-1.25e+10", "1E5", "1e-7", "12.0", "7"});
      case 3:
      case 4:
        return string();
      case 5:
        return "[]";
      case 6:
        return "{}";
      case 7: {
        std::string text = "[";
        for (auto n = below(5) + 1; n-- > 0;)
          text += space() + value(depth - 1) + space() + (n != 0 ? "," : "]");
        return text;
      }
      default: {
        std::string text = "{";
        for (auto n = below(5) + 1; n-- > 0;)
          text += space() + string() + space() + ":" + space() + value(depth - 1) + (n != 0 ? "," : "}");
        return text;
      }
    }
  }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  std::string pick(std::initializer_list<const char*> from) { return from.begin()[below(from.size())]; }
  std::string space() { return pick({"", "", " ", "\n\t", "\r "}); }
  std::string string() {
    std::string text = "\"";
    for (auto n = below(25); n-- > 0;)
      text +=
          pick({"a", "b", "lange", " ", "\\n", "\\\"", "\\\\", "\\/", "\\u00e9", "\\uD83D\\uDE00", "\xc3\xa9",
                "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\x7f", "{", "]", ":", "\xed\x9f\xbf", "\xef\xbf\xbf"});
    return text + '"';
  }
  std::mt19937_64& random_;
};

}  // namespace

TEST(CheckJson, AcceptsWhatTheGrammarAllows) {
  for (const char* text : {"1", " null ", "\"\"", "[]", "{}", "[ ]", "{ }", "-0", "-0.0e-0", "1E+2",
                           "[[[]],{}]", "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":\"\\u00FF\\ud83d\\ude00\"}",
                           "NaN", "[Infinity,-Infinity]", "\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\"",
                           "{\"a\":1,\"a\":2}", "1e999", "\"\x7f\"", "123456789012345678901234567890"})
    EXPECT_EQ(verdict(text), "ok") << text;
}

TEST(CheckJson, SaysWhereAndWhat) {
  EXPECT_EQ(verdict(""), "invalid JSON at byte 0: the text is empty");
  EXPECT_EQ(verdict("  "), "invalid JSON at byte 2: the text ends where a value is expected");
  EXPECT_EQ(verdict("{} x"), "invalid JSON at byte 3: text after the end of the document");
  EXPECT_EQ(verdict("[1 2]"), "invalid JSON at byte 3: ',' or ']' expected");
  EXPECT_EQ(verdict("{\"a\" 2}"), "invalid JSON at byte 5: ':' expected");
  EXPECT_EQ(verdict("{\"a\":1,}"), "invalid JSON at byte 7: a key expected");
  EXPECT_EQ(verdict("\"a\nb\""), "invalid JSON at byte 2: a control character in a string");
  EXPECT_EQ(verdict("\"\xff\""), "invalid JSON at byte 1: not UTF-8");
  EXPECT_EQ(verdict("[01]"), "invalid JSON at byte 2: a number starts with 0");
}

TEST(CheckJson, Refuses) {
  for (const char* text : {"[",
                           "]",
                           "{",
                           "}",
                           "[1,]",
                           "[,1]",
                           "{1:2}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "tru",
                           "True",
                           "nul",
                           "Nan",
                           "Inf",
                           "+1",
                           ".5",
                           "1.",
                           "-",
                           "1e",
                           "1e+",
                           "--1",
                           "-NaN",
                           "0x1",
                           "'a'",
                           "\"",
                           "\"\\",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "\"\\ud800\"",
                           "\"\\ude00\"",
                           "\"\\ud800\\u0041\"",
                           "\"\xc0\x80\"",
                           "\"\xed\xa0\x80\"",
                           "\"\xf4\x90\x80\x80\"",
                           "\"\xe2\x82\"",
                           "\"\x80\"",
                           "\xef\xbb\xbf{}",
                           "[1}",
                           "{\"a\":1]",
                           "1 2",
                           "\x01",
                           "[1\v]"})
    EXPECT_NE(verdict(text), "ok") << text;
  EXPECT_NE(verdict(std::string_view("\"\0\"", 3)), "ok");
  EXPECT_NE(verdict(std::string_view("1\0", 2)), "ok");
  EXPECT_NE(verdict("NaN", {64, false}), "ok");
  EXPECT_NE(verdict("[-Infinity]", {64, false}), "ok");
}

TEST(CheckJson, LimitsTheDepth) {
  const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_EQ(verdict(nested(64)), "ok");
  EXPECT_EQ(verdict(nested(65)), "invalid JSON at byte 64: nested too deeply");
  EXPECT_EQ(verdict(nested(1024), {1 << 20, true}), "ok");
  EXPECT_NE(verdict(nested(1025), {1 << 20, true}), "ok");
  EXPECT_NE(verdict(std::string(1 << 22, '['), {1 << 20, true}), "ok");
  EXPECT_EQ(verdict("[]", {1, true}), "ok");
  EXPECT_NE(verdict("[]", {0, true}), "ok");
  // Kinds are remembered across a word of the stack.
  std::string mixed, ends;
  for (int i = 0; i < 100; ++i) {
    mixed += i % 3 != 0 ? "{\"k\":" : "[";
    ends.insert(ends.begin(), i % 3 != 0 ? '}' : ']');
  }
  EXPECT_EQ(verdict(mixed + "1" + ends, {100, true}), "ok");
}

TEST(CheckJson, AgreesWithBoostJsonOnMutatedTexts) {
  const std::uint64_t seed = test::seed();
  std::mt19937_64 random(seed);
  int accepted = 0, refused = 0;
  for (int round = 0; round < 30'000; ++round) {
    std::string text = Maker(random).value(4);
    ASSERT_EQ(verdict(text, {64, false}), "ok") << "seed " << seed << ": " << text;
    for (auto n = random() % 4; n-- > 0 && !text.empty();) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 3);
          break;
        case 2:
          text.insert(at, 1, "\"\\{}[],:0-.eu \x80\x1f"[random() % 17]);
          break;
        default:
          text = text.substr(0, at) + text.substr(random() % text.size());
          break;
      }
    }
    const bool ours = check_json(text, {64, false}).ok();
    ASSERT_EQ(ours, boost_accepts(text))
        << "seed " << seed << ": " << text << " " << verdict(text, {64, false});
    (ours ? accepted : refused)++;
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}
