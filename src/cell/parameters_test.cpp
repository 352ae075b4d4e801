#include "cell/parameters.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "cell/test_support.hpp"

using namespace myelin;
using namespace myelin::cell;

TEST(Parameters, FieldsAreTheArgumentsInTheirOrder) {
  std::string names;
  for (const Field& f : fields()) names += std::string(f.name) + ' ';
  EXPECT_EQ(names,
            "diam cm el gl gna gh gk tstop dur amp mhalf hhalf mk hk nhalf kn multiply multiply1 multiply2 "
            "seg1 seg2 seg3 ");
}

TEST(Parameters, AnErrorNamesTheField) {
  EXPECT_TRUE(check(Parameters{}).ok());
  for (const Field& f : fields())
    for (const double odd : {double(NAN), double(INFINITY), -double(INFINITY)}) {
      Parameters p;
      p.*(f.second != nullptr ? f.second : f.member) = odd;
      const auto checked = check(p);
      ASSERT_FALSE(checked.ok()) << f.name;
      EXPECT_EQ(checked.error().code, Code::bad_request);
      EXPECT_EQ(checked.error().message.find(std::string(f.name) + " must be a finite number"), 0U);
    }
  const auto wrong = [](auto change) {
    Parameters p;
    change(p);
    const auto checked = check(p);
    return checked.ok() ? std::string() : checked.error().message;
  };
  EXPECT_EQ(wrong([](Parameters& p) { p.diam = 0; }), "diam must be greater than 0 um");
  EXPECT_EQ(wrong([](Parameters& p) { p.diam = -1; }), "diam must be greater than 0 um");
  EXPECT_EQ(wrong([](Parameters& p) { p.tstop = 0; }), "tstop must be greater than 0 ms");
  EXPECT_EQ(wrong([](Parameters& p) { p.tstop = 1e9; }), "tstop is at most 60000 ms here");
  EXPECT_NE(wrong([](Parameters& p) { p.dur_end = p.dur_start; }).find("dur must be"), std::string::npos);
  EXPECT_EQ(wrong([](Parameters& p) { p.mk = 0; }), "");  // a step, as for NEURON
}

TEST(Parameters, StepsAreCountedAsNeuronDoes) {
  EXPECT_EQ(steps_of(500), 20'000U);
  EXPECT_EQ(steps_of(0.025), 1U);
  EXPECT_EQ(steps_of(10.01), 400U);
  EXPECT_EQ(steps_of(10.02), 401U);
  EXPECT_EQ(steps_of(0.001), 0U);
}

TEST(FiCurrents, AreArangesBitForBit) {
  using List = std::vector<double>;
  // What NumPy gave for the recorded sets (literals, since the JSON library may be off by a unit in the last
  // place).
  EXPECT_EQ(fi_currents(1.0),
            (List{1.0, 1.1, 1.2000000000000002, 1.3000000000000003, 1.4000000000000004, 1.5000000000000004,
                  1.6000000000000005, 1.7000000000000006, 1.8000000000000007, 1.9000000000000008}));
  EXPECT_EQ(fi_currents(0.5), (List{0.5, 0.6, 0.7, 0.7999999999999999, 0.8999999999999999, 0.9999999999999999,
                                    1.0999999999999999, 1.1999999999999997, 1.2999999999999998, 1.4}));
  for (const auto& [name, set] : test::read_goldens()) {
    const auto& runs = set.as_object().at("runs").as_array();
    if (runs.size() == 1) continue;
    const double first = runs.at(0).as_object().at("amp").to_number<double>();
    const auto currents = fi_currents(first);
    ASSERT_EQ(currents.size(), runs.size()) << name;
    for (std::size_t i = 0; i < runs.size(); ++i)
      EXPECT_DOUBLE_EQ(currents[i], runs.at(i).as_object().at("amp").to_number<double>()) << name;
  }
  // Rounding makes eleven of ten.
  for (const double amp : {1.03, 1.07, 1.11, 1.16, 1.2}) EXPECT_EQ(fi_currents(amp).size(), 11U) << amp;
  EXPECT_TRUE(fi_currents(1e17).empty());
}
