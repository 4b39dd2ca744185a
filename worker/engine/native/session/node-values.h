// Values of Node-API: arguments in, objects and errors out. A function that throws returns nullptr after it.
// Source: Node-API version 8; tensorflow/c/c_api.h of TensorFlow 2.21 for TF_Status.

#pragma once

#include <node_api.h>

#include <string>
#include <vector>

#include "tensorflow/c/c_api.h"

inline napi_value Fail(napi_env env, const char* code, const std::string& message) {
  napi_throw_error(env, code, message.c_str());
  return nullptr;
}

class Status {
 public:
  Status() : status_(TF_NewStatus()) {}
  ~Status() { TF_DeleteStatus(status_); }
  TF_Status* get() { return status_; }
  bool ok() const { return TF_GetCode(status_) == TF_OK; }
  napi_value Throw(napi_env env) const {
    const bool no_memory = TF_GetCode(status_) == TF_RESOURCE_EXHAUSTED;
    return Fail(env, no_memory ? "RESOURCE_EXHAUSTED" : "TENSORFLOW", TF_Message(status_));
  }

 private:
  TF_Status* status_;
};

inline std::vector<napi_value> Arguments(napi_env env, napi_callback_info info, size_t count) {
  std::vector<napi_value> values(count);
  napi_get_cb_info(env, info, &count, values.data(), nullptr, nullptr);
  return values;
}

template <typename T>
T* External(napi_env env, napi_value value) {
  void* data = nullptr;
  return napi_get_value_external(env, value, &data) == napi_ok ? static_cast<T*>(data) : nullptr;
}

inline uint32_t Length(napi_env env, napi_value array) {
  uint32_t length = 0;
  napi_get_array_length(env, array, &length);
  return length;
}

inline napi_value At(napi_env env, napi_value array, uint32_t index) {
  napi_value element = nullptr;
  napi_get_element(env, array, index, &element);
  return element;
}

inline napi_value Property(napi_env env, napi_value object, const char* name) {
  napi_value value = nullptr;
  napi_get_named_property(env, object, name, &value);
  return value;
}

inline std::string Text(napi_env env, napi_value value) {
  size_t length = 0;
  napi_get_value_string_utf8(env, value, nullptr, 0, &length);
  std::string text(length, '\0');
  napi_get_value_string_utf8(env, value, text.data(), length + 1, &length);
  return text;
}

inline bool Bytes(napi_env env, napi_value value, void** data, size_t* bytes) {
  napi_typedarray_type type;
  size_t length = 0;
  if (napi_get_typedarray_info(env, value, &type, &length, data, nullptr, nullptr) != napi_ok) return false;
  const bool wide = type == napi_float32_array || type == napi_int32_array;
  if (!wide && type != napi_uint8_array) return false;
  *bytes = length * (wide ? 4 : 1);
  return true;
}

inline napi_value MakeExternal(napi_env env, void* data) {
  napi_value value = nullptr;
  napi_create_external(env, data, nullptr, nullptr, &value);
  return value;
}
