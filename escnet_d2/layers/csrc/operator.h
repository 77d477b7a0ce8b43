// What the kernels of one operator share: its schema's types and the checks of its arguments.
#pragma once

#include <ATen/ATen.h>

#include <tuple>

#include "masked_kmeans.h"

namespace escnet_d2 {

// labels, centers, counts, points
using Clusters = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Messages as those of check_arguments in escnet_d2/layers/kmeans_reference.py.
inline void check_arguments(const at::Tensor& scores, const at::Tensor& mask, int64_t k,
                            int64_t max_iter) {
  TORCH_CHECK_VALUE(scores.dim() >= 2 && scores.sizes() == mask.sizes(),
                    "scores and mask must both be (..., H, W), got ", scores.sizes(), " and ",
                    mask.sizes(), ".");
  const auto type = scores.scalar_type();
  TORCH_CHECK_VALUE(type == at::kFloat || type == at::kHalf || type == at::kBFloat16,
                    "scores must be float32, float16 or bfloat16, got ", type, ".");
  TORCH_CHECK_VALUE(mask.scalar_type() == at::kBool, "mask must be bool, got ",
                    mask.scalar_type(), ".");
  TORCH_CHECK_VALUE(scores.device() == mask.device(), "scores are on ", scores.device(),
                    ", mask is on ", mask.device(), ".");
  const int64_t height = scores.size(-2);
  const int64_t width = scores.size(-1);
  TORCH_CHECK_VALUE(height >= 1 && width >= 1 && height <= kMaxSide && width <= kMaxSide,
                    "H and W must be 1 to ", kMaxSide, ", got ", height, " and ", width, ".");
  TORCH_CHECK_VALUE(k >= 1 && k <= kMaxClusters, "k must be 1 to ", kMaxClusters, ", got ", k,
                    ".");
  TORCH_CHECK_VALUE(max_iter >= 0, "max_iter must be 0 or more, got ", max_iter, ".");
}

// Uninitialized results, on the device of the scores.
inline Clusters empty_clusters(const at::Tensor& scores, int64_t k) {
  auto leading = scores.sizes().vec();
  leading.resize(leading.size() - 2);
  auto per_cluster = leading;
  per_cluster.push_back(k);
  auto per_center = per_cluster;
  per_center.push_back(2);
  const auto options = scores.options();
  return {at::empty(scores.sizes(), options.dtype(at::kChar)),
          at::empty(per_center, options.dtype(at::kFloat)),
          at::empty(per_cluster, options.dtype(at::kInt)),
          at::empty(per_cluster, options.dtype(at::kInt))};
}

// More than an int holds would never end anyway.
inline int iterations(int64_t max_iter) {
  return static_cast<int>(std::min<int64_t>(max_iter, INT32_MAX));
}

}  // namespace escnet_d2
