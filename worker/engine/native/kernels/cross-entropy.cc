// The cross-entropy of each position and log Z, and the gradient on the logits (worker/model/cross-entropy.ts), a row at a time.
// M = positions, V = vocabulary. The softmax is never written: the gradient computes it again, and may lie where the logits were.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernel.h"
#include "lanes.h"
#include "row-threads.h"

namespace {

constexpr float kLeast = -std::numeric_limits<float>::infinity();
constexpr int64_t kStage = 1024;  // sums of so many first, so that float32 stays accurate

CLONED float LogZ(const float* logits, int64_t width) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  const Lanes last = LoadSome(logits + whole, rest, kLeast);
  Lanes largest = last;
  for (int64_t i = 0; i < whole; i += kLanes) largest = Larger(largest, Load(logits + i));
  const float shift = Largest(largest);
  Lanes total = Exp(last - shift);
  for (int64_t start = 0; start < whole; start += kStage) {
    Lanes sums = {};
    for (int64_t i = start; i < std::min(start + kStage, whole); i += kLanes) sums += Exp(Load(logits + i) - shift);
    total += sums;
  }
  return shift + std::log(Sum(total));
}

// on_softmax·softmax − on_label·onehot; dlogits may be logits.
CLONED void GradientRow(const float* logits, float log_z, float on_softmax, float* dlogits, int64_t width) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) Store(dlogits + i, Exp(Load(logits + i) - log_z) * on_softmax);
  StoreSome(dlogits + whole, Exp(LoadSome(logits + whole, rest) - log_z) * on_softmax, rest);
}

bool AreInRange(const Run::Input& labels, int64_t vocabulary) {
  return std::all_of(labels.ints(), labels.ints() + labels.size,
                     [vocabulary](int32_t label) { return label >= 0 && label < vocabulary; });
}

// {logits [M, V], labels [M]} → cross-entropy [M], log Z [M]
void Terms(Run& run, float) {
  const Run::Input logits = run.In(0), labels = run.In(1);
  const int64_t width = logits.columns();
  const bool fits = logits.shape.size() == 2 && labels.size == logits.rows() && AreInRange(labels, width);
  if (!run.Check(fits, "logits [M, V] and labels [M] below V")) return;
  float* cross_entropy = run.Out(0, labels.shape);
  float* log_z = run.Out(1, labels.shape);
  if (!run.Check(cross_entropy != nullptr && log_z != nullptr, "memory")) return;
  ForRows(logits.rows(), RowsPerBlock(width), [&](int64_t first, int64_t end, int64_t) {
    for (int64_t row = first; row < end; row++) {
      const float* own = logits.data + row * width;
      log_z[row] = LogZ(own, width);
      cross_entropy[row] = log_z[row] - own[labels.ints()[row]];
    }
  });
}

// {logits [M, V], labels [M], log Z [M], on softmax [M], on label [M]} → dlogits [M, V]
void Gradient(Run& run, float) {
  const std::vector<int64_t> shape = run.ShapeOf(0);
  float* dlogits = run.Out(0, shape, {0});
  const Run::Input logits = run.In(0), labels = run.In(1), log_z = run.In(2), on_softmax = run.In(3), on_label = run.In(4);
  const int64_t num_rows = logits.rows(), width = logits.columns();
  const bool fits = shape.size() == 2 && labels.size == num_rows && log_z.size == num_rows &&
                    on_softmax.size == num_rows && on_label.size == num_rows && dlogits != nullptr;
  if (!run.Check(fits && AreInRange(labels, width), "logits [M, V], labels [M] below V, and three vectors [M]")) return;
  ForRows(num_rows, RowsPerBlock(width), [&](int64_t first, int64_t end, int64_t) {
    for (int64_t row = first; row < end; row++) {
      float* own = dlogits + row * width;
      GradientRow(logits.data + row * width, log_z.data[row], on_softmax.data[row], own, width);
      own[labels.ints()[row]] -= on_label.data[row];
    }
  });
}

}  // namespace

std::vector<Kernel> CrossEntropyKernels() {
  return {
      {"ExmixCrossEntropy",
       {"logits: float", "labels: int32"},
       {"cross_entropy: float", "log_z: float"},
       Terms,
       ShapesOf<1, 1>},
      {"ExmixCrossEntropyGradient",
       {"logits: float", "labels: int32", "log_z: float", "on_softmax: float", "on_label: float"},
       {"dlogits: float"},
       Gradient,
       ShapesOf<0>},
  };
}
