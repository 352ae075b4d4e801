#pragma once
// For the tests: the recorded runs, and the plain reference that the kernels must agree with.

#include <boost/json.hpp>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cell/model.hpp"
#include "cell/simulate.hpp"

namespace myelin::cell::test {

const Kernel& kernel_wide();

inline boost::json::object read_goldens() {
  std::ifstream in(MYELIN_SOURCE_DIR "/tests/data/cell/golden.json");
  std::ostringstream text;
  text << in.rdbuf();
  return boost::json::parse(text.str()).as_object();
}

inline std::vector<double> numbers(const boost::json::value& list) {
  std::vector<double> out;
  for (const auto& each : list.as_array()) out.push_back(each.to_number<double>());
  return out;
}

inline Parameters parameters_of(const boost::json::object& params) {
  Parameters p;
  for (const Field& f : fields()) {
    const auto& value = params.at(std::string(f.name));
    if (f.second == nullptr) {
      p.*f.member = value.to_number<double>();
    } else {
      p.*f.member = value.as_array().at(0).to_number<double>();
      p.*f.second = value.as_array().at(1).to_number<double>();
    }
  }
  return p;
}

/// The equations as they are written, step by step.
inline Outcome reference(const Parameters& p, double amp_nA) {
  Outcome out;
  double v = p.el;
  const HhGates start = hh_gates(v);
  double m_hh = start.m.inf, h_hh = start.h.inf, n_hh = start.n.inf;
  Gates g = gates(p, v);
  double m = g.m.inf, h = g.h.inf, n = g.n.inf, l = g.l.inf;
  const double capacity = capacitance_uF_cm2(p) * 1e-3 / dt_ms;
  out.v_mV.push_back(v);
  for (std::size_t s = 0; s < steps_of(p.tstop); ++s) {
    const double t = (static_cast<double>(s) + 0.5) * dt_ms;
    const double in = t >= p.dur_start && t < p.dur_end ? amp_nA * density_per_nA(p) : 0;
    const double g_na = gnabar_hh * m_hh * m_hh * m_hh * h_hh + p.gna * 1e-3 * m * m * m * h;
    const double g_k = gkbar_hh * n_hh * n_hh * n_hh * n_hh + p.gk * 1e-3 * n;
    const double g_l = p.gl * 1e-6, g_h = p.gh * 1e-4 * l;
    const double i = g_na * (v - ena_mV) + g_k * (v - ek_mV) + g_l * (v - p.el) + g_h * v;
    const double old = v;
    v += (in - i) / (capacity + g_na + g_k + g_l + g_h);
    if (old <= 0 && v > 0) out.spike_times_ms.push_back(static_cast<double>(s + 1) * dt_ms);
    out.v_mV.push_back(v);
    const auto move = [](double& x, Gate to) { x += (1 - std::exp(-dt_ms / to.tau)) * (to.inf - x); };
    const HhGates hh = hh_gates(v);
    g = gates(p, v);
    move(m_hh, hh.m);
    move(h_hh, hh.h);
    move(n_hh, hh.n);
    move(m, g.m);
    move(h, g.h);
    move(n, g.n);
    move(l, g.l);
  }
  out.last_v_mV = v;
  out.finite = std::isfinite(v);
  return out;
}

/// What "the same run" means: voltages within 0.01 mV, or as many spikes within 0.05 ms. The gating curves
/// have steps, at which rounding can grow.
inline bool same_spikes(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::fabs(a[i] - b[i]) <= 0.05 + 1e-9)) return false;
  return true;
}
inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    const double d = std::fabs(a[i] - b[i]);
    if (!(d <= most)) most = d;
  }
  return most;
}

}  // namespace myelin::cell::test
