// The likeliest tokens of hidden states, the logits of given tokens, and logsumexp of all logits; no array of [rows, vocabulary] is made.
// M = rows, D = model width, V = vocabulary, C = candidates, W = given tokens of a row.
//
// The vocabulary is cut into blocks of tokens, each of which keeps its C largest logits and its part of the sum. Blocks are joined in
// their order. Neither depends on other rows or on the number of threads.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernel.h"
#include "lanes.h"
#include "panel-product.h"
#include "row-threads.h"

namespace {

constexpr float kLeast = -std::numeric_limits<float>::infinity();
constexpr int64_t kBlockTokens = 64 * kPanel;

struct Token {
  float logit;
  int32_t id;
};

bool IsBefore(const Token& a, const Token& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

// The largest of a row so far. Tokens come by rising id, so one that equals the bar is not among them.
class TopTokens {
 public:
  explicit TopTokens(int64_t capacity) : capacity_(static_cast<size_t>(capacity)) {}
  // A token enters if its logit is above this.
  float bar() const { return bar_; }
  void Add(Token token) {
    tokens_.push_back(token);
    if (tokens_.size() < 2 * capacity_ + kSpare) return;
    std::nth_element(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(capacity_ - 1), tokens_.end(), IsBefore);
    tokens_.resize(capacity_);
    bar_ = tokens_.back().logit;
  }
  // Falling; of equal ones the smaller id first.
  const std::vector<Token>& Sorted() {
    std::sort(tokens_.begin(), tokens_.end(), IsBefore);
    if (tokens_.size() > capacity_) tokens_.resize(capacity_);
    return tokens_;
  }

 private:
  static constexpr size_t kSpare = 32;
  size_t capacity_;
  float bar_ = kLeast;
  std::vector<Token> tokens_;
};

// logsumexp of a row's logits: Σ e^(logit − largest), lane by lane.
struct Normalizer {
  float largest = kLeast;
  float sums[kLanes] = {};
};

// Takes up one row of a panel: `logits` has kPanel values of which `count` are tokens. @returns its largest logit
CLONED float AddToNormalizer(const float* logits, int64_t count, Normalizer* normalizer) {
  const Lanes low = LoadSome(logits, std::min(count, kLanes), kLeast);
  const Lanes high = LoadSome(logits + kLanes, std::max<int64_t>(0, count - kLanes), kLeast);
  const float largest = Largest(Larger(low, high));
  Lanes sums = Load(normalizer->sums);
  if (largest > normalizer->largest) {
    sums *= Exp(All(normalizer->largest - largest));
    normalizer->largest = largest;
  }
  sums += Exp(low - normalizer->largest);
  sums += Exp(high - normalizer->largest);
  Store(normalizer->sums, sums);
  return largest;
}

// A given token of a row, and where its logit goes.
struct Given {
  int32_t id;
  int32_t row;
  int64_t place;
};

// Of a block of tokens, for each row.
struct Part {
  std::vector<TopTokens> top;
  std::vector<Normalizer> normalizers;
};

struct Inputs {
  Run::Input hidden, weight, given;
  int64_t num_candidates;
  // Of all panels of the weight, or nothing: then each is packed here.
  const float* panels;
};

Part ScanBlock(const Inputs& inputs, int64_t first, int64_t end, float* given_logits) {
  const int64_t num_rows = inputs.hidden.shape[0], width = inputs.hidden.columns();
  Part part;
  part.top.assign(static_cast<size_t>(num_rows), TopTokens(inputs.num_candidates));
  part.normalizers.resize(static_cast<size_t>(num_rows));
  std::vector<Given> given;
  for (int64_t place = 0; place < inputs.given.size; place++) {
    const int32_t id = inputs.given.ints()[place];
    if (id >= first && id < end) given.push_back({id, static_cast<int32_t>(place / (inputs.given.size / num_rows)), place});
  }
  std::sort(given.begin(), given.end(), [](const Given& a, const Given& b) { return a.id < b.id; });
  std::vector<float> logits(static_cast<size_t>(num_rows * kPanel));
  size_t next_given = 0;
  for (int64_t token = first; token < end; token += kPanel) {
    const int64_t count = std::min(kPanel, end - token);
    const float* panel = inputs.panels + token * width;
    if (inputs.panels == nullptr) {
      float* memory = PanelMemory(width);
      ThePanelProduct().pack(inputs.weight.data + token * width, width, count, memory);
      panel = memory;
    }
    ThePanelProduct().multiply(inputs.hidden.data, num_rows, width, panel, logits.data(), kPanel, count);
    for (int64_t row = 0; row < num_rows; row++) {
      const float* own = logits.data() + row * kPanel;
      const float most = AddToNormalizer(own, count, &part.normalizers[static_cast<size_t>(row)]);
      TopTokens& kept = part.top[static_cast<size_t>(row)];
      if (most <= kept.bar()) continue;
      for (int64_t i = 0; i < count; i++)
        if (own[i] > kept.bar()) kept.Add({own[i], static_cast<int32_t>(token + i)});
    }
    for (; next_given < given.size() && given[next_given].id < token + count; next_given++) {
      const Given& one = given[next_given];
      given_logits[one.place] = logits[static_cast<size_t>(one.row * kPanel + one.id - token)];
    }
  }
  return part;
}

// {hidden [M, D], weight [V, D], given [M·W], num_candidates []} → ids [M, C] and their logits [M, C], falling, of equal ones the smaller id
// first; logits of the given tokens [M·W]; logsumexp [M]. Ids are float32, which holds them up to 2^24. is_packed: with the panels of the
// weight, [P, D, kPanel], as fifth input.
template <bool is_packed>
void LikeliestTokens(Run& run, float) {
  const Run::Input hidden = run.In(0), weight = run.In(1), given = run.In(2), wanted = run.In(3);
  bool fits = hidden.shape.size() == 2 && weight.shape.size() == 2 && hidden.columns() == weight.columns() &&
              hidden.shape[0] > 0 && given.size % hidden.shape[0] == 0 && wanted.size == 1 && weight.shape[0] <= 1 << 24;
  if (!run.Check(fits, "hidden [M, D], weight [V, D] with V up to 2^24, given [M·W], num_candidates []")) return;
  const Run::Input panels = is_packed ? run.In(4) : Run::Input();
  if (is_packed && !run.Check(ArePanelsOf(panels.shape, weight.shape), "panels [P, D, 32] of the weight")) return;
  const int64_t num_rows = hidden.shape[0], num_tokens = weight.shape[0], num_candidates = wanted.ints()[0];
  fits = num_candidates > 0 && num_candidates <= num_tokens;
  for (int64_t i = 0; i < given.size; i++) fits = fits && given.ints()[i] >= 0 && given.ints()[i] < num_tokens;
  if (!run.Check(fits, "num_candidates in [1, V] and given tokens in [0, V)")) return;
  float* ids = run.Out(0, {num_rows, num_candidates});
  float* logits = run.Out(1, {num_rows, num_candidates});
  float* given_logits = run.Out(2, given.shape);
  float* normalizers = run.Out(3, {num_rows});
  if (!run.Check(ids != nullptr && logits != nullptr && given_logits != nullptr && normalizers != nullptr, "memory")) return;

  std::vector<Part> parts(static_cast<size_t>(NumBlocks(num_tokens, kBlockTokens)));
  const Inputs inputs = {hidden, weight, given, num_candidates, panels.data};
  ForRows(num_tokens, kBlockTokens, [&](int64_t first, int64_t end, int64_t block) {
    parts[static_cast<size_t>(block)] = ScanBlock(inputs, first, end, given_logits);
  });

  for (int64_t row = 0; row < num_rows; row++) {
    const auto at = static_cast<size_t>(row);
    TopTokens top(num_candidates);
    float largest = kLeast;
    for (Part& part : parts) {
      largest = std::max(largest, part.normalizers[at].largest);
      for (const Token& token : part.top[at].Sorted())
        if (token.logit > top.bar()) top.Add(token);
    }
    double sum = 0;
    for (const Part& part : parts) {
      double own = 0;
      for (const float lane : part.normalizers[at].sums) own += lane;
      sum += own * std::exp(static_cast<double>(part.normalizers[at].largest) - largest);
    }
    normalizers[row] = static_cast<float>(largest + std::log(sum));
    const std::vector<Token>& tokens = top.Sorted();
    for (int64_t i = 0; i < num_candidates; i++) {
      const bool has = i < static_cast<int64_t>(tokens.size());  // fewer where logits are not numbers
      ids[row * num_candidates + i] = has ? static_cast<float>(tokens[static_cast<size_t>(i)].id) : 0.0f;
      logits[row * num_candidates + i] = has ? tokens[static_cast<size_t>(i)].logit : std::numeric_limits<float>::quiet_NaN();
    }
  }
}

}  // namespace

std::vector<Kernel> LikeliestTokensKernels() {
  const std::vector<const char*> inputs = {"hidden: float", "weight: float", "given: int32", "num_candidates: int32"};
  const std::vector<const char*> outputs = {"ids: float", "logits: float", "given_logits: float", "normalizers: float"};
  std::vector<const char*> packed = inputs;
  packed.push_back("panels: float");
  return {{"ExmixLikeliestTokens", inputs, outputs, LikeliestTokens<false>, UnknownShapes},
          {"ExmixPackedLikeliestTokens", packed, outputs, LikeliestTokens<true>, UnknownShapes}};
}
