#include "cell/model.hpp"

#include <cmath>
#include <numbers>

namespace myelin::cell {
namespace {

// The range that NEURON's exp has in mechanisms.
double exp(double x) { return std::exp(x > 700 ? 700 : x); }

// x/(exp(x/y)−1), with its limit at 0: NEURON's vtrap.
double vtrap(double x, double y) {
  return std::fabs(x / y) < 1e-6 ? y * (1 - x / y / 2) : x / (exp(x / y) - 1);
}

// a(v−th)/(1−exp(−(v−th)/q)), with its limit at th.
double trap0(double v, double th, double a, double q) {
  return std::fabs(v - th) > 1e-6 ? a * (v - th) / (1 - exp(-(v - th) / q)) : a * q;
}

Gate gate(double a, double b) { return {a / (a + b), 1 / (a + b)}; }

HhTable make_table() {
  HhTable table{};
  for (int i = 0; i < 201; ++i) {
    const double v = i - 100;
    const Gate m = gate(0.1 * vtrap(-(v + 40), 10), 4 * exp(-(v + 65) / 18));
    const Gate h = gate(0.07 * exp(-(v + 65) / 20), 1 / (exp(-(v + 35) / 10) + 1));
    const Gate n = gate(0.01 * vtrap(-(v + 55), 10), 0.125 * exp(-(v + 65) / 80));
    const double row[] = {m.inf, h.inf, n.inf, m.tau, h.tau, n.tau};
    for (std::size_t c = 0; c < std::size(row); ++c) table[static_cast<std::size_t>(i)].value[c] = row[c];
  }
  table[201] = table[200];
  for (std::size_t i = 0; i < 201; ++i)
    for (std::size_t c = 0; c < 6; ++c) table[i].gain[c] = table[i + 1].value[c] - table[i].value[c];
  return table;
}

}  // namespace

double hd_rate_per_ms() { return std::pow(4.5, 0.1 * (6.3 - 33)) * 0.011; }

const HhTable& hh_table() {
  static const HhTable table = make_table();
  return table;
}

HhGates hh_gates(double v) {
  double x = v + 100;
  x = x > 0 ? x : 0;  // not a number takes the first row
  x = x < 200 ? x : 200;
  const auto i = static_cast<std::size_t>(x);
  const double rest = x - static_cast<double>(i);
  const HhRow& row = hh_table()[i];
  const auto at = [&](int c) { return row.value[c] + rest * row.gain[c]; };
  return {{at(0), at(3)}, {at(1), at(4)}, {at(2), at(5)}};
}

Gates gates(const Parameters& p, double v) {
  Gates g;
  const double tau_m =
      p.multiply1 / (qt_na1 * (trap0(v, p.mhalf, 0.4, 7.2) + trap0(-v, -p.mhalf, 0.124, 7.2)));
  g.m.tau = tau_m < 0.02 ? 0.02 : tau_m;
  g.m.inf = v < p.seg2 ? 0 : 1 / (1 + exp((p.mhalf - v) / p.mk));
  const double tau_h = p.multiply2 / (qt_na1 * (trap0(v, -50, 0.03, 1.5) + trap0(-v, 50, 0.01, 1.5)));
  g.h.tau = tau_h < 0.5 ? 0.5 : tau_h;
  g.h.inf = v > p.seg2 ? 0 : 1 / (1 + exp((v + 50) / 4));
  const double a = exp(-3 * k1_per_mV * (v - p.nhalf));
  const double b = exp(-2.1 * k1_per_mV * (v - p.nhalf));
  const double tau_n = p.multiply * b / (0.02 * (1 + a));
  g.n.tau = tau_n < 2 ? 2 : tau_n;
  g.n.inf = v < p.seg1 ? 0 : 1 / (1 + exp((p.nhalf - v) / p.kn));
  const double y = hd_per_mV * (v + 75);
  g.l.tau = exp(0.4 * y) / (hd_rate_per_ms() * (1 + exp(y)));
  g.l.inf = v > p.seg3 ? 0 : 1 / (1 + exp(-(v - p.hhalf) / p.hk));
  return g;
}

double area_um2(const Parameters& p) { return std::numbers::pi * p.diam * length_um; }
double capacitance_uF_cm2(const Parameters& p) { return p.cm * 1.4884e-4 / 6.2832e-4; }
double density_per_nA(const Parameters& p) { return 100 / area_um2(p); }

}  // namespace myelin::cell
