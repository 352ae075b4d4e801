#include "cell/analysis.hpp"

#include <algorithm>
#include <cmath>

#include "cell/model.hpp"

namespace myelin::cell {

std::vector<Run> runs_of(const Parameters& p) {
  std::vector<Run> runs;
  if (p.amp > 0)
    for (const double amp : fi_currents(p.amp)) runs.push_back({p, amp});
  else
    runs.push_back({p, p.amp});
  if (!runs.empty()) runs.back().keep_v = runs.back().keep_rates = true;
  return runs;
}

FiPoint fi_point(const Run& run, const Outcome& outcome) {
  const double start = run.cell.dur_start, end = run.cell.dur_end;
  FiPoint point;
  point.current_nA = run.amp_nA;
  point.spikes = outcome.spike_times_ms.size();
  point.spikes_in_stimulus = static_cast<std::size_t>(
      std::ranges::count_if(outcome.spike_times_ms, [&](double t) { return start <= t && t < end; }));
  point.frequency_Hz = static_cast<double>(point.spikes) * 1000 / (end - start);
  point.frequency_in_stimulus_Hz = static_cast<double>(point.spikes_in_stimulus) * 1000 / (end - start);
  return point;
}

Printed printed(const Parameters& p, std::span<const double> v_mV) {
  Printed out;
  const double leak_S = p.gl * 1e-6;
  out.tau_seg = capacitance_uF_cm2(p) / (leak_S * 1000);
  out.rin_seg = 1 / (leak_S * 1000);
  auto index = static_cast<std::int64_t>(p.tstop) - 20;
  if (index < 0) index += static_cast<std::int64_t>(v_mV.size());
  out.vrest_seg = index >= 0 && index < static_cast<std::int64_t>(v_mV.size())
                      ? v_mV[static_cast<std::size_t>(index)]
                      : std::nan("");
  return out;
}

Curves gating_curves(const Parameters& p) {
  Curves out;
  out.curves = {{"na1", "m", {}, {}}, {"na1", "h", {}, {}}, {"k1", "n", {}, {}}, {"hd", "l", {}, {}},
                {"hh", "m", {}, {}},  {"hh", "h", {}, {}},  {"hh", "n", {}, {}}};
  for (int v = -100; v <= 100; ++v) {
    out.v_mV.push_back(v);
    const Gates g = gates(p, v);
    const HhGates hh = hh_gates(v);
    const Gate all[] = {g.m, g.h, g.n, g.l, hh.m, hh.h, hh.n};
    for (std::size_t i = 0; i < out.curves.size(); ++i) {
      out.curves[i].inf.push_back(all[i].inf);
      out.curves[i].tau_ms.push_back(all[i].tau);
    }
  }
  return out;
}

}  // namespace myelin::cell
