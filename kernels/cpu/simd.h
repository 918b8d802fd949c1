// Vectors whose lanes are runs. Everything here is compiled once per instruction set, inside its own namespace, and
// uses no C++ library code: an inline std:: function compiled for AVX-512 must never be the copy that the linker keeps.
//
// Multiply-adds are explicit and the compiler may not form others (-ffp-contract=off), so a run gets the same bits
// wherever an expression is instantiated. `fma` is one rounding with AVX2, AVX-512 and NEON, two with plain SSE.
#pragma once
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef SAMBALANCE_ISA
#error "compile kernels/cpu/isa.cpp with SAMBALANCE_ISA set to the name of its instruction set"
#endif

#define SAMBALANCE_INLINE inline __attribute__((always_inline))

namespace sambalance {
namespace SAMBALANCE_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int vector_registers = 32;
#else
constexpr int vector_registers = 16;
#endif

typedef float FloatVector __attribute__((vector_size(vector_bytes)));
typedef double DoubleVector __attribute__((vector_size(vector_bytes)));
typedef int32_t IntVector __attribute__((vector_size(vector_bytes)));
typedef int64_t LongVector __attribute__((vector_size(vector_bytes)));

#if defined(__AVX512F__)
constexpr bool mask_registers = true;
typedef __mmask16 FloatMask;
typedef __mmask8 DoubleMask;
#else
constexpr bool mask_registers = false;
typedef IntVector FloatMask;
typedef LongVector DoubleMask;
#endif

template <class T>
struct Simd;
template <>
struct Simd<float> {
  typedef FloatVector V;
  typedef FloatMask M;
  typedef IntVector I;
};
template <>
struct Simd<double> {
  typedef DoubleVector V;
  typedef DoubleMask M;
  typedef LongVector I;
};
template <class T>
using Vec = typename Simd<T>::V;
template <class T>
using Mask = typename Simd<T>::M;
template <class T>
constexpr int lanes = vector_bytes / sizeof(T);

template <class T>
SAMBALANCE_INLINE Vec<T> splat(T value) {
  return value - Vec<T>{};  // exact, and -0 stays -0
}

// The vector in a register: GCC would rather load it anew for each use.
template <class V>
SAMBALANCE_INLINE V in_register(V vector) {
#if defined(__AVX2__)
  asm("" : "+v"(vector));
#endif
  return vector;
}
// The pointer, of which the compiler no longer knows where it points: it would otherwise load what lies there before a
// loop, find no registers for it and keep it on the stack.
template <class T>
SAMBALANCE_INLINE const T* read_again(const T* pointer) {
  asm("" : "+r"(pointer));
  return pointer;
}

// fma(a, b, c) = a b + c;  fnma(a, b, c) = c - a b;  least/greatest return their second operand when it is NaN.
#if defined(__AVX512F__)
SAMBALANCE_INLINE FloatVector fma(FloatVector a, FloatVector b, FloatVector c) { return _mm512_fmadd_ps(a, b, c); }
SAMBALANCE_INLINE DoubleVector fma(DoubleVector a, DoubleVector b, DoubleVector c) { return _mm512_fmadd_pd(a, b, c); }
SAMBALANCE_INLINE FloatVector fnma(FloatVector a, FloatVector b, FloatVector c) { return _mm512_fnmadd_ps(a, b, c); }
SAMBALANCE_INLINE DoubleVector fnma(DoubleVector a, DoubleVector b, DoubleVector c) {
  return _mm512_fnmadd_pd(a, b, c);
}
SAMBALANCE_INLINE FloatVector least(FloatVector a, FloatVector b) { return _mm512_min_ps(a, b); }
SAMBALANCE_INLINE DoubleVector least(DoubleVector a, DoubleVector b) { return _mm512_min_pd(a, b); }
SAMBALANCE_INLINE FloatVector greatest(FloatVector a, FloatVector b) { return _mm512_max_ps(a, b); }
SAMBALANCE_INLINE DoubleVector greatest(DoubleVector a, DoubleVector b) { return _mm512_max_pd(a, b); }
SAMBALANCE_INLINE FloatVector square_root(FloatVector a) { return _mm512_sqrt_ps(a); }
SAMBALANCE_INLINE DoubleVector square_root(DoubleVector a) { return _mm512_sqrt_pd(a); }
SAMBALANCE_INLINE FloatVector floor_of(FloatVector a) { return _mm512_roundscale_ps(a, _MM_FROUND_FLOOR); }
SAMBALANCE_INLINE DoubleVector floor_of(DoubleVector a) { return _mm512_roundscale_pd(a, _MM_FROUND_FLOOR); }
// a - floor(a), 0 for infinities;  a 2^floor(n).
SAMBALANCE_INLINE FloatVector minus_floor(FloatVector a) { return _mm512_reduce_ps(a, _MM_FROUND_FLOOR); }
SAMBALANCE_INLINE DoubleVector minus_floor(DoubleVector a) { return _mm512_reduce_pd(a, _MM_FROUND_FLOOR); }
SAMBALANCE_INLINE FloatVector scale_by_floor(FloatVector a, FloatVector n) { return _mm512_scalef_ps(a, n); }
SAMBALANCE_INLINE DoubleVector scale_by_floor(DoubleVector a, DoubleVector n) { return _mm512_scalef_pd(a, n); }

// 1 / a and 1 / sqrt(a) from 14-bit estimates by Newton's iteration, to about one unit in the last place: the divider
// would be the slowest part of a step. Not for infinite or zero a (NaN).
SAMBALANCE_INLINE FloatVector reciprocal(FloatVector a) {
  const FloatVector r = _mm512_rcp14_ps(a);
  return fma(r, fnma(a, r, _mm512_set1_ps(1)), r);
}
SAMBALANCE_INLINE DoubleVector reciprocal(DoubleVector a) {
  DoubleVector r = _mm512_rcp14_pd(a);
  r = fma(r, fnma(a, r, _mm512_set1_pd(1)), r);
  return fma(r, fnma(a, r, _mm512_set1_pd(1)), r);
}
SAMBALANCE_INLINE FloatVector inverse_square_root(FloatVector a) {
  const FloatVector r = _mm512_rsqrt14_ps(a);
  return fma(r * _mm512_set1_ps(0.5f), fnma(a * r, r, _mm512_set1_ps(1)), r);
}
SAMBALANCE_INLINE DoubleVector inverse_square_root(DoubleVector a) { return _mm512_set1_pd(1) / _mm512_sqrt_pd(a); }

#define SAMBALANCE_COMPARE(name, predicate)                                                                      \
  SAMBALANCE_INLINE FloatMask name(FloatVector a, FloatVector b) { return _mm512_cmp_ps_mask(a, b, predicate); } \
  SAMBALANCE_INLINE DoubleMask name(DoubleVector a, DoubleVector b) { return _mm512_cmp_pd_mask(a, b, predicate); }
SAMBALANCE_COMPARE(greater, _CMP_GT_OQ)
SAMBALANCE_COMPARE(less, _CMP_LT_OQ)
SAMBALANCE_COMPARE(at_most, _CMP_LE_OQ)
SAMBALANCE_COMPARE(equal, _CMP_EQ_OQ)
SAMBALANCE_COMPARE(not_at_most, _CMP_NLE_UQ)
#undef SAMBALANCE_COMPARE

SAMBALANCE_INLINE FloatVector select(FloatMask m, FloatVector a, FloatVector b) {
  return _mm512_mask_blend_ps(m, b, a);
}
SAMBALANCE_INLINE DoubleVector select(DoubleMask m, DoubleVector a, DoubleVector b) {
  return _mm512_mask_blend_pd(m, b, a);
}
// In place, in assembly: from the intrinsics GCC 12 makes a register copy for nearly every addition, and it moves masks
// from memory to mask registers by way of general ones.
SAMBALANCE_INLINE FloatVector masked_add(FloatVector a, FloatMask m, FloatVector b) {
  asm("vaddps %2, %0, %0 %{%1%}" : "+v"(a) : "Yk"(m), "v"(b));
  return a;
}
SAMBALANCE_INLINE DoubleVector masked_add(DoubleVector a, DoubleMask m, DoubleVector b) {
  asm("vaddpd %2, %0, %0 %{%1%}" : "+v"(a) : "Yk"(m), "v"(b));
  return a;
}
SAMBALANCE_INLINE FloatMask load_mask(const FloatMask* m) {
  FloatMask loaded;
  asm("kmovw %1, %0" : "=Yk"(loaded) : "m"(*m));
  return loaded;
}
SAMBALANCE_INLINE DoubleMask load_mask(const DoubleMask* m) {
  DoubleMask loaded;
  asm("kmovb %1, %0" : "=Yk"(loaded) : "m"(*m));
  return loaded;
}
SAMBALANCE_INLINE FloatVector masked_fma(FloatMask m, FloatVector a, FloatVector b, FloatVector c) {
  return _mm512_mask3_fmadd_ps(a, b, c, m);
}
SAMBALANCE_INLINE DoubleVector masked_fma(DoubleMask m, DoubleVector a, DoubleVector b, DoubleVector c) {
  return _mm512_mask3_fmadd_pd(a, b, c, m);
}
SAMBALANCE_INLINE FloatVector cleared(FloatMask m, FloatVector a) { return _mm512_maskz_mov_ps(m, a); }
SAMBALANCE_INLINE DoubleVector cleared(DoubleMask m, DoubleVector a) { return _mm512_maskz_mov_pd(m, a); }
SAMBALANCE_INLINE unsigned mask_bits(FloatMask m) { return m; }
SAMBALANCE_INLINE unsigned mask_bits(DoubleMask m) { return m; }
SAMBALANCE_INLINE FloatMask both(FloatMask a, FloatMask b) { return a & b; }
SAMBALANCE_INLINE DoubleMask both(DoubleMask a, DoubleMask b) { return a & b; }
SAMBALANCE_INLINE FloatMask first_but_not_second(FloatMask a, FloatMask b) { return a & ~b; }
SAMBALANCE_INLINE DoubleMask first_but_not_second(DoubleMask a, DoubleMask b) { return a & ~b; }

#else  // without AVX-512 a mask is a vector of all-ones and all-zeros lanes

#if defined(__FMA__)
SAMBALANCE_INLINE FloatVector fma(FloatVector a, FloatVector b, FloatVector c) { return _mm256_fmadd_ps(a, b, c); }
SAMBALANCE_INLINE DoubleVector fma(DoubleVector a, DoubleVector b, DoubleVector c) { return _mm256_fmadd_pd(a, b, c); }
SAMBALANCE_INLINE FloatVector fnma(FloatVector a, FloatVector b, FloatVector c) { return _mm256_fnmadd_ps(a, b, c); }
SAMBALANCE_INLINE DoubleVector fnma(DoubleVector a, DoubleVector b, DoubleVector c) {
  return _mm256_fnmadd_pd(a, b, c);
}
#elif defined(__aarch64__)
SAMBALANCE_INLINE FloatVector fma(FloatVector a, FloatVector b, FloatVector c) {
  return (FloatVector)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
SAMBALANCE_INLINE DoubleVector fma(DoubleVector a, DoubleVector b, DoubleVector c) {
  return (DoubleVector)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
SAMBALANCE_INLINE FloatVector fnma(FloatVector a, FloatVector b, FloatVector c) {
  return (FloatVector)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
SAMBALANCE_INLINE DoubleVector fnma(DoubleVector a, DoubleVector b, DoubleVector c) {
  return (DoubleVector)vfmsq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
SAMBALANCE_INLINE FloatVector fma(FloatVector a, FloatVector b, FloatVector c) { return a * b + c; }
SAMBALANCE_INLINE DoubleVector fma(DoubleVector a, DoubleVector b, DoubleVector c) { return a * b + c; }
SAMBALANCE_INLINE FloatVector fnma(FloatVector a, FloatVector b, FloatVector c) { return c - a * b; }
SAMBALANCE_INLINE DoubleVector fnma(DoubleVector a, DoubleVector b, DoubleVector c) { return c - a * b; }
#endif

SAMBALANCE_INLINE FloatMask greater(FloatVector a, FloatVector b) { return a > b; }
SAMBALANCE_INLINE DoubleMask greater(DoubleVector a, DoubleVector b) { return a > b; }
SAMBALANCE_INLINE FloatMask less(FloatVector a, FloatVector b) { return a < b; }
SAMBALANCE_INLINE DoubleMask less(DoubleVector a, DoubleVector b) { return a < b; }
SAMBALANCE_INLINE FloatMask at_most(FloatVector a, FloatVector b) { return a <= b; }
SAMBALANCE_INLINE DoubleMask at_most(DoubleVector a, DoubleVector b) { return a <= b; }
SAMBALANCE_INLINE FloatMask equal(FloatVector a, FloatVector b) { return a == b; }
SAMBALANCE_INLINE DoubleMask equal(DoubleVector a, DoubleVector b) { return a == b; }
#if defined(__AVX2__)
// By intrinsics: GCC makes two slow blends of a comparison and two ANDs with it.
SAMBALANCE_INLINE FloatMask not_at_most(FloatVector a, FloatVector b) {
  return (FloatMask)_mm256_cmp_ps(a, b, _CMP_NLE_UQ);
}
SAMBALANCE_INLINE DoubleMask not_at_most(DoubleVector a, DoubleVector b) {
  return (DoubleMask)_mm256_cmp_pd(a, b, _CMP_NLE_UQ);
}
#else
SAMBALANCE_INLINE FloatMask not_at_most(FloatVector a, FloatVector b) { return ~(a <= b); }
SAMBALANCE_INLINE DoubleMask not_at_most(DoubleVector a, DoubleVector b) { return ~(a <= b); }
#endif

SAMBALANCE_INLINE FloatVector select(FloatMask m, FloatVector a, FloatVector b) {
  return (FloatVector)((m & (IntVector)a) | (~m & (IntVector)b));
}
SAMBALANCE_INLINE DoubleVector select(DoubleMask m, DoubleVector a, DoubleVector b) {
  return (DoubleVector)((m & (LongVector)a) | (~m & (LongVector)b));
}

#if defined(__AVX2__)
SAMBALANCE_INLINE FloatVector least(FloatVector a, FloatVector b) { return _mm256_min_ps(a, b); }
SAMBALANCE_INLINE DoubleVector least(DoubleVector a, DoubleVector b) { return _mm256_min_pd(a, b); }
SAMBALANCE_INLINE FloatVector greatest(FloatVector a, FloatVector b) { return _mm256_max_ps(a, b); }
SAMBALANCE_INLINE DoubleVector greatest(DoubleVector a, DoubleVector b) { return _mm256_max_pd(a, b); }
SAMBALANCE_INLINE FloatVector square_root(FloatVector a) { return _mm256_sqrt_ps(a); }
SAMBALANCE_INLINE DoubleVector square_root(DoubleVector a) { return _mm256_sqrt_pd(a); }
SAMBALANCE_INLINE FloatVector floor_of(FloatVector a) { return _mm256_floor_ps(a); }
SAMBALANCE_INLINE DoubleVector floor_of(DoubleVector a) { return _mm256_floor_pd(a); }
SAMBALANCE_INLINE unsigned mask_bits(FloatMask m) { return _mm256_movemask_ps((__m256)m); }
SAMBALANCE_INLINE unsigned mask_bits(DoubleMask m) { return _mm256_movemask_pd((__m256d)m); }
#elif defined(__SSE4_1__)
SAMBALANCE_INLINE FloatVector least(FloatVector a, FloatVector b) { return _mm_min_ps(a, b); }
SAMBALANCE_INLINE DoubleVector least(DoubleVector a, DoubleVector b) { return _mm_min_pd(a, b); }
SAMBALANCE_INLINE FloatVector greatest(FloatVector a, FloatVector b) { return _mm_max_ps(a, b); }
SAMBALANCE_INLINE DoubleVector greatest(DoubleVector a, DoubleVector b) { return _mm_max_pd(a, b); }
SAMBALANCE_INLINE FloatVector square_root(FloatVector a) { return _mm_sqrt_ps(a); }
SAMBALANCE_INLINE DoubleVector square_root(DoubleVector a) { return _mm_sqrt_pd(a); }
SAMBALANCE_INLINE FloatVector floor_of(FloatVector a) { return _mm_floor_ps(a); }
SAMBALANCE_INLINE DoubleVector floor_of(DoubleVector a) { return _mm_floor_pd(a); }
SAMBALANCE_INLINE unsigned mask_bits(FloatMask m) { return _mm_movemask_ps((__m128)m); }
SAMBALANCE_INLINE unsigned mask_bits(DoubleMask m) { return _mm_movemask_pd((__m128d)m); }
#else
SAMBALANCE_INLINE FloatVector least(FloatVector a, FloatVector b) { return select(less(a, b), a, b); }
SAMBALANCE_INLINE DoubleVector least(DoubleVector a, DoubleVector b) { return select(less(a, b), a, b); }
SAMBALANCE_INLINE FloatVector greatest(FloatVector a, FloatVector b) { return select(greater(a, b), a, b); }
SAMBALANCE_INLINE DoubleVector greatest(DoubleVector a, DoubleVector b) { return select(greater(a, b), a, b); }
SAMBALANCE_INLINE FloatVector square_root(FloatVector a) {
  for (int i = 0; i < lanes<float>; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
SAMBALANCE_INLINE DoubleVector square_root(DoubleVector a) {
  for (int i = 0; i < lanes<double>; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
}
SAMBALANCE_INLINE FloatVector floor_of(FloatVector a) {
  for (int i = 0; i < lanes<float>; ++i) a[i] = __builtin_floorf(a[i]);
  return a;
}
SAMBALANCE_INLINE DoubleVector floor_of(DoubleVector a) {
  for (int i = 0; i < lanes<double>; ++i) a[i] = __builtin_floor(a[i]);
  return a;
}
SAMBALANCE_INLINE unsigned mask_bits(FloatMask m) {
  unsigned bits = 0;
  for (int i = 0; i < lanes<float>; ++i) bits |= unsigned(m[i] & 1) << i;
  return bits;
}
SAMBALANCE_INLINE unsigned mask_bits(DoubleMask m) {
  unsigned bits = 0;
  for (int i = 0; i < lanes<double>; ++i) bits |= unsigned(m[i] & 1) << i;
  return bits;
}
#endif

SAMBALANCE_INLINE FloatVector reciprocal(FloatVector a) { return 1.0f / a; }
SAMBALANCE_INLINE DoubleVector reciprocal(DoubleVector a) { return 1.0 / a; }
SAMBALANCE_INLINE FloatVector inverse_square_root(FloatVector a) { return 1.0f / square_root(a); }
SAMBALANCE_INLINE DoubleVector inverse_square_root(DoubleVector a) { return 1.0 / square_root(a); }

// a, and 0 in the other lanes.
SAMBALANCE_INLINE FloatVector cleared(FloatMask m, FloatVector a) { return (FloatVector)(m & (IntVector)a); }
SAMBALANCE_INLINE DoubleVector cleared(DoubleMask m, DoubleVector a) { return (DoubleVector)(m & (LongVector)a); }
SAMBALANCE_INLINE FloatVector masked_add(FloatVector a, FloatMask m, FloatVector b) { return a + cleared(m, b); }
SAMBALANCE_INLINE DoubleVector masked_add(DoubleVector a, DoubleMask m, DoubleVector b) { return a + cleared(m, b); }
// b is the operand that is cleared in the other lanes: it is relu's argument, which is never NaN there.
SAMBALANCE_INLINE FloatVector masked_fma(FloatMask m, FloatVector a, FloatVector b, FloatVector c) {
  return fma(a, cleared(m, b), c);
}
SAMBALANCE_INLINE DoubleVector masked_fma(DoubleMask m, DoubleVector a, DoubleVector b, DoubleVector c) {
  return fma(a, cleared(m, b), c);
}
SAMBALANCE_INLINE FloatMask load_mask(const FloatMask* m) { return *m; }
SAMBALANCE_INLINE DoubleMask load_mask(const DoubleMask* m) { return *m; }
SAMBALANCE_INLINE FloatMask both(FloatMask a, FloatMask b) { return a & b; }
SAMBALANCE_INLINE DoubleMask both(DoubleMask a, DoubleMask b) { return a & b; }
SAMBALANCE_INLINE FloatMask first_but_not_second(FloatMask a, FloatMask b) { return a & ~b; }
SAMBALANCE_INLINE DoubleMask first_but_not_second(DoubleMask a, DoubleMask b) { return a & ~b; }
#endif

}  // namespace SAMBALANCE_ISA
}  // namespace sambalance
