#include "codec/cbor.hpp"

#include "codec/json_check.hpp"
#include "codec/test_support.hpp"

using namespace myelin;
using namespace myelin::codec;

namespace {

Result<std::string> transcode(std::string_view text, std::size_t step = SIZE_MAX) {
  CborTranscoder transcoder;
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += std::min(step, text.size() - at))
    if (auto fed = transcoder.feed(text.substr(at, step), out); !fed) return fed.take_error();
  if (auto finished = transcoder.finish(out); !finished) return finished.take_error();
  return out;
}

std::string hex(std::string_view text) {
  auto bytes = transcode(text);
  return bytes ? test::to_hex(*bytes) : "error: " + bytes.error().message;
}

std::string read(std::string_view text) {
  auto bytes = transcode(text);
  return bytes ? test::CborReader(*bytes).document() : "error: " + bytes.error().message;
}

}  // namespace

TEST(Cbor, ValuesAsInTheRfc) {  // RFC 8949, appendix A
  EXPECT_EQ(hex("0"), "00");
  EXPECT_EQ(hex("-0"), "00");
  EXPECT_EQ(hex("23"), "17");
  EXPECT_EQ(hex("24"), "1818");
  EXPECT_EQ(hex("255"), "18ff");
  EXPECT_EQ(hex("256"), "190100");
  EXPECT_EQ(hex("1000000"), "1a000f4240");
  EXPECT_EQ(hex("1000000000000"), "1b000000e8d4a51000");
  EXPECT_EQ(hex("18446744073709551615"), "1bffffffffffffffff");
  EXPECT_EQ(hex("18446744073709551616"), "c249010000000000000000");
  EXPECT_EQ(hex("-18446744073709551616"), "3bffffffffffffffff");
  EXPECT_EQ(hex("-18446744073709551617"), "c349010000000000000000");
  EXPECT_EQ(hex("-1"), "20");
  EXPECT_EQ(hex("-1000"), "3903e7");
  EXPECT_EQ(hex("10000000000000000000000000"), "c24b084595161401484a000000");  // 10**25
  EXPECT_EQ(hex("-10000000000000000000000000"), "c34b0845951614014849ffffff");
  EXPECT_EQ(hex("1.1"), "fb3ff199999999999a");
  EXPECT_EQ(hex("1.0e+300"), "fb7e37e43c8800759c");
  EXPECT_EQ(hex("-0.0"), "fb8000000000000000");
  EXPECT_EQ(hex("NaN"), "fb7ff8000000000000");
  EXPECT_EQ(hex("Infinity"), "fb7ff0000000000000");
  EXPECT_EQ(hex("-Infinity"), "fbfff0000000000000");
  EXPECT_EQ(hex("1e400"), "fb7ff0000000000000");
  EXPECT_EQ(hex("-0.00001e400"), "fbfff0000000000000");
  EXPECT_EQ(hex("1000e-4000"), "fb0000000000000000");
  EXPECT_EQ(hex("1e99999999999999999999"), "fb7ff0000000000000");
  EXPECT_EQ(hex("0e99999999999999999999"), "fb0000000000000000");
  EXPECT_EQ(hex("true"), "f5");
  EXPECT_EQ(hex("false"), "f4");
  EXPECT_EQ(hex(" null "), "f6");
  EXPECT_EQ(hex("\"\""), "60");
  EXPECT_EQ(hex("\"IETF\""), "6449455446");
  EXPECT_EQ(hex("\"\\u6c34\""), "63e6b0b4");
  EXPECT_EQ(hex("\"\\ud800\\udd51\""), "64f0908591");
  EXPECT_EQ(hex("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), "68225c2f080c0a0d09");
  EXPECT_EQ(hex("[]"), "9fff");
  EXPECT_EQ(hex("{}"), "bfff");
  EXPECT_EQ(hex("[1, [2, 3]]"), "9f019f0203ffff");
  EXPECT_EQ(hex("{\"a\": 1, \"b\": [2]}"), "bf61610161629f02ffff");
}

TEST(Cbor, HalfSurrogatesBecomeTheReplacement) {
  EXPECT_EQ(read("\"a\\ud800b\""),
            "\"a\xef\xbf\xbd"
            "b\"");
  EXPECT_EQ(read("\"\\ud800\""), "\"\xef\xbf\xbd\"");
  EXPECT_EQ(read("\"\\udc00\""), "\"\xef\xbf\xbd\"");
  EXPECT_EQ(read("\"\\ud800\\ud83d\\ude00\""), "\"\xef\xbf\xbd\xf0\x9f\x98\x80\"");
  EXPECT_EQ(read("\"\\ud800\\n\""), "\"\xef\xbf\xbd\n\"");
}

TEST(Cbor, LongStringsComeInParts) {
  for (const std::size_t size : {65'535, 65'536, 65'537, 200'000}) {
    for (const char* unit : {"x", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
      std::string text;
      while (text.size() < size) text += unit;
      const std::string quoted = '"' + text + '"';
      auto bytes = transcode(quoted);
      ASSERT_TRUE(bytes) << bytes.error().message;
      EXPECT_EQ(static_cast<std::uint8_t>((*bytes)[0]) == 0x7f, text.size() > 65'536);
      EXPECT_EQ(test::CborReader(*bytes).document() == quoted, true);
      EXPECT_EQ(*transcode(quoted, 1) == *bytes, true);
      EXPECT_EQ(*transcode(quoted, 60'001) == *bytes, true);
    }
  }
  EXPECT_FALSE(transcode('"' + std::string(200'000, '\x80') + '"'));
  EXPECT_FALSE(transcode('"' + std::string(200'000, '\xc3') + '"'));
}

TEST(Cbor, HugeIntegers) {
  const std::string digits(8000, '9');
  auto bytes = transcode(digits);
  ASSERT_TRUE(bytes);
  EXPECT_EQ(bytes->size(), 1 + 3 + 3322u);  // tag, head, ceil(8000 log2(10) / 8)
  EXPECT_FALSE(transcode(std::string(8193, '9')));
}

TEST(Cbor, RefusesMalformedText) {
  for (const char* text : {"",
                           " ",
                           "[",
                           "]",
                           "{",
                           "}",
                           "[1,]",
                           "[,1]",
                           "[1 2]",
                           "{1:2}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{\"a\":1]",
                           "[1}",
                           "tru",
                           "True",
                           "01",
                           "-",
                           "1.",
                           ".5",
                           "+1",
                           "1e",
                           "--1",
                           "-NaN",
                           "\"a",
                           "\"\\x\"",
                           "\"\\u12g4\"",
                           "\"\n\"",
                           "\"\xff\"",
                           "\"\xed\xa0\x80\"",
                           "1 2",
                           "{} {}",
                           "'a'",
                           "1,",
                           ":",
                           "\x01",
                           "truefalse",
                           "1true",
                           "\"a\"1"})
    EXPECT_TRUE(read(text).starts_with("error: ")) << text;
  EXPECT_TRUE(read(std::string(1025, '[') + std::string(1025, ']')).starts_with("error: "));
  EXPECT_EQ(read(std::string(1024, '[') + std::string(1024, ']')).size(), 2048u);
  EXPECT_EQ(read("[1, x]"),
            "error: The session sent a broken result: invalid JSON at byte 5 of its text: not a value");
}

TEST(Cbor, AnErrorSticks) {
  CborTranscoder transcoder;
  std::string out;
  EXPECT_FALSE(transcoder.feed("]", out));
  EXPECT_FALSE(transcoder.feed("1", out));
  EXPECT_FALSE(transcoder.value_follows(out));
  EXPECT_FALSE(transcoder.finish(out));
}

TEST(Cbor, AgreesWithTheCheckerHoweverItIsCut) {
  const std::uint64_t seed = test::seed();
  std::mt19937_64 random(seed);
  const std::string base =
      "{\"a\":[1,-2.5e+3,1e5,true,false,null,NaN,-Infinity],\"b\\n\\u00e9\\ud83d\\ude00\":{\"\":"
      "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"},"
      " \"c\" : [[],{},[ ] , \"\"]\t,\"d\":12345678901234567890123}";
  ASSERT_TRUE(check_json(base));
  int accepted = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::string text = base;
    for (auto n = random() % 3; n-- > 0;) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = "\"\\{}[],:0-.eun \x80\xc3\x1f\xf0"[random() % 20];
          break;
        case 1:
          text.erase(at, 1 + random() % 3);
          break;
        default:
          text.insert(at, 1, "\"\\{}[],:0-.eun "[random() % 15]);
          break;
      }
    }
    auto whole = transcode(text);
    auto parts = transcode(text, random() % 7 + 1);
    ASSERT_EQ(whole.ok(), parts.ok()) << "seed " << seed << ": " << text;
    auto checked = check_json(text);
    // The only difference meant: half a surrogate pair.
    if (!checked && checked.error().message.ends_with("half a surrogate pair")) continue;
    ASSERT_EQ(whole.ok(), checked.ok()) << "seed " << seed << ": " << text;
    if (!whole) continue;
    ++accepted;
    ASSERT_EQ(*whole, *parts) << "seed " << seed << ": " << text;
    ASSERT_NO_THROW((void)test::CborReader(*whole).document()) << "seed " << seed << ": " << text;
  }
  EXPECT_GT(accepted, 1000);
}
