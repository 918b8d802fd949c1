// Two-layer ReLU networks, f(x) = v . relu(W x), with few multiply-adds per sample and neuron.
//
// Forward needs d of them for z = W_j . x, a comparison, and one masked by z > 0 for f += v_j z. Backward needs only
// the masks and c_n = dloss/df(x_n): G_j = sum_n 1[z_nj > 0] c_n x_n, by d masked additions, because
//     grad W_j = v_j G_j   and   grad v_j = sum_n 1[z_nj > 0] c_n W_j . x_n = W_j . G_j.
// Samples are taken in tiles, so that masks stay in the first-level cache and the sums in registers: relu_narrow.h does
// it for up to six features, relu_wide.h for more.
#pragma once
#include "relu_wide.h"

namespace sambalance {
namespace SAMBALANCE_ISA {

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
    pass.scaled_x = take<V>(workspace, narrow_tile * most_narrow);
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
