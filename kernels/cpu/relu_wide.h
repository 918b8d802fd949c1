// Passes of two-layer ReLU networks over the data, for more than six features: small matrix products (see relu.h).
//
// A block of sums stays in registers while the loop over what is summed runs: z of `neurons` x `points` forward, G of
// `neurons` x `features` backward. Each number that is loaded serves a whole row or column of the block. A tile of
// samples is long, so that a neuron's weights and sums come from beyond the first-level cache once for many samples.
// Block sizes do not change the order in which anything is summed, hence no bits.
#pragma once
#include "relu_narrow.h"

namespace sambalance {
namespace SAMBALANCE_ISA {

constexpr bool large_blocks = vector_registers >= 32;
constexpr int wide_tile = large_blocks ? 48 : 16;
constexpr int most_neurons = large_blocks ? 4 : 2, most_points = 4;  // of a block forward
constexpr int most_rows = large_blocks ? 4 : 2, most_columns = 4;    // of a block backward

template <int size>
struct Size {
  static constexpr int value = size;
};

// Calls body(start, Size) for blocks of `most`, then of 1, until `count` is covered.
template <int most, class Body>
SAMBALANCE_INLINE void in_blocks(int64_t count, Body body) {
  int64_t start = 0;
  for (; start + most <= count; start += most) body(start, Size<most>());
  for (; start < count; ++start) body(start, Size<1>());
}

template <class T, bool shared>
struct ReluWide {
  using V = Vec<T>;

  template <int neurons, int points, bool outputs, bool keep_masks>
  static SAMBALANCE_INLINE void activations(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                            int64_t s, int64_t j, const V* theta, V* f) {
    const int64_t d = pass.d;
    const V *w = theta + j * d, *v = theta + pass.m * d + j;
    V z[neurons][points];
#pragma GCC unroll 4
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 4
      for (int i = 0; i < points; ++i) z[a][i] = V{};
    }
    for (int64_t k = 0; k < d; ++k) {
      V x[points];
#pragma GCC unroll 4
      for (int i = 0; i < points; ++i) x[i] = load<T, shared>(samples.x, (first + s + i) * d + k);
#pragma GCC unroll 4
      for (int a = 0; a < neurons; ++a) {
        const V weight = w[a * d + k];
#pragma GCC unroll 4
        for (int i = 0; i < points; ++i) z[a][i] = fma(weight, x[i], z[a][i]);
      }
    }
#pragma GCC unroll 4
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 4
      for (int i = 0; i < points; ++i) {
        const Mask<T> active = not_at_most(z[a][i], V{});
        if constexpr (keep_masks) pass.masks[(j + a) * wide_tile + s + i] = active;
        if constexpr (outputs) f[s + i] = masked_fma(active, v[a], z[a][i], f[s + i]);
      }
    }
  }

  template <bool outputs, bool keep_masks>
  static __attribute__((noinline)) void forward(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                                int64_t count, const V* theta, V* f) {
    for (int64_t s = 0; outputs && s < count; ++s) f[s] = V{};
    in_blocks<most_neurons>(pass.m, [&](int64_t j, auto neurons) {
      in_blocks<most_points>(count, [&](int64_t s, auto points) {
        activations<neurons.value, points.value, outputs, keep_masks>(pass, samples, first, s, j, theta, f);
      });
    });
  }

  // c x is made anew for each block: to multiply again costs less than to store and load it.
  template <int neurons, int features>
  static SAMBALANCE_INLINE void accumulate(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                           int64_t count, int64_t j, int64_t k, const V* c, V* sums) {
    V g[neurons][features];
#pragma GCC unroll 4
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 4
      for (int b = 0; b < features; ++b) g[a][b] = sums[(j + a) * pass.d + k + b];
    }
    for (int64_t s = 0; s < count; ++s) {
      V scaled[features];
#pragma GCC unroll 4
      for (int b = 0; b < features; ++b) scaled[b] = c[s] * load<T, shared>(samples.x, (first + s) * pass.d + k + b);
#pragma GCC unroll 4
      for (int a = 0; a < neurons; ++a) {
        const Mask<T> active = load_mask(&pass.masks[(j + a) * wide_tile + s]);
#pragma GCC unroll 4
        for (int b = 0; b < features; ++b) g[a][b] = either_add(a * features + b, g[a][b], active, scaled[b]);
      }
    }
#pragma GCC unroll 4
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 4
      for (int b = 0; b < features; ++b) sums[(j + a) * pass.d + k + b] = g[a][b];
    }
  }

  static __attribute__((noinline)) void backward(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                                 int64_t count, const V* c, V* sums) {
    in_blocks<most_rows>(pass.m, [&](int64_t j, auto neurons) {
      in_blocks<most_columns>(pass.d, [&](int64_t k, auto features) {
        accumulate<neurons.value, features.value>(pass, samples, first, count, j, k, c, sums);
      });
    });
  }

  static void pass(const ReluPass<T>& pass, const Samples<T>& samples, const V* weights_at, const V* jacobian_at,
                   V* sums, V* loss) {
    for (int64_t first = 0; first < samples.count; first += wide_tile) {
      const int64_t left = samples.count - first, count = left < wide_tile ? left : wide_tile;
      V f[wide_tile], c[wide_tile];
      if (weights_at == jacobian_at) {
        forward<true, true>(pass, samples, first, count, weights_at, f);
      } else {
        forward<true, false>(pass, samples, first, count, weights_at, f);
        if (sums) forward<false, true>(pass, samples, first, count, jacobian_at, f);
      }
      int64_t s = 0;
      for (; s + 4 <= count; s += 4) loss_derivatives<T, 4>(pass.kind, samples, first + s, f + s, c + s, loss);
      for (; s < count; ++s) loss_derivatives<T, 1>(pass.kind, samples, first + s, f + s, c + s, loss);
      if (sums) backward(pass, samples, first, count, c, sums);
    }
  }
};

}  // namespace SAMBALANCE_ISA
}  // namespace sambalance
