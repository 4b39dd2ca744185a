// The kernels as a function of the addon.

#pragma once

#include "../session/node-values.h"
#include "kernel.h"
#include "row-threads.h"

// useKernels(numThreads): graphs may name the kernels from now on; so many threads share the work of one. Once per process.
inline napi_value UseKernels(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 1);
  int32_t num_threads = 0;
  if (napi_get_value_int32(env, arguments[0], &num_threads) != napi_ok || num_threads < 1)
    return Fail(env, "ARGUMENT", "useKernels: expected a number of threads");
  SetRowThreads(num_threads);
  const std::string problem = RegisterKernels();
  return problem.empty() ? nullptr : Fail(env, "TENSORFLOW", problem);
}
