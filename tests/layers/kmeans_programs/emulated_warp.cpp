// The GPU's side of masked_kmeans, run by 32 threads with barriers: what a warp computes, without
// a GPU. Lanes that leave the common path stop the program.
#include <pthread.h>

#include <algorithm>
#include <thread>

#include "problem_io.h"
#include "warp.h"

namespace {

enum class Operation { kMax, kMin, kSum, kBallot, kSync };

// What the lanes of one warp share.
struct Exchange {
  pthread_barrier_t barrier;
  // Written in turn, so that one barrier per operation is enough.
  uint32_t values[2][escnet_d2::kWarpLanes];
  Operation operations[2][escnet_d2::kWarpLanes];

  Exchange() { pthread_barrier_init(&barrier, nullptr, escnet_d2::kWarpLanes); }
  ~Exchange() { pthread_barrier_destroy(&barrier); }
};

class EmulatedWarp {
 public:
  static constexpr int kLanes = escnet_d2::kWarpLanes;
  static constexpr int kGroup = 1;

  EmulatedWarp(Exchange& exchange, int lane) : exchange_(exchange), lane_(lane) {}

  int lane() const { return lane_; }
  uint32_t max(uint32_t value) const {
    const uint32_t* all = gather(Operation::kMax, value);
    return *std::max_element(all, all + kLanes);
  }
  uint32_t min(uint32_t value) const {
    const uint32_t* all = gather(Operation::kMin, value);
    return *std::min_element(all, all + kLanes);
  }
  uint32_t sum(uint32_t value) const {
    const uint32_t* all = gather(Operation::kSum, value);
    uint32_t total = 0;
    for (int i = 0; i < kLanes; ++i) total += all[i];
    return total;
  }
  uint32_t ballot(bool condition) const {
    const uint32_t* all = gather(Operation::kBallot, condition);
    uint32_t votes = 0;
    for (int i = 0; i < kLanes; ++i) votes |= all[i] << i;
    return votes;
  }
  void sync() const { gather(Operation::kSync, 0); }

 private:
  const uint32_t* gather(Operation operation, uint32_t value) const {
    const int turn = turn_;
    turn_ = 1 - turn_;
    exchange_.values[turn][lane_] = value;
    exchange_.operations[turn][lane_] = operation;
    pthread_barrier_wait(&exchange_.barrier);
    for (const Operation other : exchange_.operations[turn]) {
      if (other != operation) {
        fprintf(stderr, "lane %d: the lanes diverge\n", lane_);
        abort();
      }
    }
    return exchange_.values[turn];
  }

  Exchange& exchange_;
  int lane_;
  mutable int turn_ = 0;
};

template <int K>
void solve(const EmulatedWarp& warp, const escnet_d2::WarpBatch& batch, int64_t map,
           uint16_t* positions) {
  if (batch.k == K) {
    escnet_d2::solve_with_warp<K>(warp, batch, map, positions);
  } else if constexpr (K > 1) {
    solve<K - 1>(warp, batch, map, positions);
  }
}

}  // namespace

int main() {
  Problem problem(stdin);
  escnet_d2::WarpBatch batch{};
  batch.scores = problem.scores.data();
  batch.mask = problem.mask.data();
  batch.score_type = static_cast<escnet_d2::ScoreType>(problem.score_type());
  batch.num_maps = problem.maps();
  batch.height = problem.height();
  batch.width = problem.width();
  batch.k = problem.k();
  batch.max_iter = problem.iterations();
  batch.labels = problem.labels.data();
  batch.centers = problem.centers.data();
  batch.counts = problem.counts.data();
  batch.points = problem.points.data();

  // As much as a block of one warp has on the GPU.
  std::vector<uint16_t> positions(static_cast<size_t>(batch.height) * batch.width);
  Exchange exchange;
  std::vector<std::thread> lanes;
  for (int lane = 0; lane < escnet_d2::kWarpLanes; ++lane) {
    lanes.emplace_back([&, lane] {
      const EmulatedWarp warp(exchange, lane);
      for (int64_t map = 0; map < batch.num_maps; ++map) {
        // A warp of the GPU solves one map: its memory is not shared with the next one.
        warp.sync();
        solve<escnet_d2::kMaxClusters>(warp, batch, map, positions.data());
      }
    });
  }
  for (std::thread& lane : lanes) lane.join();
  problem.write(stdout);
}
