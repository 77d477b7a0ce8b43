// escnet_d2::masked_kmeans on NVIDIA GPUs: one warp per map.
#include "launch.h"

namespace escnet_d2 {
namespace {

constexpr unsigned kAllLanes = 0xFFFFFFFFu;
// From this many maps on, blocks of several warps fill a GPU better than blocks of one.
constexpr int64_t kManyMaps = 1024;
constexpr int kWarpsPerBlock = 4;
// What every block gets without asking.
constexpr size_t kSharedBytes = 48 * 1024;

struct CudaWarp {
  static constexpr int kLanes = kWarpLanes;
  static constexpr int kGroup = 1;

  __device__ __forceinline__ int lane() const { return threadIdx.x % kWarpLanes; }
  __device__ __forceinline__ uint32_t ballot(bool condition) const {
    return __ballot_sync(kAllLanes, condition);
  }
  __device__ __forceinline__ void sync() const { __syncwarp(); }

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  __device__ __forceinline__ uint32_t max(uint32_t value) const {
    return __reduce_max_sync(kAllLanes, value);
  }
  __device__ __forceinline__ uint32_t min(uint32_t value) const {
    return __reduce_min_sync(kAllLanes, value);
  }
  __device__ __forceinline__ uint32_t sum(uint32_t value) const {
    return __reduce_add_sync(kAllLanes, value);
  }
#else
  __device__ __forceinline__ uint32_t max(uint32_t value) const {
    for (int step = kWarpLanes / 2; step > 0; step /= 2) {
      value = ::max(value, __shfl_xor_sync(kAllLanes, value, step));
    }
    return value;
  }
  __device__ __forceinline__ uint32_t min(uint32_t value) const {
    for (int step = kWarpLanes / 2; step > 0; step /= 2) {
      value = ::min(value, __shfl_xor_sync(kAllLanes, value, step));
    }
    return value;
  }
  __device__ __forceinline__ uint32_t sum(uint32_t value) const {
    for (int step = kWarpLanes / 2; step > 0; step /= 2) {
      value += __shfl_xor_sync(kAllLanes, value, step);
    }
    return value;
  }
#endif
};

template <int K>
__global__ void __launch_bounds__(kWarpsPerBlock* kWarpLanes)
    masked_kmeans_forward_kernel(const __grid_constant__ WarpBatch batch) {
  extern __shared__ uint16_t positions[];
  const int warp = threadIdx.x / kWarpLanes;
  const int64_t map = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarpLanes) + warp;
  // All lanes of a warp leave together, and no barrier spans a block.
  if (map >= batch.num_maps) return;
  solve_with_warp<K>(CudaWarp(), batch, map, positions + warp * batch.height * batch.width);
}

template <int K>
cudaError_t launch(const WarpBatch& batch, cudaStream_t stream) {
  if (batch.k != K) {
    if constexpr (K > 1) return launch<K - 1>(batch, stream);
    return cudaErrorInvalidValue;
  }
  const size_t bytes_per_warp = sizeof(uint16_t) * batch.height * batch.width;
  const bool several = batch.num_maps >= kManyMaps && kWarpsPerBlock * bytes_per_warp <= kSharedBytes;
  const int warps = several ? kWarpsPerBlock : 1;
  const auto blocks = static_cast<unsigned>((batch.num_maps + warps - 1) / warps);
  masked_kmeans_forward_kernel<K>
      <<<blocks, warps * kWarpLanes, warps * bytes_per_warp, stream>>>(batch);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_masked_kmeans(const WarpBatch& batch, cudaStream_t stream) {
  return launch<kMaxClusters>(batch, stream);
}

}  // namespace escnet_d2
