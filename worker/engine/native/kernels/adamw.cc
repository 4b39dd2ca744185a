// The update of AdamW and of AdamW scaled by the parameter's size (worker/model/adamw.ts, whose names and algebra these are).
// One pass that reads gradient, parameter, m and v and writes the last three; before it one over the parameter for its size, where it counts.

#include <algorithm>
#include <cmath>

#include "kernel.h"
#include "lanes.h"
#include "row-threads.h"

namespace {

constexpr double kLeastSize = 1e-3;
constexpr int kFirstNumber = 4;

struct Numbers {
  float step_size, root_scale, epsilon, keep, momentum, new_momentum, decay, new_share, scale;
};

Numbers ReadNumbers(Run& run) {
  const auto number = [&](int index) { return run.Scalar(kFirstNumber + index); };
  return {number(0), number(1), number(2), number(3), number(4), number(5), number(6), number(7), number(8)};
}

CLONED double SumSquares(const float* p, int64_t size) {
  const int64_t whole = size - size % kLanes;
  Lanes sum = LoadSome(p + whole, size % kLanes);
  sum *= sum;
  for (int64_t i = 0; i < whole; i += kLanes) sum += Load(p + i) * Load(p + i);
  return Sum(sum);
}

// is_relative: the parameter is decayed after the update, as AdamWScale does; else before it, as torch.optim.AdamW does.
template <bool is_relative>
FORCED void UpdateLanes(Lanes g, Lanes p, Lanes& m, Lanes& v, Lanes& out, const Numbers& n) {
  g *= n.scale;
  m = m * n.momentum + g * n.new_momentum;
  v = v * n.decay + g * g * n.new_share;
  const Lanes change = m / (Root(v) * n.root_scale + n.epsilon) * n.step_size;
  out = is_relative ? (p - change) * n.keep : p * n.keep - change;
}

template <bool is_relative>
FORCED void UpdateBlock(const float* g, const float* p, const float* m, const float* v, float* out, float* new_m, float* new_v,
                        int64_t size, const Numbers& n) {
  const int64_t whole = size - size % kLanes, rest = size % kLanes;
  Lanes next;
  for (int64_t i = 0; i < whole; i += kLanes) {
    Lanes mean = Load(m + i), square = Load(v + i);
    UpdateLanes<is_relative>(Load(g + i), Load(p + i), mean, square, next, n);
    Store(out + i, next);
    Store(new_m + i, mean);
    Store(new_v + i, square);
  }
  Lanes mean = LoadSome(m + whole, rest), square = LoadSome(v + whole, rest);
  UpdateLanes<is_relative>(LoadSome(g + whole, rest), LoadSome(p + whole, rest), mean, square, next, n);
  StoreSome(out + whole, next, rest);
  StoreSome(new_m + whole, mean, rest);
  StoreSome(new_v + whole, square, rest);
}

CLONED void UpdatePlain(const float* g, const float* p, const float* m, const float* v, float* out, float* new_m,
                        float* new_v, int64_t size, const Numbers& n) {
  UpdateBlock<false>(g, p, m, v, out, new_m, new_v, size, n);
}

CLONED void UpdateRelative(const float* g, const float* p, const float* m, const float* v, float* out, float* new_m,
                           float* new_v, int64_t size, const Numbers& n) {
  UpdateBlock<true>(g, p, m, v, out, new_m, new_v, size, n);
}

// {gradient, parameter, m, v, the numbers in their order} → parameter, m, v
template <bool is_relative>
void Adamw(Run& run, float) {
  const Run::Input g = run.In(0), p = run.In(1), m = run.In(2), v = run.In(3);
  Numbers numbers = ReadNumbers(run);
  const bool fits = g.shape == p.shape && m.shape == p.shape && v.shape == p.shape;
  if (!run.Check(fits, "gradient, parameter, m and v of one shape")) return;
  float* out = run.Out(0, p.shape);
  float* new_m = run.Out(1, m.shape);
  float* new_v = run.Out(2, v.shape);
  if (!run.Check(out != nullptr && new_m != nullptr && new_v != nullptr, "memory")) return;

  const int64_t per_block = RowsPerBlock(1);
  if (is_relative) {
    std::vector<double> squares(NumBlocks(p.size, per_block));
    ForRows(p.size, per_block, [&](int64_t first, int64_t end, int64_t block) {
      squares[block] = SumSquares(p.data + first, end - first);
    });
    double sum = 0;
    for (const double square : squares) sum += square;
    // NaN stays NaN.
    const double size = std::sqrt(sum / static_cast<double>(std::max<int64_t>(1, p.size)));
    numbers.step_size = static_cast<float>(numbers.step_size * (size < kLeastSize ? kLeastSize : size));
  }
  const auto update = is_relative ? UpdateRelative : UpdatePlain;
  ForRows(p.size, per_block, [&](int64_t first, int64_t end, int64_t) {
    update(g.data + first, p.data + first, m.data + first, v.data + first, out + first, new_m + first, new_v + first,
           end - first, numbers);
  });
}

Kernel Declare(const char* op, void (*compute)(Run&, float)) {
  return {op,
          {"gradient: float", "parameter: float", "m: float", "v: float", "step_size: float", "root_scale: float",
           "epsilon: float", "keep: float", "momentum: float", "new_momentum: float", "decay: float", "new_share: float",
           "scale: float"},
          {"new_parameter: float", "new_m: float", "new_v: float"},
          compute,
          ShapesOf<1, 2, 3>};
}

}  // namespace

std::vector<Kernel> AdamwKernels() {
  return {Declare("ExmixAdamw", Adamw<false>), Declare("ExmixAdamwRms", Adamw<true>)};
}
