// gelu(gate)·linear and its gradient (worker/model/feed-forward.ts), element by element; the sigmoid is computed again for the gradient.

#include "kernel.h"
#include "lanes.h"
#include "row-threads.h"

namespace {

constexpr float kScale = 1.5957691216057308f;  // 2·sqrt(2/π)
constexpr float kCubic = 0.044715f;
constexpr int64_t kElementsPerBlock = 32768;

FORCED Lanes Sigmoid(Lanes x) { return 1.0f / (1.0f + Exp(x * (-kScale - kScale * kCubic * (x * x)))); }

FORCED Lanes Forward(Lanes gate, Lanes linear) { return gate * Sigmoid(gate) * linear; }

FORCED void Backward(Lanes upstream, Lanes gate, Lanes linear, Lanes* dgate, Lanes* dlinear) {
  const Lanes sigmoid = Sigmoid(gate), gelu = gate * sigmoid;
  const Lanes slope = kScale + 3 * kScale * kCubic * (gate * gate);
  *dgate = upstream * linear * (sigmoid + gelu * (1.0f - sigmoid) * slope);
  *dlinear = upstream * gelu;
}

CLONED void Elements(const float* gate, const float* linear, float* out, int64_t count) {
  const int64_t whole = count - count % kLanes, rest = count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) Store(out + i, Forward(Load(gate + i), Load(linear + i)));
  StoreSome(out + whole, Forward(LoadSome(gate + whole, rest), LoadSome(linear + whole, rest)), rest);
}

// Outputs may be inputs.
CLONED void GradientElements(const float* upstream, const float* gate, const float* linear, float* dgate, float* dlinear,
                             int64_t count) {
  const int64_t whole = count - count % kLanes, rest = count % kLanes;
  Lanes on_gate, on_linear;
  for (int64_t i = 0; i < whole; i += kLanes) {
    Backward(Load(upstream + i), Load(gate + i), Load(linear + i), &on_gate, &on_linear);
    Store(dgate + i, on_gate);
    Store(dlinear + i, on_linear);
  }
  Backward(LoadSome(upstream + whole, rest), LoadSome(gate + whole, rest), LoadSome(linear + whole, rest), &on_gate,
           &on_linear);
  StoreSome(dgate + whole, on_gate, rest);
  StoreSome(dlinear + whole, on_linear, rest);
}

// {gate, linear} → gelu(gate)·linear
void GeluTimes(Run& run, float) {
  const Run::Input gate = run.In(0), linear = run.In(1);
  if (!run.Check(gate.shape == linear.shape, "gate and linear of one shape")) return;
  float* out = run.Out(0, gate.shape);
  if (!run.Check(out != nullptr, "memory")) return;
  ForRows(gate.size, kElementsPerBlock, [&](int64_t first, int64_t end, int64_t) {
    Elements(gate.data + first, linear.data + first, out + first, end - first);
  });
}

// {dout, gate, linear} → dgate, dlinear
void Gradient(Run& run, float) {
  const std::vector<int64_t> shape = run.ShapeOf(0);
  float* dgate = run.Out(0, shape, {0});
  float* dlinear = run.Out(1, shape, {1, 2});
  const Run::Input upstream = run.In(0), gate = run.In(1), linear = run.In(2);
  const bool is_one_shape = shape == gate.shape && shape == linear.shape;
  if (!run.Check(is_one_shape && dgate != nullptr && dlinear != nullptr, "three inputs of one shape")) return;
  ForRows(gate.size, kElementsPerBlock, [&](int64_t first, int64_t end, int64_t) {
    GradientElements(upstream.data + first, gate.data + first, linear.data + first, dgate + first, dlinear + first,
                     end - first);
  });
}

}  // namespace

std::vector<Kernel> GeluKernels() {
  return {
      {"ExmixGeluTimes", {"gate: float", "linear: float"}, {"out: float"}, GeluTimes, ShapesOf<0>},
      {"ExmixGeluTimesGradient",
       {"dout: float", "gate: float", "linear: float"},
       {"dgate: float", "dlinear: float"},
       Gradient,
       ShapesOf<0, 0>},
  };
}
