#include "codec/rope.hpp"

#include "codec/test_support.hpp"

using namespace myelin;
using namespace myelin::codec;
using test::RopeBuilder;

namespace {

// A text, an i16 array of 2 × 3 and the memfd's f64.
std::string good_body() {
  return RopeBuilder()
      .text("[")
      .array(Dtype::i16, {2, 3}, std::string(12, '\1'))
      .array(Dtype::f64, {1}, std::string(8, 0), true)
      .body();
}

std::string why(std::string body, bool has_memfd = true, std::uint64_t memfd_size = 8) {
  auto rope = parse_rope(std::move(body), has_memfd, memfd_size);
  return rope ? "ok"
              : rope.error().message.substr(std::string_view("The session sent a broken result: ").size());
}

template <class T>
std::string with(std::string body, std::size_t at, T value) {
  std::memcpy(body.data() + at, &value, sizeof value);
  return body;
}

std::string array_body(Dtype dtype, const std::vector<std::uint64_t>& shape, std::string_view data) {
  return RopeBuilder().array(dtype, shape, data).body();
}

}  // namespace

TEST(Rope, HoldsItsPieces) {
  auto rope = parse_rope(good_body(), true, 8);
  ASSERT_TRUE(rope);
  ASSERT_EQ(rope->pieces().size(), 3u);
  EXPECT_EQ(rope->inline_data(rope->pieces()[0]), "[");
  EXPECT_EQ(rope->inline_data(rope->pieces()[1]), std::string(12, '\1'));
  EXPECT_EQ(rope->pieces()[1].shape[1], 3u);
  EXPECT_EQ(rope->pieces()[2].where, Where::memfd);
  EXPECT_EQ(rope->data_bytes(), 21u);
  EXPECT_EQ(rope->single_text(), std::nullopt);
  const Rope single = RopeBuilder().text("{\"a\":1}").rope();
  EXPECT_EQ(single.single_text(), "{\"a\":1}");
}

TEST(Rope, ViewsSurviveAMove) {
  Rope first = RopeBuilder().text("1").rope();  // short enough to lie within the string object
  const Rope second = std::move(first);
  EXPECT_EQ(second.single_text(), "1");
}

TEST(Rope, RefusesEveryInconsistency) {
  const std::string good = good_body();
  EXPECT_EQ(why(good), "ok");
  EXPECT_EQ(why(""), "shorter than its head");
  EXPECT_EQ(why(std::string(4, '\0')), "no pieces");
  EXPECT_EQ(why(with(good, 0, std::uint32_t{65'537})), "too many pieces");
  EXPECT_EQ(why(with(good, 0, std::uint32_t{65'536})), "its pieces exceed it");
  EXPECT_EQ(why(with(good, 4, '\2')), "piece 0: unknown kind");
  EXPECT_EQ(why(with(good, 5, '\1')), "piece 0: a text with a dtype or a shape");
  EXPECT_EQ(why(with(good, 6, '\1')), "piece 0: a text with a dtype or a shape");
  EXPECT_EQ(why(with(good, 7, '\2')), "piece 0: unknown place");
  EXPECT_EQ(why(with(good, 8, '\1')), "piece 0: a field that must be zero is not");
  EXPECT_EQ(why(with(good, 12, std::uint64_t{100})), "piece 0: exceeds the payload");
  EXPECT_EQ(why(with(good, 20, std::uint64_t{13})), "piece 0: exceeds the payload");
  EXPECT_EQ(why(with(good, 20, UINT64_MAX)), "piece 0: exceeds the payload");
  EXPECT_EQ(why(with(good, 29, '\0')), "piece 1: unknown dtype");
  EXPECT_EQ(why(with(good, 29, '\x0c')), "piece 1: unknown dtype");
  EXPECT_EQ(why(with(good, 29, '\3')), "piece 1: shape and bytes differ");
  EXPECT_EQ(why(with(good, 30, '\0')), "piece 1: not 1 to 8 dimensions");
  EXPECT_EQ(why(with(good, 30, '\x09')), "piece 1: not 1 to 8 dimensions");
  EXPECT_EQ(why(good, false, 8), "piece 2: in a memfd that did not come");
  EXPECT_EQ(why(good, true, 7), "piece 2: exceeds the memfd");
  for (std::size_t size = 0; size < good.size(); ++size) EXPECT_NE(why(good.substr(0, size)), "ok") << size;
}

TEST(Rope, InlineTextIsUtf8) {
  EXPECT_EQ(why(RopeBuilder().text("\"\xc3\xa9\"").body()), "ok");
  EXPECT_EQ(why(RopeBuilder().text("\"\xff\"").body()), "piece 0: not UTF-8");
  EXPECT_EQ(why(RopeBuilder().text("\"\xc3").text("\xa9\"").body()), "piece 0: not UTF-8")
      << "cut in a character";
}

TEST(Rope, TextMayBeSharedWithinReason) {
  RopeBuilder builder;
  builder.text("\"" + std::string(500'000, 'x') + "\"");
  for (int i = 0; i < 20'000; ++i) builder.text("");
  std::string body = builder.body();
  EXPECT_EQ(why(body), "ok");
  const auto share = [&](std::size_t pieces) {  // the first `pieces` after the text get its data
    std::string shared = body;
    for (std::size_t i = 1; i <= pieces; ++i) {
      shared = with(std::move(shared), 4 + 24 * i + 8, std::uint64_t{500'002});
      shared = with(std::move(shared), 4 + 24 * i + 16, std::uint64_t{0});
    }
    return shared;
  };
  EXPECT_EQ(why(share(10)), "ok");
  EXPECT_EQ(why(share(20'000)), "piece 34: its text is used too often");
}

TEST(Rope, ShapesDoNotOverflow) {
  constexpr std::uint64_t big = std::uint64_t{1} << 32;
  EXPECT_EQ(why(array_body(Dtype::u8, {big, big}, "")), "piece 0: the shape is too large");
  EXPECT_EQ(why(array_body(Dtype::f64, {std::uint64_t{1} << 61}, "")), "piece 0: the shape is too large");
  EXPECT_EQ(why(array_body(Dtype::u8, {big, big, 0}, "")), "piece 0: the shape is too large");
  EXPECT_EQ(why(array_body(Dtype::u8, {0, big, big, big}, "")), "ok");
  EXPECT_EQ(why(array_body(Dtype::u8, {big, 0}, "")), "piece 0: too many empty lists");
  EXPECT_EQ(why(array_body(Dtype::u8, {max_empty_lists, 0}, "")), "ok");
  EXPECT_EQ(why(array_body(Dtype::u8, {3, 0}, "a")), "piece 0: shape and bytes differ");
}

TEST(Rope, RandomBytesNeverCrash) {
  const std::uint64_t seed = test::seed();
  std::mt19937_64 random(seed);
  const std::string good = good_body();
  int accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string body = good;
    for (auto n = random() % 3 + 1; n-- > 0;)
      body[random() % body.size()] = static_cast<char>(random() % 20 == 0 ? random() : random() % 4);
    auto rope = parse_rope(body, true, 8);
    if (!rope) continue;
    ++accepted;
    for (const Piece& piece : rope->pieces()) {
      if (piece.where == Where::inline_data) {
        ASSERT_EQ(rope->inline_data(piece).size(), piece.bytes) << "seed " << seed;
      } else {
        ASSERT_LE(piece.offset + piece.bytes, 8u) << "seed " << seed;
      }
    }
  }
  EXPECT_GT(accepted, 0);
}
