/**
 * Packed rows in arrays of static shape, as the model reads them.
 *
 * R = rows, I = inputs length, T = targets length. All arrays are int32, row-major. The examples of a row follow each
 * other from the left, as segments 1, 2, …. The rest is padding: id 0, segment 0, label −100, task −1. Decoder inputs
 * are the targets shifted right within their segment. Each segment begins with 0 (pad), T5's start token.
 */
import { throwIfAborted } from '../../shared/abort.ts';
import { assertInvariant } from '../../shared/errors.ts';
import type { PlannedRow } from '../plan/planned-rows.ts';
import { readPlannedExample, type RowExample } from './planned-examples.ts';
import type { PreparedMixture } from './prepared-mixture.ts';

const PAD_ID = 0;
/** Label of a position without loss, as in Hugging Face's T5. */
const IGNORED_LABEL = -100;

export interface BatchArrays {
  readonly numRows: number;
  readonly inputsLength: number;
  readonly targetsLength: number;
  /** [R, I] */
  readonly encoderInputIds: Int32Array;
  /** [R, I] 1, 2, …; 0 = padding. */
  readonly encoderSegmentIds: Int32Array;
  /** [R, T] */
  readonly decoderInputIds: Int32Array;
  /** [R, T] the same segment numbers as in the encoder. */
  readonly decoderSegmentIds: Int32Array;
  /** [R, T] target ids; −100 = no loss. */
  readonly labels: Int32Array;
  /** [R, T] task number of the target at this position, for the loss of each task; −1 = padding. */
  readonly taskOfTarget: Int32Array;
}

/** New arrays, filled with padding. */
export function createBatchArrays(numRows: number, inputsLength: number, targetsLength: number): BatchArrays {
  const inputs = numRows * inputsLength;
  const targets = numRows * targetsLength;
  return {
    numRows,
    inputsLength,
    targetsLength,
    encoderInputIds: new Int32Array(inputs).fill(PAD_ID),
    encoderSegmentIds: new Int32Array(inputs),
    decoderInputIds: new Int32Array(targets).fill(PAD_ID),
    decoderSegmentIds: new Int32Array(targets),
    labels: new Int32Array(targets).fill(IGNORED_LABEL),
    taskOfTarget: new Int32Array(targets).fill(-1),
  };
}

/**
 * Writes a planned row into row `row` and replaces its content. It reads all examples at the same time. It writes only
 * when all are there, and never after the signal has fired.
 * @param seed of the run @returns input tokens of the row, without padding
 * @throws SHARD_CORRUPT, PATH_UNUSABLE, the codes of shared/storage; INTERNAL for a row that does not fit; ABORTED
 */
export async function fillRow(
  batch: BatchArrays,
  row: number,
  planned: PlannedRow,
  mixture: PreparedMixture,
  seed: number,
  signal?: AbortSignal,
): Promise<number> {
  const examples = await Promise.all(planned.map((example) => readPlannedExample(mixture, example, seed, signal)));
  throwIfAborted(signal, 'filling a row');
  placeExamples(batch, row, examples);
  return examples.reduce((sum, { inputs }) => sum + inputs.length, 0);
}

/** Writes examples into row `row`, in their order. @throws INTERNAL if they do not fit */
export function placeExamples(batch: BatchArrays, row: number, examples: readonly RowExample[]): void {
  const { numRows, inputsLength, targetsLength } = batch;
  assertInvariant(row >= 0 && row < numRows, `row ${row} of a batch of ${numRows} rows`);
  let inputsAt = row * inputsLength;
  let targetsAt = row * targetsLength;
  const inputsEnd = inputsAt + inputsLength;
  const targetsEnd = targetsAt + targetsLength;
  for (const [i, { task, inputs, targets }] of examples.entries()) {
    assertInvariant(
      inputsAt + inputs.length <= inputsEnd && targetsAt + targets.length <= targetsEnd,
      `example ${i} of ${examples.length} (${inputs.length} and ${targets.length} tokens) does not fit into the rest of a row of ${inputsLength} and ${targetsLength}`,
    );
    const segment = i + 1;
    batch.encoderInputIds.set(inputs, inputsAt);
    batch.encoderSegmentIds.fill(segment, inputsAt, inputsAt + inputs.length);
    batch.decoderInputIds[targetsAt] = PAD_ID;
    batch.decoderInputIds.set(targets.subarray(0, -1), targetsAt + 1);
    batch.labels.set(targets, targetsAt);
    inputsAt += inputs.length;
    batch.decoderSegmentIds.fill(segment, targetsAt, targetsAt + targets.length);
    batch.taskOfTarget.fill(task, targetsAt, targetsAt + targets.length);
    targetsAt += targets.length;
  }
  batch.encoderInputIds.fill(PAD_ID, inputsAt, inputsEnd);
  batch.encoderSegmentIds.fill(0, inputsAt, inputsEnd);
  batch.decoderInputIds.fill(PAD_ID, targetsAt, targetsEnd);
  batch.decoderSegmentIds.fill(0, targetsAt, targetsEnd);
  batch.labels.fill(IGNORED_LABEL, targetsAt, targetsEnd);
  batch.taskOfTarget.fill(-1, targetsAt, targetsEnd);
}
