// x [M, K] · w [N, K]ᵀ for decoding: a row of x gives the same bits whatever other rows are there, and w is read as it lies.

#include <algorithm>

#include "kernel.h"
#include "panel-product.h"
#include "row-threads.h"

namespace {

// Rows of x that are multiplied with one panel after the other stay in the second cache.
constexpr int64_t kCachedElements = 131072;

// {x [M, K], w [N, K]} → [M, N]
void Product(Run& run, float) {
  const Run::Input x = run.In(0), w = run.In(1);
  if (!run.Check(x.shape.size() == 2 && w.shape.size() == 2 && x.columns() == w.columns(), "x [M, K] and w [N, K]")) return;
  const int64_t num_rows = x.shape[0], num_outputs = w.shape[0], k = x.columns();
  float* out = run.Out(0, {num_rows, num_outputs});
  if (!run.Check(out != nullptr, "memory")) return;
  const PanelProduct& product = ThePanelProduct();
  const int64_t chunk_rows = std::max<int64_t>(12, kCachedElements / std::max<int64_t>(1, k) / 12 * 12);
  const int64_t num_panels = NumBlocks(num_outputs, kPanel), num_chunks = NumBlocks(num_rows, chunk_rows);
  ForRows(num_chunks * num_panels, 1, [&](int64_t unit, int64_t, int64_t) {
    const int64_t row = unit / num_panels * chunk_rows, output = unit % num_panels * kPanel;
    const int64_t count = std::min(kPanel, num_outputs - output);
    float* panel = PanelMemory(k);
    product.pack(w.data + output * k, k, count, panel);
    product.multiply(x.data + row * k, std::min(chunk_rows, num_rows - row), k, panel, out + row * num_outputs + output,
                     num_outputs, count);
  });
}

}  // namespace

std::vector<Kernel> ProductKernels() {
  return {{"ExmixProduct", {"x: float", "w: float"}, {"out: float"}, Product, UnknownShapes}};
}
