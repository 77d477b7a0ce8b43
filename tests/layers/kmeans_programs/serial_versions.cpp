// The CPU's side of masked_kmeans in one of its versions: 0 baseline, 1 AVX2, 2 AVX-512. Exits with
// code 77 where this machine lacks the instructions.
#include "cpu/serial.h"
#include "problem_io.h"

int main() {
  Problem problem(stdin);
  const auto isa = static_cast<escnet_d2::Isa>(problem.variant());
  if (isa > escnet_d2::best_isa()) return 77;
  const escnet_d2::Batch batch{reinterpret_cast<const float*>(problem.scores.data()),
                               problem.mask.data(),
                               problem.height(),
                               problem.width(),
                               problem.k(),
                               problem.iterations(),
                               problem.labels.data(),
                               problem.centers.data(),
                               problem.counts.data(),
                               problem.points.data()};
  escnet_d2::solve_serially(batch, 0, problem.maps(), isa);
  problem.write(stdout);
}
