// Dropout: x times the mask of its row's key (worker/model/dropout.ts has the definition), and with the same op its gradient.
//
// Words are made sixteen at a time, four blocks of Philox4x32-10 in four 64-bit places each: a product of two 32-bit words then needs one
// instruction and no masking, because it reads the lower halves alone.

#include <algorithm>

#if defined(__AVX2__) || defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernel.h"
#include "row-threads.h"

namespace {

constexpr uint32_t kMultiplier0 = 0xd2511f53, kMultiplier1 = 0xcd9e8d57, kWeyl0 = 0x9e3779b9, kWeyl1 = 0xbb67ae85;
constexpr int kRounds = 10;
constexpr int64_t kWords = 16;          // made together
constexpr int64_t kChunk = 2048;        // words in the first-level cache; a multiple of kWords
constexpr int64_t kElementsPerBlock = 32768;

struct Stream {
  uint32_t key0, key1, counter2, counter3;
};

void Philox(const uint32_t counter[4], uint32_t key0, uint32_t key1, uint32_t out[4]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  for (int round = 0; round < kRounds; round++, key0 += kWeyl0, key1 += kWeyl1) {
    const uint64_t product0 = static_cast<uint64_t>(kMultiplier0) * c0, product1 = static_cast<uint64_t>(kMultiplier1) * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c3 = static_cast<uint32_t>(product0);
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// The stream of a site in a row: TensorFlow's, for the stateless seed [key 0, key 1 + site].
Stream StreamOf(const int32_t* key, int32_t site) {
  const uint32_t counter[4] = {static_cast<uint32_t>(key[0]), 0, static_cast<uint32_t>(key[1] + site), 0};
  uint32_t mixed[4];
  Philox(counter, 0x3ec8f720, 0x02461e29, mixed);
  return {mixed[0], mixed[1], mixed[2], mixed[3]};
}

// The mask of words [first, first + count), `first` a multiple of four: `scale` where the word is at least `threshold`, else 0.
void PlainMask(const Stream& stream, int64_t first, int64_t count, int32_t threshold, float scale, float* mask) {
  for (int64_t i = 0; i < count; i += 4) {
    const uint32_t counter[4] = {static_cast<uint32_t>((first + i) / 4), 0, stream.counter2, stream.counter3};
    uint32_t words[4];
    Philox(counter, stream.key0, stream.key1, words);
    for (int64_t j = 0; j < 4 && i + j < count; j++)
      mask[i + j] = static_cast<int32_t>(words[j]) >= threshold ? scale : 0.0f;
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void WideMask(const Stream& stream, int64_t first, int64_t count, int32_t threshold,
                                              float scale, float* mask) {
  const __m256i multiplier0 = _mm256_set1_epi64x(kMultiplier0), multiplier1 = _mm256_set1_epi64x(kMultiplier1);
  const __m256i start2 = _mm256_set1_epi64x(stream.counter2), start3 = _mm256_set1_epi64x(stream.counter3);
  // Larger than the largest dropped word; there is none where the threshold is the least of all.
  const __m256i dropped = _mm256_set1_epi32(threshold == INT32_MIN ? threshold : threshold - 1);
  const __m256i scales = _mm256_castps_si256(_mm256_set1_ps(scale));
  const int64_t whole = threshold == INT32_MIN ? 0 : count - count % kWords;
  for (int64_t i = 0; i < whole; i += kWords) {
    const int64_t block = (first + i) / 4;
    __m256i c0 = _mm256_set_epi64x(block + 3, block + 2, block + 1, block), c1 = _mm256_setzero_si256();
    __m256i c2 = start2, c3 = start3;
    uint32_t key0 = stream.key0, key1 = stream.key1;
    for (int round = 0; round < kRounds; round++, key0 += kWeyl0, key1 += kWeyl1) {
      const __m256i product0 = _mm256_mul_epu32(multiplier0, c0), product1 = _mm256_mul_epu32(multiplier1, c2);
      c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), c1), _mm256_set1_epi64x(key0));
      c1 = product1;
      c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), c3), _mm256_set1_epi64x(key1));
      c3 = product0;
    }
    // [w0 w1] and [w2 w3] of each of the four blocks, then whole blocks.
    const __m256i low = _mm256_blend_epi32(c0, _mm256_slli_epi64(c1, 32), 0xaa);
    const __m256i high = _mm256_blend_epi32(c2, _mm256_slli_epi64(c3, 32), 0xaa);
    const __m256i blocks02 = _mm256_unpacklo_epi64(low, high), blocks13 = _mm256_unpackhi_epi64(low, high);
    const __m256i words[2] = {_mm256_permute2x128_si256(blocks02, blocks13, 0x20),
                              _mm256_permute2x128_si256(blocks02, blocks13, 0x31)};
    for (int half = 0; half < 2; half++)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(mask + i + 8 * half),
                          _mm256_and_si256(_mm256_cmpgt_epi32(words[half], dropped), scales));
  }
  PlainMask(stream, first + whole, count - whole, threshold, scale, mask + whole);
}

void Mask(const Stream& stream, int64_t first, int64_t count, int32_t threshold, float scale, float* mask) {
  static const bool is_wide = __builtin_cpu_supports("avx2");
  (is_wide ? WideMask : PlainMask)(stream, first, count, threshold, scale, mask);
}
#else
void Mask(const Stream& stream, int64_t first, int64_t count, int32_t threshold, float scale, float* mask) {
  PlainMask(stream, first, count, threshold, scale, mask);
}
#endif

struct Plan {
  int32_t site, threshold, length, inner;
};

// Elements [first, end) of a row without a shared length; out may be x. `first` is a multiple of four.
void FullMask(const float* x, float* out, int64_t first, int64_t end, const Stream& stream, const Plan& plan, float scale) {
  float mask[kChunk];
  for (int64_t start = first; start < end; start += kChunk) {
    const int64_t count = std::min(kChunk, end - start);
    Mask(stream, start, count, plan.threshold, scale, mask);
    for (int64_t i = 0; i < count; i++) out[start + i] = x[start + i] * mask[i];
  }
}

// A whole row whose mask is shared along the length.
void SharedMask(const float* x, float* out, int64_t size, const Stream& stream, const Plan& plan, float scale) {
  std::vector<float> mask(size / plan.length);
  Mask(stream, 0, static_cast<int64_t>(mask.size()), plan.threshold, scale, mask.data());
  const int64_t inner = plan.inner;
  for (int64_t vector = 0; vector < size / inner; vector++) {
    const float* values = mask.data() + vector / plan.length * inner;
    for (int64_t i = 0; i < inner; i++) out[vector * inner + i] = x[vector * inner + i] * values[i];
  }
}

// {x, keys [B, 2], plan [site, threshold, length, inner], scale} → x · mask
void MultiplyByMask(Run& run, float) {
  const std::vector<int64_t> shape = run.ShapeOf(0);
  float* out = run.Out(0, shape, {0});
  const Run::Input x = run.In(0), keys = run.In(1), numbers = run.In(2);
  const float scale = run.Scalar(3);
  if (!run.Check(out != nullptr && numbers.size == 4 && keys.columns() == 2 && keys.rows() > 0, "x, keys [B, 2] and four numbers"))
    return;
  const Plan plan = {numbers.ints()[0], numbers.ints()[1], numbers.ints()[2], numbers.ints()[3]};
  const int64_t num_rows = keys.rows(), size = x.size / num_rows;
  const bool fits = size * num_rows == x.size && plan.length > 0 && plan.inner > 0 &&
                    size % (static_cast<int64_t>(plan.length) * plan.inner) == 0;
  if (!run.Check(fits, "rows of one size, a multiple of length · inner")) return;
  if (plan.length > 1) {
    ForRows(num_rows, 1, [&](int64_t first, int64_t end, int64_t) {
      for (int64_t row = first; row < end; row++)
        SharedMask(x.data + row * size, out + row * size, size, StreamOf(keys.ints() + 2 * row, plan.site), plan, scale);
    });
    return;
  }
  const int64_t blocks_per_row = NumBlocks(size, kElementsPerBlock);
  ForRows(num_rows * blocks_per_row, 1, [&](int64_t first_block, int64_t end_block, int64_t) {
    for (int64_t block = first_block; block < end_block; block++) {
      const int64_t row = block / blocks_per_row, first = block % blocks_per_row * kElementsPerBlock;
      FullMask(x.data + row * size, out + row * size, first, std::min(size, first + kElementsPerBlock),
               StreamOf(keys.ints() + 2 * row, plan.site), plan, scale);
    }
  });
}

}  // namespace

std::vector<Kernel> MaskKernels() {
  return {{"ExmixFusedMultiplyByMask",
           {"x: float", "keys: int32", "plan: int32", "scale: float"},
           {"out: float"},
           MultiplyByMask,
           ShapesOf<0>}};
}
