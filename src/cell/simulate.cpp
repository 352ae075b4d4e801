#include "cell/simulate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "cell/model.hpp"

namespace myelin::cell {
namespace {

using std::size_t;

constexpr size_t ask_chunks = 64;  // between two questions whether to go on: about a millisecond

std::vector<const Kernel*> find_kernels() {
  std::vector<const Kernel*> found{&kernel_portable()};
#ifdef MYELIN_CELL_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) found.push_back(&kernel_v3());
  if (__builtin_cpu_supports("x86-64-v4")) found.push_back(&kernel_v4());
#endif
  return found;
}

// A slope of 0 makes a step. NEURON divides by it and gets a NaN exactly at the midpoint; here that is 1/2.
double inverse_of_slope(double slope) { return slope == 0 ? std::copysign(1e300, slope) : 1 / slope; }
// dt over a time constant's factor; without a positive factor the time constant is its minimum.
double rate_of(double factor, double per_ms) {
  return factor > 0 ? std::min(dt_ms * per_ms / factor, 1e300) : 1e300;
}

void put_constants(Block& block, size_t lane, const Run& run) {
  const Parameters& p = run.cell;
  const auto put = [&](Constant c, double value) { block.constants[static_cast<size_t>(c)][lane] = value; };
  put(Constant::capacity, capacitance_uF_cm2(p) * 1e-3 / dt_ms);
  put(Constant::gl, p.gl * 1e-6);
  put(Constant::el, p.el);
  put(Constant::gna, p.gna * 1e-3);
  put(Constant::gk, p.gk * 1e-3);
  put(Constant::gh, p.gh * 1e-4);
  put(Constant::stimulus, run.amp_nA * density_per_nA(p));
  put(Constant::start, p.dur_start);
  put(Constant::end, p.dur_end);
  put(Constant::mhalf, p.mhalf);
  put(Constant::per_mk, inverse_of_slope(p.mk));
  put(Constant::rate_m, rate_of(p.multiply1, qt_na1));
  put(Constant::rate_h, rate_of(p.multiply2, qt_na1));
  put(Constant::nhalf, p.nhalf);
  put(Constant::per_kn, inverse_of_slope(p.kn));
  put(Constant::rate_n, rate_of(p.multiply, 0.02));
  put(Constant::hhalf, p.hhalf);
  put(Constant::per_hk, inverse_of_slope(p.hk));
  put(Constant::seg1, p.seg1);
  put(Constant::seg2, p.seg2);
  put(Constant::seg3, p.seg3);
}

void put_start(Block& block, size_t lane, const Parameters& p) {
  const HhGates hh = hh_gates(p.el);
  const Gates g = gates(p, p.el);
  const double start[] = {p.el, hh.m.inf, hh.h.inf, hh.n.inf, g.m.inf, g.h.inf, g.n.inf, g.l.inf};
  static_assert(std::size(start) == state_count);
  for (size_t i = 0; i < state_count; ++i) block.states[i][lane] = start[i];
}

}  // namespace

std::span<const Kernel* const> kernels() {
  static const std::vector<const Kernel*> found = find_kernels();
  return found;
}

Rates rates_at(const Parameters& cell, std::span<const double> v_mV, const Kernel& kernel) {
  const auto block = std::make_unique<Block>();
  for (size_t lane = 0; lane < kernel.lanes; ++lane) put_constants(*block, lane, {cell});
  block->hd_rate_per_ms = hd_rate_per_ms();
  // The kernel works in whole vectors.
  const size_t n = v_mV.size(), room = (n + kernel.lanes - 1) / kernel.lanes * kernel.lanes;
  std::vector<double> v(v_mV.begin(), v_mV.end());
  v.resize(room, 0.0);
  Rates r;
  std::vector<double>* const all[] = {&r.m_inf, &r.l_inf, &r.n_inf, &r.tau_m, &r.tau_l, &r.tau_n};
  for (auto* each : all) each->resize(room);
  kernel.rates(
      *block, v.data(), n,
      {r.m_inf.data(), r.l_inf.data(), r.n_inf.data(), r.tau_m.data(), r.tau_l.data(), r.tau_n.data()});
  for (auto* each : all) each->resize(n);
  return r;
}

Batch::Batch(std::vector<Run> runs, const Kernel& kernel, size_t per_slice)
    : runs_(std::move(runs)),
      outcomes_(runs_.size()),
      kernel_(&kernel),
      steps_(runs_.empty() ? 0 : steps_of(runs_.front().cell.tstop)),
      per_slice_(per_slice),
      slices_((runs_.size() + per_slice - 1) / per_slice) {}

Batch::Batch(Batch&& other) noexcept
    : runs_(std::move(other.runs_)),
      outcomes_(std::move(other.outcomes_)),
      kernel_(other.kernel_),
      steps_(other.steps_),
      per_slice_(other.per_slice_),
      slices_(other.slices_),
      done_(other.done_.load()),
      cancelled_(other.cancelled_.load()) {}

Result<Batch> Batch::make(std::vector<Run> runs, const Limits& limits, size_t threads, const Kernel& kernel) {
  size_t samples = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    Run& run = runs[i];
    if (auto fine = check(run.cell, limits); !fine) return fine.take_error();
    if (!std::isfinite(run.amp_nA)) return Error{Code::bad_request, "amp must be a finite number", {}};
    if (run.cell.tstop != runs.front().cell.tstop)
      return Error{Code::bad_request, "tstop must be the same in all runs of a batch", {}};
    run.keep_v |= run.keep_rates;
    samples += run.keep_rates ? 7 : run.keep_v ? 1 : 0;
  }
  const size_t steps = runs.empty() ? 0 : steps_of(runs.front().cell.tstop);
  if (steps != 0 && runs.size() > limits.steps / steps)
    return Error{Code::too_large,
                 "These runs have " + std::to_string(steps) + " steps each; at most " +
                     std::to_string(limits.steps) + " of all runs together are computed",
                 {}};
  if (samples > limits.numbers / (steps + 1))
    return Error{Code::too_large,
                 "At most " + std::to_string(limits.numbers) +
                     " samples of voltages and rates are kept; keep fewer, or shorten tstop",
                 {}};
  // As many vectors as pay, but a slice for each thread.
  const size_t lanes = kernel.lanes, vectors = (runs.size() + lanes - 1) / lanes;
  const size_t share = std::max<size_t>(1, vectors / std::max<size_t>(1, threads));
  return Batch(std::move(runs), kernel, lanes * std::min(share, kernel.vectors));
}

bool Batch::simulate(size_t slice, const std::function<bool(double)>& go_on) {
  const size_t begin = slice * per_slice_, end = std::min(begin + per_slice_, runs_.size());
  const size_t lanes = kernel_->lanes, vectors = (end - begin + lanes - 1) / lanes, width = vectors * lanes;
  const auto block = std::make_unique<Block>();
  block->hd_rate_per_ms = hd_rate_per_ms();
  block->apart = true;
  for (size_t lane = 0; lane < width; ++lane) {
    const Run& run = runs_[std::min(begin + lane, end - 1)];  // lanes to spare repeat the last run
    put_constants(*block, lane, run);
    put_start(*block, lane, run.cell);
    block->apart = block->apart && run.cell.seg1 > run.cell.seg3;
  }
  for (size_t i = begin; i < end; ++i) {
    Outcome& out = outcomes_[i];
    if (!runs_[i].keep_v) continue;
    out.v_mV.reserve(steps_ + kernel_->lanes);
    out.v_mV.push_back(runs_[i].cell.el);
  }
  const std::uint32_t used = end - begin == 32 ? ~0U : (1U << (end - begin)) - 1;
  const HhRow* const table = hh_table().data();
  for (size_t first = 0; first < steps_; first += chunk_steps) {
    if (go_on && first % (ask_chunks * chunk_steps) == 0 && !go_on(progress())) cancel();
    if (cancelled()) return false;
    const size_t steps = std::min(chunk_steps, steps_ - first);
    kernel_->advance(*block, table, vectors, first, steps);
    for (size_t s = 0; s < steps; ++s)
      for (std::uint32_t left = block->crossed[s] & used; left != 0; left &= left - 1)
        outcomes_[begin + static_cast<size_t>(__builtin_ctz(left))].spike_times_ms.push_back(
            static_cast<double>(first + s + 1) * dt_ms);
    for (size_t i = begin; i < end; ++i) {
      if (!runs_[i].keep_v) continue;
      std::vector<double>& v = outcomes_[i].v_mV;
      for (size_t s = 0; s < steps; ++s) v.push_back(block->v[s][i - begin]);
    }
    done_.fetch_add(steps, std::memory_order_relaxed);
  }
  for (size_t i = begin; i < end; ++i) {
    Outcome& out = outcomes_[i];
    out.last_v_mV = block->states[static_cast<size_t>(State::v)][i - begin];
    out.finite = std::isfinite(out.last_v_mV);
    if (runs_[i].keep_rates) out.rates = rates_at(runs_[i].cell, out.v_mV, *kernel_);
  }
  return true;
}

double Batch::progress() const {
  const size_t all = slices_ * steps_;
  return all == 0 ? 1 : static_cast<double>(done_.load(std::memory_order_relaxed)) / static_cast<double>(all);
}

Result<std::vector<Outcome>> simulate(std::vector<Run> runs, const Limits& limits,
                                      const std::function<bool(double)>& go_on, const Kernel& kernel) {
  auto batch = Batch::make(std::move(runs), limits, 1, kernel);
  if (!batch) return batch.take_error();
  for (size_t slice = 0; slice < batch->slices(); ++slice)
    if (!batch->simulate(slice, go_on)) return Error{Code::interrupted, "The runs were cancelled", {}};
  return batch->take();
}

}  // namespace myelin::cell
