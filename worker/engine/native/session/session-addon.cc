// A TensorFlow graph and its session for Node: import nodes at any time, run prepared calls, read results in place.
//
// What the addon of @tensorflow/tfjs-node-gpu lacks and this one has: nodes can be added to a living session (a new batch shape keeps the
// variables), calls with targets, partial runs (a result is handed out while the rest of the graph goes on computing), results that JavaScript
// reads where TensorFlow left them, session options, and traces.
//
// Assumptions: all calls come from one JavaScript thread. Results live until release(); a view of them is detached by it. Arrays that are fed
// may be used in place until the run is over, unless the call was prepared to copy them.
// Source: tensorflow/c/c_api.h of TensorFlow 2.21, Node-API version 8.

#include <malloc.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../kernels/use-kernels.h"
#include "node-values.h"
#include "tensors.h"

namespace {

struct Session {
  TF_Graph* graph = nullptr;
  TF_Session* session = nullptr;
};

// Feeds, groups of fetches, and targets: resolved once. A plain call has one group.
struct Call {
  Session* owner;
  std::vector<Feed> feeds;
  std::vector<std::vector<TF_Output>> groups;
  std::vector<const TF_Operation*> targets;
  bool copies_feeds;
};

struct PartialRun {
  Call* call;
  const char* handle = nullptr;
};

// "name:index"; index 0 where it is left out.
bool Resolve(Session* session, const std::string& name, TF_Output* output) {
  const size_t colon = name.rfind(':');
  output->oper = TF_GraphOperationByName(session->graph, name.substr(0, colon).c_str());
  output->index = colon == std::string::npos ? 0 : std::stoi(name.substr(colon + 1));
  return output->oper != nullptr && output->index < TF_OperationNumOutputs(const_cast<TF_Operation*>(output->oper));
}

// ---- sessions ----

// open(config: Uint8Array /* ConfigProto */): session
napi_value Open(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 1);
  void* config = nullptr;
  size_t bytes = 0;
  if (!Bytes(env, arguments[0], &config, &bytes)) return Fail(env, "ARGUMENT", "open: expected a Uint8Array");
  Status status;
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_SetConfig(options, config, bytes, status.get());
  auto session = std::make_unique<Session>();
  if (status.ok()) {
    session->graph = TF_NewGraph();
    session->session = TF_NewSession(session->graph, options, status.get());
  }
  TF_DeleteSessionOptions(options);
  if (status.ok()) return MakeExternal(env, session.release());
  if (session->graph != nullptr) TF_DeleteGraph(session->graph);
  return status.Throw(env);
}

// close(session): everything prepared for it becomes invalid.
napi_value Close(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 1);
  Session* session = External<Session>(env, arguments[0]);
  if (session == nullptr || session->session == nullptr) return Fail(env, "ARGUMENT", "close: expected an open session");
  Status status;
  TF_CloseSession(session->session, status.get());
  TF_DeleteSession(session->session, status.get());
  TF_DeleteGraph(session->graph);
  session->session = nullptr;  // the struct stays: calls and the external still point to it
  return status.ok() ? nullptr : status.Throw(env);
}

// extend(session, graphDef: Uint8Array, existing: string[]): adds nodes; `existing` are the tensors of earlier nodes that they use
napi_value Extend(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 3);
  Session* session = External<Session>(env, arguments[0]);
  void* data = nullptr;
  size_t bytes = 0;
  if (session == nullptr || session->session == nullptr || !Bytes(env, arguments[1], &data, &bytes))
    return Fail(env, "ARGUMENT", "extend: expected an open session and a Uint8Array");
  std::vector<std::pair<std::string, TF_Output>> existing;
  for (uint32_t i = 0; i < Length(env, arguments[2]); i++) {
    const std::string name = Text(env, At(env, arguments[2], i));
    TF_Output output;
    if (!Resolve(session, name, &output)) return Fail(env, "ARGUMENT", "extend: no tensor " + name);
    existing.emplace_back(name.substr(0, name.rfind(':')), output);
  }
  Status status;
  TF_Buffer* buffer = TF_NewBufferFromString(data, bytes);
  TF_ImportGraphDefOptions* options = TF_NewImportGraphDefOptions();
  for (const auto& [name, output] : existing)
    TF_ImportGraphDefOptionsAddInputMapping(options, name.c_str(), output.index, output);
  TF_GraphImportGraphDef(session->graph, buffer, options, status.get());
  TF_DeleteImportGraphDefOptions(options);
  TF_DeleteBuffer(buffer);
  return status.ok() ? nullptr : status.Throw(env);
}

bool ReadFeed(napi_env env, Session* session, napi_value description, Feed* feed) {
  int32_t type = 0;
  napi_get_value_int32(env, Property(env, description, "dtype"), &type);
  feed->type = static_cast<TF_DataType>(type);
  feed->bytes = TF_DataTypeSize(feed->type);
  const napi_value shape = Property(env, description, "shape");
  for (uint32_t i = 0; i < Length(env, shape); i++) {
    int64_t size = 0;
    napi_get_value_int64(env, At(env, shape, i), &size);
    feed->shape.push_back(size);
    feed->bytes *= static_cast<size_t>(size);
  }
  return Resolve(session, Text(env, Property(env, description, "name")), &feed->output);
}

// prepare(session, { feeds: { name, dtype, shape }[], groups: string[][], targets: string[], copiesFeeds }): call
napi_value Prepare(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 2);
  Session* session = External<Session>(env, arguments[0]);
  if (session == nullptr || session->session == nullptr) return Fail(env, "ARGUMENT", "prepare: expected an open session");
  auto call = std::make_unique<Call>();
  call->owner = session;
  napi_get_value_bool(env, Property(env, arguments[1], "copiesFeeds"), &call->copies_feeds);
  const napi_value feeds = Property(env, arguments[1], "feeds");
  for (uint32_t i = 0; i < Length(env, feeds); i++) {
    Feed feed;
    if (!ReadFeed(env, session, At(env, feeds, i), &feed))
      return Fail(env, "ARGUMENT", "prepare: no tensor " + Text(env, Property(env, At(env, feeds, i), "name")));
    call->feeds.push_back(std::move(feed));
  }
  const napi_value groups = Property(env, arguments[1], "groups");
  for (uint32_t i = 0; i < Length(env, groups); i++) {
    const napi_value names = At(env, groups, i);
    std::vector<TF_Output> outputs;
    for (uint32_t j = 0; j < Length(env, names); j++) {
      TF_Output output;
      const std::string name = Text(env, At(env, names, j));
      if (!Resolve(session, name, &output)) return Fail(env, "ARGUMENT", "prepare: no tensor " + name);
      outputs.push_back(output);
    }
    call->groups.push_back(std::move(outputs));
  }
  const napi_value targets = Property(env, arguments[1], "targets");
  for (uint32_t i = 0; i < Length(env, targets); i++) {
    const std::string name = Text(env, At(env, targets, i));
    const TF_Operation* target = TF_GraphOperationByName(session->graph, name.c_str());
    if (target == nullptr) return Fail(env, "ARGUMENT", "prepare: no operation " + name);
    call->targets.push_back(target);
  }
  return MakeExternal(env, call.release());
}

// ---- runs ----

bool IsOpen(const Call* call) { return call != nullptr && call->owner->session != nullptr; }

napi_value RunCall(napi_env env, const Call& call, napi_value arrays, TF_Buffer* options, TF_Buffer* metadata) {
  FedTensors fed;
  if (!fed.Read(env, call.feeds, call.copies_feeds, arrays)) return nullptr;
  const std::vector<TF_Output>& fetches = call.groups[0];
  std::vector<TF_Tensor*> fetched(fetches.size(), nullptr);
  Status status;
  TF_SessionRun(call.owner->session, options, fed.outputs.data(), fed.tensors.data(),
                static_cast<int>(fed.tensors.size()), fetches.data(), fetched.data(), static_cast<int>(fetches.size()),
                call.targets.data(), static_cast<int>(call.targets.size()), metadata, status.get());
  return status.ok() ? ResultsOf(env, fetched) : status.Throw(env);
}

// run(call, arrays): results of the only group
napi_value Run(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 2);
  Call* call = External<Call>(env, arguments[0]);
  if (!IsOpen(call) || call->groups.size() != 1) return Fail(env, "ARGUMENT", "run: expected a call of one group");
  return RunCall(env, *call, arguments[1], nullptr, nullptr);
}

// trace(call, arrays): Uint8Array, the RunMetadata of one run with every operation's times
napi_value Trace(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 2);
  Call* call = External<Call>(env, arguments[0]);
  if (!IsOpen(call) || call->groups.size() != 1) return Fail(env, "ARGUMENT", "trace: expected a call of one group");
  const char full_trace[] = {0x08, 0x03};  // RunOptions { trace_level: FULL_TRACE }
  TF_Buffer* options = TF_NewBufferFromString(full_trace, sizeof full_trace);
  TF_Buffer* metadata = TF_NewBuffer();
  const napi_value results = RunCall(env, *call, arguments[1], options, metadata);
  napi_value bytes = nullptr;
  if (results != nullptr) {
    for (uint32_t i = 0; i < Length(env, results); i++) {
      Result* result = External<Result>(env, At(env, results, i));
      TF_DeleteTensor(result->tensor);
      delete result;
    }
    void* data = nullptr;
    napi_value buffer = nullptr;
    napi_create_arraybuffer(env, metadata->length, &data, &buffer);
    std::memcpy(data, metadata->data, metadata->length);
    napi_create_typedarray(env, napi_uint8_array, metadata->length, buffer, 0, &bytes);
  }
  TF_DeleteBuffer(options);
  TF_DeleteBuffer(metadata);
  return bytes;
}

// start(call, arrays): partialRun; the graph computes from now on, in TensorFlow's own threads. The call must copy its feeds.
napi_value Start(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 2);
  Call* call = External<Call>(env, arguments[0]);
  if (!IsOpen(call) || !call->copies_feeds) return Fail(env, "ARGUMENT", "start: expected a call that copies its feeds");
  FedTensors fed;
  if (!fed.Read(env, call->feeds, call->copies_feeds, arguments[1])) return nullptr;
  std::vector<TF_Output> fetches;
  for (const auto& group : call->groups) fetches.insert(fetches.end(), group.begin(), group.end());
  auto run = std::make_unique<PartialRun>();
  run->call = call;
  Status status;
  TF_Session* session = call->owner->session;
  TF_SessionPRunSetup(session, fed.outputs.data(), static_cast<int>(fed.outputs.size()), fetches.data(),
                      static_cast<int>(fetches.size()), call->targets.data(), static_cast<int>(call->targets.size()),
                      &run->handle, status.get());
  if (!status.ok()) return status.Throw(env);
  TF_SessionPRun(session, run->handle, fed.outputs.data(), fed.tensors.data(), static_cast<int>(fed.tensors.size()),
                 nullptr, nullptr, 0, nullptr, 0, status.get());
  if (status.ok()) return MakeExternal(env, run.release());
  TF_DeletePRunHandle(run->handle);
  return status.Throw(env);
}

// take(partialRun, group): waits for a group of fetches; each group once
napi_value Take(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 2);
  PartialRun* run = External<PartialRun>(env, arguments[0]);
  uint32_t index = 0;
  napi_get_value_uint32(env, arguments[1], &index);
  if (run == nullptr || !IsOpen(run->call) || index >= run->call->groups.size())
    return Fail(env, "ARGUMENT", "take: expected a partial run and the number of a group");
  const std::vector<TF_Output>& fetches = run->call->groups[index];
  std::vector<TF_Tensor*> fetched(fetches.size(), nullptr);
  Status status;
  TF_SessionPRun(run->call->owner->session, run->handle, nullptr, nullptr, 0, fetches.data(), fetched.data(),
                 static_cast<int>(fetches.size()), nullptr, 0, status.get());
  return status.ok() ? ResultsOf(env, fetched) : status.Throw(env);
}

// end(partialRun): forgets it; after the last group, or after an error
napi_value End(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 1);
  PartialRun* run = External<PartialRun>(env, arguments[0]);
  if (run == nullptr) return Fail(env, "ARGUMENT", "end: expected a partial run");
  TF_DeletePRunHandle(run->handle);
  delete run;
  return nullptr;
}

// tuneMalloc(bytes): blocks below `bytes` are kept for the next allocation instead of being unmapped
napi_value TuneMalloc(napi_env env, napi_callback_info info) {
  const auto arguments = Arguments(env, info, 1);
  int32_t bytes = 0;
  napi_get_value_int32(env, arguments[0], &bytes);
  napi_value done = nullptr;
  napi_get_boolean(env, mallopt(M_MMAP_THRESHOLD, bytes) == 1 && mallopt(M_TRIM_THRESHOLD, -1) == 1, &done);
  return done;
}

// trimMalloc(): free memory goes back to the system, wherever it lies
napi_value TrimMalloc(napi_env, napi_callback_info) {
  malloc_trim(0);
  return nullptr;
}

napi_value Initialise(napi_env env, napi_value exports) {
  const std::pair<const char*, napi_callback> functions[] = {
      {"open", Open},   {"close", Close}, {"extend", Extend}, {"prepare", Prepare}, {"run", Run},          {"trace", Trace},
      {"start", Start}, {"take", Take},   {"end", End},       {"view", View},       {"release", Release}, {"tuneMalloc", TuneMalloc}, {"trimMalloc", TrimMalloc},
      {"useKernels", UseKernels},
  };
  for (const auto& [name, function] : functions) {
    napi_value value = nullptr;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value);
    napi_set_named_property(env, exports, name, value);
  }
  return exports;
}

}  // namespace

NAPI_MODULE(exmix_session, Initialise)
