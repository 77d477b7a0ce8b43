// How 32 lanes with shared memory solve one map: the GPU's side of the algorithm, free of CUDA's
// own functions. tests/layers/emulated_warp.cpp runs it with threads, where no GPU is.
//
// Besides what masked_kmeans.h asks of a Team, a warp has
//   ballot(condition)     bit n is the condition of lane n
//   sync()                waits for all lanes, and makes their writes visible
#pragma once

#include "masked_kmeans.h"

namespace escnet_d2 {

constexpr int kWarpLanes = 32;

// Formats of scores; the kernel reads a score twice or three times, so that a switch is cheap.
enum class ScoreType { kFloat32, kFloat16, kBFloat16 };

// Maps (num_maps, height, width), and where their results go; all in the memory of the device.
struct WarpBatch {
  const void* scores;
  const uint8_t* mask;
  ScoreType score_type;
  int64_t num_maps;
  int height;
  int width;
  int k;
  int max_iter;
  int8_t* labels;   // (num_maps, height, width)
  float* centers;   // (num_maps, k, 2)
  int32_t* counts;  // (num_maps, k)
  int32_t* points;  // (num_maps, k)
};

ESCNET_INLINE int count_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __popc(bits);
#else
  return __builtin_popcount(bits);
#endif
}

// The foreground of one map: positions in shared memory, two bytes a pixel, the rest where it is.
class WarpPixels {
 public:
  // positions: height * width numbers that all lanes share.
  ESCNET_INLINE WarpPixels(const WarpBatch& batch, int64_t map, uint16_t* positions)
      : batch_(batch), positions_(positions) {
    num_pixels_ = batch.height * batch.width;
    offset_ = map * num_pixels_;
  }

  // Lists the foreground in the order of flat index and labels the background.
  template <class Team>
  ESCNET_INLINE void gather(const Team& team) {
    const uint8_t* mask = batch_.mask + offset_;
    const uint32_t lanes_below = (1u << team.lane()) - 1u;
    count_ = 0;
    for (int start = 0; start < num_pixels_; start += kWarpLanes) {
      const int i = start + team.lane();
      const bool inside = i < num_pixels_;
      const bool foreground = inside && mask[i] != 0;
      const uint32_t votes = team.ballot(foreground);
      if (foreground) {
        const int y = i / batch_.width;
        const int x = i - y * batch_.width;
        positions_[count_ + count_bits(votes & lanes_below)] = static_cast<uint16_t>(y << 7 | x);
      } else if (inside) {
        batch_.labels[offset_ + i] = -1;
      }
      count_ += count_bits(votes);
    }
    team.sync();
  }

  ESCNET_INLINE int count() const { return count_; }
  ESCNET_INLINE float x(int i) const { return static_cast<float>(positions_[i] & 127); }
  ESCNET_INLINE float y(int i) const { return static_cast<float>(positions_[i] >> 7); }
  ESCNET_INLINE uint32_t packed(int i) const {
    const uint32_t position = positions_[i];
    return (position >> 7) << 16 | (position & 127u);
  }
  ESCNET_INLINE uint32_t weight(int) const { return 1; }
  ESCNET_INLINE int flat_index(int i) const {
    return (positions_[i] >> 7) * batch_.width + (positions_[i] & 127);
  }
  ESCNET_INLINE uint32_t rank(int i) const {
    const int64_t at = offset_ + flat_index(i);
    if (batch_.score_type == ScoreType::kFloat32) {
      return score_rank(static_cast<const float*>(batch_.scores)[at]);
    }
    const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(batch_.scores)[at]);
    const bool is_half = batch_.score_type == ScoreType::kFloat16;
    return rank_of_bits(bits << 16, is_half ? 0x7C000000u : 0x7F800000u);
  }
  // Written and read by the same lane.
  ESCNET_INLINE uint32_t label(int i) const { return batch_.labels[offset_ + flat_index(i)]; }
  ESCNET_INLINE void set_label(int i, uint32_t cluster) {
    batch_.labels[offset_ + flat_index(i)] = static_cast<int8_t>(cluster);
  }

 private:
  const WarpBatch& batch_;
  uint16_t* positions_;
  int64_t offset_;
  int num_pixels_;
  int count_ = 0;
};

// Solves one map; all lanes call it.
template <int K, class Team>
ESCNET_INLINE void solve_with_warp(const Team& team, const WarpBatch& batch, int64_t map,
                                   uint16_t* positions) {
  WarpPixels pixels(batch, map, positions);
  pixels.gather(team);
  const int side = batch.height > batch.width ? batch.height : batch.width;
  KMeans<K, Team, WarpPixels> kmeans(team, pixels, side);
  kmeans.solve(batch.max_iter, {batch.centers + map * K * 2, batch.counts + map * K,
                                batch.points + map * K});
}

}  // namespace escnet_d2
