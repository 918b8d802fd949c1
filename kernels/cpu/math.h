// exp and the logistic functions on vectors, to one or two units in the last place over the whole range.
#pragma once
#include "simd.h"

namespace sambalance {
namespace SAMBALANCE_ISA {

// Minimax polynomials (Remez), highest term first: 2^f = 1 + f P(f) on [0, 1], relative error 2e-9 and 3e-18;
// atanh(s) = s + s t Q(t), t = s^2, on 0 <= s <= 1/3, relative error 5e-9 and 1e-18.
template <class T>
struct Constants;
template <>
struct Constants<float> {
  static constexpr float log2_of_e = 1.44269504088896341f, ln2 = 0.693147180559945309f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float round_magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves a whole number in the low bits
  static constexpr float exp_highest = 88.37f, exp_lowest = -87.0f, exp2_highest = 126.0f, exp2_lowest = -126.0f;
  static constexpr int mantissa_bits = 23;
  static constexpr float exp2_terms[] = {0.0002161238040288279836f,
                                         0.001246800909811774445f,
                                         0.009675432947503577731f,
                                         0.05548529047092389179f,
                                         0.240229303204448196f,
                                         0.6931470446364404241f,
                                         1.0f};
  static constexpr float atanh_terms[] = {0.1401038005570331765f, 0.1399999438138090847f, 0.2001081926020693813f,
                                          0.3333320721985380334f};
};
template <>
struct Constants<double> {
  static constexpr double log2_of_e = 1.44269504088896340736, ln2 = 0.693147180559945309417;
  static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  static constexpr double round_magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double exp_highest = 709.4, exp_lowest = -708.0, exp2_highest = 1022.0, exp2_lowest = -1022.0;
  static constexpr int mantissa_bits = 52;
  static constexpr double exp2_terms[] = {6.263280311503143033e-10, 6.559632900333264626e-9,   1.025318744304511201e-7,
                                          1.320837070776620539e-6,  0.00001525317476398778641, 0.0001540351232568644611,
                                          0.001333355862899500099,  0.009618129099563594843,   0.05550410866560056552,
                                          0.2402265069590634168,    0.6931471805599459255,     1.0};
  static constexpr double atanh_terms[] = {0.08505687039693889911, 0.04172121007650390899, 0.06052534711383516359,
                                           0.06650556342613317466, 0.07693274168235840053, 0.09090872263983649251,
                                           0.1111111197519832706,  0.1428571427410744354,  0.2000000000007689156,
                                           0.3333333333333315809};
};

// Functions of `count` vectors go stage by stage: a processor that looks only a few dozen instructions ahead would
// otherwise wait at each instruction of one chain for the one before it.
template <class T, int count, int terms>
SAMBALANCE_INLINE void horner(const T (&term)[terms], const Vec<T> (&x)[count], Vec<T> (&sum)[count]) {
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) sum[i] = splat<T>(term[0]);
#pragma GCC unroll 16
  for (int k = 1; k < terms; ++k) {
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) sum[i] = fma(sum[i], x[i], splat<T>(term[k]));
  }
}

template <class T, int terms>
SAMBALANCE_INLINE Vec<T> horner(const T (&term)[terms], Vec<T> x) {
  const Vec<T> xs[] = {x};
  Vec<T> sum[1];
  horner<T>(term, xs, sum);
  return sum[0];
}

// p 2^n for whole n; without AVX-512 the result must be a normal number.
template <class T>
SAMBALANCE_INLINE Vec<T> times_power_of_two(Vec<T> p, Vec<T> n) {
#if defined(__AVX512F__)
  return scale_by_floor(p, n);
#else
  using C = Constants<T>;
  using I = typename Simd<T>::I;
  return (Vec<T>)((I)p + ((I)(n + splat<T>(C::round_magic)) << C::mantissa_bits));
#endif
}

// exp(x) for x within [exp_lowest, exp_highest], clamped outside; NaN stays NaN.
template <class T, int count>
SAMBALANCE_INLINE void exp_clamped(const Vec<T> (&x)[count], Vec<T> (&e)[count]) {
  using C = Constants<T>;
  Vec<T> n[count], r[count];
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) r[i] = greatest(splat<T>(C::exp_lowest), least(splat<T>(C::exp_highest), x[i]));
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) n[i] = floor_of(r[i] * splat<T>(C::log2_of_e));
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) r[i] = fnma(n[i], splat<T>(C::ln2_high), r[i]);
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) r[i] = fnma(n[i], splat<T>(C::ln2_low), r[i]) * splat<T>(C::log2_of_e);
  horner<T>(C::exp2_terms, r, e);
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) e[i] = times_power_of_two<T>(e[i], n[i]);
}

template <class T>
SAMBALANCE_INLINE Vec<T> exp_clamped(Vec<T> x) {
  const Vec<T> xs[] = {x};
  Vec<T> e[1];
  exp_clamped<T>(xs, e);
  return e[0];
}

// exp(x) with its true limits: 0 below, infinity above the representable range.
template <class T>
SAMBALANCE_INLINE Vec<T> exp_full(Vec<T> x) {
  using C = Constants<T>;
  const Vec<T> inside = exp_clamped<T>(x);
  const Vec<T> above = select(greater(x, splat<T>(C::exp_highest)), splat<T>(T(__builtin_inf())), inside);
  return select(less(x, splat<T>(C::exp_lowest)), Vec<T>{}, above);
}

// 2^y, its relative error growing as |y| eps: what y = log2(e) m, rounded, allows. Clamped as exp_clamped is.
template <class T, int count>
SAMBALANCE_INLINE void exp2_clamped(const Vec<T> (&y)[count], Vec<T> (&e)[count]) {
  using C = Constants<T>;
  Vec<T> n[count], f[count];
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) n[i] = least(splat<T>(C::exp2_highest), y[i]);
#if defined(__AVX512F__)
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) f[i] = minus_floor(n[i]);
  horner<T>(C::exp2_terms, f, e);
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) e[i] = scale_by_floor(e[i], n[i]);
#else
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) {
    f[i] = greatest(splat<T>(C::exp2_lowest), n[i]);
    n[i] = floor_of(f[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) f[i] = f[i] - n[i];
  horner<T>(C::exp2_terms, f, e);
#pragma GCC unroll 8
  for (int i = 0; i < count; ++i) e[i] = times_power_of_two<T>(e[i], n[i]);
#endif
}

template <class T>
SAMBALANCE_INLINE Vec<T> exp2_clamped(Vec<T> y) {
  const Vec<T> ys[] = {y};
  Vec<T> e[1];
  exp2_clamped<T>(ys, e);
  return e[0];
}

template <class T>
SAMBALANCE_INLINE Vec<T> exp2_full(Vec<T> y) {
  using C = Constants<T>;
  const Vec<T> above = select(greater(y, splat<T>(C::exp2_highest)), splat<T>(T(__builtin_inf())), exp2_clamped<T>(y));
  return select(less(y, splat<T>(C::exp2_lowest)), Vec<T>{}, above);
}

// lambda = 1 / (1 + e^m), given e^m.
template <class T>
SAMBALANCE_INLINE Vec<T> logistic_weight(Vec<T> exp_margin) {
  return reciprocal(splat<T>(1) + exp_margin);
}

// log(1 + e^-m), given e^m: max(-m, 0) + 2 atanh(s) with s = e / (2 + e), e = e^-|m|.
template <class T>
SAMBALANCE_INLINE Vec<T> logistic_loss(Vec<T> margin, Vec<T> exp_margin) {
  const auto positive = greater(margin, Vec<T>{});
  const Vec<T> upper = select(positive, splat<T>(1), exp_margin);
  const Vec<T> lower = fma(splat<T>(2), select(positive, exp_margin, splat<T>(1)), upper);
  const Vec<T> s = upper / lower, t = s * s;
  const Vec<T> atanh = fma(s * t, horner<T>(Constants<T>::atanh_terms, t), s);
  return greatest(Vec<T>{}, -margin) + (atanh + atanh);
}

}  // namespace SAMBALANCE_ISA
}  // namespace sambalance
