#include "cell/simulate.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <thread>

#include "cell/test_support.hpp"

using namespace myelin;
using namespace myelin::cell;
using namespace myelin::cell::test;

namespace {

class EachKernel : public ::testing::TestWithParam<const Kernel*> {};

std::vector<const Kernel*> all_kernels() {
  std::vector<const Kernel*> all(kernels().begin(), kernels().end());
  all.push_back(&kernel_wide());
  return all;
}

std::string name_of(const ::testing::TestParamInfo<const Kernel*>& kernel) {
  std::string name = kernel.param->name;
  std::erase(name, '-');
  return name;
}

std::vector<Run> curve(const Parameters& p) {
  std::vector<Run> runs;
  for (const double amp : p.amp > 0 ? fi_currents(p.amp) : std::vector<double>{p.amp})
    runs.push_back({p, amp, false, false});
  runs.back().keep_rates = true;
  return runs;
}

// Sensible cells, and some that are at the edge of it.
Parameters random_cell(std::mt19937_64& random) {
  const auto between = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  Parameters p;
  p.diam = between(20, 400);
  p.cm = between(0.3, 3);
  p.el = between(-90, -50);
  p.gl = between(0, 100);
  p.gna = between(0, 500);
  p.gh = between(0, 50);
  p.gk = between(0, 50);
  p.tstop = 60;
  p.dur_start = between(0, 30);
  p.dur_end = between(31, 80);
  p.mhalf = between(-60, -20);
  p.hhalf = between(-90, 10);
  p.mk = between(2, 12);
  p.hk = between(-12, -2);
  p.nhalf = between(-85, 0);
  p.kn = between(2, 15);
  p.multiply = between(0.2, 4);
  p.multiply1 = between(0.2, 4);
  p.multiply2 = between(0.2, 4);
  p.seg1 = between(-75, -40);
  p.seg2 = between(-75, -40);
  p.seg3 = between(-75, -40);
  if (random() % 8 == 0) p.seg2 = p.el;  // where both of na1's curves count
  return p;
}

}  // namespace

TEST_P(EachKernel, AgreesWithTheRecordings) {
  for (const auto& [name, value] : read_goldens()) {
    SCOPED_TRACE(name);
    const auto& set = value.as_object();
    const Parameters p = parameters_of(set.at("params").as_object());
    auto done = simulate(curve(p), {}, {}, *GetParam());
    ASSERT_TRUE(done.ok());
    const auto& outcomes = *done;
    const auto& recorded = set.at("runs").as_array();
    ASSERT_EQ(outcomes.size(), recorded.size());
    for (std::size_t i = 0; i < outcomes.size(); ++i)
      EXPECT_TRUE(same_spikes(outcomes[i].spike_times_ms, numbers(recorded[i].at("spike_times_ms"))))
          << "current " << i;
    const Outcome& last = outcomes.back();
    ASSERT_EQ(last.v_mV.size(), set.at("samples").to_number<std::size_t>());
    EXPECT_EQ(last.v_mV.back(), last.last_v_mV);
    const auto& trace = set.at("trace").as_object();
    const auto at_samples = [&](const std::vector<double>& all) {
      std::vector<double> some;
      for (const double i : numbers(trace.at("index"))) some.push_back(all.at(static_cast<std::size_t>(i)));
      return some;
    };
    EXPECT_LE(distance(at_samples(last.v_mV), numbers(trace.at("v"))), 0.01);
    // Near a step of a curve a voltage may be on its other side; elsewhere the rates agree as v does.
    const auto rates_agree = [&](const std::vector<double>& ours, const char* theirs, double relative) {
      const auto a = at_samples(ours), b = numbers(trace.at(theirs));
      const auto v = at_samples(last.v_mV);
      for (std::size_t i = 0; i < a.size(); ++i) {
        const bool near = std::fabs(v[i] - p.seg1) < 0.01 || std::fabs(v[i] - p.seg2) < 0.01 ||
                          std::fabs(v[i] - p.seg3) < 0.01;
        if (near) continue;
        ASSERT_NEAR(a[i], b[i], relative * (1 + std::fabs(b[i]))) << theirs << " at sample " << i;
      }
    };
    rates_agree(last.rates.m_inf, "m_inf", 1e-3);
    rates_agree(last.rates.l_inf, "l_inf", 1e-3);
    rates_agree(last.rates.n_inf, "n_inf", 1e-3);
    rates_agree(last.rates.tau_m, "tau_m", 1e-3);
    rates_agree(last.rates.tau_l, "tau_l", 1e-3);
    rates_agree(last.rates.tau_n, "tau_n", 1e-3);
  }
}

TEST_P(EachKernel, AgreesWithTheReferenceForRandomCells) {
  const char* given = std::getenv("MYELIN_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("MYELIN_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  std::vector<cell::Run> runs;
  for (int i = 0; i < 150; ++i) {
    const Parameters p = random_cell(random);
    runs.push_back({p, std::uniform_real_distribution<double>(-3, 5)(random), true, false});
  }
  auto done = simulate(runs, {}, {}, *GetParam());
  ASSERT_TRUE(done.ok());
  std::size_t grown = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Outcome expected = reference(runs[i].cell, runs[i].amp_nA);
    const Outcome& got = done->at(i);
    if (distance(expected.v_mV, got.v_mV) <= 0.01 || same_spikes(expected.spike_times_ms, got.spike_times_ms))
      continue;
    ++grown;
  }
  // A cell that chatters at a step just below its threshold may take either way.
  EXPECT_LE(grown, 2U);
}

TEST_P(EachKernel, RatesAreThoseOfTheEquations) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 20; ++round) {
    Parameters p = random_cell(random);
    std::vector<double> v;
    for (int i = 0; i <= 403; ++i) v.push_back(-200 + i);
    v.insert(v.end(),
             {p.mhalf, p.mhalf + 1e-7, p.mhalf - 3e-6, -50, -50 + 1e-7, p.seg1, p.seg2, p.seg3, -1e4, 1e4});
    const Rates r = rates_at(p, v, *GetParam());
    ASSERT_EQ(r.tau_n.size(), v.size());
    for (std::size_t i = 0; i < v.size(); ++i) {
      const Gates g = gates(p, v[i]);
      const auto near = [&](double got, double expected) {
        EXPECT_NEAR(got, expected, 1e-9 * std::fabs(expected) + 1e-60) << "at " << v[i] << " mV";
      };
      near(r.m_inf[i], g.m.inf);
      near(r.n_inf[i], g.n.inf);
      near(r.l_inf[i], g.l.inf);
      if (std::fabs(v[i]) > 1000) continue;  // clamped there; the gate arrives in one step all the same
      near(r.tau_m[i], g.m.tau);
      near(r.tau_n[i], g.n.tau);
      near(r.tau_l[i], g.l.tau);
    }
  }
}

TEST_P(EachKernel, OddCellsDoWhatTheEquationsSay) {
  int which = 0;
  const auto compare = [&](auto change, double amp) {
    SCOPED_TRACE(++which);
    Parameters p;
    p.tstop = 50;
    p.dur_start = 5;
    p.nhalf = -15;
    p.hhalf = -81;
    change(p);
    auto done = simulate({{p, amp, true, false}}, {}, {}, *GetParam());
    ASSERT_TRUE(done.ok());
    const Outcome expected = reference(p, amp);
    EXPECT_EQ(done->front().finite, expected.finite);
    EXPECT_EQ(done->front().spike_times_ms.size(), expected.spike_times_ms.size());
    if (!expected.finite) return;
    EXPECT_LE(distance(done->front().v_mV, expected.v_mV), 0.01);
  };
  compare([](Parameters& p) { p.mk = 0; }, 1);
  compare([](Parameters& p) { p.kn = 0; }, 1);
  compare([](Parameters& p) { p.hk = 0; }, 1);
  compare([](Parameters& p) { p.mk = p.kn = p.hk = 0; }, -1);
  compare([](Parameters& p) { p.multiply = p.multiply1 = p.multiply2 = 0; }, 1);
  compare([](Parameters& p) { p.multiply = p.multiply1 = p.multiply2 = -3; }, 1);
  compare([](Parameters& p) { p.multiply = p.multiply1 = p.multiply2 = 1e12; }, 1);
  compare([](Parameters& p) { p.diam = 1; }, -0.2);  // far below every table
  compare([](Parameters& p) { p.diam = 1; }, 2);     // and above
  compare([](Parameters& p) { p.gna = -100; }, 1);
  compare([](Parameters& p) { p.gl = -1e5; }, 1);
  compare([](Parameters& p) { p.cm = 0; }, 1);
  compare(
      [](Parameters& p) {
        p.seg1 = -90;
        p.seg3 = -20;
      },
      1);  // k1 and hd open together
  compare([](Parameters& p) { p.el = 20; }, 1);
  compare([](Parameters& p) { p.el = p.seg2; }, 0);
}

INSTANTIATE_TEST_SUITE_P(All, EachKernel, ::testing::ValuesIn(all_kernels()), name_of);

TEST(Batch, RunsKeepTheirOrderWhateverTheSlices) {
  std::vector<cell::Run> runs;
  for (int i = 0; i < 45; ++i) {
    Parameters p;
    p.tstop = 20;
    p.dur_start = 1;
    p.gna = 10.0 * i;
    runs.push_back({p, 0.2 * i, true, false});
  }
  const auto alone = [&](std::size_t i) { return simulate({runs[i]}).value().front(); };
  for (const std::size_t threads : {1U, 2U, 3U, 64U}) {
    auto batch = Batch::make(runs, {}, threads);
    ASSERT_TRUE(batch.ok());
    EXPECT_EQ(batch->progress(), 0);
    std::vector<std::jthread> team;
    std::atomic<std::size_t> next{0};
    for (std::size_t t = 0; t < 3; ++t)
      team.emplace_back([&] {
        for (std::size_t s = next++; s < batch->slices(); s = next++) EXPECT_TRUE(batch->simulate(s));
      });
    team.clear();
    EXPECT_EQ(batch->progress(), 1);
    const auto outcomes = batch->take();
    ASSERT_EQ(outcomes.size(), runs.size());
    for (std::size_t i = 0; i < runs.size(); i += 7) EXPECT_EQ(outcomes[i].v_mV, alone(i).v_mV) << i;
  }
}

TEST(Batch, EndsWhenItIsCancelled) {
  std::vector<cell::Run> runs(200);
  std::size_t asked = 0;
  const auto done = simulate(runs, {}, [&](double part) {
    EXPECT_GE(part, 0);
    EXPECT_LT(part, 1);
    return ++asked < 3;
  });
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, Code::interrupted);
  EXPECT_EQ(asked, 3U);

  auto batch = Batch::make(runs);
  ASSERT_TRUE(batch.ok());
  batch->cancel();
  EXPECT_FALSE(batch->simulate(0));
}

TEST(Batch, RefusesWhatIsTooMuch) {
  Parameters longer;
  longer.tstop = 100;
  const auto code = [](auto&& made) { return made.ok() ? Code::internal : made.error().code; };
  EXPECT_EQ(code(Batch::make({cell::Run{}, cell::Run{longer}})), Code::bad_request);
  EXPECT_EQ(code(Batch::make({cell::Run{{}, NAN}})), Code::bad_request);
  EXPECT_EQ(code(Batch::make(std::vector<cell::Run>(3), {.steps = 50'000})), Code::too_large);
  EXPECT_EQ(code(Batch::make({cell::Run{{}, 0, true}}, {.numbers = 20'000})), Code::too_large);
  EXPECT_TRUE(Batch::make({cell::Run{{}, 0, true}}, {.numbers = 20'001}).ok());
  EXPECT_TRUE(simulate({}).value().empty());
}
