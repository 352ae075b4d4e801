#include "codec/encode.hpp"

#include <boost/json.hpp>
#include <fstream>
#include <limits>
#include <sstream>

#include "codec/frame.hpp"
#include "codec/number.hpp"
#include "codec/test_support.hpp"

using namespace myelin;
using namespace myelin::codec;
using test::from_hex;
using test::raw;
using test::RopeBuilder;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

std::string json(const RopeBuilder& builder, Nonfinite nonfinite = Nonfinite::null) {
  const Rope rope = builder.rope();
  auto text = encode_all(rope, Format::json, nonfinite, builder.reader());
  return text ? *text : "error: " + text.error().message;
}

std::string cbor(const RopeBuilder& builder) {
  const Rope rope = builder.rope();
  auto bytes = encode_all(rope, Format::cbor, Nonfinite::null, builder.reader());
  if (!bytes) return "error: " + bytes.error().message;
  return test::CborReader(*bytes).document();
}

// The same answer, however it is cut and however short the reads are.
void expect_independent_of_chunks(const RopeBuilder& builder, bool small_targets) {
  const Rope rope = builder.rope();
  for (const Format format : {Format::json, Format::cbor}) {
    auto whole = test::encode(rope, format, Nonfinite::bare, builder.reader(), 1 << 20);
    ASSERT_TRUE(whole) << whole.error().message;
    for (const std::size_t target :
         {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{5000}, SIZE_MAX}) {
      if (!small_targets && target < 100) continue;
      auto parts = test::encode(rope, format, Nonfinite::bare, builder.reader(target % 97 + 900), target);
      ASSERT_TRUE(parts) << parts.error().message;
      ASSERT_EQ(*parts == *whole, true) << "target " << target;
    }
  }
}

}  // namespace

TEST(EncodeJson, ArraysOfEveryType) {
  EXPECT_EQ(json(RopeBuilder().array(Dtype::i8, {2}, raw<std::int8_t>({-128, 127}))), "[-128,127]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::u8, {2}, raw<std::uint8_t>({0, 255}))), "[0,255]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::i16, {1}, raw<std::int16_t>({-32768}))), "[-32768]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::u16, {1}, raw<std::uint16_t>({65535}))), "[65535]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::i32, {1}, raw<std::int32_t>({INT32_MIN}))), "[-2147483648]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::u32, {1}, raw<std::uint32_t>({UINT32_MAX}))), "[4294967295]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::i64, {2}, raw<std::int64_t>({INT64_MIN, INT64_MAX}))),
            "[-9223372036854775808,9223372036854775807]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::u64, {1}, raw<std::uint64_t>({UINT64_MAX}))),
            "[18446744073709551615]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::f32, {3}, raw<float>({0.1F, -70.0F, 1e-10F}))),
            "[0.10000000149011612,-70.0,1.000000013351432e-10]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::f64, {4}, raw<double>({0.1, -0.0, 1e16, 1.0 / 3}))),
            "[0.1,-0.0,1e+16,0.3333333333333333]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::boolean, {3}, std::string("\0\1\7", 3))), "[false,true,true]");
}

TEST(EncodeJson, NonfiniteByPolicy) {
  const auto builder =
      RopeBuilder().array(Dtype::f64, {4}, raw<double>({std::nan(""), infinity, -infinity, 1}));
  EXPECT_EQ(json(builder), "[null,null,null,1.0]");
  EXPECT_EQ(json(builder, Nonfinite::bare), "[NaN,Infinity,-Infinity,1.0]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::f32, {1}, raw<float>({-static_cast<float>(infinity)})),
                 Nonfinite::bare),
            "[-Infinity]");
}

TEST(EncodeJson, ShapesNest) {
  const std::string data = raw<std::int8_t>({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(json(RopeBuilder().array(Dtype::i8, {2, 3}, data)), "[[1,2,3],[4,5,6]]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::i8, {3, 2, 1}, data)), "[[[1],[2]],[[3],[4]],[[5],[6]]]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::i8, {1, 1, 1, 1, 1, 1, 1, 6}, data)),
            "[[[[[[[[1,2,3,4,5,6]]]]]]]]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::i8, {6, 1}, data)), "[[1],[2],[3],[4],[5],[6]]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::f64, {0}, "")), "[]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::f64, {3, 0}, "")), "[[],[],[]]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::f64, {2, 2, 0, 7}, "")), "[[[],[]],[[],[]]]");
  EXPECT_EQ(json(RopeBuilder().array(Dtype::f64, {0, 5}, "")), "[]");
}

TEST(EncodeJson, TextIsCopiedUntouched) {
  EXPECT_EQ(json(RopeBuilder()
                     .text("{ \"a\" : ")
                     .array(Dtype::i64, {1}, raw<std::int64_t>({5}), true)
                     .text(", \"b\":NaN")
                     .text("}\n", true)),
            "{ \"a\" : [5], \"b\":NaN}\n");
  EXPECT_EQ(json(RopeBuilder().text("not json")), "not json");
  EXPECT_EQ(json(RopeBuilder().text("")), "");
}

TEST(EncodeCbor, TypedArrays) {
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::i8, {2}, raw<std::int8_t>({-128, 127}))), "72([-128,127])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::u8, {1}, raw<std::uint8_t>({255}))), "64([255])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::i16, {1}, raw<std::int16_t>({-2}))), "77([-2])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::u16, {1}, raw<std::uint16_t>({65535}))), "69([65535])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::i32, {1}, raw<std::int32_t>({-3}))), "78([-3])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::u32, {1}, raw<std::uint32_t>({7}))), "70([7])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::i64, {1}, raw<std::int64_t>({INT64_MIN}))),
            "79([-9223372036854775808])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::u64, {1}, raw<std::uint64_t>({UINT64_MAX}))),
            "71([18446744073709551615])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::f32, {1}, raw<float>({0.5F}), true)), "85([0.5])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::f64, {3}, raw<double>({0.25, std::nan(""), -infinity}))),
            "86([0.25,NaN,-Infinity])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::boolean, {2}, std::string("\0\1", 2))), "[false,true]");
}

TEST(EncodeCbor, DimensionsGoIntoTag40) {
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::i8, {2, 3}, raw<std::int8_t>({1, 2, 3, 4, 5, 6}))),
            "40([[2,3],72([1,2,3,4,5,6])])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::boolean, {2, 1}, std::string("\1\0", 2))),
            "40([[2,1],[true,false]])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::f64, {3, 0}, "")), "40([[3,0],86([])])");
  EXPECT_EQ(cbor(RopeBuilder().array(Dtype::f64, {0}, "")), "86([])");
}

TEST(EncodeCbor, BytesAsInTheRfc) {
  const Rope rope =
      RopeBuilder().text("{\"a\":").array(Dtype::f64, {1, 1}, raw<double>({1.0})).text("}").rope();
  auto bytes = encode_all(rope, Format::cbor, Nonfinite::null, {});
  ASSERT_TRUE(bytes);
  EXPECT_EQ(test::to_hex(*bytes),
            "bf6161"
            "d82882"
            "820101"
            "d85648"
            "000000000000f03f"
            "ff");
}

TEST(EncodeCbor, ArraysStandOnlyWhereValuesMay) {
  const std::string one = raw<std::int8_t>({1});
  EXPECT_EQ(
      cbor(RopeBuilder().text("[").array(Dtype::i8, {1}, one).text(",").array(Dtype::i8, {1}, one).text("]")),
      "[72([1]),72([1])]");
  EXPECT_EQ(cbor(RopeBuilder()
                     .text("{\"x\" :")
                     .array(Dtype::i8, {1}, one)
                     .text(",\"y\":[1,")
                     .array(Dtype::i8, {1}, one)
                     .text("]}")),
            "{\"x\":72([1]),\"y\":[1,72([1])]}");
  for (const auto& [before, after] : std::vector<std::pair<const char*, const char*>>{{"{", "}"},
                                                                                      {"{\"a\"", "}"},
                                                                                      {"\"a", "\""},
                                                                                      {"1", ""},
                                                                                      {"[1", "]"},
                                                                                      {"", "1"},
                                                                                      {"[", ""},
                                                                                      {"[", ",]"},
                                                                                      {"[tr", "ue]"},
                                                                                      {"{\"a\":1,", "}"},
                                                                                      {"\"\\u00", "e9\""}})
    EXPECT_TRUE(
        cbor(RopeBuilder().text(before).array(Dtype::i8, {1}, one).text(after)).starts_with("error: "))
        << before;
}

TEST(Encode, ReportsWhatTheReaderReports) {
  const auto builder = RopeBuilder().array(Dtype::i64, {1}, raw<std::int64_t>({1}), true);
  const Rope rope = builder.rope();
  for (const Format format : {Format::json, Format::cbor}) {
    auto failed =
        encode_all(rope, format, Nonfinite::null, [](std::uint64_t, std::span<char>) -> Result<std::size_t> {
          return Error{Code::gone, "x", ""};
        });
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::gone);
    auto ended = encode_all(rope, format, Nonfinite::null,
                            [](std::uint64_t, std::span<char>) -> Result<std::size_t> { return 0; });
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error().code, Code::worker_lost);
  }
}

TEST(Encode, MemoryIsBoundedByTheTarget) {
  const std::vector<double> values(500'000, 1.0 / 3);
  const auto builder = RopeBuilder()
                           .text("[\"" + std::string(3'000'000, 'x') + "\",")
                           .array(Dtype::f64, {values.size()}, raw(values), true)
                           .text("]");
  const Rope rope = builder.rope();
  for (const Format format : {Format::json, Format::cbor}) {
    Encoder encoder(rope, format, Nonfinite::null);
    std::size_t calls = 0;
    while (!encoder.done()) {
      std::string part;
      ASSERT_TRUE(encoder.next(part, 64 * 1024, builder.reader()));
      EXPECT_LT(part.size(), 256u * 1024);
      EXPECT_GT(part.size(), 0u);
      ++calls;
    }
    EXPECT_GT(calls, 20u);
  }
}

TEST(Encode, ChunksDoNotMatter) {
  std::string text = "{\"k\\u00e9y\":[1,-2.5e3,\"a\\ud83d\\ude00\\n\xc3\xa9\",true,null,NaN,-Infinity,";
  const std::vector<std::int16_t> shorts = {1, -2, 3, -4, 5, 6, 7, 8, 9, 10, 11, 12};
  const auto builder = RopeBuilder()
                           .text(text)
                           .array(Dtype::i16, {2, 3, 2}, raw(shorts))
                           .text(",12345678901234567890123,", true)
                           .array(Dtype::f64, {2, 2}, raw<double>({0.1, infinity, 1e300, -0.0}), true)
                           .text(", ")
                           .text("")
                           .array(Dtype::boolean, {3}, std::string("\0\1\1", 3), true)
                           .text(",")
                           .array(Dtype::f32, {2, 0}, "")
                           .text(",\"x\\")
                           .text("n\"]}")
                           .text("");
  expect_independent_of_chunks(builder, true);
}

TEST(Encode, ChunksDoNotMatterForLargeData) {
  std::mt19937_64 random(test::seed());
  std::vector<double> values;
  for (int i = 0; i < 60'000; ++i)  // on the grid, off it, on it again
    values.push_back(i / 20'000 % 2 == 0
                         ? i * 0.5
                         : std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 100) - 100));
  std::string longer = "\"";
  for (int i = 0; i < 60'000; ++i) longer += i % 3 != 0 ? "\xe2\x82\xac" : "ab";
  const auto builder = RopeBuilder()
                           .text("[")
                           .array(Dtype::f64, {300, 200}, raw(values), true)
                           .text(",")
                           .array(Dtype::i64, {60'000}, raw(values))
                           .text("," + longer + "\",", true)
                           .text(longer + "\\ud800\"]");
  expect_independent_of_chunks(builder, false);
}

TEST(Encode, RandomRopesReadBackAsTheyWere) {
  const std::uint64_t seed = test::seed();
  std::mt19937_64 random(seed);
  for (int round = 0; round < 500; ++round) {
    std::vector<std::uint64_t> shape;
    std::uint64_t n = 1;
    for (auto k = random() % 4 + 1; k-- > 0;)
      n *= shape.emplace_back(random() % 6 + (random() % 8 != 0 ? 1 : 0));
    std::vector<std::int64_t> integers(n);
    std::vector<double> doubles(n);
    for (auto& v : integers) v = static_cast<std::int64_t>(random()) >> (random() % 64);
    for (auto& v : doubles) {
      do
        v = random() % 2 == 0 ? std::bit_cast<double>(random())
                              : static_cast<double>(random() % 100'000) / 10;
      while (!std::isfinite(v));
    }
    const auto builder = RopeBuilder()
                             .text("{\"i\":")
                             .array(Dtype::i64, shape, raw(integers), random() % 2 == 0)
                             .text(",\"d\":")
                             .array(Dtype::f64, shape, raw(doubles), random() % 2 == 0)
                             .text("}");
    const Rope rope = builder.rope();
    auto text = test::encode(rope, Format::json, Nonfinite::null, builder.reader(), random() % 200);
    ASSERT_TRUE(text) << "seed " << seed;
    boost::system::error_code error;
    const auto value = boost::json::parse(*text, error);
    ASSERT_FALSE(error) << "seed " << seed << ": " << *text;
    // Structure and integers by Boost.JSON; the doubles' digits, which it does not round exactly, by
    // from_chars.
    std::vector<std::int64_t> found;
    std::size_t numbers = 0;
    const auto walk = [&](const auto& self, const boost::json::value& v, std::size_t level) -> void {
      if (!v.is_array()) {
        ASSERT_EQ(level, shape.size()) << "seed " << seed;
        if (v.is_int64()) found.push_back(v.get_int64());
        ++numbers;
        return;
      }
      ASSERT_EQ(v.get_array().size(), shape.at(level)) << "seed " << seed;
      for (const auto& item : v.get_array()) self(self, item, level + 1);
    };
    walk(walk, value.at("i"), 0);
    ASSERT_EQ(found, integers) << "seed " << seed;
    walk(walk, value.at("d"), 0);
    ASSERT_EQ(numbers, 2 * n) << "seed " << seed;
    std::size_t at = text->find("\"d\":") + 4;
    for (const double expected : doubles) {
      at = text->find_first_not_of("[],", at);
      double v = 0;
      const auto end = std::from_chars(text->data() + at, text->data() + text->size(), v).ptr;
      at = static_cast<std::size_t>(end - text->data());
      ASSERT_EQ(std::bit_cast<std::uint64_t>(v), std::bit_cast<std::uint64_t>(expected)) << "seed " << seed;
    }
    auto bytes = test::encode(rope, Format::cbor, Nonfinite::null, builder.reader(), random() % 200);
    ASSERT_TRUE(bytes) << "seed " << seed;
    ASSERT_NO_THROW((void)test::CborReader(*bytes).document()) << "seed " << seed;
    ASSERT_NE(bytes->find(raw(doubles)), std::string::npos) << "seed " << seed;
  }
}

// The vectors that the Python worker's tests read too.
TEST(Vectors, FramesAndRopes) {
  std::ifstream file(MYELIN_SOURCE_DIR "/spec/worker-vectors.json");
  if (!file) GTEST_SKIP() << "no spec/worker-vectors.json";
  std::stringstream all;
  all << file.rdbuf();
  const auto vectors = boost::json::parse(all.str());
  const auto text_of = [](const boost::json::value& v) {
    return std::string(v.as_string().c_str(), v.as_string().size());
  };
  for (const auto& vector : vectors.at("frames").as_array()) {
    SCOPED_TRACE(text_of(vector.at("name")));
    const std::string bytes = from_hex(text_of(vector.at("hex")));
    if (bytes.size() < frame_header_size) {
      EXPECT_TRUE(vector.as_object().contains("error"));
      continue;
    }
    const std::span<const char, frame_header_size> head(bytes.data(), frame_header_size);
    const Sender sender = vector.at("from") == "worker" ? Sender::worker : Sender::server;
    auto header = parse_frame_header(head, sender);
    if (vector.as_object().contains("error")) {
      EXPECT_TRUE(!header || bytes.size() - frame_header_size < header->length);
      continue;
    }
    ASSERT_TRUE(header) << header.error().message;
    const auto& frame = vector.at("frame");
    EXPECT_EQ(header->length, frame.at("length").to_number<std::uint32_t>());
    EXPECT_EQ(static_cast<unsigned>(header->kind), frame.at("kind").to_number<unsigned>());
    EXPECT_EQ(header->flags, frame.at("flags").to_number<unsigned>());
    EXPECT_EQ(header->call, frame.at("call").to_number<std::uint64_t>());
    EXPECT_EQ(bytes.substr(frame_header_size), from_hex(text_of(frame.at("body_hex"))));
    const auto packed = pack_frame_header(*header);
    EXPECT_EQ(std::string(packed.data(), packed.size()), bytes.substr(0, frame_header_size));
  }
  for (const auto& vector : vectors.at("ropes").as_array()) {
    SCOPED_TRACE(text_of(vector.at("name")));
    const auto* memfd_hex = vector.as_object().if_contains("memfd_hex");
    const std::string memfd = memfd_hex != nullptr ? from_hex(text_of(*memfd_hex)) : "";
    auto rope = parse_rope(from_hex(text_of(vector.at("hex"))), memfd_hex != nullptr, memfd.size());
    if (vector.as_object().contains("error")) {
      EXPECT_FALSE(rope);
      continue;
    }
    ASSERT_TRUE(rope) << rope.error().message;
    const auto& pieces = vector.at("pieces").as_array();
    ASSERT_EQ(rope->pieces().size(), pieces.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const Piece& piece = rope->pieces()[i];
      const auto& expected = pieces[i];
      EXPECT_EQ(static_cast<int>(piece.kind), expected.at("kind").to_number<int>());
      EXPECT_EQ(static_cast<int>(piece.dtype), expected.at("dtype").to_number<int>());
      EXPECT_EQ(static_cast<int>(piece.where), expected.at("where").to_number<int>());
      EXPECT_EQ(piece.bytes, expected.at("bytes").to_number<std::uint64_t>());
      EXPECT_EQ(piece.offset, expected.at("offset").to_number<std::uint64_t>());
      const auto& shape = expected.at("shape").as_array();
      ASSERT_EQ(piece.ndim, shape.size());
      for (std::size_t k = 0; k < shape.size(); ++k)
        EXPECT_EQ(piece.shape[k], shape[k].to_number<std::uint64_t>());
    }
    const Reader read = [&](std::uint64_t offset, std::span<char> into) -> Result<std::size_t> {
      return memfd.copy(into.data(), into.size(), offset);
    };
    const std::string expected = text_of(vector.at("json"));
    const bool bare =
        expected.find("NaN") != std::string::npos || expected.find("Infinity") != std::string::npos;
    auto text = encode_all(*rope, Format::json, bare ? Nonfinite::bare : Nonfinite::null, read);
    ASSERT_TRUE(text) << text.error().message;
    EXPECT_EQ(*text, expected);
  }
}
