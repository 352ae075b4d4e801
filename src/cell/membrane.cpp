#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "cell/analysis.hpp"
#include "cell/model.hpp"

namespace myelin::cell {
namespace {

constexpr std::size_t n_states = 8;  // v; hh's m, h, n; na1's m, h; k1's n; hd's l
using Vector = std::array<double, n_states>;
using Matrix = std::array<Vector, n_states>;

std::array<Gate, 7> all_gates(const Parameters& p, double v) {
  const HhGates hh = hh_gates(v);
  const Gates g = gates(p, v);
  return {hh.m, hh.h, hh.n, g.m, g.h, g.n, g.l};
}

// Ionic current, mA/cm2, outward positive.
double current(const Parameters& p, const Vector& s) {
  const auto& [v, m_hh, h_hh, n_hh, m, h, n, l] = s;
  return (gnabar_hh * m_hh * m_hh * m_hh * h_hh + p.gna * 1e-3 * m * m * m * h) * (v - ena_mV) +
         (gkbar_hh * n_hh * n_hh * n_hh * n_hh + p.gk * 1e-3 * n) * (v - ek_mV) + p.gl * 1e-6 * (v - p.el) +
         p.gh * 1e-4 * l * v;
}

Vector steady(const Parameters& p, double v) {
  Vector s{v};
  const auto g = all_gates(p, v);
  for (std::size_t i = 0; i < g.size(); ++i) s[i + 1] = g[i].inf;
  return s;
}
double steady_current(const Parameters& p, double v) { return current(p, steady(p, v)); }

// d(v, gates)/dt, linear about the steady state at v. The model has no step within ±`h`.
Matrix linear(const Parameters& p, double v) {
  constexpr double h = 1e-5;
  Matrix j{};
  const double per_c = 1 / (capacitance_uF_cm2(p) * 1e-3);
  const Vector at = steady(p, v);
  for (std::size_t i = 0; i < n_states; ++i) {
    const double step = i == 0 ? 1e-3 : 1e-6;
    Vector up = at, down = at;
    up[i] += step;
    down[i] -= step;
    j[0][i] = -(current(p, up) - current(p, down)) / (2 * step) * per_c;
  }
  const auto here = all_gates(p, v), up = all_gates(p, v + h), down = all_gates(p, v - h);
  for (std::size_t i = 0; i < here.size(); ++i) {
    j[i + 1][0] = (up[i].inf - down[i].inf) / (2 * h) / here[i].tau;
    j[i + 1][i + 1] = -1 / here[i].tau;
  }
  return j;
}

Matrix times(const Matrix& a, const Matrix& b) {
  Matrix c{};
  for (std::size_t i = 0; i < n_states; ++i)
    for (std::size_t k = 0; k < n_states; ++k)
      for (std::size_t j = 0; j < n_states; ++j) c[i][j] += a[i][k] * b[k][j];
  return c;
}

// a⁻¹ b by elimination with row exchange.
Matrix solve(Matrix a, Matrix b) {
  for (std::size_t c = 0; c < n_states; ++c) {
    std::size_t pivot = c;
    for (std::size_t r = c + 1; r < n_states; ++r)
      if (std::fabs(a[r][c]) > std::fabs(a[pivot][c])) pivot = r;
    std::swap(a[c], a[pivot]);
    std::swap(b[c], b[pivot]);
    for (std::size_t r = 0; r < n_states; ++r) {
      if (r == c) continue;
      const double f = a[r][c] / a[c][c];
      for (std::size_t k = 0; k < n_states; ++k) {
        a[r][k] -= f * a[c][k];
        b[r][k] -= f * b[c][k];
      }
    }
  }
  for (std::size_t r = 0; r < n_states; ++r)
    for (double& x : b[r]) x /= a[r][r];
  return b;
}

// One step of the trapezoidal rule, (1 − J dt/2)⁻¹ (1 + J dt/2), and what a constant drive of dv/dt = 1 adds
// in it.
struct Trapezoid {
  Matrix step;
  Vector drive;
};
Trapezoid trapezoid(const Matrix& j, double dt) {
  Matrix plus{}, minus{}, unit{};
  for (std::size_t r = 0; r < n_states; ++r) {
    for (std::size_t c = 0; c < n_states; ++c) {
      plus[r][c] = j[r][c] * dt / 2;
      minus[r][c] = -plus[r][c];
    }
    plus[r][r] += 1;
    minus[r][r] += 1;
  }
  unit[0][0] = dt;
  const Matrix inverse = solve(minus, unit);
  Trapezoid t{solve(minus, plus), {}};
  for (std::size_t r = 0; r < n_states; ++r) t.drive[r] = inverse[r][0];
  return t;
}

// All eigenvalues have negative real parts: the trapezoidal step maps exactly those into the unit circle,
// whatever dt is, and its powers then vanish.
bool stable(const Matrix& j) {
  Matrix m = trapezoid(j, 1.0).step;
  double log_norm = 0;  // of m's power, which is scaled to 1
  for (int doubling = 0; doubling < 30; ++doubling) {
    double most = 0;
    for (const Vector& row : m)
      for (const double x : row) most = std::max(most, std::fabs(x));
    if (!std::isfinite(most)) return false;
    if (most == 0) return true;
    for (Vector& row : m)
      for (double& x : row) x /= most;
    log_norm += std::log(most);
    m = times(m, m);
    log_norm *= 2;
  }
  return log_norm < -10;
}

// How the linear cell answers a constant drive that begins: its first peak, or `final_mV` if there is none
// before it gets there, and when it is first 1 − 1/e of that.
struct Answer {
  double peak_mV;
  std::optional<double> time_ms;
};
Answer answer_of(const Matrix& j, double final_mV) {
  const Trapezoid t = trapezoid(j, dt_ms);
  Vector s{};
  std::vector<double> v{0};
  constexpr std::size_t longest = 400'000;  // 10 s
  double peak = final_mV;
  while (v.size() < longest) {
    Vector next = t.drive;
    for (std::size_t r = 0; r < n_states; ++r)
      for (std::size_t c = 0; c < n_states; ++c) next[r] += t.step[r][c] * s[c];
    if (next[0] < v.back()) {
      peak = v.back();
      break;
    }
    if (std::fabs(next[0] - final_mV) < 1e-6 * final_mV) break;
    v.push_back(next[0]);
    s = next;
  }
  const double goal = (1 - std::exp(-1.0)) * peak;
  for (std::size_t i = 1; i < v.size(); ++i)
    if (v[i] >= goal)
      return {peak, (static_cast<double>(i - 1) + (goal - v[i - 1]) / (v[i] - v[i - 1])) * dt_ms};
  return {peak, std::nullopt};
}

std::vector<double> resting_places(const Parameters& p) {
  constexpr double low = -200, high = 100, grid = 0.25, side = 1e-7;
  std::vector<double> places;
  for (double v = low; v <= high; v += grid) places.push_back(v + 1e-3);  // not on the table's own grid
  for (const double seg : {p.seg1, p.seg2, p.seg3}) {
    if (!(seg > low && seg < high)) continue;
    std::erase_if(places, [&](double v) { return std::fabs(v - seg) < 10 * side; });
    places.insert(places.end(), {seg - side, seg + side});
  }
  std::ranges::sort(places);
  std::vector<double> found;
  double before = steady_current(p, places.front());
  for (std::size_t i = 1; i < places.size(); ++i) {
    double left = places[i - 1], right = places[i];
    const double after = steady_current(p, right);
    // Inward on the left, outward on the right: v is drawn to what lies between, unless that is a step.
    if (before < 0 && after >= 0 && right - left > 3 * side) {
      for (int half = 0; half < 60; ++half) {
        const double middle = (left + right) / 2;
        (steady_current(p, middle) < 0 ? left : right) = middle;
      }
      if (stable(linear(p, left))) found.push_back(left);
    }
    before = after;
  }
  return found;
}

// What a second without stimulus showed, and the equations about rest; `done`: that second, if it could be run.
Membrane described(const Parameters& p, const Outcome* done) {
  Membrane out;
  const double area_cm2 = area_um2(p) * 1e-8;
  out.leak_resistance_MOhm = 1e-6 / (p.gl * 1e-6 * area_cm2);
  out.leak_time_constant_ms = capacitance_uF_cm2(p) * 1e-3 / (p.gl * 1e-6);

  if (!done || !done->finite) return out;
  const Outcome& quiet = *done;
  const auto last = std::span(quiet.v_mV).last(4000);
  for (const double v : last) out.settled_mV += v / static_cast<double>(last.size());
  out.fires_without_stimulus = !quiet.spike_times_ms.empty() && quiet.spike_times_ms.back() > 500;
  if (out.fires_without_stimulus) return out;

  const auto places = resting_places(p);
  if (places.empty()) {
    const auto [lowest, highest] = std::ranges::minmax(last);
    const double seg[] = {p.seg1, p.seg2, p.seg3};
    out.pinned = highest - lowest < 1 &&
                 std::ranges::any_of(seg, [&](double v) { return std::fabs(v - out.settled_mV) < 0.5; });
    if (out.pinned) out.rest_mV = out.settled_mV;
    return out;
  }
  const double rest =
      *std::ranges::min_element(places, {}, [&](double v) { return std::fabs(v - out.settled_mV); });
  out.rest_mV = rest;
  const Matrix j = linear(p, rest);
  // The end of a step: the gates follow v, so J's slope with all of them at their ends.
  double slope = j[0][0];
  for (std::size_t i = 1; i < n_states; ++i) slope += j[0][i] * -j[i][0] / j[i][i];
  const double final_mV = -1 / slope;  // for a drive of 1 mV/ms
  const Answer answer = answer_of(j, final_mV);
  // 1 mV/ms is cm mA/cm2 (cm in mF/cm2), over the whole area.
  const double drive_mA = capacitance_uF_cm2(p) * 1e-3 * area_cm2;
  out.input_resistance_MOhm = final_mV / drive_mA * 1e-6;
  out.peak_resistance_MOhm = answer.peak_mV / drive_mA * 1e-6;
  out.time_constant_ms = answer.time_ms;
  return out;
}

}  // namespace

std::vector<Membrane> membranes_of(std::span<const Parameters> cells, const Kernel& kernel) {
  std::vector<Run> alone;
  for (const Parameters& p : cells) {
    alone.push_back({p, 0, true});
    alone.back().cell.tstop = 1000;
  }
  const auto done = simulate(std::move(alone), {}, {}, kernel);
  std::vector<Membrane> out;
  for (std::size_t i = 0; i < cells.size(); ++i) out.push_back(described(cells[i], done ? &(*done)[i] : nullptr));
  return out;
}

Membrane membrane_of(const Parameters& p, const Kernel& kernel) { return membranes_of(std::span(&p, 1), kernel).front(); }

}  // namespace myelin::cell
