/**
 * The figures of a step ↔ bytes: number of examples, tokens and mean loss of each task that is in it. They have a stream of their own,
 * so that they can be read without the rows. One codec belongs to one segment and one direction.
 */
import { NumberModel, SymbolModel } from './adaptive-models.ts';
import type { TaskFigures } from './ledger-step.ts';
import { RangeDecoder, RangeEncoder } from './range-coder.ts';

/** Bits of a loss after sign and exponent; float32 has 23. */
const MANTISSA_BITS = 15;
const DROPPED_BITS = 23 - MANTISSA_BITS;
const MANTISSAS = 2 ** MANTISSA_BITS;

interface TaskModels {
  readonly isPresent: SymbolModel;
  readonly numExamples: NumberModel;
  readonly inputTokens: NumberModel;
  readonly targetTokens: NumberModel;
}

export class FiguresCodec {
  readonly #tasks: readonly TaskModels[];
  readonly #hasLoss = new SymbolModel(2);
  /** Sign and exponent. */
  readonly #scale = new SymbolModel(512);

  constructor(numTasks: number) {
    this.#tasks = Array.from({ length: numTasks }, () => ({
      isPresent: new SymbolModel(2),
      numExamples: new NumberModel(),
      inputTokens: new NumberModel(),
      targetTokens: new NumberModel(),
    }));
  }

  /** @param tasks ascending by number */
  encode(tasks: readonly TaskFigures[]): Uint8Array {
    const encoder = new RangeEncoder();
    let next = 0;
    for (const [task, models] of this.#tasks.entries()) {
      const figures = tasks[next]?.task === task ? tasks[next++] : undefined;
      models.isPresent.encode(encoder, figures === undefined ? 0 : 1);
      if (figures === undefined) continue;
      models.numExamples.encode(encoder, figures.numExamples);
      models.inputTokens.encode(encoder, figures.inputTokens);
      models.targetTokens.encode(encoder, figures.targetTokens);
      this.#hasLoss.encode(encoder, figures.loss === undefined ? 0 : 1);
      if (figures.loss === undefined) continue;
      const bits = packLoss(figures.loss);
      this.#scale.encode(encoder, Math.floor(bits / MANTISSAS));
      encoder.encodeBits(bits % MANTISSAS, MANTISSA_BITS);
    }
    return encoder.finish();
  }

  decode(bytes: Uint8Array): TaskFigures[] {
    const decoder = new RangeDecoder(bytes);
    return this.#tasks.flatMap((models, task) => {
      if (models.isPresent.decode(decoder) === 0) return [];
      const numExamples = models.numExamples.decode(decoder);
      const inputTokens = models.inputTokens.decode(decoder);
      const targetTokens = models.targetTokens.decode(decoder);
      const figures = { task, numExamples, inputTokens, targetTokens };
      if (this.#hasLoss.decode(decoder) === 0) return [figures];
      const scale = this.#scale.decode(decoder);
      return [{ ...figures, loss: unpackLoss(scale * MANTISSAS + decoder.decodeBits(MANTISSA_BITS)) }];
    });
  }
}

/** A loss as the ledger gives it back: 16 significant bits, 1 part in 130,000. */
export function roundLoss(loss: number): number {
  return unpackLoss(packLoss(loss));
}

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

function packLoss(loss: number): number {
  float[0] = loss;
  return Math.min(2 ** (32 - DROPPED_BITS) - 1, Math.round(word[0]! / 2 ** DROPPED_BITS));
}

function unpackLoss(bits: number): number {
  word[0] = bits * 2 ** DROPPED_BITS;
  return float[0]!;
}
