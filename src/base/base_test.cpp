#include <gtest/gtest.h>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "base/time.hpp"

using namespace myelin;

TEST(Result, HoldsOneSideAndRefusesTheOther) {
  Result<int> good = 5;
  EXPECT_TRUE(good.ok());
  EXPECT_EQ(*good, 5);
  EXPECT_THROW((void)good.error(), std::logic_error);
  Result<int> bad = Error{Code::gone, "ended", ""};
  EXPECT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Code::gone);
  EXPECT_THROW((void)*bad, std::logic_error);
}

TEST(Codes, StatusesAndNamesAreStable) {
  EXPECT_EQ(describe(Code::too_many).http_status, 429);
  EXPECT_TRUE(describe(Code::too_many).retryable);
  EXPECT_EQ(describe(Code::gone).http_status, 410);
  EXPECT_EQ(describe(Code::gone).name, "gone");
}

TEST(Ids, AreLongAndDiffer) {
  EXPECT_EQ(random_hex(16).size(), 32u);
  EXPECT_NE(make_id("s_"), make_id("s_"));
  EXPECT_EQ(make_id("s_").substr(0, 2), "s_");
}

TEST(Time, IsWrittenInUtcWithMilliseconds) {
  using std::chrono::milliseconds, std::chrono::sys_time, std::chrono::seconds;
  EXPECT_EQ(iso_time(sys_time<milliseconds>(milliseconds(5'007))), "1970-01-01T00:00:05.007Z");
  EXPECT_EQ(iso_time(sys_time<milliseconds>(milliseconds(-1))), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(iso_time(sys_time<milliseconds>(seconds(32'503'680'000))), "3000-01-01T00:00:00.000Z");
  EXPECT_EQ(iso_time(std::chrono::system_clock::from_time_t(951'782'400)), "2000-02-29T00:00:00.000Z");
}
