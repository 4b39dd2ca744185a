/**
 * A committed step and its bytes: the payload of one record of a segment (segment-format.ts), little-endian.
 *
 * | offset | type | field                                                                                                     |
 * |--------|------|-----------------------------------------------------------------------------------------------------------|
 * | 0      | u32  | step                                                                                                      |
 * | 4      | u32  | generation                                                                                                |
 * | 8      | u32  | gradDigest                                                                                                |
 * | 12     | f64  | loss, nats                                                                                                |
 * | 20     | f64  | learning rate; 0: the step was skipped                                                                    |
 * | 28     | f32  | gradient norm                                                                                             |
 * | 32     | u32  | number of tasks, then of each: task, examples, input tokens, target tokens (LEB128), f32 loss (NaN: none) |
 * | …      |      | the lanes, raw deflate; inflated, of each lane: u32 bytes, its rows as dealt (mixture/plan/planned-rows.ts) |
 *
 * Each record is deflated alone, so a reader inflates only the steps it wants, and a torn record damages no other.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { decodeRows, type PlannedRow } from '../../mixture/plan/planned-rows.ts';
import { assertInvariant, toTrainerError, TrainerError } from '../../shared/errors.ts';

/** One task in one step. */
export interface TaskFigures {
  /** Number of the task in the mixture. */
  readonly task: number;
  readonly numExamples: number;
  /** Tokens of its examples, EOS included. */
  readonly inputTokens: number;
  readonly targetTokens: number;
  /** Mean per target token, nats, kept as float32; absent where no reporting rank had the task. */
  readonly loss?: number;
}

/** A committed step without its rows. In a skipped step, learning rate, digest, loss and norm are 0; no update has learning rate 0. */
export interface StepFigures {
  readonly step: number;
  readonly generation: number;
  /** CRC-32 of the summed gradient. */
  readonly gradDigest: number;
  /** Mean per target token, nats. */
  readonly loss: number;
  /** Kept as float32. */
  readonly gradNorm: number;
  readonly learningRate: number;
  /** The tasks in the step, ascending by number. */
  readonly tasks: readonly TaskFigures[];
}

/** A step for the ledger to append. */
export interface StepToRecord extends StepFigures {
  /** Rows of each lane, encoded by `encodeRows`: the bytes that the workers were sent. */
  readonly lanes: readonly Uint8Array[];
}

/** Lane → row → examples in their order. */
export type Lanes = readonly (readonly PlannedRow[])[];

/** A step read back. */
export interface LedgerStep extends StepFigures {
  /** Inflates and decodes the rows. @throws LEDGER_CORRUPT */
  readonly readLanes: () => Lanes;
}

const HEAD_BYTES = 36;
/** Inflated lanes of one step: about 10 million examples. */
const MAX_LANES_BYTES = 64 * 1024 * 1024;

export function encodeStep(step: StepToRecord): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(step.step, 0);
  head.writeUInt32LE(step.generation, 4);
  head.writeUInt32LE(step.gradDigest, 8);
  head.writeDoubleLE(step.loss, 12);
  head.writeDoubleLE(step.learningRate, 20);
  head.writeFloatLE(step.gradNorm, 28);
  head.writeUInt32LE(step.tasks.length, 32);
  const lanes = Buffer.concat(step.lanes.flatMap((rows) => [uint32(rows.length), rows]));
  assertInvariant(lanes.length <= MAX_LANES_BYTES, `step ${step.step}: ${lanes.length} B of rows`);
  return Buffer.concat([head, ...step.tasks.map(encodeFigures), deflateRawSync(lanes)]);
}

function encodeFigures({ task, numExamples, inputTokens, targetTokens, loss = NaN }: TaskFigures): Buffer {
  const bytes: number[] = [];
  for (const value of [task, numExamples, inputTokens, targetTokens]) {
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
    bytes.push(rest);
  }
  const lossBytes = Buffer.alloc(4);
  lossBytes.writeFloatLE(loss);
  return Buffer.concat([Buffer.from(bytes), lossBytes]);
}

/** @param numTasks of the mixture @throws LEDGER_CORRUPT where the payload cannot be a step */
export function decodeStep(payload: Buffer, numTasks: number): LedgerStep {
  if (payload.length < HEAD_BYTES) throw tooShort(payload);
  let at = HEAD_BYTES;
  const readNumber = (): number => {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = payload[at++];
      if (byte === undefined) throw tooShort(payload);
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const readLoss = (): number => {
    if (at + 4 > payload.length) throw tooShort(payload);
    at += 4;
    return payload.readFloatLE(at - 4);
  };
  const tasks: TaskFigures[] = [];
  for (let left = payload.readUInt32LE(32); left > 0; left--) {
    const counts = {
      task: readNumber(),
      numExamples: readNumber(),
      inputTokens: readNumber(),
      targetTokens: readNumber(),
    };
    const loss = readLoss();
    tasks.push(Number.isNaN(loss) ? counts : { ...counts, loss });
  }
  return {
    step: stepOf(payload),
    generation: payload.readUInt32LE(4),
    gradDigest: payload.readUInt32LE(8),
    loss: payload.readDoubleLE(12),
    learningRate: payload.readDoubleLE(20),
    gradNorm: payload.readFloatLE(28),
    tasks,
    readLanes: () => decodeLanes(payload.subarray(at), numTasks),
  };
}

/** The step of a payload of at least 4 bytes. */
export function stepOf(payload: Buffer): number {
  return payload.readUInt32LE(0);
}

function decodeLanes(deflated: Buffer, numTasks: number): Lanes {
  try {
    const bytes = inflateRawSync(deflated, { maxOutputLength: MAX_LANES_BYTES });
    const lanes: PlannedRow[][] = [];
    for (let at = 0; at < bytes.length;) {
      const end = at + 4 + bytes.readUInt32LE(at);
      if (end > bytes.length) throw new TrainerError('LEDGER_CORRUPT', 'a lane does not end');
      const rows = decodeRows(bytes.subarray(at + 4, end));
      for (const { task } of rows.flat())
        if (task >= numTasks) throw new TrainerError('LEDGER_CORRUPT', `task ${task} of ${numTasks} tasks`);
      lanes.push(rows);
      at = end;
    }
    return lanes;
  } catch (cause) {
    throw new TrainerError('LEDGER_CORRUPT', `the rows of a record cannot be read: ${toTrainerError(cause).message}`, {
      cause,
    });
  }
}

function tooShort({ length }: Buffer): TrainerError {
  return new TrainerError('LEDGER_CORRUPT', `a record of ${length} B is too short for its figures`);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
