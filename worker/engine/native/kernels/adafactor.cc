// Adafactor's update of one parameter (worker/model/adafactor.ts, whose names and algebra these are).
// Factored: one pass over the gradient G and the parameter for all sums of squares, one over G for mean(u²), one that writes. R = rows, C = columns.

#include <algorithm>
#include <cmath>

#include "kernel.h"
#include "lanes.h"
#include "row-threads.h"

namespace {

constexpr double kEpsilon1 = 1e-30, kEpsilon2 = 1e-3;

struct Numbers {
  float learning_rate, decay, new_share, scale;
  double MovingAverage(float old, double mean_square) const {
    const double s = scale;
    return static_cast<double>(decay) * old + static_cast<double>(new_share) * (mean_square * s * s + kEpsilon1);
  }
  // learningRate·max(RMS(p), 1e-3) / max(1, RMS(u))
  double StepSize(double mean_square_of_p, double mean_square_of_u) const {
    return learning_rate * std::max(std::sqrt(mean_square_of_p), kEpsilon2) / AtLeastOne(std::sqrt(mean_square_of_u));
  }
  // NaN stays NaN.
  static double AtLeastOne(double x) { return x < 1 ? 1 : x; }
};

Numbers ReadNumbers(Run& run, int first) {
  return {run.Scalar(first), run.Scalar(first + 1), run.Scalar(first + 2), run.Scalar(first + 3)};
}

// Sums of squares of G by row, and added by column; of p altogether.
CLONED double SumSquares(const float* g, const float* p, float* by_row, float* by_column, int64_t num_rows, int64_t width) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  double of_p = 0;
  for (int64_t row = 0; row < num_rows; row++, g += width, p += width) {
    Lanes last = LoadSome(g + whole, rest), last_p = LoadSome(p + whole, rest);
    last *= last;
    Lanes sum = last, sum_p = last_p * last_p;
    for (int64_t i = 0; i < whole; i += kLanes) {
      const Lanes value = Load(g + i), value_p = Load(p + i), square = value * value;
      sum += square;
      sum_p += value_p * value_p;
      Store(by_column + i, Load(by_column + i) + square);
    }
    StoreSome(by_column + whole, LoadSome(by_column + whole, rest) + last, rest);
    by_row[row] = Sum(sum);
    of_p += Sum(sum_p);
  }
  return of_p;
}

// Σ G²·rows²·columns², given those squares.
CLONED double WeightedSquares(const float* g, const float* row_square, const float* column_square, int64_t num_rows,
                              int64_t width) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  double total = 0;
  for (int64_t row = 0; row < num_rows; row++, g += width) {
    const Lanes last = LoadSome(g + whole, rest);
    Lanes sum = last * last * LoadSome(column_square + whole, rest);
    for (int64_t i = 0; i < whole; i += kLanes) sum += Load(g + i) * Load(g + i) * Load(column_square + i);
    total += static_cast<double>(Sum(sum)) * row_square[row];
  }
  return total;
}

CLONED void WriteRows(const float* g, const float* p, const float* by_row, const float* by_column, float* out,
                      int64_t num_rows, int64_t width) {
  const int64_t whole = width - width % kLanes, rest = width % kLanes;
  for (int64_t row = 0; row < num_rows; row++, g += width, p += width, out += width) {
    const float factor = by_row[row];
    for (int64_t i = 0; i < whole; i += kLanes) Store(out + i, Load(p + i) - Load(g + i) * factor * Load(by_column + i));
    const Lanes change = LoadSome(g + whole, rest) * factor * LoadSome(by_column + whole, rest);
    StoreSome(out + whole, LoadSome(p + whole, rest) - change, rest);
  }
}

// {gradient [R, C], parameter [R, C], vr, vc, learning rate, decay, new share, scale} → parameter, vr, vc
void Factored(Run& run, float) {
  const Run::Input g = run.In(0), p = run.In(1), vr = run.In(2), vc = run.In(3);
  const Numbers numbers = ReadNumbers(run, 4);
  const int64_t num_rows = g.rows(), width = g.columns();
  // vr lies along the shorter side, vc along the longer one.
  const bool are_rows_longer = num_rows > width;
  const int64_t shorter = are_rows_longer ? width : num_rows, longer = are_rows_longer ? num_rows : width;
  const bool fits = g.shape.size() == 2 && g.shape == p.shape && vr.size == shorter && vc.size == longer;
  if (!run.Check(fits, "gradient and parameter [R, C], vr along the shorter and vc along the longer side")) return;
  float* out = run.Out(0, p.shape);
  float* new_vr = run.Out(1, vr.shape);
  float* new_vc = run.Out(2, vc.shape);
  if (!run.Check(out != nullptr && new_vr != nullptr && new_vc != nullptr, "memory")) return;

  const int64_t per_block = RowsPerBlock(width), num_blocks = NumBlocks(num_rows, per_block);
  std::vector<float> rows(num_rows), columns(width), parts(num_blocks * width);
  std::vector<double> of_p(num_blocks), of_u(num_blocks), column_sums(width);
  ForRows(num_rows, per_block, [&](int64_t first, int64_t end, int64_t block) {
    of_p[block] = SumSquares(g.data + first * width, p.data + first * width, rows.data() + first,
                             parts.data() + block * width, end - first, width);
  });
  for (int64_t block = 0; block < num_blocks; block++)
    for (int64_t i = 0; i < width; i++) column_sums[i] += parts[block * width + i];

  float* new_rows = are_rows_longer ? new_vc : new_vr;
  float* new_columns = are_rows_longer ? new_vr : new_vc;
  const float* old_rows = are_rows_longer ? vc.data : vr.data;
  const float* old_columns = are_rows_longer ? vr.data : vc.data;
  for (int64_t i = 0; i < num_rows; i++)
    new_rows[i] = static_cast<float>(numbers.MovingAverage(old_rows[i], static_cast<double>(rows[i]) / width));
  for (int64_t i = 0; i < width; i++)
    new_columns[i] = static_cast<float>(numbers.MovingAverage(old_columns[i], column_sums[i] / num_rows));

  // a² = mean(vr)/vr, b² = 1/vc
  double mean_vr = 0;
  for (int64_t i = 0; i < shorter; i++) mean_vr += new_vr[i];
  mean_vr /= shorter;
  const double row_share = are_rows_longer ? 1 : mean_vr, column_share = are_rows_longer ? mean_vr : 1;
  for (int64_t i = 0; i < num_rows; i++) rows[i] = static_cast<float>(row_share / new_rows[i]);
  for (int64_t i = 0; i < width; i++) columns[i] = static_cast<float>(column_share / new_columns[i]);
  ForRows(num_rows, per_block, [&](int64_t first, int64_t end, int64_t block) {
    of_u[block] = WeightedSquares(g.data + first * width, rows.data() + first, columns.data(), end - first, width);
  });

  double squares_of_p = 0, squares_of_u = 0;
  for (int64_t block = 0; block < num_blocks; block++) {
    squares_of_p += of_p[block];
    squares_of_u += of_u[block];
  }
  const double size = static_cast<double>(g.size), s = numbers.scale;
  const double step = numbers.StepSize(squares_of_p / size, squares_of_u * s * s / size);
  for (int64_t i = 0; i < num_rows; i++) rows[i] = std::sqrt(rows[i]);
  for (int64_t i = 0; i < width; i++) columns[i] = static_cast<float>(std::sqrt(columns[i]) * step * s);
  ForRows(num_rows, per_block, [&](int64_t first, int64_t end, int64_t) {
    WriteRows(g.data + first * width, p.data + first * width, rows.data() + first, columns.data(), out + first * width,
              end - first, width);
  });
}

// {gradient, parameter, v, learning rate, decay, new share, scale} → parameter, v. Vectors and small matrices: no lanes, no threads.
void Whole(Run& run, float) {
  const Run::Input g = run.In(0), p = run.In(1), v = run.In(2);
  const Numbers numbers = ReadNumbers(run, 3);
  if (!run.Check(g.shape == p.shape && g.shape == v.shape, "gradient, parameter and v of one shape")) return;
  float* out = run.Out(0, p.shape);
  float* new_v = run.Out(1, v.shape);
  if (!run.Check(out != nullptr && new_v != nullptr, "memory")) return;
  double of_p = 0, of_u = 0;
  for (int64_t i = 0; i < g.size; i++) {
    const double value = g.data[i];
    new_v[i] = static_cast<float>(numbers.MovingAverage(v.data[i], value * value));
    const double u = value * numbers.scale / std::sqrt(static_cast<double>(new_v[i]));
    of_u += u * u;
    of_p += static_cast<double>(p.data[i]) * p.data[i];
  }
  const double size = static_cast<double>(g.size);
  const double step = numbers.StepSize(of_p / size, of_u / size) * numbers.scale;
  for (int64_t i = 0; i < g.size; i++)
    out[i] = static_cast<float>(p.data[i] - step * g.data[i] / std::sqrt(static_cast<double>(new_v[i])));
}

}  // namespace

std::vector<Kernel> AdafactorKernels() {
  return {
      {"ExmixAdafactorFactored",
       {"gradient: float", "parameter: float", "vr: float", "vc: float", "learning_rate: float", "decay: float",
        "new_share: float", "scale: float"},
       {"new_parameter: float", "new_vr: float", "new_vc: float"},
       Factored,
       ShapesOf<1, 2, 3>},
      {"ExmixAdafactorWhole",
       {"gradient: float", "parameter: float", "v: float", "learning_rate: float", "decay: float", "new_share: float",
        "scale: float"},
       {"new_parameter: float", "new_v: float"},
       Whole,
       ShapesOf<1, 2>},
  };
}
