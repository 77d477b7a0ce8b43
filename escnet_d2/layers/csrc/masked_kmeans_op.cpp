// Schema of escnet_d2::masked_kmeans, and what it does on every device.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "operator.h"

#ifndef ESCNET_TORCH_VERSION
#error "setup.py defines the version of torch that this is built for"
#endif

namespace escnet_d2 {

// escnet_d2/layers/extension.py reads these out of the file, before it loads it into a torch that
// may be another one.
extern "C" __attribute__((used, visibility("default"))) const char escnet_d2_build[] =
    "escnet_d2 extension built for torch " ESCNET_TORCH_VERSION
#ifdef WITH_CUDA
    " with CUDA"
#else
    " without CUDA"
#endif
#ifdef _OPENMP
    " with OpenMP;";
#else
    " without OpenMP;";
#endif

// Not differentiable: results never require a gradient.
Clusters masked_kmeans_without_gradient(const at::Tensor& scores, const at::Tensor& mask,
                                        int64_t k, int64_t max_iter) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("escnet_d2::masked_kmeans", "")
          .typed<Clusters(const at::Tensor&, const at::Tensor&, int64_t, int64_t)>();
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  return op.call(scores, mask, k, max_iter);
}

}  // namespace escnet_d2

TORCH_LIBRARY_FRAGMENT(escnet_d2, m) {
  m.def(
      "masked_kmeans(Tensor scores, Tensor mask, int k=5, int max_iter=10) -> "
      "(Tensor labels, Tensor centers, Tensor counts, Tensor points)");
}

TORCH_LIBRARY_IMPL(escnet_d2, Autograd, m) {
  m.impl("masked_kmeans", &escnet_d2::masked_kmeans_without_gradient);
}
