#include "codec/number.hpp"

#include <fstream>
#include <limits>

#include "codec/test_support.hpp"

using namespace myelin::codec;

namespace {
std::string general(double v) {
  char text[max_number_chars];
  return {text, write_double(text, v)};
}
std::string on_grid(double v) {
  char text[max_number_chars];
  char* end = write_on_grid(text, v);
  return end == nullptr ? "" : std::string(text, end);
}
}  // namespace

TEST(Number, DoublesAreWrittenAsPythonsRepr) {
  std::ifstream table(MYELIN_SOURCE_DIR "/src/codec/testdata/repr.txt");
  std::string bits, repr;
  int count = 0, grid = 0;
  while (table >> bits >> repr) {
    const auto v = std::bit_cast<double>(static_cast<std::uint64_t>(std::stoull(bits, nullptr, 16)));
    EXPECT_EQ(general(v), repr) << bits;
    const std::string quick = on_grid(v);
    if (!quick.empty()) {
      EXPECT_EQ(quick, repr) << bits;
      ++grid;
    }
    ++count;
  }
  EXPECT_GT(count, 2000);
  EXPECT_GT(grid, 300);
}

TEST(Number, BothWritersAgreeWhereBothWrite) {
  std::mt19937_64 random(myelin::codec::test::seed());
  for (int i = 0; i < 200'000; ++i) {
    const double k = static_cast<double>(static_cast<std::int64_t>(random()) >> (random() % 50 + 8));
    for (const double v : {k, k / 10, k * 0.1, k / 100, k / 1000, k * 0.001, k * 0.025,
                           std::nextafter(k / 1000, 0.0), std::bit_cast<double>(random())}) {
      const std::string quick = on_grid(v);
      if (!quick.empty()) {
        ASSERT_EQ(quick, general(v)) << test::seed();
      }
    }
  }
}

TEST(Number, TheGridLeavesTheRest) {
  EXPECT_EQ(on_grid(0.1), "0.1");
  EXPECT_EQ(on_grid(-70), "-70.0");
  EXPECT_EQ(on_grid(0.125), "0.125");
  EXPECT_EQ(on_grid(100.25), "100.25");
  EXPECT_EQ(on_grid(0.0), "0.0");
  for (const double v :
       {-0.0, 0.1 + 0.2, 1e12, 0.0001, 1e-300, std::numeric_limits<double>::infinity(), std::nan("")})
    EXPECT_EQ(on_grid(v), "") << v;
}
