// Attention of single queries to keys and values that lie in a pool, each query's at its own places (worker/model/decode-rows.ts).
// A = queries, P = places of the pool, L = most places of a query, N = heads, H = head width.

#include <algorithm>
#include <limits>
#include <vector>

#include "kernel.h"
#include "lanes.h"
#include "row-threads.h"

namespace {

constexpr int64_t kRowsPerBlock = 4;

struct Pool {
  const float* keys;
  const float* values;
  // Of a place: N·H.
  int64_t width;
  int64_t num_heads;
};

FORCED Lanes Folded(Lanes lanes, IntLanes other) { return lanes + __builtin_shuffle(lanes, other); }

// The same order of additions on every machine.
FORCED float TreeSum(Lanes lanes) {
  lanes = Folded(lanes, IntLanes{8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
  lanes = Folded(lanes, IntLanes{4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11});
  lanes = Folded(lanes, IntLanes{2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
  return lanes[0] + lanes[1];
}

FORCED float Dot(const float* a, const float* b, int64_t size) {
  const int64_t whole = size - size % kLanes;
  Lanes sums = {};
  for (int64_t i = 0; i < whole; i += kLanes) sums += Load(a + i) * Load(b + i);
  if (whole < size) sums += LoadSome(a + whole, size - whole) * LoadSome(b + whole, size - whole);
  return TreeSum(sums);
}

// In place; `scores` has room for a whole number of lanes.
FORCED void Softmax(float* scores, int64_t count) {
  for (int64_t i = count; i % kLanes != 0; i++) scores[i] = -std::numeric_limits<float>::infinity();
  Lanes largest = Load(scores);
  for (int64_t i = kLanes; i < count; i += kLanes) largest = Larger(largest, Load(scores + i));
  const float shift = Largest(largest);
  Lanes sums = {};
  for (int64_t i = 0; i < count; i += kLanes) {
    const Lanes power = Exp(Load(scores + i) - shift);
    Store(scores + i, power);
    sums += power;
  }
  const float scale = 1.0f / TreeSum(sums);
  for (int64_t i = 0; i < count; i += kLanes) Store(scores + i, Load(scores + i) * scale);
}

// bias [L or 1, N]: one row for all places, or one for each. `scores` has room for `count` in whole lanes.
CLONED void AttendRow(const float* query, const Pool& pool, const int32_t* places, int64_t count, const float* bias,
                      int64_t bias_step, float* scores, float* out) {
  const int64_t head_width = pool.width / pool.num_heads;
  const int64_t whole = head_width - head_width % kLanes, rest = head_width - whole;
  for (int64_t head = 0; head < pool.num_heads; head++) {
    const int64_t offset = head * head_width;
    for (int64_t i = 0; i < count; i++)
      scores[i] = Dot(query + offset, pool.keys + places[i] * pool.width + offset, head_width) + bias[i * bias_step + head];
    Softmax(scores, count);
    for (int64_t column = 0; column < whole; column += kLanes) {
      Lanes sums = {};
      for (int64_t i = 0; i < count; i++)
        sums += scores[i] * Load(pool.values + places[i] * pool.width + offset + column);
      Store(out + offset + column, sums);
    }
    if (rest == 0) continue;
    Lanes sums = {};
    for (int64_t i = 0; i < count; i++)
      sums += scores[i] * LoadSome(pool.values + places[i] * pool.width + offset + whole, rest);
    StoreSome(out + offset + whole, sums, rest);
  }
}

// {q [A, N·H], keys [P, N·H], values [P, N·H], places [A·L], bias [L or 1, N]} → [A, N·H]
// A query's places end before the first negative one; it has at least one.
void Attend(Run& run, float) {
  const Run::Input q = run.In(0), keys = run.In(1), values = run.In(2), places = run.In(3), bias = run.In(4);
  bool fits = q.shape.size() == 2 && keys.shape.size() == 2 && keys.shape == values.shape && q.columns() == keys.columns() &&
              q.size > 0 && places.size % q.shape[0] == 0 && bias.shape.size() == 2 && bias.columns() > 0 &&
              (bias.shape[0] == 1 || bias.shape[0] == places.size / q.shape[0]) && q.columns() % bias.columns() == 0;
  if (!run.Check(fits, "q [A, N·H], keys and values [P, N·H], places [A·L], bias [L or 1, N]")) return;
  const int64_t num_rows = q.shape[0], width = q.columns(), length = places.size / num_rows;
  std::vector<int64_t> counts(static_cast<size_t>(num_rows));
  for (int64_t row = 0; row < num_rows; row++) {
    const int32_t* own = places.ints() + row * length;
    int64_t count = 0;
    for (; count < length && own[count] >= 0; count++) fits = fits && own[count] < keys.shape[0];
    fits = fits && count > 0;
    counts[static_cast<size_t>(row)] = count;
  }
  if (!run.Check(fits, "places below P, and one at least for each query")) return;
  float* out = run.Out(0, {num_rows, width});
  if (!run.Check(out != nullptr, "memory")) return;
  const Pool pool = {keys.data, values.data, width, bias.columns()};
  const int64_t bias_step = bias.shape[0] == 1 ? 0 : bias.columns();
  ForRows(num_rows, kRowsPerBlock, [&](int64_t first, int64_t end, int64_t) {
    std::vector<float> scores(static_cast<size_t>((length + kLanes) / kLanes * kLanes));
    for (int64_t row = first; row < end; row++)
      AttendRow(q.data + row * width, pool, places.ints() + row * length, counts[static_cast<size_t>(row)], bias.data,
                bias_step, scores.data(), out + row * width);
  });
}

// {size [2]} → memory of a pool [P, W], which no other pool shares. Places are read once they are written.
void Allocate(Run& run, float) {
  const Run::Input size = run.In(0);
  const bool fits = size.size == 2 && size.ints()[0] >= 0 && size.ints()[1] >= 0;
  if (!run.Check(fits, "size [2], from 0")) return;
  run.Check(run.Out(0, {size.ints()[0], size.ints()[1]}) != nullptr, "memory");
}

// {pool [P, W], rows [A, W], first []} → the pool with the rows at `first`. It is written in place: it must be a variable as it was read, and
// nothing else may read it in the same run but what takes this output. TensorFlow's own operation for this makes each later read a copy.
void Append(Run& run, float) {
  const Run::Input pool = run.In(0), rows = run.In(1), first = run.In(2);
  bool fits = pool.shape.size() == 2 && rows.shape.size() == 2 && pool.columns() == rows.columns() && first.size == 1;
  if (!run.Check(fits, "pool [P, W], rows [A, W], first []")) return;
  const int64_t place = first.ints()[0];
  fits = place >= 0 && place + rows.shape[0] <= pool.shape[0];
  if (!run.Check(fits, "places of the pool")) return;
  std::copy_n(rows.data, rows.size, const_cast<float*>(pool.data) + place * pool.columns());
  run.Pass(0, 0);
}

}  // namespace

std::vector<Kernel> CachedAttentionKernels() {
  return {{"ExmixCachedAttention",
           {"q: float", "keys: float", "values: float", "places: int32", "bias: float"},
           {"context: float"},
           Attend,
           UnknownShapes},
          // Stateful, or TensorFlow would run one of several equal nodes and give its memory to all.
          {"ExmixPool", {"size: int32"}, {"pool: float"}, Allocate, UnknownShapes, false, true},
          {"ExmixAppend", {"pool: float", "rows: float", "first: int32"}, {"appended: float"}, Append, ShapesOf<0>}};
}
