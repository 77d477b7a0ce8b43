// The algorithm of escnet_d2::masked_kmeans for one map, the same source for every device.
//
// k-means over the positions of the foreground pixels: the first center is the best-scoring pixel,
// the others follow farthest-first, then Lloyd iterations. escnet_d2/layers/masked_kmeans.py states
// the semantics in full.
//
// Every result is the same bit by bit, whatever the device, the vector width or the number of
// lanes: positions and centers are integers in fixed point below 2^13, so that every float here
// is an integer of at most 2^24. Additions in any order and fused multiply-adds are then exact.
//
// A Team is what solves one map: a CPU thread, a GPU warp or 32 threads that stand for one. It has
//   kLanes                lanes, each of which visits the pixels lane, lane + kLanes, ...
//   kGroup                pixels come in multiples of this per lane, so that vector loops are even
//   lane()                index of the calling lane
//   max(v), min(v), sum(v)  over all lanes, to all lanes; v is uint32_t
// Pixels hold the foreground in the order of flat index. They have
//   count()               foreground pixels
//   x(i), y(i)            position as float
//   packed(i)             (y << 16) | x; 0 for pixels that only fill up a group
//   weight(i)             1, or 0 for pixels that only fill up a group
//   rank(i)               rank_of_bits of the pixel's score
//   label(i), set_label(i, cluster)
//   flat_index(i)         y * W + x
// Pixels that fill up a group repeat the first pixel: ties go to the lowest index, so that they are
// never chosen.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define ESCNET_INLINE __host__ __device__ __forceinline__
#define ESCNET_UNROLL _Pragma("unroll")
#else
#define ESCNET_INLINE inline __attribute__((always_inline))
#define ESCNET_UNROLL
#endif

namespace escnet_d2 {

constexpr int kMaxSide = 128;
constexpr int kMaxPixels = kMaxSide * kMaxSide;
constexpr int kMaxClusters = 8;
constexpr uint32_t kNone = 0xFFFFFFFFu;

// Where the results of one map go; labels are the business of the Pixels.
struct MapResult {
  float* centers;   // (k, 2)
  int32_t* counts;  // (k)
  int32_t* points;  // (k)
};

// Fraction bits q of centers: 2 log2(side) + 2 q + 1 <= 24.
ESCNET_INLINE constexpr int fraction_bits(int side) {
  return side <= 32 ? 6 : side <= 64 ? 5 : 4;
}

// Orders scores as unsigned numbers: NaN lowest, then -inf to inf; both zeros are equal.
// bits: of the score, its sign first; infinity: the bits of that number in the same format.
ESCNET_INLINE uint32_t rank_of_bits(uint32_t bits, uint32_t infinity) {
  const uint32_t sign = 0x80000000u;
  const uint32_t magnitude = bits & ~sign;
  const uint32_t ordered = (bits & sign) ? sign - magnitude : sign + magnitude;
  return magnitude > infinity ? 0u : ordered;
}

ESCNET_INLINE uint32_t score_rank(float score) {
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  return rank_of_bits(bits, 0x7F800000u);
}

// (2 s sum + count) / (2 count) rounded down: the mean in fixed point, rounded half up.
// An integer division is slow on CPUs and GPUs. The quotient of floats is off by one at most, which
// the remainder shows; so how it was rounded does not matter.
ESCNET_INLINE int rounded_mean(uint32_t sum, uint32_t count, int scale) {
  const int dividend = static_cast<int>(2u * scale * sum + count);
  const int divisor = static_cast<int>(2u * count);
  const int quotient =
      static_cast<int>(static_cast<float>(dividend) / static_cast<float>(divisor));
  const int remainder = dividend - quotient * divisor;
  return quotient + (remainder >= divisor) - (remainder < 0);
}

// Conditions as masks: where they were branches or selections, compilers find no vector code.
ESCNET_INLINE uint32_t all_bits(bool condition) { return 0u - static_cast<uint32_t>(condition); }

template <int K, class Team, class Pixels>
class KMeans {
 public:
  ESCNET_INLINE KMeans(const Team& team, Pixels& pixels, int side)
      : team_(team), pixels_(pixels), scale_(1 << fraction_bits(side)) {
    const int lane_count = pixels.count() - team.lane() + Team::kLanes - 1;
    groups_ = (lane_count / Team::kLanes + Team::kGroup - 1) / Team::kGroup;
    seeded_ = pixels.count() < K ? pixels.count() : K;
  }

  ESCNET_INLINE void solve(int max_iter, const MapResult& result) {
    if (seeded_ > 0) {
      seed();
      sum_all();
      for (int i = 0; i < max_iter; ++i) {
        if (!update()) break;
      }
    }
    finish(result);
  }

 private:
  // Pixels whose packed positions one lane can add without overflow: 512 * 127 < 2^16.
  static constexpr int kBlock = 512 / Team::kGroup;
  // The last cluster gets what the others leave.
  static constexpr int kCounted = K > 1 ? K - 1 : 1;

  ESCNET_INLINE int pixel(int step) const { return step * Team::kLanes + team_.lane(); }

  // The lowest pixel of the highest rank, then the pixel farthest from all before, lowest first.
  ESCNET_INLINE void seed() {
    uint32_t best = 0;
    for (int step = 0; step < groups_ * Team::kGroup; ++step) {
      const uint32_t rank = pixels_.rank(pixel(step));
      best = rank > best ? rank : best;
    }
    best = team_.max(best);
    uint32_t first = kNone;
    for (int step = 0; step < groups_ * Team::kGroup; ++step) {
      const int i = pixel(step);
      const uint32_t candidate = static_cast<uint32_t>(i) | ~all_bits(pixels_.rank(i) == best);
      first = candidate < first ? candidate : first;
    }
    float x[K];
    float y[K];
    ESCNET_UNROLL
    for (int c = 0; c < K; ++c) {
      const int chosen = static_cast<int>(c == 0 ? team_.min(first) : farthest(c, x, y));
      x[c] = pixels_.x(chosen);
      y[c] = pixels_.y(chosen);
      const bool exists = c < seeded_;
      center_x_[c] = exists ? static_cast<int>(x[c]) * scale_ : 0;
      center_y_[c] = exists ? static_cast<int>(y[c]) * scale_ : 0;
    }
  }

  // Squared distances stay below 2^15 and indices below 2^14, so that one number holds both.
  ESCNET_INLINE uint32_t farthest(int chosen, const float* x, const float* y) const {
    int best = 0;
    for (int step = 0; step < groups_ * Team::kGroup; ++step) {
      const int i = pixel(step);
      float nearest = 1e9f;
      ESCNET_UNROLL
      for (int c = 0; c < K; ++c) {
        if (c < chosen) {
          const float dx = pixels_.x(i) - x[c];
          const float dy = pixels_.y(i) - y[c];
          const float distance = dx * dx + dy * dy;
          nearest = distance < nearest ? distance : nearest;
        }
      }
      const int key = (static_cast<int>(nearest) << 14) + (kMaxPixels - 1 - i);
      best = key > best ? key : best;
    }
    return kMaxPixels - 1 - (team_.max(static_cast<uint32_t>(best)) & (kMaxPixels - 1));
  }

  // |c|^2 - 2 p c, in fixed point, orders the centers as |p - c|^2 does. Centers that do not exist
  // are infinitely far.
  struct Distances {
    float x[K];
    float y[K];
    float constant[K];

    ESCNET_INLINE uint32_t nearest(float px, float py) const {
      float best = constant[0] + x[0] * px + y[0] * py;
      uint32_t label = 0;
      ESCNET_UNROLL
      for (int c = 1; c < K; ++c) {
        const float distance = constant[c] + x[c] * px + y[c] * py;
        const uint32_t closer = all_bits(distance < best);
        label = (label & ~closer) | (c & closer);
        best = distance < best ? distance : best;
      }
      return label;
    }
  };

  ESCNET_INLINE Distances distances() const {
    Distances result;
    ESCNET_UNROLL
    for (int c = 0; c < K; ++c) {
      result.x[c] = static_cast<float>(-2 * scale_ * center_x_[c]);
      result.y[c] = static_cast<float>(-2 * scale_ * center_y_[c]);
      const int squared = center_x_[c] * center_x_[c] + center_y_[c] * center_y_[c];
      result.constant[c] = c < seeded_ ? static_cast<float>(squared) : 1e30f;
    }
    return result;
  }

  ESCNET_INLINE void sum_all() {
    uint32_t x = 0;
    uint32_t y = 0;
    for (int start = 0; start < groups_; start += kBlock) {
      const int steps = block_groups(start) * Team::kGroup;
      uint32_t packed = 0;
      for (int step = 0; step < steps; ++step) {
        packed += pixels_.packed(pixel(start * Team::kGroup + step));
      }
      x += packed & 0xFFFFu;
      y += packed >> 16;
    }
    all_x_ = team_.sum(x);
    all_y_ = team_.sum(y);
  }

  ESCNET_INLINE int block_groups(int start) const {
    return groups_ - start < kBlock ? groups_ - start : kBlock;
  }

  // One Lloyd iteration; whether a center moved.
  ESCNET_INLINE bool update() {
    const Distances to = distances();
    uint32_t count[kCounted] = {};
    uint32_t x[kCounted] = {};
    uint32_t y[kCounted] = {};
    for (int start = 0; start < groups_; start += kBlock) {
      const int steps = block_groups(start) * Team::kGroup;
      uint32_t packed[kCounted] = {};
      for (int step = 0; step < steps; ++step) {
        const int i = pixel(start * Team::kGroup + step);
        const uint32_t label = to.nearest(pixels_.x(i), pixels_.y(i));
        const uint32_t position = pixels_.packed(i);
        const uint32_t weight = pixels_.weight(i);
        // One term for every cluster and no branch: compilers turn this form into vector code.
        ESCNET_UNROLL
        for (int c = 0; c < kCounted; ++c) {
          const uint32_t member = all_bits(label == static_cast<uint32_t>(c));
          packed[c] += position & member;
          count[c] += weight & member;
        }
      }
      ESCNET_UNROLL
      for (int c = 0; c < kCounted; ++c) {
        x[c] += packed[c] & 0xFFFFu;
        y[c] += packed[c] >> 16;
      }
    }
    uint32_t count_left = static_cast<uint32_t>(pixels_.count());
    uint32_t x_left = all_x_;
    uint32_t y_left = all_y_;
    bool moved = false;
    ESCNET_UNROLL
    for (int c = 0; c < K; ++c) {
      const bool last = c == K - 1;
      const uint32_t n = last ? count_left : team_.sum(count[c < kCounted ? c : 0]);
      const uint32_t sum_x = last ? x_left : team_.sum(x[c < kCounted ? c : 0]);
      const uint32_t sum_y = last ? y_left : team_.sum(y[c < kCounted ? c : 0]);
      count_left -= n;
      x_left -= sum_x;
      y_left -= sum_y;
      // A cluster without pixels keeps its center.
      const int new_x = n > 0 ? rounded_mean(sum_x, n, scale_) : center_x_[c];
      const int new_y = n > 0 ? rounded_mean(sum_y, n, scale_) : center_y_[c];
      moved |= new_x != center_x_[c] || new_y != center_y_[c];
      center_x_[c] = new_x;
      center_y_[c] = new_y;
    }
    return moved;
  }

  // Labels, counts and the best pixel of every cluster.
  ESCNET_INLINE void finish(const MapResult& result) {
    uint32_t count[K] = {};
    uint32_t best[K] = {};
    uint32_t first[K];
    const Distances to = distances();
    for (int step = 0; step < groups_ * Team::kGroup; ++step) {
      const int i = pixel(step);
      const uint32_t label = to.nearest(pixels_.x(i), pixels_.y(i));
      pixels_.set_label(i, label);
      const uint32_t rank = pixels_.rank(i);
      const uint32_t weight = pixels_.weight(i);
      ESCNET_UNROLL
      for (int c = 0; c < K; ++c) {
        const uint32_t member = all_bits(label == static_cast<uint32_t>(c));
        count[c] += weight & member;
        const uint32_t candidate = rank & member;
        best[c] = candidate > best[c] ? candidate : best[c];
      }
    }
    ESCNET_UNROLL
    for (int c = 0; c < K; ++c) {
      count[c] = team_.sum(count[c]);
      best[c] = team_.max(best[c]);
      first[c] = kNone;
    }
    for (int step = 0; step < groups_ * Team::kGroup; ++step) {
      const int i = pixel(step);
      const uint32_t label = pixels_.label(i);
      const uint32_t rank = pixels_.rank(i);
      ESCNET_UNROLL
      for (int c = 0; c < K; ++c) {
        const bool is_best = (label == static_cast<uint32_t>(c)) & (rank == best[c]);
        const uint32_t candidate = static_cast<uint32_t>(i) | ~all_bits(is_best);
        first[c] = candidate < first[c] ? candidate : first[c];
      }
    }
    const float unit = 1.0f / static_cast<float>(scale_);
    ESCNET_UNROLL
    for (int c = 0; c < K; ++c) {
      const uint32_t chosen = team_.min(first[c]);
      if (team_.lane() == 0) {
        result.centers[2 * c] = static_cast<float>(center_x_[c]) * unit;
        result.centers[2 * c + 1] = static_cast<float>(center_y_[c]) * unit;
        result.counts[c] = static_cast<int32_t>(count[c]);
        result.points[c] = count[c] > 0 ? pixels_.flat_index(static_cast<int>(chosen)) : -1;
      }
    }
  }

  const Team& team_;
  Pixels& pixels_;
  int scale_;
  int groups_;   // groups of pixels that this lane visits
  int seeded_;   // clusters that exist
  int center_x_[K] = {};
  int center_y_[K] = {};
  uint32_t all_x_ = 0;
  uint32_t all_y_ = 0;
};

}  // namespace escnet_d2
