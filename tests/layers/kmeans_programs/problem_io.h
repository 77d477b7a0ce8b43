// Reads maps from standard input and writes their clusters to standard output, for programs that
// tests start. Input: eight int64 (variant, score type, maps, height, width, k, iterations, unused),
// then the scores, then the mask. Output: labels, centers, counts, points.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

struct Problem {
  int64_t header[8];
  std::vector<char> scores;
  std::vector<uint8_t> mask;
  std::vector<int8_t> labels;
  std::vector<float> centers;
  std::vector<int32_t> counts;
  std::vector<int32_t> points;

  int64_t variant() const { return header[0]; }
  int64_t score_type() const { return header[1]; }
  int64_t maps() const { return header[2]; }
  int height() const { return static_cast<int>(header[3]); }
  int width() const { return static_cast<int>(header[4]); }
  int k() const { return static_cast<int>(header[5]); }
  int iterations() const { return static_cast<int>(header[6]); }

  // Results hold values that no solver writes, so that what is left out shows.
  explicit Problem(FILE* stream) {
    take(stream, header, sizeof header);
    const int64_t pixels = header[2] * header[3] * header[4];
    scores.resize(pixels * (score_type() == 0 ? 4 : 2));
    mask.resize(pixels);
    take(stream, scores.data(), scores.size());
    take(stream, mask.data(), mask.size());
    labels.assign(pixels, 99);
    centers.assign(maps() * k() * 2, -99.0f);
    counts.assign(maps() * k(), -99);
    points.assign(maps() * k(), -99);
  }

  void write(FILE* stream) const {
    fwrite(labels.data(), sizeof labels[0], labels.size(), stream);
    fwrite(centers.data(), sizeof centers[0], centers.size(), stream);
    fwrite(counts.data(), sizeof counts[0], counts.size(), stream);
    fwrite(points.data(), sizeof points[0], points.size(), stream);
  }

 private:
  static void take(FILE* stream, void* target, size_t size) {
    if (fread(target, 1, size, stream) != size) {
      fprintf(stderr, "input ends early\n");
      exit(2);
    }
  }
};
