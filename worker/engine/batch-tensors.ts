/** A batch as the model's inputs: named arrays, and their tfjs tensors. */
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import type { Labels } from '../model/cross-entropy.ts';
import type { DropoutSettings } from '../model/dropout.ts';
import type { Tokens } from '../model/t5.ts';
import type { Batch } from './engine.ts';

/** M = all positions of a side. */
export interface BatchPart {
  readonly name: 'inputIds' | 'inputSegments' | 'targetIds' | 'targetSegments' | 'labels' | 'hasLoss' | 'dropoutKeys';
  readonly shape: readonly number[];
  readonly values: Int32Array | Float32Array;
}

/** Always in the same order. */
export function batchParts(batch: Batch): readonly BatchPart[] {
  const { numRows, inputsLength, targetsLength } = batch;
  const hasLoss = Float32Array.from(batch.labels, (label, i) =>
    label >= 0 && batch.decoderSegmentIds[i]! > 0 ? 1 : 0,
  );
  const labels = batch.labels.map((label, i) => (hasLoss[i] === 1 ? label : -1));
  const [numInputs, numTargets] = [numRows * inputsLength, numRows * targetsLength];
  return [
    { name: 'inputIds', shape: [numInputs], values: batch.encoderInputIds },
    { name: 'inputSegments', shape: [numRows, inputsLength], values: batch.encoderSegmentIds },
    { name: 'targetIds', shape: [numTargets], values: batch.decoderInputIds },
    { name: 'targetSegments', shape: [numRows, targetsLength], values: batch.decoderSegmentIds },
    { name: 'labels', shape: [numTargets], values: labels },
    { name: 'hasLoss', shape: [numTargets], values: hasLoss },
  ];
}

/** The parts of a training step: with dropout, the keys of its rows come last. */
export function stepParts(batch: Batch, { rate }: Pick<DropoutSettings, 'rate'>): readonly BatchPart[] {
  const parts = batchParts(batch);
  const { dropoutKeys, numRows } = batch;
  if (rate === 0) return parts;
  assertInvariant(dropoutKeys?.length === 2 * numRows, 'a step with dropout needs the keys of its rows');
  return [...parts, { name: 'dropoutKeys', shape: [numRows, 2], values: dropoutKeys }];
}

export interface BatchTensors {
  readonly inputs: Tokens;
  readonly targets: Tokens;
  readonly labels: Labels;
  /** Of a step with dropout. */
  readonly dropoutKeys_B2: Tensor | undefined;
  /** All tensors of the batch, in the order of the parts. */
  readonly all: readonly Tensor[];
}

/** The caller disposes `all`. */
export function uploadBatch(parts: readonly BatchPart[]): BatchTensors {
  const all = parts.map(({ shape, values }) =>
    tf.tensor(values, [...shape], values instanceof Int32Array ? 'int32' : 'float32'),
  );
  const named = new Map(parts.map(({ name }, i) => [name, all[i]!]));
  const tensorOf = (name: BatchPart['name'], rank: number) => {
    const tensor = named.get(name);
    assertInvariant(tensor?.rank === rank, `part ${name} of a batch`);
    return tensor;
  };
  return {
    inputs: { ids_M: tensorOf('inputIds', 1) as Tensor1D, segmentIds: tensorOf('inputSegments', 2) as Tensor2D },
    targets: { ids_M: tensorOf('targetIds', 1) as Tensor1D, segmentIds: tensorOf('targetSegments', 2) as Tensor2D },
    labels: { ids_M: tensorOf('labels', 1) as Tensor1D, hasLoss_M: tensorOf('hasLoss', 1) as Tensor1D },
    dropoutKeys_B2: named.get('dropoutKeys'),
    all,
  };
}
