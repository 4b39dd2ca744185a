// Sixteen float32 at a time, in the widest registers that a function is compiled for. The order of all sums is the same on every machine;
// whether a product and a sum are rounded once or twice is not.
//
// Functions with loops are marked CLONED: the compiler makes them for AVX-512, AVX2 and the base instruction set, and the one that fits the
// processor is chosen when the addon is loaded. What they call must be FORCED inline, or it would be compiled for the base set alone.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#define CLONED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONED
#endif
#define FORCED inline __attribute__((always_inline))

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed to inlined functions alone

constexpr int64_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(64)));
typedef int32_t IntLanes __attribute__((vector_size(64)));

FORCED Lanes All(float value) { return Lanes{} + value; }

FORCED Lanes Load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

FORCED void Store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

// The first `count` of sixteen, the others as `rest`.
FORCED Lanes LoadSome(const float* from, int64_t count, float rest = 0) {
  Lanes lanes = All(rest);
  std::memcpy(&lanes, from, static_cast<size_t>(count) * sizeof(float));
  return lanes;
}

FORCED void StoreSome(float* to, Lanes lanes, int64_t count) {
  std::memcpy(to, &lanes, static_cast<size_t>(count) * sizeof(float));
}

FORCED float Sum(Lanes lanes) {
  float sum = 0;
  for (int64_t i = 0; i < kLanes / 2; i++) sum += lanes[i] + lanes[i + kLanes / 2];
  return sum;
}

FORCED Lanes Larger(Lanes a, Lanes b) { return a < b ? b : a; }

FORCED float Largest(Lanes lanes) {
  float largest = lanes[0];
  for (int64_t i = 1; i < kLanes; i++) largest = largest < lanes[i] ? lanes[i] : largest;
  return largest;
}

// A loop over an array is one instruction; GCC's vectors have no square root. Needs -fno-math-errno.
FORCED Lanes Root(Lanes lanes) {
  float values[kLanes];
  Store(values, lanes);
  for (int64_t i = 0; i < kLanes; i++) values[i] = __builtin_sqrtf(values[i]);
  return Load(values);
}

// e^x to 2 units in the last place; 0 below -87.3, e^88 above 88; NaN stays NaN.
// Cody and Waite's reduction to |r| ≤ ln(2)/2, then Cephes' polynomial of degree 5 for e^r = 1 + r + r²·p(r).
FORCED Lanes Exp(Lanes x) {
  constexpr float kLowest = -87.3f, kHighest = 88.0f, kRounding = 12582912.0f /* 1.5·2^23 */;
  const Lanes bounded = x > kHighest ? All(kHighest) : (x < kLowest ? All(kLowest) : x);
  const Lanes power = (bounded * 1.44269504088896341f + kRounding) - kRounding;
  const Lanes r = bounded - power * 0.693359375f + power * 2.12194440e-4f;
  Lanes p = All(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Lanes e = p * (r * r) + r + 1.0f;
  const IntLanes bits = (__builtin_convertvector(power, IntLanes) + 127) << 23;
  Lanes scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x < kLowest ? Lanes{} : e * scale;
}
