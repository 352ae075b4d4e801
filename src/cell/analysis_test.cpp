#include "cell/analysis.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "cell/model.hpp"
#include "cell/test_support.hpp"

using namespace myelin;
using namespace myelin::cell;
using namespace myelin::cell::test;

TEST(Analysis, FiTablesAreTheRecordedOnes) {
  for (const auto& [name, value] : read_goldens()) {
    SCOPED_TRACE(name);
    const auto& set = value.as_object();
    const Parameters p = parameters_of(set.at("params").as_object());
    const auto runs = runs_of(p);
    const auto outcomes = simulate(runs).value();
    const auto& recorded = set.at("runs").as_array();
    ASSERT_EQ(runs.size(), recorded.size());
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const FiPoint point = fi_point(runs[i], outcomes[i]);
      EXPECT_DOUBLE_EQ(point.current_nA, recorded[i].at("amp").to_number<double>());
      EXPECT_DOUBLE_EQ(point.frequency_Hz, recorded[i].at("frequency_Hz").to_number<double>());
      std::size_t inside = 0;
      for (const double t : numbers(recorded[i].at("spike_times_ms")))
        inside += t >= p.dur_start && t < p.dur_end ? 1 : 0;
      EXPECT_EQ(point.spikes_in_stimulus, inside);
    }
    if (const auto* table = set.if_contains("printed")) {
      const Printed ours = printed(p, outcomes.back().v_mV);
      EXPECT_NEAR(ours.tau_seg, table->at("tau_seg").to_number<double>(), 1e-9);
      EXPECT_NEAR(ours.vrest_seg, table->at("Vrest_seg").to_number<double>(), 0.01);
      EXPECT_NEAR(ours.rin_seg, table->at("Rin_seg").to_number<double>(), 1e-9);
    }
  }
}

TEST(Analysis, CurvesAreTheEquations) {
  const Parameters p;
  const Curves curves = gating_curves(p);
  ASSERT_EQ(curves.v_mV.size(), 201U);
  ASSERT_EQ(curves.curves.size(), 7U);
  EXPECT_EQ(curves.v_mV.front(), -100);
  for (const Curve& c : curves.curves)
    for (std::size_t i = 0; i < curves.v_mV.size(); ++i) {
      EXPECT_TRUE(c.inf[i] >= 0 && c.inf[i] <= 1) << c.channel << c.gate;
      EXPECT_GT(c.tau_ms[i], 0) << c.channel << c.gate;
    }
  EXPECT_EQ(curves.curves[0].inf[39 - 1], 0);           // na1 m below seg2 = −61
  EXPECT_NEAR(curves.curves[4].inf[35], 0.0529, 1e-3);  // hh m at −65: Hodgkin and Huxley's rest
  EXPECT_NEAR(curves.curves[4].tau_ms[35], 0.2368, 1e-3);
}

TEST(Membrane, OfALeakAloneIsKnown) {
  // No added channels, and hh is nearly closed far below: check against the linear equations of a cell that
  // has only what is open there.
  Parameters p;
  p.gna = p.gh = p.gk = 0;
  p.gl = 3000;
  p.el = -90;
  const Membrane m = membrane_of(p);
  ASSERT_TRUE(m.rest_mV && m.input_resistance_MOhm && m.time_constant_ms);
  EXPECT_NEAR(*m.rest_mV, -90, 0.1);
  EXPECT_NEAR(*m.input_resistance_MOhm, m.leak_resistance_MOhm, 0.01 * m.leak_resistance_MOhm);
  EXPECT_NEAR(*m.time_constant_ms, m.leak_time_constant_ms, 0.02 * m.leak_time_constant_ms);
  EXPECT_NEAR(m.leak_resistance_MOhm, 1 / (3000e-6 * 62831.853e-8) * 1e-6, 1e-6);
}

TEST(Membrane, AgreesWithAStepOfTheFullModel) {
  // As in a laboratory: long rest, then a small current.
  Parameters plain;
  plain.gna = plain.gh = plain.gk = 0;
  Parameters with_h = plain;
  with_h.gh = 1;
  with_h.hhalf = -81;
  with_h.seg3 = 0;
  for (Parameters p : {plain, with_h}) {
    const Membrane m = membrane_of(p);
    ASSERT_TRUE(m.rest_mV && m.input_resistance_MOhm && m.time_constant_ms);
    EXPECT_FALSE(m.pinned);
    p.tstop = 40'000;
    p.dur_start = 20'000;
    p.dur_end = 50'000;
    const double amp = 0.001;
    const auto done = simulate({cell::Run{p, amp, true}}).value();
    const auto v = std::span(done.front().v_mV);
    const std::size_t begin = 20'000 * 40;
    EXPECT_NEAR(v[begin], *m.rest_mV, 0.01);
    EXPECT_NEAR(*m.input_resistance_MOhm, (v.back() - v[begin]) / amp, 0.01 * *m.input_resistance_MOhm);
    const double peak = std::ranges::max(v.subspan(begin, 4000)) - v[begin];
    EXPECT_NEAR(*m.peak_resistance_MOhm, peak / amp, 0.01 * *m.peak_resistance_MOhm);
    std::size_t i = begin;
    while (v[i] - v[begin] < (1 - std::exp(-1)) * peak) ++i;
    EXPECT_NEAR(*m.time_constant_ms, static_cast<double>(i - begin) * dt_ms, 0.1);
  }
}

TEST(Membrane, SaysWhenItIsPinned) {
  const Parameters p;
  const Membrane m = membrane_of(p);
  ASSERT_TRUE(m.rest_mV);
  EXPECT_TRUE(m.pinned);
  EXPECT_FALSE(m.input_resistance_MOhm);
  EXPECT_NEAR(*m.rest_mV, p.seg1, 0.1);
}

TEST(Membrane, SaysWhenItNeverRests) {
  Parameters p;
  p.el = -75;
  p.gh = 50;
  p.hhalf = -81;
  p.nhalf = -15;
  const Membrane m = membrane_of(p);
  EXPECT_TRUE(m.fires_without_stimulus);
  EXPECT_FALSE(m.rest_mV || m.input_resistance_MOhm || m.time_constant_ms);
}
