// Products of rows with a matrix whose rows are outputs: x [M, K] · w [N, K]ᵀ, 32 outputs (a panel) at a time.
//
// Each output is one sum over k in its order, whatever the other rows and outputs are: a row gives the same bits alone and among others.

#pragma once

#include <cstdint>
#include <vector>

// Outputs of a panel.
constexpr int64_t kPanel = 32;

struct PanelProduct {
  // panel [k, kPanel] = the rows of w [count, k], transposed; outputs beyond `count` are 0.
  void (*pack)(const float* w, int64_t k, int64_t count, float* panel);
  // out[r][0 … count) = x[r] · panel for each of `num_rows` rows of x; rows of out are `stride` apart.
  void (*multiply)(const float* x, int64_t num_rows, int64_t k, const float* panel, float* out, int64_t stride, int64_t count);
};

// Whether `panels` is the shape of the packed panels of w [N, K]: [P, K, kPanel].
inline bool ArePanelsOf(const std::vector<int64_t>& panels, const std::vector<int64_t>& w) {
  return panels.size() == 3 && panels[0] == (w[0] + kPanel - 1) / kPanel && panels[1] == w[1] && panels[2] == kPanel;
}

// The one for this processor.
const PanelProduct& ThePanelProduct();

// Memory of this thread for a panel of depth k, until the next call.
float* PanelMemory(int64_t k);
