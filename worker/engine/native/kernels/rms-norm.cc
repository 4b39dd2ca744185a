// T5's layer norm and its gradient (worker/model/rms-norm.ts), a row at a time. M = positions, D = model width.

#include <cmath>

#include "kernel.h"
#include "lanes.h"
#include "row-threads.h"

namespace {

FORCED float ScaleOf(float sum_of_squares, int64_t width, float epsilon) {
  return 1.0f / std::sqrt(sum_of_squares / static_cast<float>(width) + epsilon);
}

CLONED void NormRows(const float* x, const float* weight, float* y, int64_t num_rows, int64_t width, float epsilon) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  for (int64_t row = 0; row < num_rows; row++, x += width, y += width) {
    Lanes squares = {};
    for (int64_t i = 0; i < whole; i += kLanes) squares += Load(x + i) * Load(x + i);
    const Lanes last = LoadSome(x + whole, rest);
    const float scale = ScaleOf(Sum(squares + last * last), width, epsilon);
    for (int64_t i = 0; i < whole; i += kLanes) Store(y + i, Load(x + i) * scale * Load(weight + i));
    StoreSome(y + whole, last * scale * LoadSome(weight + whole, rest), rest);
  }
}

// Adds to dweight; dx may be dy.
CLONED void GradientRows(const float* dy, const float* x, const float* weight, float* dx, float* dweight,
                         int64_t num_rows, int64_t width, float epsilon) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  const Lanes last_weight = LoadSome(weight + whole, rest);
  for (int64_t row = 0; row < num_rows; row++, dy += width, x += width, dx += width) {
    const Lanes last_x = LoadSome(x + whole, rest), last_dy = LoadSome(dy + whole, rest);
    Lanes squares = last_x * last_x, along = last_dy * last_weight * last_x;
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Lanes value = Load(x + i);
      squares += value * value;
      along += Load(dy + i) * Load(weight + i) * value;
    }
    const float scale = ScaleOf(Sum(squares), width, epsilon);
    const float back = Sum(along) * scale * scale / static_cast<float>(width);
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Lanes value = Load(x + i), upstream = Load(dy + i);
      Store(dweight + i, Load(dweight + i) + upstream * value * scale);
      Store(dx + i, (upstream * Load(weight + i) - value * back) * scale);
    }
    StoreSome(dweight + whole, LoadSome(dweight + whole, rest) + last_dy * last_x * scale, rest);
    StoreSome(dx + whole, (last_dy * last_weight - last_x * back) * scale, rest);
  }
}

// {x [M, D], weight [D]} → [M, D]
void Norm(Run& run, float epsilon) {
  const Run::Input x = run.In(0), weight = run.In(1);
  if (!run.Check(x.shape.size() == 2 && weight.size == x.columns(), "x [M, D] and weight [D]")) return;
  float* y = run.Out(0, x.shape);
  if (!run.Check(y != nullptr, "memory")) return;
  const int64_t width = x.columns();
  ForRows(x.rows(), RowsPerBlock(width), [&](int64_t first, int64_t end, int64_t) {
    NormRows(x.data + first * width, weight.data, y + first * width, end - first, width, epsilon);
  });
}

// {dy [M, D], x [M, D], weight [D]} → dx [M, D], dweight [D]
void Gradient(Run& run, float epsilon) {
  const std::vector<int64_t> shape = run.ShapeOf(0);
  float* dx = run.Out(0, shape, {0});
  const Run::Input dy = run.In(0), x = run.In(1), weight = run.In(2);
  if (!run.Check(shape.size() == 2 && dy.shape == x.shape && weight.size == x.columns(), "dy and x [M, D], weight [D]"))
    return;
  float* dweight = run.Out(1, weight.shape);
  if (!run.Check(dx != nullptr && dweight != nullptr, "memory")) return;
  const int64_t width = x.columns(), per_block = RowsPerBlock(width), num_blocks = NumBlocks(x.rows(), per_block);
  std::vector<float> parts(static_cast<size_t>(num_blocks * width));
  ForRows(x.rows(), per_block, [&](int64_t first, int64_t end, int64_t block) {
    GradientRows(dy.data + first * width, x.data + first * width, weight.data, dx + first * width,
                 parts.data() + block * width, end - first, width, epsilon);
  });
  for (int64_t i = 0; i < width; i++) {
    float sum = 0;
    for (int64_t block = 0; block < num_blocks; block++) sum += parts[static_cast<size_t>(block * width + i)];
    dweight[i] = sum;
  }
}

}  // namespace

std::vector<Kernel> RmsNormKernels() {
  return {
      {"ExmixRmsNorm", {"x: float", "weight: float"}, {"y: float"}, Norm, ShapesOf<0>, true},
      {"ExmixRmsNormGradient",
       {"dy: float", "x: float", "weight: float"},
       {"dx: float", "dweight: float"},
       Gradient,
       ShapesOf<0, 2>,
       true},
  };
}
