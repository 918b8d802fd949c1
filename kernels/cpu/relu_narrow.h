// Passes of two-layer ReLU networks over the data, for up to six features: see relu.h.
#pragma once
#include "samples.h"

namespace sambalance {
namespace SAMBALANCE_ISA {

// Working memory of a pass and what it works on. Parameters are W [m, d], then v [m].
template <class T>
struct ReluPass {
  using V = Vec<T>;
  int64_t d, m;
  Loss kind;
  Mask<T>* masks;  // [m, tile]
  V* scaled_x;     // c_n x_n of a tile, for few features
};

// The i-th of many masked additions: three of eight by the multipliers, which are not all the work, the others by the
// adders. The bits are the same.
template <class V, class M>
SAMBALANCE_INLINE V either_add(int i, V sum, M mask, V addend) {
  return 3 * i % 8 < 3 ? masked_add_by_fma(sum, mask, addend) : masked_add(sum, mask, addend);
}

constexpr int narrow_tile = 8, most_narrow = 6;  // samples and features

// One neuron's weights and the tile's outputs stay in registers.
template <class T, int d, bool shared, int count>
struct ReluNarrow {
  using V = Vec<T>;

  template <bool outputs, bool keep_masks>
  static SAMBALANCE_INLINE void forward(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                        const V* theta, V* f) {
    const V* v = theta + pass.m * d;
    V sum[count];
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) sum[i] = V{};
    for (int64_t j = 0; j < pass.m; ++j) {
      V w[d];
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) w[k] = theta[j * d + k];
      const V vj = v[j];
#pragma GCC unroll 8
      for (int i = 0; i < count; ++i) {
        V z = w[0] * load<T, shared>(samples.x, (first + i) * d);
#pragma GCC unroll 8
        for (int k = 1; k < d; ++k) z = fma(w[k], load<T, shared>(samples.x, (first + i) * d + k), z);
        const Mask<T> active = not_at_most(z, V{});  // true for NaN, which must spread
        if constexpr (keep_masks) pass.masks[j * count + i] = active;
        if constexpr (outputs) sum[i] = masked_fma(active, vj, z, sum[i]);
      }
    }
    if constexpr (outputs) {
#pragma GCC unroll 8
      for (int i = 0; i < count; ++i) f[i] = sum[i];
    }
  }

  static SAMBALANCE_INLINE void backward(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first, const V* c,
                                         V* sums) {
    V* scaled = pass.scaled_x;
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) scaled[i * d + k] = c[i] * load<T, shared>(samples.x, (first + i) * d + k);
    }
    int64_t j = 0;
    for (; j + 2 <= pass.m; j += 2) accumulate<2>(pass, j, sums);
    if (j < pass.m) accumulate<1>(pass, j, sums);
  }

  // Two neurons at once, so that each c x is loaded once for both.
  template <int neurons>
  static SAMBALANCE_INLINE void accumulate(const ReluPass<T>& pass, int64_t j, V* sums) {
    V g[neurons][d];
#pragma GCC unroll 2
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) g[a][k] = sums[(j + a) * d + k];
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) {
      Mask<T> active[neurons];
#pragma GCC unroll 2
      for (int a = 0; a < neurons; ++a) active[a] = load_mask(&pass.masks[(j + a) * count + i]);
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) {
        const V scaled = pass.scaled_x[i * d + k];
#pragma GCC unroll 2
        for (int a = 0; a < neurons; ++a) g[a][k] = either_add(a * d + k, g[a][k], active[a], scaled);
      }
    }
#pragma GCC unroll 2
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) sums[(j + a) * d + k] = g[a][k];
    }
  }

  static __attribute__((noinline)) void tile(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                             const V* weights_at, const V* jacobian_at, V* sums, V* loss) {
    V f[count], c[count];
    if (weights_at == jacobian_at) {
      forward<true, true>(pass, samples, first, weights_at, f);
    } else {
      forward<true, false>(pass, samples, first, weights_at, f);
      if (sums) forward<false, true>(pass, samples, first, jacobian_at, f);
    }
    loss_derivatives<T, count>(pass.kind, samples, first, f, c, loss);
    if (sums) backward(pass, samples, first, c, sums);
  }
};

template <class T, int d, bool shared>
void relu_narrow_pass(const ReluPass<T>& pass, const Samples<T>& samples, const Vec<T>* weights_at,
                      const Vec<T>* jacobian_at, Vec<T>* sums, Vec<T>* loss) {
  int64_t s = 0;
  for (; s + 8 <= samples.count; s += 8) {
    ReluNarrow<T, d, shared, 8>::tile(pass, samples, s, weights_at, jacobian_at, sums, loss);
  }
  if (samples.count - s >= 4) {
    ReluNarrow<T, d, shared, 4>::tile(pass, samples, s, weights_at, jacobian_at, sums, loss);
    s += 4;
  }
  for (; s < samples.count; ++s) {
    ReluNarrow<T, d, shared, 1>::tile(pass, samples, s, weights_at, jacobian_at, sums, loss);
  }
}

}  // namespace SAMBALANCE_ISA
}  // namespace sambalance
