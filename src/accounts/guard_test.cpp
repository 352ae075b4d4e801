#include "accounts/guard.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>

using namespace myelin::accounts;
using namespace std::chrono_literals;

namespace {

const Guard::Clock::time_point start{1'000'000s};

// How many of `tries` wrong guesses, one each `step`, get as far as a hash.
int let_through(Guard& guard, int tries, Guard::Clock::duration step, const std::function<std::string(int)>& account,
                const std::function<std::string(int)>& address) {
  int through = 0;
  for (int i = 0; i < tries; ++i)
    through += guard.try_now(account(i), address(i), false, start + step * i).count() == 0;
  return through;
}

}  // namespace

TEST(Guard, AtMostTenGuessesOfAnAccountInAWindowFromOneAddress) {
  Guard guard;
  EXPECT_LE(let_through(guard, 100'000, 9ms, [](int) { return "anna"; }, [](int) { return "192.0.2.1"; }), 10);
}

TEST(Guard, AtMostTenGuessesOfAnAccountInAWindowFromAThousandAddresses) {
  Guard guard;
  EXPECT_LE(let_through(guard, 100'000, 9ms, [](int) { return "anna"; },
                        [](int i) { return "192.0." + std::to_string(i % 1000 / 250) + "." + std::to_string(i % 250); }),
            10);
}

TEST(Guard, AnAddressThatTriesManyAccountsIsSlowedToo) {
  Guard guard;
  EXPECT_LE(let_through(guard, 10'000, 90ms, [](int i) { return "user" + std::to_string(i); }, [](int) { return "192.0.2.1"; }), 100);
}

TEST(Guard, TheRightUserAtAKnownAddressIsUnaffected) {
  Guard guard;
  (void)let_through(guard, 1000, 1ms, [](int) { return "anna"; }, [](int i) { return "192.0.2." + std::to_string(i % 200); });
  EXPECT_GT(guard.try_now("anna", "198.51.100.1", false, start + 2s).count(), 0);
  EXPECT_EQ(guard.try_now("anna", "198.51.100.9", true, start + 2s).count(), 0);
  guard.succeeded("anna", "198.51.100.9", true, start + 2s);
  EXPECT_EQ(guard.try_now("bob", "198.51.100.2", false, start + 2s).count(), 0);
}

TEST(Guard, TheWaitDoublesAndASuccessEndsIt) {
  Guard guard({.per_pair = 100, .per_address = 100, .per_account = 100});
  auto now = start;
  for (int i = 0; i < 4; ++i) EXPECT_EQ(guard.try_now("anna", "192.0.2.1", true, now).count(), 0);
  EXPECT_EQ(guard.try_now("anna", "192.0.2.1", true, now), 1000ms);
  now += 1s;
  EXPECT_EQ(guard.try_now("anna", "192.0.2.1", true, now).count(), 0);
  EXPECT_EQ(guard.try_now("anna", "192.0.2.1", true, now), 2000ms);
  now += 2s;
  EXPECT_EQ(guard.try_now("anna", "192.0.2.1", true, now).count(), 0);
  guard.succeeded("anna", "192.0.2.1", true, now);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(guard.try_now("anna", "192.0.2.1", true, now).count(), 0);
}

TEST(Guard, SuccessesDoNotUseTheBudgets) {
  Guard guard;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(guard.try_now("anna", "192.0.2.1", false, start).count(), 0);
    guard.succeeded("anna", "192.0.2.1", false, start);
  }
}

TEST(Guard, TheBudgetFillsAgain) {
  Guard guard;
  (void)let_through(guard, 100, 1ms, [](int) { return "anna"; }, [](int i) { return "192.0.2." + std::to_string(i); });
  EXPECT_EQ(guard.try_now("anna", "203.0.113.1", false, start + 16min).count(), 0);
}

TEST(Guard, TablesAreBoundedAndAnAccountStaysGuarded) {
  Guard guard({.entries = 1000});
  for (int i = 0; i < 5; ++i) (void)guard.try_now("anna", "192.0.2.1", false, start + i * 20s);
  (void)let_through(guard, 50'000, 0ms, [](int i) { return "x" + std::to_string(i % 200); }, [](int i) { return "2001:db8:" + std::to_string(i % 9999) + "::1"; });
  EXPECT_GT(guard.try_now("anna", "192.0.2.77", false, start + 101s).count(), 0);
}

TEST(Guard, AnIpv6NetworkIsOneAddress) {
  EXPECT_EQ(Guard::address_class("2001:db8:1:2:3:4:5:6"), Guard::address_class("2001:db8:1:2::9"));
  EXPECT_NE(Guard::address_class("2001:db8:1:2::9"), Guard::address_class("2001:db8:1:3::9"));
  EXPECT_EQ(Guard::address_class("::ffff:192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(Guard::address_class("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(Guard::address_class("unix"), "unix");
}
