// All kernels, made known to TensorFlow: an op each, and its kernel on the CPU.

#include "kernel.h"

namespace {

void* ReadEpsilon(TF_OpKernelConstruction* construction) {
  auto* epsilon = new float(0);
  TF_Status* status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrFloat(construction, "epsilon", epsilon, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return epsilon;
}

void* NoEpsilon(TF_OpKernelConstruction*) { return new float(0); }

void Forget(void* epsilon) { delete static_cast<float*>(epsilon); }

// A kernel is a function pointer to TensorFlow, so each op has its own: `index` is its place among all.
std::vector<Kernel>& AllKernels() {
  static auto* kernels = new std::vector<Kernel>;
  return *kernels;
}

template <int index>
void Compute(void* epsilon, TF_OpKernelContext* context) {
  Run run(context);
  AllKernels()[index].compute(run, *static_cast<float*>(epsilon));
}

typedef void (*ComputeFunction)(void*, TF_OpKernelContext*);
constexpr ComputeFunction kCompute[] = {Compute<0>, Compute<1>, Compute<2>, Compute<3>, Compute<4>,
                                        Compute<5>, Compute<6>, Compute<7>, Compute<8>, Compute<9>,
                                        Compute<10>, Compute<11>, Compute<12>, Compute<13>, Compute<14>,
                                        Compute<15>, Compute<16>, Compute<17>, Compute<18>, Compute<19>,
                                        Compute<20>};

void Register(const Kernel& kernel, ComputeFunction compute, TF_Status* status) {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(kernel.op);
  for (const char* input : kernel.inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* output : kernel.outputs) TF_OpDefinitionBuilderAddOutput(op, output);
  if (kernel.has_epsilon) TF_OpDefinitionBuilderAddAttr(op, "epsilon: float");
  TF_OpDefinitionBuilderSetIsStateful(op, kernel.is_stateful);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, kernel.shapes);
  TF_RegisterOpDefinition(op, status);
  if (TF_GetCode(status) != TF_OK) return;
  TF_KernelBuilder* builder =
      TF_NewKernelBuilder(kernel.op, "CPU", kernel.has_epsilon ? ReadEpsilon : NoEpsilon, compute, Forget);
  TF_RegisterKernelBuilder(kernel.op, builder, status);
}

}  // namespace

std::string RegisterKernels() {
  std::vector<Kernel>& all = AllKernels();
  if (!all.empty()) return "";
  for (const auto& kernels :
       {RmsNormKernels(), GeluKernels(), SoftmaxKernels(), CrossEntropyKernels(), AdafactorKernels(), AdamwKernels(),
        MaskKernels(), ProductKernels(), CachedAttentionKernels(), LikeliestTokensKernels()})
    all.insert(all.end(), kernels.begin(), kernels.end());
  if (all.size() > sizeof kCompute / sizeof *kCompute) return "more kernels than register-kernels.cc has places for";
  TF_Status* status = TF_NewStatus();
  std::string problem;
  for (size_t i = 0; i < all.size() && problem.empty(); i++) {
    Register(all[i], kCompute[i], status);
    if (TF_GetCode(status) != TF_OK) problem = std::string(all[i].op) + ": " + TF_Message(status);
  }
  TF_DeleteStatus(status);
  return problem;
}
