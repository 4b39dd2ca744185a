/**
 * A planned example → its ids from the shards. A denoising example is corrupted by a random stream that is named after
 * the example.
 */
import { hashName, RandomStream } from '../../shared/random.ts';
import { denoise } from '../plan/denoisers.ts';
import type { PlannedExample } from '../plan/planned-rows.ts';
import { corruptSpans } from '../plan/span-corruption.ts';
import type { PreparedMixture } from './prepared-mixture.ts';

/** The content of one segment of a row. Both sides end with EOS. */
export interface RowExample {
  /** Number of the task in the mixture. */
  readonly task: number;
  readonly inputs: Int32Array;
  readonly targets: Int32Array;
}

const SPAN_CORRUPTION = hashName('span-corruption');

/**
 * A pure function of its arguments and of the bytes of the mixture: equal (seed, task name, epoch, example) give equal
 * spans.
 * @param seed of the run @throws INTERNAL for an example that does not exist, SHARD_CORRUPT, PATH_UNUSABLE, the codes
 * of shared/storage, ABORTED
 */
export async function readPlannedExample(
  mixture: PreparedMixture,
  { task: taskNumber, index, epoch }: PlannedExample,
  seed: number,
  signal?: AbortSignal,
): Promise<RowExample> {
  const task = mixture.tasks[taskNumber]!;
  const tokens = await task.readTokens(index, signal);
  if (task.kind === 'supervised') {
    const inputsLength = task.inputsLength(index);
    return { task: taskNumber, inputs: tokens.subarray(0, inputsLength), targets: tokens.subarray(inputsLength) };
  }
  const { vocabSize, numExtraIds } = mixture.tokenizer;
  const random = new RandomStream([seed, SPAN_CORRUPTION, hashName(task.name), epoch, index]);
  const sentinels = { firstSentinel: vocabSize - 1, numSentinels: numExtraIds };
  const denoised =
    task.denoiser === undefined
      ? corruptSpans(tokens, random, sentinels)
      : denoise(task.denoiser, tokens, { name: task.name, example: index, random, ...sentinels });
  return { task: taskNumber, ...denoised };
}
