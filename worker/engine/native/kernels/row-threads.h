// Work on rows in several threads: TensorFlow's C API lends kernels none of its own.

#pragma once

#include <cstdint>
#include <functional>

// How many threads share one piece of work, the caller's included; at least 1. Before any kernel runs.
void SetRowThreads(int count);

// Calls `work(first, end, block)` for blocks of `rows_per_block` rows, the last one shorter, in any order and several at a time; returns when all
// are done. Blocks do not depend on the number of threads, so sums that are taken block by block do not either.
void ForRows(int64_t num_rows, int64_t rows_per_block, const std::function<void(int64_t, int64_t, int64_t)>& work);

// Rows of a block of about 32,768 elements: smaller ones cost more to hand over than to do.
inline int64_t RowsPerBlock(int64_t elements_per_row) {
  constexpr int64_t kElements = 32768;
  return elements_per_row >= kElements ? 1 : (kElements + elements_per_row - 1) / (elements_per_row < 1 ? 1 : elements_per_row);
}

inline int64_t NumBlocks(int64_t num_rows, int64_t rows_per_block) {
  return (num_rows + rows_per_block - 1) / rows_per_block;
}
