// What a kernel is to TensorFlow, and what it sees of TensorFlow: its inputs, its outputs, its failure.
// Source: tensorflow/c/kernels.h and ops.h of TensorFlow 2.21.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensorflow-kernels.h"
#include "tensorflow/c/c_api.h"
#include "tensorflow/c/ops.h"

// One run of a kernel. Tensors are float32 unless said, and live as long as this does.
class Run {
 public:
  explicit Run(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Run() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  struct Input {
    const float* data = nullptr;
    std::vector<int64_t> shape;
    int64_t size = 0;
    const int32_t* ints() const { return reinterpret_cast<const int32_t*>(data); }
    // Of a matrix, or of anything as rows of its last dimension.
    int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
    int64_t rows() const { return columns() == 0 ? 0 : size / columns(); }
  };

  Input In(int index) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, index, &tensor, status_);
    if (!ok()) return {};
    tensors_.push_back(tensor);
    Input input;
    for (int i = 0; i < TF_NumDims(tensor); i++) input.shape.push_back(TF_Dim(tensor, i));
    input.size = TF_TensorElementCount(tensor);
    input.data = static_cast<const float*>(TF_TensorData(tensor));
    return input;
  }

  float Scalar(int index) {
    const Input input = In(index);
    return input.size == 1 ? input.data[0] : 0;
  }

  // In new memory, or in that of one of the inputs `reusable` where nothing else needs it: call it before In for those.
  float* Out(int index, const std::vector<int64_t>& shape, const std::vector<int>& reusable = {}) {
    int reused = -1;
    TF_Tensor* tensor = TF_ForwardInputOrAllocateOutput(context_, reusable.data(), static_cast<int>(reusable.size()), index,
                                                        shape.data(), static_cast<int>(shape.size()), &reused, status_);
    if (!ok()) return nullptr;
    tensors_.push_back(tensor);
    return static_cast<float*>(TF_TensorData(tensor));
  }

  // An input as output.
  void Pass(int input, int output) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, input, &tensor, status_);
    if (ok()) TF_SetOutput(context_, output, tensor, status_);
    if (tensor != nullptr) TF_DeleteTensor(tensor);
    Check(true, "");
  }

  std::vector<int64_t> ShapeOf(int index) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, index, &tensor, status_);
    std::vector<int64_t> shape;
    if (!ok()) return shape;
    for (int i = 0; i < TF_NumDims(tensor); i++) shape.push_back(TF_Dim(tensor, i));
    TF_DeleteTensor(tensor);  // or its memory would look as if it were needed
    return shape;
  }

  // True where all is well; else the run has failed, and the kernel returns.
  bool Check(bool is_well, const char* expected) {
    if (ok() && !is_well) TF_SetStatus(status_, TF_INVALID_ARGUMENT, (std::string("expected ") + expected).c_str());
    if (ok()) return true;
    TF_OpKernelContext_Failure(context_, status_);
    return false;
  }

 private:
  bool ok() const { return TF_GetCode(status_) == TF_OK; }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> tensors_;
};

struct Kernel {
  const char* op;
  // As in "x: float".
  std::vector<const char*> inputs;
  std::vector<const char*> outputs;
  // Gets the attribute `epsilon`, 0 where the op has none.
  void (*compute)(Run& run, float epsilon);
  // Gives each output the shape of an input.
  void (*shapes)(TF_ShapeInferenceContext*, TF_Status*);
  bool has_epsilon = false;
  // Each node of it runs, also where another has the same inputs.
  bool is_stateful = false;
};

// Output i has the shape of input `inputs[i]`.
template <int... inputs>
void ShapesOf(TF_ShapeInferenceContext* context, TF_Status* status) {
  int output = 0;
  for (const int input : {inputs...}) {
    TF_ShapeHandle* shape = TF_NewShapeHandle();
    TF_ShapeInferenceContextGetInput(context, input, shape, status);
    if (TF_GetCode(status) == TF_OK) TF_ShapeInferenceContextSetOutput(context, output++, shape, status);
    TF_DeleteShapeHandle(shape);
  }
}

// Shapes that depend on several inputs are known when the kernel runs.
inline void UnknownShapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

std::vector<Kernel> RmsNormKernels();
std::vector<Kernel> GeluKernels();
std::vector<Kernel> SoftmaxKernels();
std::vector<Kernel> CrossEntropyKernels();
std::vector<Kernel> AdafactorKernels();
std::vector<Kernel> AdamwKernels();
std::vector<Kernel> MaskKernels();
std::vector<Kernel> ProductKernels();
std::vector<Kernel> CachedAttentionKernels();
std::vector<Kernel> LikeliestTokensKernels();

// Once per process, before a graph names one of them. @returns what TensorFlow refused, or nothing
std::string RegisterKernels();
