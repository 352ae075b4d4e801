#include "codec/frame.hpp"

#include "codec/test_support.hpp"

using namespace myelin;
using namespace myelin::codec;

namespace {
Result<FrameHeader> parse(std::string_view hex, Sender sender) {
  const std::string bytes = test::from_hex(hex);
  return parse_frame_header(std::span<const char, frame_header_size>(bytes.data(), frame_header_size),
                            sender);
}
}  // namespace

TEST(Frame, HeaderIsLittleEndian) {
  const FrameHeader header{0x00010203, FrameKind::result, frame_has_memfd, 0x1122334455667788};
  const auto bytes = pack_frame_header(header);
  EXPECT_EQ(test::to_hex({bytes.data(), bytes.size()}),
            "03020100"
            "0400"
            "0100"
            "8877665544332211");
  auto back = parse_frame_header(bytes, Sender::worker);
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, header);
  EXPECT_TRUE(back->has_memfd());
}

TEST(Frame, RefusesWhatTheProtocolDoesNotKnow) {
  EXPECT_TRUE(
      parse("00000000"
            "0100"
            "0000"
            "0000000000000000",
            Sender::worker));
  EXPECT_FALSE(
      parse("00000000"
            "0000"
            "0000"
            "0000000000000000",
            Sender::worker))
      << "kind 0";
  EXPECT_FALSE(
      parse("00000000"
            "0e00"
            "0000"
            "0000000000000000",
            Sender::worker))
      << "kind 14";
  EXPECT_FALSE(
      parse("00000000"
            "0300"
            "0000"
            "0000000000000000",
            Sender::worker))
      << "a call from a worker";
  EXPECT_FALSE(
      parse("00000000"
            "0400"
            "0000"
            "0000000000000000",
            Sender::server))
      << "a result from the server";
  EXPECT_FALSE(
      parse("00000000"
            "0400"
            "0200"
            "0000000000000000",
            Sender::worker))
      << "flag 2";
  EXPECT_TRUE(
      parse("00001000"
            "0400"
            "0000"
            "0000000000000000",
            Sender::worker))
      << "1 MiB";
  EXPECT_FALSE(
      parse("01001000"
            "0400"
            "0000"
            "0000000000000000",
            Sender::worker))
      << "over 1 MiB";
  EXPECT_TRUE(
      parse("00001004"
            "0300"
            "0000"
            "0000000000000000",
            Sender::server))
      << "65 MiB";
  EXPECT_FALSE(
      parse("01001004"
            "0300"
            "0000"
            "0000000000000000",
            Sender::server))
      << "over 65 MiB";
}

TEST(Frame, CallBodyHasMetaThenRequest) {
  const std::string body = pack_call_head("{\"method\":\"exec\"}") + "raw";
  auto call = parse_call_body(body);
  ASSERT_TRUE(call);
  EXPECT_EQ(call->meta, "{\"method\":\"exec\"}");
  EXPECT_EQ(call->request, "raw");
  EXPECT_FALSE(parse_call_body("abc"));
  EXPECT_FALSE(parse_call_body(std::string_view("\x05\0\0\0abcd", 8)));
}
