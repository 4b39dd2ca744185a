// The threads are made once and wait for work until the process ends; each piece of work is on a list until its last block is taken.

#include "row-threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace {

struct Work {
  int64_t num_blocks;
  std::function<void(int64_t)> block;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::mutex mutex;
  std::condition_variable finished;

  // Takes blocks until none is left.
  void Share() {
    for (int64_t i = next++; i < num_blocks; i = next++) {
      block(i);
      if (++done == num_blocks) {
        const std::lock_guard<std::mutex> lock(mutex);
        finished.notify_all();
      }
    }
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex);
    finished.wait(lock, [this] { return done == num_blocks; });
  }
};

// Never destroyed: its threads run until the process ends.
struct Threads {
  std::mutex mutex;
  std::condition_variable offered;
  std::deque<std::shared_ptr<Work>> works;
  int num_helpers = 0;

  void Help() {
    for (;;) {
      std::shared_ptr<Work> work;
      {
        std::unique_lock<std::mutex> lock(mutex);
        offered.wait(lock, [this] { return !works.empty(); });
        work = works.front();
        works.pop_front();
      }
      work->Share();
    }
  }
};

Threads& TheThreads() {
  static Threads* threads = new Threads;
  return *threads;
}

}  // namespace

void SetRowThreads(int count) {
  Threads& threads = TheThreads();
  const std::lock_guard<std::mutex> lock(threads.mutex);
  for (; threads.num_helpers < count - 1; threads.num_helpers++) std::thread([&threads] { threads.Help(); }).detach();
}

void ForRows(int64_t num_rows, int64_t rows_per_block, const std::function<void(int64_t, int64_t, int64_t)>& work) {
  const int64_t num_blocks = NumBlocks(num_rows, rows_per_block);
  const auto run = [&](int64_t block) {
    const int64_t first = block * rows_per_block;
    work(first, std::min(first + rows_per_block, num_rows), block);
  };
  Threads& threads = TheThreads();
  const int64_t num_helpers = std::min<int64_t>(threads.num_helpers, num_blocks - 1);
  if (num_helpers < 1) {
    for (int64_t block = 0; block < num_blocks; block++) run(block);
    return;
  }
  const auto shared = std::make_shared<Work>();
  shared->num_blocks = num_blocks;
  shared->block = run;
  {
    const std::lock_guard<std::mutex> lock(threads.mutex);
    for (int64_t i = 0; i < num_helpers; i++) threads.works.push_back(shared);
  }
  for (int64_t i = 0; i < num_helpers; i++) threads.offered.notify_one();
  shared->Share();
  shared->Wait();
}
