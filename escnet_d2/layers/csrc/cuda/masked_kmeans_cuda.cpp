// escnet_d2::masked_kmeans on NVIDIA GPUs: from tensors to the kernel.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../operator.h"
#include "launch.h"

namespace escnet_d2 {

Clusters masked_kmeans_cuda(const at::Tensor& scores, const at::Tensor& mask, int64_t k,
                            int64_t max_iter) {
  check_arguments(scores, mask, k, max_iter);
  const c10::cuda::CUDAGuard guard(scores.device());
  const at::Tensor dense_scores = scores.contiguous();
  const at::Tensor dense_mask = mask.contiguous();
  Clusters result = empty_clusters(scores, k);
  auto& [labels, centers, counts, points] = result;

  WarpBatch batch;
  batch.scores = dense_scores.const_data_ptr();
  batch.mask = reinterpret_cast<const uint8_t*>(dense_mask.const_data_ptr<bool>());
  batch.score_type = scores.scalar_type() == at::kFloat  ? ScoreType::kFloat32
                     : scores.scalar_type() == at::kHalf ? ScoreType::kFloat16
                                                         : ScoreType::kBFloat16;
  batch.num_maps = counts.numel() / k;
  batch.height = static_cast<int>(scores.size(-2));
  batch.width = static_cast<int>(scores.size(-1));
  batch.k = static_cast<int>(k);
  batch.max_iter = iterations(max_iter);
  batch.labels = labels.mutable_data_ptr<int8_t>();
  batch.centers = centers.mutable_data_ptr<float>();
  batch.counts = counts.mutable_data_ptr<int32_t>();
  batch.points = points.mutable_data_ptr<int32_t>();
  if (batch.num_maps > 0) {
    C10_CUDA_CHECK(launch_masked_kmeans(batch, c10::cuda::getCurrentCUDAStream()));
  }
  return result;
}

}  // namespace escnet_d2

TORCH_LIBRARY_IMPL(escnet_d2, CUDA, m) {
  m.impl("masked_kmeans", &escnet_d2::masked_kmeans_cuda);
}
