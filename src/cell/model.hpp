#pragma once
// The cell's equations, one number at a time with the C library's exp: the reference that the fast kernels
// are tested against, and what small calculations (curves, membrane properties) use.
//
// One cylinder, one compartment, at 6.3 °C, currents in mA/cm2, v in mV, t in ms:
//   cm dv/dt = I_stim − i_hh − i_na1 − i_k1 − i_hd
//   i_hh  = 0.12 m³h (v−50) + 0.036 n⁴ (v+77) + gl (v−el)      Hodgkin & Huxley, J. Physiol. 117:500 (1952)
//   i_na1 = gna m³h (v−50),  i_k1 = gk n (v+77),  i_hd = gh l v  (the h current reverses at 0 mV)
// hh's rates come from a table of 1 mV, linearly interpolated, as in NEURON: without it spike trains drift
// apart.

#include <array>

#include "cell/parameters.hpp"

namespace myelin::cell {

[[nodiscard]] double hd_rate_per_ms();  // 4.5^((6.3−33)/10) · 0.011

/// A gate: where it goes, and how fast (ms).
struct Gate {
  double inf, tau;
};
struct HhGates {
  Gate m, h, n;
};
struct Gates {
  Gate m, h;  // na1
  Gate n;     // k1
  Gate l;     // hd
};

/// Rows for −100, −99, …, 100 mV; row 201 is row 200, so that an index at the end needs no branch.
using HhTable = std::array<HhRow, 202>;
[[nodiscard]] const HhTable& hh_table();

[[nodiscard]] HhGates hh_gates(double v_mV);
[[nodiscard]] Gates gates(const Parameters& parameters, double v_mV);

[[nodiscard]] double area_um2(const Parameters& parameters);
[[nodiscard]] double capacitance_uF_cm2(const Parameters& parameters);
/// mA/cm2 for 1 nA.
[[nodiscard]] double density_per_nA(const Parameters& parameters);

}  // namespace myelin::cell
