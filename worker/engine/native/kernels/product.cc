// x [M, K] · w [N, K]ᵀ for decoding: a row of x gives the same bits whatever other rows are there. w is read as it lies, or from its panels,
// which are packed once for the many products of a decoding.

#include <algorithm>

#include "kernel.h"
#include "panel-product.h"
#include "row-threads.h"

namespace {

// Rows of x that are multiplied with one panel after the other stay in the second cache.
constexpr int64_t kCachedElements = 131072;

// {x [M, K], w [N, K]} → [M, N]; is_packed: with the panels of w, [P, K, kPanel], as third input.
template <bool is_packed>
void Product(Run& run, float) {
  const Run::Input x = run.In(0), w = run.In(1);
  if (!run.Check(x.shape.size() == 2 && w.shape.size() == 2 && x.columns() == w.columns(), "x [M, K] and w [N, K]")) return;
  const int64_t num_rows = x.shape[0], num_outputs = w.shape[0], k = x.columns();
  const int64_t num_panels = NumBlocks(num_outputs, kPanel);
  Run::Input panels;
  if (is_packed) {
    panels = run.In(2);
    if (!run.Check(ArePanelsOf(panels.shape, w.shape), "panels [P, K, 32] of w")) return;
  }
  float* out = run.Out(0, {num_rows, num_outputs});
  if (!run.Check(out != nullptr, "memory")) return;
  const PanelProduct& product = ThePanelProduct();
  const int64_t chunk_rows = std::max<int64_t>(12, kCachedElements / std::max<int64_t>(1, k) / 12 * 12);
  const int64_t num_chunks = NumBlocks(num_rows, chunk_rows);
  ForRows(num_chunks * num_panels, 1, [&](int64_t unit, int64_t, int64_t) {
    const int64_t row = unit / num_panels * chunk_rows, number = unit % num_panels, output = number * kPanel;
    const int64_t count = std::min(kPanel, num_outputs - output);
    const float* panel = panels.data + number * k * kPanel;
    if (!is_packed) {
      float* memory = PanelMemory(k);
      product.pack(w.data + output * k, k, count, memory);
      panel = memory;
    }
    product.multiply(x.data + row * k, std::min(chunk_rows, num_rows - row), k, panel, out + row * num_outputs + output,
                     num_outputs, count);
  });
}

// {w [N, K]} → its panels [P, K, kPanel]
void Pack(Run& run, float) {
  const Run::Input w = run.In(0);
  if (!run.Check(w.shape.size() == 2, "w [N, K]")) return;
  const int64_t num_outputs = w.shape[0], k = w.columns(), num_panels = NumBlocks(num_outputs, kPanel);
  float* panels = run.Out(0, {num_panels, k, kPanel});
  if (!run.Check(panels != nullptr, "memory")) return;
  ForRows(num_panels, 1, [&](int64_t number, int64_t, int64_t) {
    const int64_t output = number * kPanel;
    ThePanelProduct().pack(w.data + output * k, k, std::min(kPanel, num_outputs - output), panels + output * k);
  });
}

}  // namespace

std::vector<Kernel> ProductKernels() {
  return {{"ExmixProduct", {"x: float", "w: float"}, {"out: float"}, Product<false>, UnknownShapes},
          {"ExmixPackedProduct", {"x: float", "w: float", "panels: float"}, {"out: float"}, Product<true>, UnknownShapes},
          {"ExmixPack", {"w: float"}, {"panels: float"}, Pack, UnknownShapes}};
}
