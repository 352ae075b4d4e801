#pragma once
// Many runs of the single-compartment cell at once: the currents of FI curves and the points of sweeps are
// packed into the lanes of vectors, so that a run costs a fraction of a run alone.
//
// A Batch is cut into slices that share nothing: threads may take them in any order, each slice once.
// Voltages agree with NEURON 9 (fixed step, 6.3 °C) to rounding, which the model's steps in its gating curves
// let grow: to 0.01 mV in the recorded cases. Nothing here blocks or allocates per step.

#include <atomic>
#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "cell/kernel.hpp"
#include "cell/parameters.hpp"

namespace myelin::cell {

/// The instruction sets that this processor can run, the fastest last ("portable", "x86-64-v3", "x86-64-v4").
[[nodiscard]] std::span<const Kernel* const> kernels();
[[nodiscard]] inline const Kernel& best_kernel() { return *kernels().back(); }

struct Run {
  Parameters cell;  // its amp is not read
  double amp_nA = 0;
  bool keep_v = false;
  bool keep_rates = false;  // implies keep_v
};

/// At every sample, as functions of its v: where the gates of na1 (m), hd (l) and k1 (n) go, and their time
/// constants in ms.
struct Rates {
  std::vector<double> m_inf, l_inf, n_inf, tau_m, tau_l, tau_n;
};

struct Outcome {
  std::vector<double> spike_times_ms;  // v went from ≤ 0 to > 0 mV: the end of that step
  std::vector<double> v_mV;            // if kept: steps_of(tstop) + 1 samples, the first at t = 0
  Rates rates;                         // if kept
  double last_v_mV = 0;
  bool finite = true;  // false: v left the numbers (negative conductances can do that)
};

/// The rates at given voltages.
[[nodiscard]] Rates rates_at(const Parameters& cell, std::span<const double> v_mV,
                             const Kernel& kernel = best_kernel());

class Batch {
 public:
  /// Runs of one length (tstop); bad_request names the field that is wrong, too_large the limit. `threads`:
  /// how many will take slices.
  [[nodiscard]] static Result<Batch> make(std::vector<Run> runs, const Limits& limits = {},
                                          std::size_t threads = 1, const Kernel& kernel = best_kernel());
  Batch(Batch&&) noexcept;
  Batch& operator=(Batch&&) = delete;

  [[nodiscard]] std::size_t slices() const { return slices_; }
  /// Thread-safe for different slices. `go_on` as below. false: cancelled, the slice's outcomes are worth nothing.
  bool simulate(std::size_t slice, const std::function<bool(double)>& go_on = {});

  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }  // any thread
  [[nodiscard]] bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  [[nodiscard]] double progress() const;  // 0 … 1, any thread

  /// In the order of the runs, once all slices are done.
  [[nodiscard]] std::vector<Outcome> take() { return std::move(outcomes_); }

 private:
  Batch(std::vector<Run> runs, const Kernel& kernel, std::size_t per_slice);
  std::vector<Run> runs_;
  std::vector<Outcome> outcomes_;
  const Kernel* kernel_;
  std::size_t steps_, per_slice_, slices_;
  std::atomic<std::size_t> done_{0};  // steps of slices
  std::atomic<bool> cancelled_{false};
};

/// All of it on this thread. `go_on` is asked now and then with the progress, 0 … 1; false cancels
/// (Code::interrupted).
[[nodiscard]] Result<std::vector<Outcome>> simulate(std::vector<Run> runs, const Limits& limits = {},
                                                    const std::function<bool(double)>& go_on = {},
                                                    const Kernel& kernel = best_kernel());

}  // namespace myelin::cell
