/**
 * Records the passes of one batch shape as nodes of the session's graph, from the tfjs code that every engine runs. The recording runs on real
 * values, so that the eager results are there to compare with the graph's.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { ModelConfig } from '../../../shared/model-config.ts';
import { countedDropout, type DropoutSettings } from '../../model/dropout.ts';
import { withFusedBlocks } from '../../model/fused-kernels.ts';
import type { ParameterSpec } from '../../model/parameters.ts';
import { uploadBatch, type BatchPart } from '../batch-tensors.ts';
import { activations, lossAndGradients, scores, type PassInit } from '../tfjs-passes.ts';
import { DATA_TYPE, placeholderNode, type GraphNode } from './recording/graph-def.ts';
import { record, type RecordableBackend } from './recording/recorder.ts';
import { readName, type Variable } from './recording/variables.ts';
import type { FeedSpec } from './session/session-binding.ts';

export interface RecordedPass {
  readonly nodes: readonly GraphNode[];
  /** The parts of a batch, in their order. */
  readonly feeds: readonly FeedSpec[];
  /** `node:0` of each result. */
  readonly outputs: readonly string[];
  /** Results of eager tfjs for the recorded batch, in the order of the outputs. */
  readonly eager: readonly Float32Array[];
}

export interface RecordPassInit {
  readonly backend: RecordableBackend;
  readonly config: ModelConfig;
  readonly specs: readonly ParameterSpec[];
  readonly variables: readonly Variable[];
  /** Values of the parameters, by number. */
  readonly weights: readonly Float32Array[];
  readonly parts: readonly BatchPart[];
  /** Of steps; the keys of rows are then a part of the batch. */
  readonly dropout: DropoutSettings;
  /** Of the names of all nodes, ending in `/`. */
  readonly prefix: string;
  /** Whether the graph uses fused blocks. The eager results never do. */
  readonly fusesBlocks: boolean;
}

/** Outputs: the terms of the loss [M, 2], then the gradients by the parameter's number. @throws GRAPH_UNRECORDABLE */
export function recordStep(init: RecordPassInit, zLoss: number): RecordedPass {
  return recordPass(init, (pass) => {
    const { terms_M2, gradients } = lossAndGradients(pass, zLoss);
    return [terms_M2, ...gradients];
  });
}

/** Outputs: the terms of the loss [M, 2], and whether the likeliest token is the label [M]. @throws GRAPH_UNRECORDABLE */
export function recordScore(init: RecordPassInit, zLoss: number): RecordedPass {
  return recordPass(init, (pass) =>
    tf.tidy(() => {
      const { terms_M2, isRight_M } = scores(pass, zLoss);
      return [terms_M2, tf.cast(isRight_M, 'float32')];
    }),
  );
}

/** Outputs: the encoder's output [B·S, D] and the logits [B·T, V]. @throws GRAPH_UNRECORDABLE */
export function recordForward(init: RecordPassInit): RecordedPass {
  return recordPass(init, (pass) => {
    const { encoderOutput_MD, logits_MV } = activations(pass);
    return [encoderOutput_MD, logits_MV];
  });
}

function recordPass(init: RecordPassInit, run: (pass: PassInit) => readonly Tensor[]): RecordedPass {
  const { backend, config, specs, variables, parts, prefix } = init;
  const feeds = parts.map(({ name, shape, values }) => ({
    name: `${prefix}${name}:0`,
    dtype: values instanceof Int32Array ? DATA_TYPE.int32 : DATA_TYPE.float32,
    shape,
  }));
  const placeholders = feeds.map(({ name, dtype, shape }) => placeholderNode(name.slice(0, -2), dtype, shape));
  const batch = uploadBatch(parts);
  const weights = init.weights.map((values, i) => tf.tensor(values, [...specs[i]!.shape]));
  const names = new Map<Tensor, string>([
    ...batch.all.map((tensor, i) => [tensor, feeds[i]!.name] as const),
    ...weights.map((tensor, i) => [tensor, readName(variables[i]!)] as const),
  ]);
  const pass = { config, specs, weights, batch, dropout: countedDropout(init.dropout, batch.dropoutKeys_B2) };
  const recording = record(backend, names, prefix, () =>
    init.fusesBlocks ? withFusedBlocks(() => run(pass)) : run(pass),
  );
  const outputs = recording.result.map((tensor) => recording.nameOf(tensor));
  if (init.fusesBlocks) tf.dispose([...recording.result]); // or two sets of gradients are held at the same time
  const plain = init.fusesBlocks ? run(pass) : recording.result;
  const eager = plain.map((tensor) => tensor.dataSync<'float32'>());
  tf.dispose([...plain, ...batch.all, ...weights]);
  return { nodes: [...placeholders, ...recording.nodes], feeds, outputs, eager };
}
