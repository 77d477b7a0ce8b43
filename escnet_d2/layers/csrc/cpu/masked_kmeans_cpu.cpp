// escnet_d2::masked_kmeans on the CPU: one thread per map, several maps in parallel.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "../operator.h"
#include "serial.h"

namespace escnet_d2 {

// Maps that are worth waking up a thread for: a tenth of a millisecond or so.
constexpr int64_t kMapsPerThread = 32;

Clusters masked_kmeans_cpu(const at::Tensor& scores, const at::Tensor& mask, int64_t k,
                           int64_t max_iter) {
  check_arguments(scores, mask, k, max_iter);
  const at::Tensor dense_scores = scores.to(at::kFloat).contiguous();
  const at::Tensor dense_mask = mask.contiguous();
  Clusters result = empty_clusters(scores, k);
  auto& [labels, centers, counts, points] = result;

  Batch batch;
  batch.scores = dense_scores.const_data_ptr<float>();
  batch.mask = reinterpret_cast<const uint8_t*>(dense_mask.const_data_ptr<bool>());
  batch.height = static_cast<int>(scores.size(-2));
  batch.width = static_cast<int>(scores.size(-1));
  batch.k = static_cast<int>(k);
  batch.max_iter = iterations(max_iter);
  batch.labels = labels.mutable_data_ptr<int8_t>();
  batch.centers = centers.mutable_data_ptr<float>();
  batch.counts = counts.mutable_data_ptr<int32_t>();
  batch.points = points.mutable_data_ptr<int32_t>();

  static const Isa isa = best_isa();
  const int64_t num_maps = counts.numel() / k;
  at::parallel_for(0, num_maps, kMapsPerThread, [&](int64_t begin, int64_t end) {
    solve_serially(batch, begin, end, isa);
  });
  return result;
}

}  // namespace escnet_d2

TORCH_LIBRARY_IMPL(escnet_d2, CPU, m) {
  m.impl("masked_kmeans", &escnet_d2::masked_kmeans_cpu);
}
