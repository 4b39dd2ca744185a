/** A batch of an evaluation on an engine: targets are scored, or outputs decoded. The engine keeps its parameters, and training may go on. */
import { setImmediate } from 'node:timers/promises';
import { createSearch, decodeBatch, type DecodingSession } from '../../evaluation/decoding/decode-batch.ts';
import { parseDecodingSettings, START_TOKEN } from '../../evaluation/decoding/settings.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { EvaluatedMessage, EvaluationWork } from '../../shared/protocol/messages.ts';
import { decodeTokenRows, encodeTokenRows } from '../../shared/protocol/token-rows.ts';
import type { Engine } from '../engine/engine.ts';

/** Most positions of one side of a batch. */
const MAX_POSITIONS = 16_777_216;

export interface EvaluateBatchInit {
  readonly work: EvaluationWork;
  readonly signal: AbortSignal;
  /** Called at each token. */
  readonly onProgress: () => void;
}

type Result = Exclude<EvaluatedMessage['result'], { kind: 'failed' }>;
type WorkOf<Kind extends EvaluationWork['kind']> = Extract<EvaluationWork, { kind: Kind }>;

/**
 * @throws MESSAGE_INVALID for rows that do not fit the shape; GRADIENT_NOT_FINITE for a loss or score that is no number; ABORTED between two
 *   tokens; what the engine throws
 */
export function evaluateBatch(engine: Engine, init: EvaluateBatchInit): Promise<Result> {
  const { work } = init;
  return work.kind === 'score' ? scoreTargets(engine, work) : decodeOutputs(engine, work, init);
}

async function scoreTargets(engine: Engine, work: WorkOf<'score'>): Promise<Result> {
  const { numRows, inputsLength, targetsLength } = work;
  const targets = decodeTokenRows(work.targets);
  const encoder = pad(decodeTokenRows(work.inputs), numRows, inputsLength);
  const decoder = pad(targets, numRows, targetsLength);
  const labels = decoder.ids.map((id, at) => (decoder.segmentIds[at] === 1 ? id : -1));
  // A target is predicted from the start token and the targets before it.
  const shifted = pad(
    targets.map((row) => [START_TOKEN, ...row.slice(0, -1)]),
    numRows,
    targetsLength,
  );
  const { crossEntropy, isRight } = await engine.score({
    ...{ numRows, inputsLength, targetsLength, labels },
    encoderInputIds: encoder.ids,
    encoderSegmentIds: encoder.segmentIds,
    decoderInputIds: shifted.ids,
    decoderSegmentIds: decoder.segmentIds,
  });
  const sums = (values: ArrayLike<number>): number[] =>
    targets.map((row, at) => row.reduce((sum, _, token) => sum + values[at * targetsLength + token]!, 0));
  const losses = sums(crossEntropy);
  checkFinite(losses, 'loss');
  return { kind: 'score', losses, numRight: sums(isRight) };
}

async function decodeOutputs(
  engine: Engine,
  { decoding, examples, inputs, inputsLength }: WorkOf<'decode'>,
  { signal, onProgress }: EvaluateBatchInit,
): Promise<Result> {
  // The message carries them as any value.
  const settings = parseDecodingSettings(decoding as Parameters<typeof parseDecodingSettings>[0]);
  const numRows = examples.length;
  const { ids: encoderInputIds, segmentIds: encoderSegmentIds } = pad(decodeTokenRows(inputs), numRows, inputsLength);
  const opened = await engine.startDecoding({ numRows, inputsLength, encoderInputIds, encoderSegmentIds });
  const session: DecodingSession = {
    vocabSize: opened.vocabSize,
    advance: async (parents, tokens, numCandidates) => {
      await setImmediate(); // an abort is a message, which is received between two turns of the event loop
      throwIfAborted(signal, 'decoding a batch');
      onProgress();
      return opened.advance(parents, tokens, numCandidates);
    },
  };
  try {
    const searches = examples.map((example) => createSearch(settings, example, opened.vocabSize));
    const found = await decodeBatch(session, searches);
    const outputs = found.flat();
    const scores = outputs.map(({ score }) => score);
    checkFinite(scores, 'score');
    const ids = encodeTokenRows(outputs.map((output) => output.ids));
    return { kind: 'decode', ids, numOutputs: found.map(({ length }) => length), scores };
  } finally {
    opened.dispose();
  }
}

/** Rows of a batch; segment 1 where a row has a token, 0 at padding. @throws MESSAGE_INVALID */
function pad(rows: readonly (readonly number[])[], numRows: number, length: number) {
  const longest = rows.reduce((most, row) => Math.max(most, row.length), 0);
  if (rows.length > numRows || longest > length || numRows * length > MAX_POSITIONS)
    throw new TrainerError(
      'MESSAGE_INVALID',
      `a batch: expected at most ${numRows} rows of ${length} tokens and ${MAX_POSITIONS} positions, ` +
        `found ${rows.length} rows, the longest of ${longest} tokens`,
    );
  const ids = new Int32Array(numRows * length);
  const segmentIds = new Int32Array(numRows * length);
  rows.forEach((row, at) => {
    ids.set(row, at * length);
    segmentIds.fill(1, at * length, at * length + row.length);
  });
  return { ids, segmentIds };
}

function checkFinite(values: readonly number[], what: string): void {
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at === -1) return;
  throw new TrainerError(
    'GRADIENT_NOT_FINITE',
    `the ${what} of example ${at} of a batch is ${values[at]!}; the model's numbers overflow, or its training diverged`,
  );
}
