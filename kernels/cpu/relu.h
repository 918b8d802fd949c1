// Two-layer ReLU networks, f(x) = v . relu(W x), with few multiply-adds per sample and neuron.
//
// Forward needs d of them for z = W_j . x, a comparison, and one masked by z > 0 for f += v_j z. Backward needs only
// the masks and c_n = dloss/df(x_n): G_j = sum_n 1[z_nj > 0] c_n x_n, by d masked additions, because
//     grad W_j = v_j G_j   and   grad v_j = sum_n 1[z_nj > 0] c_n W_j . x_n = W_j . G_j.
// Samples are taken in tiles, so that masks and c x stay in the first-level cache and the sums in registers.
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

constexpr int wide_tile = 16, narrow_tile = 8, narrow_dimension = 8;

// Up to eight features: one neuron's weights and the tile's outputs stay in registers.
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
        for (int a = 0; a < neurons; ++a) g[a][k] = masked_add(g[a][k], active[a], scaled);
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

// More features: small matrix products. A block of `neurons` x `points` sums stays in registers while k runs.
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
    int64_t j = 0;
    for (; j + 4 <= pass.m; j += 4) {
      int64_t s = 0;
      for (; s + 4 <= count; s += 4) activations<4, 4, outputs, keep_masks>(pass, samples, first, s, j, theta, f);
      for (; s < count; ++s) activations<4, 1, outputs, keep_masks>(pass, samples, first, s, j, theta, f);
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
        const Mask<T> active = load_mask(&pass.masks[(j + a) * wide_tile + s]);
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
    for (; j + 4 <= pass.m; j += 4) accumulate<4, features>(pass, count, j, k, sums);
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

template <class T>
using ReluPassFunction = void (*)(const ReluPass<T>&, const Samples<T>&, const Vec<T>*, const Vec<T>*, Vec<T>*,
                                  Vec<T>*);

template <class T, bool shared>
ReluPassFunction<T> relu_pass(int64_t d) {
  switch (d) {
    case 1:
      return relu_narrow_pass<T, 1, shared>;
    case 2:
      return relu_narrow_pass<T, 2, shared>;
    case 3:
      return relu_narrow_pass<T, 3, shared>;
    case 4:
      return relu_narrow_pass<T, 4, shared>;
    case 5:
      return relu_narrow_pass<T, 5, shared>;
    case 6:
      return relu_narrow_pass<T, 6, shared>;
    case 7:
      return relu_narrow_pass<T, 7, shared>;
    case 8:
      return relu_narrow_pass<T, 8, shared>;
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
    pass.masks = take<Mask<T>>(workspace, p.width * wide_tile);
    pass.scaled_x = take<V>(workspace, wide_tile * narrow_dimension);
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
