#pragma once
// What is read off a cell: its firing rates, its gating curves, and what its membrane does at rest.

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "cell/parameters.hpp"
#include "cell/simulate.hpp"

namespace myelin::cell {

/// One row of an FI table.
struct FiPoint {
  double current_nA = 0;
  double frequency_Hz =
      0;  // as run_cell has it: all spikes of the run · 1000 / (end − start of the stimulus)
  std::size_t spikes = 0;              // of the whole run, its start from no equilibrium included
  std::size_t spikes_in_stimulus = 0;  // start ≤ time < end
  double frequency_in_stimulus_Hz = 0;
};
[[nodiscard]] FiPoint fi_point(const Run& run, const Outcome& outcome);
/// The runs of run_cell: for amp > 0 the FI curve, else one. The last keeps v and rates.
[[nodiscard]] std::vector<Run> runs_of(const Parameters& parameters);

/// The table that run_cell prints for amp ≤ 0: of its six numbers three are constants, and vrest_seg is a
/// sample's voltage whose index is tstop − 20 (from the end, if negative). `v_mV` is the run's.
struct Printed {
  double tau_seg = 0, vrest_seg = 0, rin_seg = 0;  // ms, mV, kOhm cm2
  double tau_ori = 1, vrest_ori = -65, rin_ori = -1;
};
[[nodiscard]] Printed printed(const Parameters& parameters, std::span<const double> v_mV);

/// Where a gate goes, and how fast, at each voltage.
struct Curve {
  std::string_view channel, gate;  // "na1", "m"
  std::vector<double> inf, tau_ms;
};
struct Curves {
  std::vector<double> v_mV;   // −100, −99, …, 100
  std::vector<Curve> curves;  // na1 m, h; k1 n; hd l; hh m, h, n
};
[[nodiscard]] Curves gating_curves(const Parameters& parameters);

/// The membrane at rest, all channels included. Rest is where the steady-state current (every gate at its
/// x_inf(v)) is zero and all eigenvalues of the linearised equations have negative real parts; where several
/// such voltages exist, the one that the cell, started at el, is nearest to after a second without stimulus
/// (the h current may need many seconds more to get there). About it the equations are linear for a small
/// step of current (Hodgkin & Huxley, J. Physiol. 117:500, 1952, part III; Koch, Biophysics of Computation,
/// 1999, ch. 10). The input resistance is the voltage that such a step ends at, per current; the peak's is
/// that of the first maximum, before slow channels answer; the time constant is when the voltage is first 1 −
/// 1/e of the peak. For a leak alone they are 1/(gl · area) and cm/gl.
///
/// The curves of the added channels have steps (seg1, seg2, seg3). Where no such rest exists, a cell may
/// still be held at a step, flickering by less than 1 mV, while slow gates move: it is `pinned` there, and a
/// small current does not move it, so there is no resistance to give.
struct Membrane {
  std::optional<double> rest_mV;                // none: not within a second
  std::optional<double> input_resistance_MOhm;  // none without rest, and where it is pinned; so the next two
  std::optional<double> peak_resistance_MOhm;
  std::optional<double> time_constant_ms;
  bool pinned = false;
  bool fires_without_stimulus = false;  // in the second half of the second
  double settled_mV = 0;                // mean of the last 100 ms of that second
  double leak_resistance_MOhm = 0;      // 1/(gl · area)
  double leak_time_constant_ms = 0;     // cm/gl
};
[[nodiscard]] Membrane membrane_of(const Parameters& parameters, const Kernel& kernel = best_kernel());
/// Of each; the seconds without stimulus share the lanes of vectors. Nothing of it depends on amp, dur and tstop.
[[nodiscard]] std::vector<Membrane> membranes_of(std::span<const Parameters> cells, const Kernel& kernel = best_kernel());

}  // namespace myelin::cell
