// One thread that solves maps by itself, in vector code for the CPU that it runs on.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "../masked_kmeans.h"

namespace escnet_d2 {

struct SerialTeam {
  static constexpr int kLanes = 1;
  // The widest vectors hold 16 numbers: loops over whole groups have no remainder.
  static constexpr int kGroup = 16;
  ESCNET_INLINE static constexpr int lane() { return 0; }
  ESCNET_INLINE static uint32_t max(uint32_t value) { return value; }
  ESCNET_INLINE static uint32_t min(uint32_t value) { return value; }
  ESCNET_INLINE static uint32_t sum(uint32_t value) { return value; }
};

// Room for the pixels of one map, one array per quantity; used again for the next map.
class SerialPixels {
 public:
  explicit SerialPixels(int num_pixels) {
    const size_t capacity = (num_pixels + kGroup) / kGroup * kGroup;
    storage_.resize(7 * capacity + kGroup);
    // Vectors that start at multiples of their size never straddle two cache lines.
    void* start = storage_.data();
    size_t space = storage_.size() * sizeof(uint32_t);
    auto* array = static_cast<uint32_t*>(
        std::align(kGroup * sizeof(uint32_t), 7 * capacity * sizeof(uint32_t), start, space));
    x_ = reinterpret_cast<float*>(array);
    y_ = reinterpret_cast<float*>(array + capacity);
    packed_ = array + 2 * capacity;
    weight_ = array + 3 * capacity;
    rank_ = array + 4 * capacity;
    label_ = array + 5 * capacity;
    flat_index_ = reinterpret_cast<int32_t*>(array + 6 * capacity);
  }

  // Gathers the foreground of one map.
  ESCNET_INLINE void gather(const float* scores, const uint8_t* mask, int height, int width) {
    const int num_pixels = height * width;
    int count = 0;
    int i = 0;
    // Most of a mask is background: eight pixels at a time.
    for (; i + 8 <= num_pixels; i += 8) {
      uint64_t eight;
      std::memcpy(&eight, mask + i, sizeof eight);
      if (eight == 0) continue;
      for (int j = i; j < i + 8; ++j) {
        flat_index_[count] = j;
        count += mask[j] != 0;
      }
    }
    for (; i < num_pixels; ++i) {
      flat_index_[count] = i;
      count += mask[i] != 0;
    }
    count_ = count;
    if (count == 0) return;
    // Exact: the quotient is below 2^7 and never closer than 2^-8 to an integer from below.
    const float inverse_width = 1.0f / static_cast<float>(width);
    for (int p = 0; p < count; ++p) {
      const int index = flat_index_[p];
      const int y = static_cast<int>((static_cast<float>(index) + 0.5f) * inverse_width);
      const int x = index - y * width;
      x_[p] = static_cast<float>(x);
      y_[p] = static_cast<float>(y);
      packed_[p] = static_cast<uint32_t>((y << 16) | x);
      weight_[p] = 1;
    }
    for (int p = 0; p < count; ++p) {
      rank_[p] = score_rank(scores[flat_index_[p]]);
    }
    for (int p = count; p % SerialTeam::kGroup != 0; ++p) {
      x_[p] = x_[0];
      y_[p] = y_[0];
      rank_[p] = rank_[0];
      packed_[p] = 0;
      weight_[p] = 0;
    }
  }

  ESCNET_INLINE void write_labels(int8_t* labels) const {
    for (int p = 0; p < count_; ++p) {
      labels[flat_index_[p]] = static_cast<int8_t>(label_[p]);
    }
  }

  ESCNET_INLINE int count() const { return count_; }
  ESCNET_INLINE float x(int i) const { return x_[i]; }
  ESCNET_INLINE float y(int i) const { return y_[i]; }
  ESCNET_INLINE uint32_t packed(int i) const { return packed_[i]; }
  ESCNET_INLINE uint32_t weight(int i) const { return weight_[i]; }
  ESCNET_INLINE uint32_t rank(int i) const { return rank_[i]; }
  ESCNET_INLINE uint32_t label(int i) const { return label_[i]; }
  ESCNET_INLINE void set_label(int i, uint32_t cluster) { label_[i] = cluster; }
  ESCNET_INLINE int flat_index(int i) const { return flat_index_[i]; }

 private:
  static constexpr size_t kGroup = SerialTeam::kGroup;

  std::vector<uint32_t> storage_;
  int count_ = 0;
  float* __restrict__ x_;
  float* __restrict__ y_;
  uint32_t* __restrict__ packed_;
  uint32_t* __restrict__ weight_;
  uint32_t* __restrict__ rank_;
  uint32_t* __restrict__ label_;
  int32_t* __restrict__ flat_index_;
};

// Maps (number, height, width), and where their results go.
struct Batch {
  const float* scores;
  const uint8_t* mask;
  int height;
  int width;
  int k;
  int max_iter;
  int8_t* labels;   // (number, height, width)
  float* centers;   // (number, k, 2)
  int32_t* counts;  // (number, k)
  int32_t* points;  // (number, k)
};

template <int K>
ESCNET_INLINE void solve_maps(const Batch& batch, int64_t begin, int64_t end) {
  const int64_t num_pixels = static_cast<int64_t>(batch.height) * batch.width;
  const int side = batch.height > batch.width ? batch.height : batch.width;
  const SerialTeam team;
  SerialPixels pixels(static_cast<int>(num_pixels));
  std::memset(batch.labels + begin * num_pixels, -1, (end - begin) * num_pixels);
  for (int64_t map = begin; map < end; ++map) {
    pixels.gather(batch.scores + map * num_pixels, batch.mask + map * num_pixels, batch.height,
                  batch.width);
    KMeans<K, SerialTeam, SerialPixels> kmeans(team, pixels, side);
    kmeans.solve(batch.max_iter, {batch.centers + map * K * 2, batch.counts + map * K,
                                  batch.points + map * K});
    pixels.write_labels(batch.labels + map * num_pixels);
  }
}

// Instruction sets with a version of their own; all compute the same.
enum class Isa { kBaseline, kAvx2, kAvx512 };

// The same code, compiled for one instruction set and all numbers of clusters.
#define ESCNET_DEFINE_SOLVER(NAME, TARGET)                                            \
  template <int K>                                                                    \
  TARGET void NAME(const Batch& batch, int64_t begin, int64_t end) {                  \
    if (batch.k == K) {                                                               \
      solve_maps<K>(batch, begin, end);                                               \
    } else if constexpr (K > 1) {                                                     \
      NAME<K - 1>(batch, begin, end);                                                 \
    }                                                                                 \
  }

ESCNET_DEFINE_SOLVER(solve_baseline, )
#if defined(__x86_64__) && defined(__GNUC__)
#define ESCNET_X86_VERSIONS 1
ESCNET_DEFINE_SOLVER(solve_avx2, __attribute__((target("avx2,fma"))))
ESCNET_DEFINE_SOLVER(solve_avx512,
                     __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))))
#endif
#undef ESCNET_DEFINE_SOLVER

// The best instruction set of this machine.
inline Isa best_isa() {
#ifdef ESCNET_X86_VERSIONS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

// Solves the maps from begin to end on this thread.
inline void solve_serially(const Batch& batch, int64_t begin, int64_t end, Isa isa) {
#ifdef ESCNET_X86_VERSIONS
  if (isa == Isa::kAvx512) return solve_avx512<kMaxClusters>(batch, begin, end);
  if (isa == Isa::kAvx2) return solve_avx2<kMaxClusters>(batch, begin, end);
#endif
  (void)isa;
  solve_baseline<kMaxClusters>(batch, begin, end);
}

}  // namespace escnet_d2
