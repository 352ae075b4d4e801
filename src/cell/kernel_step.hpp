#pragma once
// One step of the cell over vectors of any width, included once by each kernel_*.cpp and by nothing else.
// Everything is in an unnamed namespace, so that code for one processor can't be taken for another's.
//
// It computes what model.cpp says with fewer exponentials and divisions; all rearrangements are exact up to
// rounding (1e-15 relative). They are:
// - rates instead of time constants: dt/max(t0, t) = min(dt/t0, dt·(1/t)), for t > 0;
// - trap0(v) + trap0(−v) = (v−th)(a + b e)/(1−e), e = exp(−(v−th)/q): one exponential for two;
// - na1's m_inf is 0 below seg2 and its h_inf above: one logistic function with a selected argument serves
// both (at seg2 itself
//   both are wanted, and computed). The same for k1 and hd where seg1 > seg3;
// - the powers in k1's and hd's rates come from one exponential each, u³ and 1/u² and so on;
// - several quotients share one division: 1/x = y·1/(xy). Arguments of exponentials are clamped so that such
// products stay finite;
//   beyond the clamp the result is 0 or 1 to the last bit, or a rate that saturates;
// - 1−exp(−k) is a polynomial, since time constants have a minimum; hd's has none, so large k take the long
// way. Comparisons are written so that a NaN in v stays in v.

#include <cstring>

#include "cell/kernel.hpp"

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace myelin::cell {
namespace {

#define MYELIN_INLINE __attribute__((always_inline)) inline

template <int lanes>
struct Lane {
  typedef double D __attribute__((vector_size(lanes * 8)));
  typedef std::int64_t I __attribute__((vector_size(lanes * 8)));
  typedef std::int32_t Small __attribute__((vector_size(lanes * 4)));
};

template <int lanes>
struct Step {
  using D = typename Lane<lanes>::D;
  using I = typename Lane<lanes>::I;
  using Small = typename Lane<lanes>::Small;

  static MYELIN_INLINE D all(double x) { return x - D{}; }
  static MYELIN_INLINE D load(const double* p) { return *reinterpret_cast<const D*>(p); }
  static MYELIN_INLINE void store(double* p, D x) { *reinterpret_cast<D*>(p) = x; }
  static MYELIN_INLINE D select(I mask, D yes, D no) { return mask ? yes : no; }

  // NaN in x: least() and most() give x.
  static MYELIN_INLINE D at_most(D x, D top) {
#ifdef __AVX512F__
    if constexpr (lanes == 8) return (D)_mm512_min_pd((__m512d)top, (__m512d)x);
#endif
#ifdef __AVX__
    if constexpr (lanes == 4) return (D)_mm256_min_pd((__m256d)top, (__m256d)x);
#endif
    return top < x ? top : x;
  }
  static MYELIN_INLINE D at_least(D x, D bottom) {
#ifdef __AVX512F__
    if constexpr (lanes == 8) return (D)_mm512_max_pd((__m512d)bottom, (__m512d)x);
#endif
#ifdef __AVX__
    if constexpr (lanes == 4) return (D)_mm256_max_pd((__m256d)bottom, (__m256d)x);
#endif
    return bottom > x ? bottom : x;
  }

  static MYELIN_INLINE std::uint32_t bits(I mask) {
#ifdef __AVX512DQ__
    if constexpr (lanes == 8) return _mm512_movepi64_mask((__m512i)mask);
#endif
#ifdef __AVX__
    if constexpr (lanes == 4) return static_cast<std::uint32_t>(_mm256_movemask_pd((__m256d)mask));
#endif
#ifdef __SSE2__
    if constexpr (lanes == 2) return static_cast<std::uint32_t>(_mm_movemask_pd((__m128d)mask));
#endif
    std::uint32_t b = 0;
    for (int i = 0; i < lanes; ++i) b |= static_cast<std::uint32_t>(mask[i] & 1) << i;
    return b;
  }

  // exp within 1 ulp; the argument must be in ±700. Cody and Waite's reduction by ln 2 in two parts, then a
  // polynomial of degree 11 whose error is 1.4e-17 (interpolated at Chebyshev's points).
  static MYELIN_INLINE D exp(D x) {
    constexpr double shift = 0x1.8p52;  // its sum with n has n in the low bits
    const D t = x * 0x1.71547652b82fep0 + shift;
    const D n = t - shift;
    const D r = (x - n * 0x1.62e42fefa38p-1) - n * 0x1.ef35793c7673p-45;
    const D r2 = r * r, r4 = r2 * r2;
    const D p0 = 0.5000000000000001 + r * 0.16666666666666669;
    const D p1 = 0.04166666666662413 + r * 0.008333333333330062;
    const D p2 = 0.0013888888917213717 + r * 0.00019841269863053618;
    const D p3 = 2.4801521295954376e-05 + r * 2.7557268459997064e-06;
    const D p4 = 2.7620088445409746e-07 + r * 2.510038549551032e-08;
    const D q = (p0 + r2 * p1) + r4 * ((p2 + r2 * p3) + r4 * p4);
    const D p = 1 + (r + r2 * q);
    return (D)((I)p + ((I)t << 52));
  }
  static MYELIN_INLINE D exp_within(D x, double limit) {
    return exp(at_most(at_least(x, all(-limit)), all(limit)));
  }

  // 1−exp(−k) for 0 ≤ k ≤ 1.25 (error 4e-17), and for k ≤ 0.05 (1e-17).
  static MYELIN_INLINE D approach(D k) {
    const D k2 = k * k, k4 = k2 * k2;
    const D p0 = -0.5 + k * 0.16666666666666385;
    const D p1 = -0.04166666666655963 + k * 0.008333333331730596;
    const D p2 = -0.0013888888764724946 + k * 0.00019841264155695423;
    const D p3 = -2.4801421850360255e-05 + k * 2.7554138292621796e-06;
    const D p4 = -2.7516287353224525e-07 + k * 2.469900430242297e-08;
    const D p5 = -1.8911265808967506e-09 + k * 9.465528970904181e-11;
    const D q = (p0 + k2 * p1) + k4 * ((p2 + k2 * p3) + k4 * (p4 + k2 * p5));
    return k + k2 * q;
  }
  static MYELIN_INLINE D approach_slowly(D k) {
    const D k2 = k * k;
    const D p0 = -0.49999999999999983 + k * 0.16666666666639599;
    const D p1 = -0.04166666660360839 + k * 0.00833332795864869;
    const D p2 = -0.0013886816654568965 + k * 0.0001947236347126025;
    return k + k2 * (p0 + k2 * (p1 + k2 * p2));
  }

  static MYELIN_INLINE D get(const Block& b, Constant c, std::size_t at) {
    return load(&b.constants[static_cast<std::size_t>(c)][at]);
  }

  template <int... from>
  static MYELIN_INLINE D pick(D a, D b) {
    return __builtin_shufflevector(a, b, from...);
  }
  static MYELIN_INLINE D even_pairs(D a, D b) { return pick<0, 1, 4, 5, 8, 9, 12, 13>(a, b); }
  static MYELIN_INLINE D odd_pairs(D a, D b) { return pick<2, 3, 6, 7, 10, 11, 14, 15>(a, b); }

  // hh's six columns at v, each lane its own row: rows are read whole and then turned, which is much faster
  // than gathers.
  struct Hh {
    D m_inf, h_inf, n_inf, tau_m, tau_h, tau_n;
  };
  static MYELIN_INLINE Hh look_up(const HhRow* table, D v) {
    const D x0 = v + 100;
    const D x = at_most(x0 > 0.0 ? x0 : D{}, all(200));  // NaN takes the first row
    const Small whole = __builtin_convertvector(x, Small);
    const D rest = x - __builtin_convertvector(whole, D);
    if constexpr (lanes == 8) {
      D r[8];
      for (int i = 0; i < 8; ++i) {
        const HhRow& row = table[whole[i]];
        r[i] = load(row.value) + rest[i] * load(row.gain);
      }
      D low[4], high[4];  // columns 0 2 4 6, and 1 3 5 7, of two rows each
      for (int i = 0; i < 4; ++i) {
        low[i] = pick<0, 8, 2, 10, 4, 12, 6, 14>(r[2 * i], r[2 * i + 1]);
        high[i] = pick<1, 9, 3, 11, 5, 13, 7, 15>(r[2 * i], r[2 * i + 1]);
      }
      const D l0 = even_pairs(low[0], low[1]), l1 = even_pairs(low[2], low[3]);
      const D l2 = odd_pairs(low[0], low[1]), l3 = odd_pairs(low[2], low[3]);
      const D h0 = even_pairs(high[0], high[1]), h1 = even_pairs(high[2], high[3]);
      const D h2 = odd_pairs(high[0], high[1]), h3 = odd_pairs(high[2], high[3]);
      return {even_pairs(l0, l1), even_pairs(h0, h1), even_pairs(l2, l3),
              even_pairs(h2, h3), odd_pairs(l0, l1),  odd_pairs(h0, h1)};
    } else if constexpr (lanes == 4) {
      D r[4], s[4];
      for (int i = 0; i < 4; ++i) {
        const HhRow& row = table[whole[i]];
        r[i] = load(row.value) + rest[i] * load(row.gain);
        s[i] = load(row.value + 4) + rest[i] * load(row.gain + 4);
      }
      const D e0 = pick<0, 4, 2, 6>(r[0], r[1]), e1 = pick<0, 4, 2, 6>(r[2], r[3]);
      const D o0 = pick<1, 5, 3, 7>(r[0], r[1]), o1 = pick<1, 5, 3, 7>(r[2], r[3]);
      const D e2 = pick<0, 4, 2, 6>(s[0], s[1]), e3 = pick<0, 4, 2, 6>(s[2], s[3]);
      const D o2 = pick<1, 5, 3, 7>(s[0], s[1]), o3 = pick<1, 5, 3, 7>(s[2], s[3]);
      return {pick<0, 1, 4, 5>(e0, e1), pick<0, 1, 4, 5>(o0, o1), pick<2, 3, 6, 7>(e0, e1),
              pick<2, 3, 6, 7>(o0, o1), pick<0, 1, 4, 5>(e2, e3), pick<0, 1, 4, 5>(o2, o3)};
    } else {
      static_assert(lanes == 2);
      const HhRow &a = table[whole[0]], &b = table[whole[1]];
      D column[6];
      for (int c = 0; c < 6; ++c) column[c] = D{a.value[c], b.value[c]} + rest * D{a.gain[c], b.gain[c]};
      return {column[0], column[1], column[2], column[3], column[4], column[5]};
    }
  }

  // What the added channels' gates do at v. Rates are per step: dt/tau.
  struct Added {
    D m_inf, h_inf, n_inf, l_inf, rate_m, rate_h, rate_n, rate_l;
  };
  static constexpr double far = 150;  // exp(4·150) is still finite

  static MYELIN_INLINE D logistic_of(D y) { return 1 / (1 + exp_within(y, far)); }

  // `hh`, if given: its taus are turned into rates here, to share a division.
  template <bool apart>
  static MYELIN_INLINE Added added(const Block& b, std::size_t at, D v, double hd_rate, Hh* hh) {
    const D zero{};
    const D seg1 = get(b, Constant::seg1, at), seg2 = get(b, Constant::seg2, at),
            seg3 = get(b, Constant::seg3, at);
    const D y_m = (get(b, Constant::mhalf, at) - v) * get(b, Constant::per_mk, at);
    const D y_h = (v + 50) * 0.25;
    const D y_n = (get(b, Constant::nhalf, at) - v) * get(b, Constant::per_kn, at);
    const D y_l = (get(b, Constant::hhalf, at) - v) * get(b, Constant::per_hk, at);
    const I below2 = v < seg2;
    Added g;

    // Two logistic functions and na1's two rates in one division.
    const D d1 = 1 + exp_within(select(below2, y_h, y_m), far);
    const D d2 = 1 + exp_within(select(v > seg3, y_n, y_l), far);
    const D x3 = v - get(b, Constant::mhalf, at);
    const D e3 = exp_within(x3 * (-1 / 7.2), far);
    const I at3 = (x3 >= -1e-6) & (x3 <= 1e-6);
    const D n3 = select(at3, all((0.4 + 0.124) * 7.2), x3 * (0.4 + 0.124 * e3));
    const D d3 = select(at3, all(1), 1 - e3);
    const D x4 = v + 50;
    const D e4 = exp_within(x4 * (-1 / 1.5), far);
    const I at4 = (x4 >= -1e-6) & (x4 <= 1e-6);
    const D n4 = select(at4, all((0.03 + 0.01) * 1.5), x4 * (0.03 + 0.01 * e4));
    const D d4 = select(at4, all(1), 1 - e4);
    const D d12 = d1 * d2, d34 = d3 * d4;
    const D per_all = 1 / (d12 * d34);
    const D per12 = per_all * d34, per34 = per_all * d12;
    const D s1 = per12 * d2, s2 = per12 * d1;
    const D trap_m = n3 * (per34 * d4), trap_h = n4 * (per34 * d3);

    g.m_inf = select(below2, zero, s1);
    g.h_inf = select(below2, s1, zero);
    if (const I same = v == seg2; __builtin_expect(bits(same) != 0, 0))
      g.h_inf = select(same, logistic_of(y_h), g.h_inf);
    if constexpr (apart) {
      g.n_inf = select(v >= seg1, s2, zero);
      g.l_inf = select(v <= seg3, s2, zero);
    } else {
      g.n_inf = select(v >= seg1, logistic_of(y_n), zero);
      g.l_inf = select(v <= seg3, logistic_of(y_l), zero);
    }
    g.rate_m = at_most(trap_m * get(b, Constant::rate_m, at), all(dt_ms / 0.02));
    g.rate_h = at_most(trap_h * get(b, Constant::rate_h, at), all(dt_ms / 0.5));

    // k1: B = u⁻⁷, A = u⁻¹⁰, so 1/tau ~ u⁷ + u⁻³. hd: 1/tau ~ w⁻² + w³. Their inverses share a division with
    // hh's taus.
    const D u = exp_within((v - get(b, Constant::nhalf, at)) * (0.3 * k1_per_mV), 50);
    const D w = exp_within((v + 75) * (0.2 * hd_per_mV), 50);
    const D uw = u * w;
    D per_uw;
    if (hh != nullptr) {
      const D mh = hh->tau_m * hh->tau_h, nuw = hh->tau_n * uw;
      const D per = 1 / (mh * nuw);
      const D per_mh = per * nuw * dt_ms, per_nuw = per * mh;
      const D tau_m = hh->tau_m;
      hh->tau_m = per_mh * hh->tau_h;
      hh->tau_h = per_mh * tau_m;
      per_uw = per_nuw * hh->tau_n;
      hh->tau_n = per_nuw * uw * dt_ms;
    } else {
      per_uw = 1 / uw;
    }
    const D per_u = per_uw * w, per_w = per_uw * u;
    const D u2 = u * u;
    g.rate_n =
        at_most((u2 * u2 * (u2 * u) + per_u * per_u * per_u) * get(b, Constant::rate_n, at), all(dt_ms / 2));
    g.rate_l = (per_w * per_w + w * w * w) * (hd_rate * dt_ms);
    return g;
  }

  template <int vectors, bool apart>
  static void advance(Block& block, const HhRow* table, std::size_t first, std::size_t steps) {
    const double hd_rate = block.hd_rate_per_ms;
    D s[vectors][state_count];
    for (int k = 0; k < vectors; ++k)
      for (std::size_t i = 0; i < state_count; ++i)
        s[k][i] = load(&block.states[i][static_cast<std::size_t>(k) * lanes]);
    for (std::size_t step = 0; step < steps; ++step) {
      const double t = (static_cast<double>(first + step) + 0.5) * dt_ms;
      std::uint32_t crossed = 0;
#pragma GCC unroll 3
      for (int k = 0; k < vectors; ++k) {
        const std::size_t at = static_cast<std::size_t>(k) * lanes;
        auto& [v, m_hh, h_hh, n_hh, m, h, n, l] = s[k];
        const D old = v;
        // Backward Euler in v with the gates as they are.
        const D gl = get(block, Constant::gl, at);
        const D na = m_hh * m_hh * m_hh * h_hh * gnabar_hh + get(block, Constant::gna, at) * (m * m * m * h);
        const D n2 = n_hh * n_hh;
        const D ka = n2 * n2 * gkbar_hh + get(block, Constant::gk, at) * n;
        const D hd = get(block, Constant::gh, at) * l;
        const I on = (get(block, Constant::start, at) <= t) & (get(block, Constant::end, at) > t);
        const D in = select(on, get(block, Constant::stimulus, at), D{});
        const D current =
            na * (v - ena_mV) + ka * (v - ek_mV) + gl * (v - get(block, Constant::el, at)) + hd * v;
        v += (in - current) / (get(block, Constant::capacity, at) + (na + ka) + (gl + hd));
        crossed |= bits((old <= 0.0) & (v > 0.0)) << at;
        store(&block.v[step][at], v);

        // Each gate towards where it goes at the new v.
        Hh hh = look_up(table, v);
        const Added g = added<apart>(block, at, v, hd_rate, &hh);
        m_hh += approach(hh.tau_m) * (hh.m_inf - m_hh);
        h_hh += approach_slowly(hh.tau_h) * (hh.h_inf - h_hh);
        n_hh += approach_slowly(hh.tau_n) * (hh.n_inf - n_hh);
        m += approach(g.rate_m) * (g.m_inf - m);
        h += approach_slowly(g.rate_h) * (g.h_inf - h);
        n += approach_slowly(g.rate_n) * (g.n_inf - n);
        D part = approach_slowly(g.rate_l);
        if (const I fast = g.rate_l > 0.05; __builtin_expect(bits(fast) != 0, 0))
          part = select(fast, 1 - exp_within(-g.rate_l, 700), part);
        l += part * (g.l_inf - l);
      }
      block.crossed[step] = crossed;
    }
    for (int k = 0; k < vectors; ++k)
      for (std::size_t i = 0; i < state_count; ++i)
        store(&block.states[i][static_cast<std::size_t>(k) * lanes], s[k][i]);
  }

  template <bool apart>
  static void advance_some(Block& block, const HhRow* table, std::size_t vectors, std::size_t first,
                           std::size_t steps) {
    switch (vectors) {
      case 1:
        return advance<1, apart>(block, table, first, steps);
      case 2:
        return advance<2, apart>(block, table, first, steps);
      default:
        return advance<3, apart>(block, table, first, steps);
    }
  }
  static void advance_any(Block& block, const HhRow* table, std::size_t vectors, std::size_t first,
                          std::size_t steps) {
    block.apart ? advance_some<true>(block, table, vectors, first, steps)
                : advance_some<false>(block, table, vectors, first, steps);
  }

  static MYELIN_INLINE void put(double* p, D x) { std::memcpy(p, &x, sizeof x); }
  // v has room for `lanes` − 1 numbers more than n, and so have the arrays that are written.
  static void rates(const Block& block, const double* v, std::size_t n, const RateArrays& out) {
    for (std::size_t i = 0; i < n; i += lanes) {
      D x;
      std::memcpy(&x, v + i, sizeof x);
      const Added g = added<false>(block, 0, x, block.hd_rate_per_ms, nullptr);
      put(out.m_inf + i, g.m_inf);
      put(out.l_inf + i, g.l_inf);
      put(out.n_inf + i, g.n_inf);
      put(out.tau_m + i, dt_ms / g.rate_m);
      put(out.tau_l + i, dt_ms / g.rate_l);
      put(out.tau_n + i, dt_ms / g.rate_n);
    }
  }
};

}  // namespace
}  // namespace myelin::cell
