#include "session/output_ring.hpp"

#include <gtest/gtest.h>

using myelin::session::OutputRing;

TEST(OutputRing, KeepsTheNewest) {
  OutputRing ring(10);
  ring.append("abcdef");
  EXPECT_EQ(ring.tail(100), "abcdef");
  ring.append("ghijklm");
  EXPECT_EQ(ring.tail(100), "defghijklm");
  ring.append("0123456789ABC");
  EXPECT_EQ(ring.tail(100), "3456789ABC");
  ring.append("x");
  EXPECT_EQ(ring.tail(100), "456789ABCx");
}

TEST(OutputRing, TailStartsAtALine) {
  OutputRing ring;
  ring.append("first line\nsecond\nthird\n");
  EXPECT_EQ(ring.tail(16), "second\nthird\n");
  EXPECT_EQ(ring.tail(3), "rd\n");
}

TEST(OutputRing, IsAlwaysUtf8) {
  OutputRing ring;
  ring.append("ok \xc3\xa9 \xff \xed\xa0\x80 \xe2\x82");
  EXPECT_EQ(ring.tail(100), "ok \xc3\xa9 ? ??? ??");
}
