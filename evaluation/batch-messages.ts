/** A batch of an evaluation as the message `evaluate` has it, and its result as `evaluated` brings it back, checked against the batch. Pure. */
import { z } from 'zod';
import { TrainerError } from '../shared/errors.ts';
import type { EvaluatedMessage, EvaluationWork } from '../shared/protocol/messages.ts';
import { decodeTokenRows, encodeTokenRows } from '../shared/protocol/token-rows.ts';
import type { DecodingSettings } from './decoding/settings.ts';
import type { EvaluationBatch, PlannedExample, PlannedSet } from './plan-evaluation.ts';

const count = z.int().nonnegative();

const outputSchema = z.strictObject({
  /** Without the start token; EOS included if it ended. */
  ids: z.array(count),
  /** The search's: of greedy and sampling the sum of log-probabilities. */
  score: z.number(),
});
export type Output = z.output<typeof outputSchema>;

/** In the order of the batch's examples. */
export const batchResultSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('decode'),
    /** Of each example, best first. */
    outputs: z.array(z.array(outputSchema).min(1)),
  }),
  z.strictObject({
    kind: z.literal('score'),
    /** Cross-entropy, summed over the target tokens, nats. */
    losses: z.array(z.number()),
    /** Target tokens that are the likeliest ones. */
    numRight: z.array(count),
  }),
]);
export type BatchResult = z.output<typeof batchResultSchema>;

/** @param sets of the plan @param decoding of the plan; unused where the batch is scored */
export function workOf(
  batch: EvaluationBatch,
  sets: readonly PlannedSet[],
  decoding: DecodingSettings | undefined,
): EvaluationWork {
  const { examples, firstExample = 0 } = sets[batch.set]!;
  const rows = (side: keyof PlannedExample): Uint8Array<ArrayBuffer> =>
    encodeTokenRows(batch.examples.map((example) => examples[example]![side]));
  const inputs = rows('inputIds');
  const { inputsLength } = batch;
  if (batch.kind === 'decode') {
    const numbers = batch.examples.map((example) => firstExample + example);
    return { kind: 'decode', decoding, examples: numbers, inputs, inputsLength };
  }
  const { targetsLength, numRows } = batch;
  return { kind: 'score', inputs, targets: rows('targetIds'), inputsLength, targetsLength, numRows };
}

/**
 * The result of a batch.
 * @param examples of the batch's set
 * @throws the worker's failure; MESSAGE_INVALID for a result that is not of this batch
 */
export function readResult(
  batch: EvaluationBatch,
  examples: readonly PlannedExample[],
  result: Exclude<EvaluatedMessage['result'], { kind: 'failed' }>,
): BatchResult {
  const numExamples = batch.examples.length;
  const refuse = (expected: string, found: string): TrainerError =>
    new TrainerError('MESSAGE_INVALID', `the result of a batch: expected ${expected}, found ${found}`);
  if (result.kind !== batch.kind) throw refuse(`kind ${batch.kind}`, result.kind);
  if (result.kind === 'score') {
    const { losses, numRight } = result;
    if (losses.length !== numExamples || numRight.length !== numExamples)
      throw refuse(`${numExamples} losses and hits`, `${losses.length} and ${numRight.length}`);
    batch.examples.forEach((example, at) => {
      const numTargets = examples[example]!.targetIds.length;
      if (numRight[at]! > numTargets)
        throw refuse(`at most ${numTargets} hits of example ${example}`, String(numRight[at]));
    });
    return { kind: 'score', losses, numRight };
  }
  const { ids, numOutputs, scores } = result;
  const rows = decodeTokenRows(ids);
  const numAll = numOutputs.reduce((sum, count) => sum + count, 0);
  if (numOutputs.length !== numExamples || numOutputs.includes(0))
    throw refuse(`outputs of ${numExamples} examples`, `of ${numOutputs.filter((count) => count > 0).length}`);
  if (rows.length !== numAll || scores.length !== numAll)
    throw refuse(`${numAll} outputs and scores`, `${rows.length} and ${scores.length}`);
  const all = rows.map((row, at) => ({ ids: row, score: scores[at]! }));
  let end = 0;
  return { kind: 'decode', outputs: numOutputs.map((count) => all.slice(end, (end += count))) };
}
