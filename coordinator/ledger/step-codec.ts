/**
 * A step ↔ the payload of one record of a segment, little-endian:
 *
 * | offset | type  | what                                                    |
 * |--------|-------|---------------------------------------------------------|
 * | 0      | u32   | step                                                    |
 * | 4      | u32   | generation                                              |
 * | 8      | u32   | gradDigest                                              |
 * | 12     | f64   | loss, nats                                              |
 * | 20     | f64   | learning rate; 0: the step was skipped                  |
 * | 28     | f32   | norm of the gradient                                    |
 * | 32     | u32   | bytes of the figures, then these (figures-codec.ts)     |
 * |        |       | the rest: the rows (rows-codec.ts)                      |
 *
 * What is learnt from a record helps with the next, so the records of a segment are read in order.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { DrawTask } from './draw-numbers.ts';
import { FiguresCodec } from './figures-codec.ts';
import type { LedgerStep, StepToRecord } from './ledger-step.ts';
import { RowsCodec } from './rows-codec.ts';

const HEAD_BYTES = 36;

export interface CodecInit {
  readonly seed: number;
  readonly tasks: readonly DrawTask[];
  /** Of each task: all draws below are over. */
  readonly bases: readonly number[];
}

export class StepEncoder {
  readonly #figures: FiguresCodec;
  readonly #rows: RowsCodec;

  constructor({ seed, tasks, bases }: CodecInit) {
    this.#figures = new FiguresCodec(tasks.length);
    this.#rows = new RowsCodec(seed, tasks, bases);
  }

  /** Where the next segment may begin. */
  get bases(): number[] {
    return this.#rows.bases;
  }

  /** @param floors of each task: no draw below is expected after this step */
  encode(step: StepToRecord, floors: readonly number[]): Buffer {
    const figures = this.#figures.encode(step.tasks);
    const rows = this.#rows.encode(step.lanes, floors);
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32LE(step.step, 0);
    head.writeUInt32LE(step.generation, 4);
    head.writeUInt32LE(step.gradDigest, 8);
    head.writeDoubleLE(step.loss, 12);
    head.writeDoubleLE(step.learningRate, 20);
    head.writeFloatLE(step.gradNorm, 28);
    head.writeUInt32LE(figures.length, 32);
    return Buffer.concat([head, figures, rows]);
  }
}

export class StepDecoder {
  readonly #figures: FiguresCodec;
  readonly #rows: RowsCodec | undefined;

  /** @param withRows false: lanes are left empty, which is about a hundred times as fast */
  constructor({ seed, tasks, bases }: CodecInit, withRows: boolean) {
    this.#figures = new FiguresCodec(tasks.length);
    this.#rows = withRows ? new RowsCodec(seed, tasks, bases) : undefined;
  }

  /** @throws LEDGER_CORRUPT */
  decode(payload: Buffer): LedgerStep {
    const figuresEnd = payload.length < HEAD_BYTES ? Infinity : HEAD_BYTES + payload.readUInt32LE(32);
    if (figuresEnd > payload.length)
      throw new TrainerError('LEDGER_CORRUPT', `a record of ${payload.length} B is too short for its figures`);
    return {
      step: stepOf(payload),
      generation: payload.readUInt32LE(4),
      gradDigest: payload.readUInt32LE(8),
      loss: payload.readDoubleLE(12),
      learningRate: payload.readDoubleLE(20),
      gradNorm: payload.readFloatLE(28),
      tasks: this.#figures.decode(payload.subarray(HEAD_BYTES, figuresEnd)),
      lanes: this.#rows?.decode(payload.subarray(figuresEnd)) ?? [],
    };
  }
}

/** The step of a payload of at least 4 bytes. */
export function stepOf(payload: Buffer): number {
  return payload.readUInt32LE(0);
}
