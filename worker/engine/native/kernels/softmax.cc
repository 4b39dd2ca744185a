// The softmax of attention over its keys, with the bias added first, and its gradient (worker/model/attention.ts), a row at a time.

#include <limits>

#include "kernel.h"
#include "lanes.h"
#include "row-threads.h"

namespace {

constexpr float kLeast = -std::numeric_limits<float>::infinity();

// p may be scores.
CLONED void SoftmaxRow(const float* scores, const float* bias, float* p, int64_t width) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  const Lanes last = LoadSome(scores + whole, rest, kLeast) + LoadSome(bias + whole, rest);
  Lanes largest = last;
  for (int64_t i = 0; i < whole; i += kLanes) {
    const Lanes logits = Load(scores + i) + Load(bias + i);
    Store(p + i, logits);
    largest = Larger(largest, logits);
  }
  const float shift = Largest(largest);
  const Lanes last_power = Exp(last - shift);
  Lanes sums = last_power;
  for (int64_t i = 0; i < whole; i += kLanes) {
    const Lanes power = Exp(Load(p + i) - shift);
    Store(p + i, power);
    sums += power;
  }
  const float scale = 1.0f / Sum(sums);
  for (int64_t i = 0; i < whole; i += kLanes) Store(p + i, Load(p + i) * scale);
  StoreSome(p + whole, last_power * scale, rest);
}

// dlogits = p·(dp − Σ p·dp); it may be dp.
CLONED void GradientRows(const float* p, const float* dp, float* dlogits, int64_t num_rows, int64_t width) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  for (int64_t row = 0; row < num_rows; row++, p += width, dp += width, dlogits += width) {
    const Lanes last_p = LoadSome(p + whole, rest), last_dp = LoadSome(dp + whole, rest);
    Lanes along = last_p * last_dp;
    for (int64_t i = 0; i < whole; i += kLanes) along += Load(p + i) * Load(dp + i);
    const float sum = Sum(along);
    for (int64_t i = 0; i < whole; i += kLanes) Store(dlogits + i, Load(p + i) * (Load(dp + i) - sum));
    StoreSome(dlogits + whole, last_p * (last_dp - sum), rest);
  }
}

// {scores [B, N, Q, K], bias [B or 1, N or 1, Q, K]} → softmax over K of their sum
void Softmax(Run& run, float) {
  const std::vector<int64_t> shape = run.ShapeOf(0);
  float* p = run.Out(0, shape, {0});
  const Run::Input scores = run.In(0), bias = run.In(1);
  bool fits = shape.size() == 4 && bias.shape.size() == 4 && p != nullptr;
  for (size_t i = 0; fits && i < 4; i++) fits = bias.shape[i] == shape[i] || (i < 2 && bias.shape[i] == 1);
  if (!run.Check(fits, "scores [B, N, Q, K] and bias [B or 1, N or 1, Q, K]")) return;
  const int64_t num_heads = shape[1], num_queries = shape[2], width = shape[3];
  const int64_t bias_heads = bias.shape[1], bias_batches = bias.shape[0];
  ForRows(scores.rows(), RowsPerBlock(width), [&](int64_t first, int64_t end, int64_t) {
    for (int64_t row = first; row < end; row++) {
      const int64_t query = row % num_queries, head = row / num_queries % num_heads, batch = row / num_queries / num_heads;
      const int64_t bias_plane = (bias_batches == 1 ? 0 : batch) * bias_heads + (bias_heads == 1 ? 0 : head);
      SoftmaxRow(scores.data + row * width, bias.data + (bias_plane * num_queries + query) * width, p + row * width, width);
    }
  });
}

// {p, dp} → the gradient of scores and bias
void Gradient(Run& run, float) {
  const std::vector<int64_t> shape = run.ShapeOf(1);
  float* dlogits = run.Out(0, shape, {1});
  const Run::Input p = run.In(0), dp = run.In(1);
  if (!run.Check(p.shape == dp.shape && dlogits != nullptr, "p and dp of one shape")) return;
  const int64_t width = p.columns();
  ForRows(p.rows(), RowsPerBlock(width), [&](int64_t first, int64_t end, int64_t) {
    GradientRows(p.data + first * width, dp.data + first * width, dlogits + first * width, end - first, width);
  });
}

}  // namespace

std::vector<Kernel> SoftmaxKernels() {
  return {
      {"ExmixBiasedSoftmax", {"scores: float", "bias: float"}, {"p: float"}, Softmax, ShapesOf<0>},
      {"ExmixSoftmaxGradient", {"p: float", "dp: float"}, {"dlogits: float"}, Gradient, ShapesOf<1>},
  };
}
