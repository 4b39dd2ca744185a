// Tensors at the border of JavaScript: arrays that are fed, and results that are read where TensorFlow left them.

#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "node-values.h"

struct Feed {
  TF_Output output;
  TF_DataType type;
  // [-1]: an array of any length.
  std::vector<int64_t> shape;
  size_t bytes;
};

struct Result {
  TF_Tensor* tensor;
  napi_ref view = nullptr;
};

inline void KeepAlive(void*, size_t, void*) {}

class FedTensors {
 public:
  ~FedTensors() {
    for (TF_Tensor* tensor : tensors) TF_DeleteTensor(tensor);
  }
  // False after throwing.
  bool Read(napi_env env, const std::vector<Feed>& feeds, bool copies, napi_value arrays) {
    if (Length(env, arrays) != feeds.size()) {
      Fail(env, "ARGUMENT", "expected " + std::to_string(feeds.size()) + " arrays to feed");
      return false;
    }
    for (uint32_t i = 0; i < feeds.size(); i++) {
      const Feed& feed = feeds[i];
      void* data = nullptr;
      size_t bytes = 0;
      const bool is_free = feed.shape.size() == 1 && feed.shape[0] < 0;
      const size_t element = TF_DataTypeSize(feed.type);
      if (!Bytes(env, At(env, arrays, i), &data, &bytes) || (is_free ? bytes % element != 0 : bytes != feed.bytes)) {
        Fail(env, "ARGUMENT", std::string("feed of ") + TF_OperationName(feed.output.oper) + ": expected " +
                                  std::to_string(feed.bytes) + " B, got " + std::to_string(bytes) + " B");
        return false;
      }
      const int rank = static_cast<int>(feed.shape.size());
      const std::vector<int64_t> shape = is_free ? std::vector<int64_t>{static_cast<int64_t>(bytes / element)} : feed.shape;
      TF_Tensor* tensor = nullptr;
      if (copies) {
        tensor = TF_AllocateTensor(feed.type, shape.data(), rank, bytes);
        std::memcpy(TF_TensorData(tensor), data, bytes);
      } else {
        tensor = TF_NewTensor(feed.type, shape.data(), rank, data, bytes, KeepAlive, nullptr);
      }
      outputs.push_back(feed.output);
      tensors.push_back(tensor);
    }
    return true;
  }
  std::vector<TF_Output> outputs;
  std::vector<TF_Tensor*> tensors;
};

inline napi_value ResultsOf(napi_env env, const std::vector<TF_Tensor*>& tensors) {
  napi_value results = nullptr;
  napi_create_array_with_length(env, tensors.size(), &results);
  for (uint32_t i = 0; i < tensors.size(); i++)
    napi_set_element(env, results, i, MakeExternal(env, new Result{tensors[i]}));
  return results;
}

// view(result): ArrayBuffer over TensorFlow's memory, until release
inline napi_value View(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 1);
  Result* result = External<Result>(env, arguments[0]);
  if (result == nullptr) return Fail(env, "ARGUMENT", "view: expected a result");
  napi_value buffer = nullptr;
  if (result->view != nullptr) {
    napi_get_reference_value(env, result->view, &buffer);
    return buffer;
  }
  // The result is deleted by release alone, so that the garbage collector never decides when memory comes back.
  const auto leave = [](napi_env, void*, void*) {};
  if (napi_create_external_arraybuffer(env, TF_TensorData(result->tensor), TF_TensorByteSize(result->tensor), leave,
                                       nullptr, &buffer) != napi_ok)
    return Fail(env, "ARGUMENT", "this Node does not allow external array buffers");
  napi_create_reference(env, buffer, 1, &result->view);
  return buffer;
}

// release(result): detaches its view and frees it
inline napi_value Release(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 1);
  Result* result = External<Result>(env, arguments[0]);
  if (result == nullptr) return Fail(env, "ARGUMENT", "release: expected a result");
  if (result->view != nullptr) {
    napi_value buffer = nullptr;
    napi_get_reference_value(env, result->view, &buffer);
    napi_detach_arraybuffer(env, buffer);
    napi_delete_reference(env, result->view);
  }
  TF_DeleteTensor(result->tensor);
  delete result;
  return nullptr;
}
