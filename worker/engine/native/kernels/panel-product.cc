// A panel is packed so that 32 outputs lie beside each other, and is multiplied with as many rows at a time as registers hold sums for.

#include "panel-product.h"

#include <algorithm>
#include <cstdlib>

#include "lanes.h"

namespace {

// ---- packing ----

FORCED void PackPlainly(const float* w, int64_t k, int64_t first, int64_t count, float* panel) {
  for (int64_t j = first; j < kPanel; j++)
    for (int64_t i = 0; i < k; i++) panel[i * kPanel + j] = j < count ? w[j * k + i] : 0.0f;
}

#if defined(__x86_64__)

// Interleaves row a with row a + 8: four such rounds transpose 16 rows of 16.
FORCED void Interleave(const Lanes* from, Lanes* to) {
  constexpr IntLanes kLow = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
  constexpr IntLanes kHigh = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#pragma GCC unroll 8
  for (int a = 0; a < 8; a++) {
    to[2 * a] = __builtin_shuffle(from[a], from[a + 8], kLow);
    to[2 * a + 1] = __builtin_shuffle(from[a], from[a + 8], kHigh);
  }
}

__attribute__((target("avx512f"))) void PackWide(const float* w, int64_t k, int64_t count, float* panel) {
  const int64_t whole = k - k % kLanes;
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    for (int64_t i = 0; i < whole; i += kLanes) {
      Lanes a[kLanes], b[kLanes];
#pragma GCC unroll 16
      for (int row = 0; row < kLanes; row++) a[row] = Load(w + (j + row) * k + i);
      Interleave(a, b);
      Interleave(b, a);
      Interleave(a, b);
      Interleave(b, a);
#pragma GCC unroll 16
      for (int row = 0; row < kLanes; row++) Store(panel + (i + row) * kPanel + j, a[row]);
    }
    for (int64_t i = whole; i < k; i++)
      for (int64_t row = 0; row < kLanes; row++) panel[i * kPanel + j + row] = w[(j + row) * k + i];
  }
  if (j < kPanel) PackPlainly(w, k, j, count, panel);
}

#endif

void PackAnywhere(const float* w, int64_t k, int64_t count, float* panel) { PackPlainly(w, k, 0, count, panel); }

// ---- products ----

template <int rows>
FORCED void MultiplyTile(const float* x, int64_t k, const float* panel, float* out, int64_t stride, int64_t count) {
  Lanes low[rows], high[rows];
#pragma GCC unroll 16
  for (int row = 0; row < rows; row++) low[row] = high[row] = Lanes{};
  for (int64_t i = 0; i < k; i++) {
    const Lanes low_weights = Load(panel + i * kPanel), high_weights = Load(panel + i * kPanel + kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++) {
      const float value = x[row * k + i];
      low[row] += value * low_weights;
      high[row] += value * high_weights;
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < rows; row++) {
    float* to = out + row * stride;
    if (count == kPanel) {
      Store(to, low[row]);
      Store(to + kLanes, high[row]);
    } else {
      StoreSome(to, low[row], std::min(count, kLanes));
      if (count > kLanes) StoreSome(to + kLanes, high[row], count - kLanes);
    }
  }
}

// The rows that are left, fewer than a tile has.
template <int rows>
FORCED void MultiplyRest(int64_t left, const float* x, int64_t k, const float* panel, float* out, int64_t stride,
                         int64_t count) {
  if constexpr (rows > 0) {
    if (left == rows)
      MultiplyTile<rows>(x, k, panel, out, stride, count);
    else
      MultiplyRest<rows - 1>(left, x, k, panel, out, stride, count);
  }
}

template <int rows>
FORCED void MultiplyRows(const float* x, int64_t num_rows, int64_t k, const float* panel, float* out, int64_t stride,
                         int64_t count) {
  int64_t row = 0;
  for (; row + rows <= num_rows; row += rows) MultiplyTile<rows>(x + row * k, k, panel, out + row * stride, stride, count);
  MultiplyRest<rows - 1>(num_rows - row, x + row * k, k, panel, out + row * stride, stride, count);
}

#if defined(__x86_64__)

// 24 of 32 registers hold sums.
__attribute__((target("avx512f"))) void MultiplyWide(const float* x, int64_t num_rows, int64_t k, const float* panel,
                                                     float* out, int64_t stride, int64_t count) {
  MultiplyRows<12>(x, num_rows, k, panel, out, stride, count);
}

// 12 of 16 registers, half as wide.
__attribute__((target("avx2,fma"))) void MultiplyNarrow(const float* x, int64_t num_rows, int64_t k, const float* panel,
                                                        float* out, int64_t stride, int64_t count) {
  MultiplyRows<3>(x, num_rows, k, panel, out, stride, count);
}

#endif

void MultiplyAnywhere(const float* x, int64_t num_rows, int64_t k, const float* panel, float* out, int64_t stride,
                      int64_t count) {
  MultiplyRows<2>(x, num_rows, k, panel, out, stride, count);
}

PanelProduct Choose() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {PackWide, MultiplyWide};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {PackAnywhere, MultiplyNarrow};
#endif
  return {PackAnywhere, MultiplyAnywhere};
}

struct AlignedFloats {
  float* data = nullptr;
  int64_t size = 0;
  ~AlignedFloats() { std::free(data); }
};

}  // namespace

const PanelProduct& ThePanelProduct() {
  static const PanelProduct product = Choose();
  return product;
}

float* PanelMemory(int64_t k) {
  static thread_local AlignedFloats memory;
  const int64_t size = std::max<int64_t>(1, k) * kPanel;
  if (memory.size < size) {
    std::free(memory.data);
    memory.data = static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(size) * sizeof(float)));
    memory.size = memory.data == nullptr ? 0 : size;
  }
  return memory.data;
}
