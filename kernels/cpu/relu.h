// Two-layer ReLU networks, f(x) = v . relu(W x), with few multiply-adds per sample and neuron.
//
// Forward needs d of them for z = W_j . x, a comparison, and one masked by z > 0 for f += v_j z. Backward needs only
// the masks and c_n = dloss/df(x_n): G_j = sum_n 1[z_nj > 0] c_n x_n, by d masked additions of c_n x_n, because
//     grad W_j = v_j G_j   and   grad v_j = sum_n 1[z_nj > 0] c_n W_j . x_n = W_j . G_j.
// Up to eight features and without mask registers it is one AND for c_n and d multiply-adds: half the instructions of
// d ANDs and d additions, and one rounding less in each term. Samples are taken in tiles, so that masks and c x stay in
// the first-level cache and the sums in registers.
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
  V* scaled_x;     // c_n x_n of a tile
};

constexpr int tile = 16;  // samples
// A block of neurons and samples forward, so that its sums and what they are made of fit the registers.
constexpr int narrow_neurons = vector_registers >= 32 ? 1 : 2, narrow_points = vector_registers >= 32 ? 8 : 4;
constexpr int narrow_dimension = 8;

// Up to eight features: sums of a block of samples stay in registers, forward while the neurons pass, backward while
// the samples do. All chains of a block advance together, since processors look only a few dozen instructions ahead.
template <class T, int d, bool shared>
struct ReluNarrow {
  using V = Vec<T>;

  // The outputs of `points` samples, the first of which is `s` of the tile.
  template <int points, bool outputs, bool keep_masks>
  static SAMBALANCE_INLINE void outputs_of(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first, int64_t s,
                                           const V* theta, V* f) {
    V sum[points];
#pragma GCC unroll 8
    for (int i = 0; i < points; ++i) sum[i] = V{};
    const T* x = samples.x + (first + s) * d * (shared ? 1 : lanes<T>);
    int64_t j = 0;
    for (; j + narrow_neurons <= pass.m; j += narrow_neurons) {
      activations<narrow_neurons, points, outputs, keep_masks>(pass, x, s, j, theta, sum);
    }
    for (; j < pass.m; ++j) activations<1, points, outputs, keep_masks>(pass, x, s, j, theta, sum);
    if constexpr (outputs) {
#pragma GCC unroll 8
      for (int i = 0; i < points; ++i) f[s + i] = sum[i];
    }
  }

  template <int neurons, int points, bool outputs, bool keep_masks>
  static SAMBALANCE_INLINE void activations(const ReluPass<T>& pass, const T* x, int64_t s, int64_t j, const V* theta,
                                            V (&sum)[points]) {
    const V *w = theta + j * d, *v = theta + pass.m * d + j;
    if constexpr (vector_registers < 32) x = read_again(x);
    V z[neurons][points];
#pragma GCC unroll 8
    for (int k = 0; k < d; ++k) {
      V weight[neurons];
#pragma GCC unroll 2
      for (int a = 0; a < neurons; ++a) weight[a] = in_register(w[a * d + k]);
#pragma GCC unroll 8
      for (int i = 0; i < points; ++i) {
        const V feature = load<T, shared>(x, i * d + k);
#pragma GCC unroll 2
        for (int a = 0; a < neurons; ++a) z[a][i] = k == 0 ? weight[a] * feature : fma(weight[a], feature, z[a][i]);
      }
    }
#pragma GCC unroll 2
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 8
      for (int i = 0; i < points; ++i) {
        const Mask<T> active = not_at_most(z[a][i], V{});  // true for NaN, which must spread
        if constexpr (keep_masks) pass.masks[(j + a) * tile + s + i] = active;
        if constexpr (outputs) sum[i] = masked_fma(active, v[a], z[a][i], sum[i]);
      }
    }
  }

  template <bool outputs, bool keep_masks>
  static SAMBALANCE_INLINE void forward(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                        int64_t count, const V* theta, V* f) {
    int64_t s = 0;
    for (; s + narrow_points <= count; s += narrow_points) {
      outputs_of<narrow_points, outputs, keep_masks>(pass, samples, first, s, theta, f);
    }
    if (narrow_points > 4 && count - s >= 4) {
      outputs_of<4, outputs, keep_masks>(pass, samples, first, s, theta, f);
      s += 4;
    }
    for (; s < count; ++s) outputs_of<1, outputs, keep_masks>(pass, samples, first, s, theta, f);
  }

  static SAMBALANCE_INLINE void backward(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                         int64_t count, const V* c, V* sums) {
    const T* x = samples.x + first * d * (shared ? 1 : lanes<T>);
    for (int64_t s = 0; mask_registers && s < count; ++s) {
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) pass.scaled_x[s * d + k] = c[s] * load<T, shared>(x, s * d + k);
    }
    int64_t j = 0;
    for (; j + 2 <= pass.m; j += 2) accumulate<2>(pass, x, count, j, c, sums);
    if (j < pass.m) accumulate<1>(pass, x, count, j, c, sums);
  }

  // Two neurons at once, so that what a sample adds is loaded once for both: c x, added under a mask where masks have
  // registers of their own; elsewhere c is cleared by the mask once for all features.
  template <int neurons>
  static SAMBALANCE_INLINE void accumulate(const ReluPass<T>& pass, const T* x, int64_t count, int64_t j, const V* c,
                                           V* sums) {
    V g[neurons][d];
#pragma GCC unroll 2
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) g[a][k] = sums[(j + a) * d + k];
    }
    for (int64_t s = 0; s < count; ++s) {
      Mask<T> active[neurons];
      V slope[neurons];
#pragma GCC unroll 2
      for (int a = 0; a < neurons; ++a) {
        active[a] = load_mask(&pass.masks[(j + a) * tile + s]);
        if constexpr (!mask_registers) slope[a] = cleared(active[a], c[s]);
      }
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) {
        if constexpr (mask_registers) {
          const V scaled = pass.scaled_x[s * d + k];
#pragma GCC unroll 2
          for (int a = 0; a < neurons; ++a) g[a][k] = masked_add(g[a][k], active[a], scaled);
        } else {
          const V feature = load<T, shared>(x, s * d + k);
#pragma GCC unroll 2
          for (int a = 0; a < neurons; ++a) g[a][k] = fma(slope[a], feature, g[a][k]);
        }
      }
    }
#pragma GCC unroll 2
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 8
      for (int k = 0; k < d; ++k) sums[(j + a) * d + k] = g[a][k];
    }
  }

  static __attribute__((noinline)) void pass(const ReluPass<T>& pass, const Samples<T>& samples, const V* weights_at,
                                             const V* jacobian_at, V* sums, V* loss) {
    for (int64_t first = 0; first < samples.count; first += tile) {
      const int64_t left = samples.count - first, count = left < tile ? left : tile;
      V f[tile], c[tile];
      if (weights_at == jacobian_at) {
        forward<true, true>(pass, samples, first, count, weights_at, f);
      } else {
        forward<true, false>(pass, samples, first, count, weights_at, f);
        if (sums) forward<false, true>(pass, samples, first, count, jacobian_at, f);
      }
      tile_derivatives<T>(pass.kind, samples, first, count, f, c, loss);
      if (sums) backward(pass, samples, first, count, c, sums);
    }
  }
};

// More features: small matrix products. A block of `neurons` x `points` sums stays in registers while k runs.
constexpr int wide_neurons = vector_registers >= 32 ? 4 : 2;

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
        if constexpr (keep_masks) pass.masks[(j + a) * tile + s + i] = active;
        if constexpr (outputs) f[s + i] = masked_fma(active, v[a], z[a][i], f[s + i]);
      }
    }
  }

  template <bool outputs, bool keep_masks>
  static __attribute__((noinline)) void forward(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                                int64_t count, const V* theta, V* f) {
    for (int64_t s = 0; outputs && s < count; ++s) f[s] = V{};
    int64_t j = 0;
    for (; j + wide_neurons <= pass.m; j += wide_neurons) {
      int64_t s = 0;
      for (; s + 4 <= count; s += 4) {
        activations<wide_neurons, 4, outputs, keep_masks>(pass, samples, first, s, j, theta, f);
      }
      for (; s < count; ++s) activations<wide_neurons, 1, outputs, keep_masks>(pass, samples, first, s, j, theta, f);
    }
    for (; j < pass.m; ++j) {
      int64_t s = 0;
      for (; s + 4 <= count; s += 4) activations<1, 4, outputs, keep_masks>(pass, samples, first, s, j, theta, f);
      for (; s < count; ++s) activations<1, 1, outputs, keep_masks>(pass, samples, first, s, j, theta, f);
    }
  }

  template <int neurons, int features>
  static SAMBALANCE_INLINE void accumulate(const ReluPass<T>& pass, int64_t count, int64_t j, int64_t k, V* sums) {
    V g[neurons][features];
#pragma GCC unroll 4
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 4
      for (int b = 0; b < features; ++b) g[a][b] = sums[(j + a) * pass.d + k + b];
    }
    for (int64_t s = 0; s < count; ++s) {
      V x[features];
#pragma GCC unroll 4
      for (int b = 0; b < features; ++b) x[b] = pass.scaled_x[s * features + b];
#pragma GCC unroll 4
      for (int a = 0; a < neurons; ++a) {
        const Mask<T> active = load_mask(&pass.masks[(j + a) * tile + s]);
#pragma GCC unroll 4
        for (int b = 0; b < features; ++b) g[a][b] = masked_add(g[a][b], active, x[b]);
      }
    }
#pragma GCC unroll 4
    for (int a = 0; a < neurons; ++a) {
#pragma GCC unroll 4
      for (int b = 0; b < features; ++b) sums[(j + a) * pass.d + k + b] = g[a][b];
    }
  }

  template <int features>
  static SAMBALANCE_INLINE void backward_columns(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                                 int64_t count, int64_t k, const V* c, V* sums) {
    for (int64_t s = 0; s < count; ++s) {
#pragma GCC unroll 4
      for (int b = 0; b < features; ++b) {
        pass.scaled_x[s * features + b] = c[s] * load<T, shared>(samples.x, (first + s) * pass.d + k + b);
      }
    }
    int64_t j = 0;
    for (; j + wide_neurons <= pass.m; j += wide_neurons) accumulate<wide_neurons, features>(pass, count, j, k, sums);
    for (; j < pass.m; ++j) accumulate<1, features>(pass, count, j, k, sums);
  }

  static __attribute__((noinline)) void backward(const ReluPass<T>& pass, const Samples<T>& samples, int64_t first,
                                                 int64_t count, const V* c, V* sums) {
    int64_t k = 0;
    for (; k + 4 <= pass.d; k += 4) backward_columns<4>(pass, samples, first, count, k, c, sums);
    for (; k < pass.d; ++k) backward_columns<1>(pass, samples, first, count, k, c, sums);
  }

  static void pass(const ReluPass<T>& pass, const Samples<T>& samples, const V* weights_at, const V* jacobian_at,
                   V* sums, V* loss) {
    for (int64_t first = 0; first < samples.count; first += tile) {
      const int64_t left = samples.count - first, count = left < tile ? left : tile;
      V f[tile], c[tile];
      if (weights_at == jacobian_at) {
        forward<true, true>(pass, samples, first, count, weights_at, f);
      } else {
        forward<true, false>(pass, samples, first, count, weights_at, f);
        if (sums) forward<false, true>(pass, samples, first, count, jacobian_at, f);
      }
      tile_derivatives<T>(pass.kind, samples, first, count, f, c, loss);
      if (sums) backward(pass, samples, first, count, c, sums);
    }
  }
};

template <class T>
using ReluPassFunction = void (*)(const ReluPass<T>&, const Samples<T>&, const Vec<T>*, const Vec<T>*, Vec<T>*,
                                  Vec<T>*);

template <class T, bool shared>
ReluPassFunction<T> relu_pass(int64_t d) {
  switch (d) {
    case 1:
      return ReluNarrow<T, 1, shared>::pass;
    case 2:
      return ReluNarrow<T, 2, shared>::pass;
    case 3:
      return ReluNarrow<T, 3, shared>::pass;
    case 4:
      return ReluNarrow<T, 4, shared>::pass;
    case 5:
      return ReluNarrow<T, 5, shared>::pass;
    case 6:
      return ReluNarrow<T, 6, shared>::pass;
    case 7:
      return ReluNarrow<T, 7, shared>::pass;
    case 8:
      return ReluNarrow<T, 8, shared>::pass;
    default:
      return ReluWide<T, shared>::pass;
  }
}

template <class T>
struct ReluNetwork {
  using V = Vec<T>;
  ReluPass<T> pass;
  ReluPassFunction<T> shared_pass, lane_pass;
  const V* scale;
  V *scaled_weights, *scaled_jacobian;  // copies of the parameters with W scaled, where the scale is kept apart

  void set_up(const Problem& p, const V* feature_scale, Workspace* workspace) {
    pass.d = p.dimension;
    pass.m = p.width;
    pass.kind = p.loss;
    pass.masks = take<Mask<T>>(workspace, p.width * tile);
    pass.scaled_x = take<V>(workspace, tile * narrow_dimension);
    shared_pass = relu_pass<T, true>(p.dimension);
    lane_pass = relu_pass<T, false>(p.dimension);
    scale = feature_scale;
    if (scale) {
      scaled_weights = take<V>(workspace, p.width * (p.dimension + 1));
      scaled_jacobian = take<V>(workspace, p.width * (p.dimension + 1));
    }
  }

  // u = W^T v / 2, the linear part of f.
  void coefficients(const V* theta, V* u) const {
    const V* v = theta + pass.m * pass.d;
    for (int64_t k = 0; k < pass.d; ++k) {
      V sum = V{};
      for (int64_t j = 0; j < pass.m; ++j) sum = fma(theta[j * pass.d + k], v[j], sum);
      u[k] = sum * splat<T>(T(0.5));
    }
  }

  const V* with_scale(const V* theta, V* out) const {
    if (!scale) return theta;
    for (int64_t j = 0; j < pass.m; ++j) {
      for (int64_t k = 0; k < pass.d; ++k) out[j * pass.d + k] = theta[j * pass.d + k] * scale[k];
      out[pass.m * pass.d + j] = theta[pass.m * pass.d + j];
    }
    return out;
  }

  V loss(const Samples<T>& samples, const V* theta) const {
    V sum = V{};
    const V* at = with_scale(theta, scaled_weights);
    (samples.shared ? shared_pass : lane_pass)(pass, samples, at, nullptr, nullptr, &sum);
    return sum;
  }

  void gradient(const Samples<T>& samples, const V* weights_at, const V* jacobian_at, V* gradient, V* loss,
                bool) const {
    const int64_t d = pass.d, m = pass.m;
    const V* weights = with_scale(weights_at, scaled_weights);
    const V* jacobian = jacobian_at == weights_at ? weights : with_scale(jacobian_at, scaled_jacobian);
    for (int64_t i = 0; i < m * d; ++i) gradient[i] = V{};
    (samples.shared ? shared_pass : lane_pass)(pass, samples, weights, jacobian, gradient, loss);
    for (int64_t j = 0; j < m; ++j) {
      const V v = jacobian[m * d + j];
      V sum = V{};
      for (int64_t k = 0; k < d; ++k) {
        sum = fma(jacobian[j * d + k], gradient[j * d + k], sum);
        gradient[j * d + k] = v * gradient[j * d + k];
        if (scale) gradient[j * d + k] = gradient[j * d + k] * scale[k];
      }
      gradient[m * d + j] = sum;
    }
  }
};

}  // namespace SAMBALANCE_ISA
}  // namespace sambalance
