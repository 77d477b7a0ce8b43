// Between the file that knows torch and the one that nvcc compiles, which needs no torch.
#pragma once

#include <cuda_runtime_api.h>

#include "../warp.h"

namespace escnet_d2 {

// Starts the kernel on a stream; the batch has at least one map.
cudaError_t launch_masked_kmeans(const WarpBatch& batch, cudaStream_t stream);

}  // namespace escnet_d2
