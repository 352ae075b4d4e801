#pragma once
// The inner loop as it is compiled for each instruction set. Plain arrays only: the files that implement this
// are compiled for processors that the rest of the program does not ask for, so they must not instantiate
// anything that is shared with it (the linker would keep one copy, for whoever).

#include <cstddef>
#include <cstdint>

#include "cell/constants.hpp"

namespace myelin::cell {

/// One value per lane; a block is [field][lane].
// clang-format off
enum class Constant : unsigned {
  capacity,                 // cm/dt, mA/cm2 per mV
  gl, el, gna, gk, gh,      // S/cm2, mV
  stimulus, start, end,     // mA/cm2, ms, ms
  mhalf, per_mk, rate_m,    // mV, 1/mV; rates are a gate's dt/tau where the voltage's part of it is 1
  rate_h,
  nhalf, per_kn, rate_n,
  hhalf, per_hk,
  seg1, seg2, seg3,         // mV
  count
};
// clang-format on
enum class State : unsigned { v, m_hh, h_hh, n_hh, m, h, n, l, count };

inline constexpr std::size_t constant_count = static_cast<std::size_t>(Constant::count);
inline constexpr std::size_t state_count = static_cast<std::size_t>(State::count);
inline constexpr std::size_t most_vectors = 3;  // that one loop advances together
inline constexpr std::size_t most_lanes = 8;    // of one vector
inline constexpr std::size_t chunk_steps = 128;

struct alignas(64) Block {
  static constexpr std::size_t width = most_vectors * most_lanes;
  double constants[constant_count][width];
  double states[state_count][width];
  double v[chunk_steps][width];        // out: after each step; rows are `lanes · vectors` apart
  std::uint32_t crossed[chunk_steps];  // out: lanes whose v went from ≤ 0 to > 0 in the step
  double hd_rate_per_ms;
  bool apart;  // seg1 > seg3 in every lane: k1 and hd are never open together
};

/// The gates of panels 3 and 4, for every sample of one cell's v; each array has n numbers.
struct RateArrays {
  double *m_inf, *l_inf, *n_inf, *tau_m, *tau_l, *tau_n;
};

struct Kernel {
  const char* name;
  std::size_t lanes;    // of one vector
  std::size_t vectors;  // that are best advanced together
  /// Steps first … first+steps−1 (steps ≤ chunk_steps) of `vectors` ≤ most_vectors vectors.
  void (*advance)(Block& block, const HhRow* table, std::size_t vectors, std::size_t first,
                  std::size_t steps);
  /// `constants` as in a block, of one cell (all lanes equal): reads lane 0 of each field.
  void (*rates)(const Block& block, const double* v, std::size_t n, const RateArrays& out);
};

[[nodiscard]] const Kernel& kernel_portable();
#ifdef MYELIN_CELL_X86
[[nodiscard]] const Kernel& kernel_v3();
[[nodiscard]] const Kernel& kernel_v4();
#endif

}  // namespace myelin::cell
