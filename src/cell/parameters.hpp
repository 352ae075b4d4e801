#pragma once
// What one run of the single-compartment cell needs: 22 numbers, named as run_cell's arguments are.
// Anything finite with a positive diameter is a cell, as it is for NEURON: a slope of 0 makes a gate's curve
// a step, and negative conductances may blow a run up (it says so by `finite`). What can't be run is an Error
// that names the field.

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "cell/constants.hpp"

namespace myelin::cell {

struct Parameters {
  double diam = 200;       // um, diameter
  double cm = 1;           // factor on 0.236886 uF/cm2, the membrane's capacitance
  double el = -70;         // mV, reversal of the leak and the voltage at t = 0
  double gl = 30;          // uS/cm2, leak
  double gna = 120;        // mS/cm2, na1
  double gh = 10;          // 0.1 mS/cm2, hd
  double gk = 12;          // mS/cm2, k1
  double tstop = 500;      // ms, length of the run
  double dur_start = 100;  // ms, the stimulus begins …
  double dur_end = 400;    // ms, … and ends ("dur" is this pair)
  double amp = 0.1;        // nA, the stimulus, or the first of an FI curve's
  double mhalf = -38.43;   // mV, midpoint of na1's activation (and of its time constant)
  double hhalf = 7.2;      // mV, midpoint of hd
  double mk = 7.2;         // mV, slope of na1's activation
  double hk = -8;          // mV, slope of hd
  double nhalf = -81;      // mV, midpoint of k1 (and of its time constant)
  double kn = 11;          // mV, slope of k1
  double multiply = 1;     // factor on k1's time constant
  double multiply1 = 1;    // factor on na1's activation time constant
  double multiply2 = 1;    // factor on na1's inactivation time constant
  double seg1 = -60;       // mV, k1 is closed below it
  double seg2 = -61;       // mV, na1's activation is 0 below it, its inactivation variable is 0 above it
  double seg3 = -62.5;     // mV, hd is closed above it

  bool operator==(const Parameters&) const = default;
};

/// One argument of run_cell, in its order. `dur` is two numbers: `second` is its end.
struct Field {
  std::string_view name, unit, meaning;
  double Parameters::*member;
  double Parameters::*second = nullptr;
};
[[nodiscard]] std::span<const Field> fields();  // 22

struct Limits {
  double tstop_ms = 60'000;
  std::size_t steps = 4'000'000'000;  // of all runs of a batch together
  std::size_t numbers = 64'000'000;   // that a batch may keep: samples of voltages and rates
};

/// bad_request, with the field's name first, if there is no such run.
[[nodiscard]] Result<void> check(const Parameters& parameters, const Limits& limits = {});

/// Steps of a run of `tstop` ms, as NEURON's run() makes them: until t ≥ tstop − dt/2. A trace has one sample
/// more.
[[nodiscard]] std::size_t steps_of(double tstop_ms);

/// The currents (nA) of the FI curve that starts at `amp`: numpy.arange(amp, amp + 1, 0.1), bit for bit; 10
/// or 11. Empty when amp is so large that adding 0.1 does not change it.
[[nodiscard]] std::vector<double> fi_currents(double amp);

}  // namespace myelin::cell
