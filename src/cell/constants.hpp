#pragma once
// Numbers of the model that every part knows, and the shape of hh's table. Includes nothing that a kernel
// must not see.

namespace myelin::cell {

inline constexpr double dt_ms = 0.025;    // the step of every run
inline constexpr double length_um = 100;  // of the cylinder

inline constexpr double ena_mV = 50, ek_mV = -77;
inline constexpr double gnabar_hh = 0.12, gkbar_hh = 0.036;  // S/cm2
inline constexpr double qt_na1 = 1.6245;                     // as in the mechanism: 2^0.7 would not agree
inline constexpr double k1_per_mV = 1e-3 * 96480 / (8.315 * (273.16 + 6.3));
inline constexpr double hd_per_mV = 0.0378 * 2.2;

/// A row of hh's table: m_inf, h_inf, n_inf, tau_m, tau_h, tau_n, and what they gain in the next mV. Two
/// cache lines.
struct alignas(64) HhRow {
  double value[8];
  double gain[8];
};

}  // namespace myelin::cell
