/**
 * The rows of a step ↔ bytes: which example (task, index, epoch) stood in which lane, row and place.
 *
 * What is written of an example is its task and its place among the draws of the task that were still to come (draw-window.ts): a rank
 * among the free ones, a new highest, or, for anything else, epoch and index in full. So every sequence of examples can be written, also
 * one that repeats or skips: the code assumes nothing about the plan, it is only short where the plan keeps its promise. Bits an
 * example, for n draws of a task in random order: log2(n!)/n, which no code without the plan's random numbers can beat.
 *
 * One codec belongs to one segment and one direction; encoder and decoder of a segment make the same steps.
 */
import type { PlannedExample } from '../../mixture/plan/planned-rows.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { NumberModel, SymbolModel } from './adaptive-models.ts';
import { DrawNumbers, type DrawTask } from './draw-numbers.ts';
import { DrawWindow } from './draw-window.ts';
import type { DrawnExample, Lanes } from './ledger-step.ts';
import { RangeDecoder, RangeEncoder } from './range-coder.ts';

/** Examples of one step: more is damage. */
const MAX_EXAMPLES_OF_STEP = 2 ** 22;
/** Places in a row that are told apart when the next task is expected; rows are packed from the largest example down. */
const NUM_PLACES = 4;
const FREE = 0;
const AHEAD = 1;
const STRAY = 2;

export class RowsCodec {
  readonly #numTasks: number;
  readonly #draws: DrawNumbers;
  readonly #windows: readonly DrawWindow[];
  readonly #counts = { lanes: new NumberModel(), rows: new NumberModel(), examples: new NumberModel() };
  /** By place in the row; the first for rows of one example. */
  readonly #taskModels: readonly SymbolModel[];
  /** How the draw is written, by the number of bits of the number of free draws. */
  readonly #kinds = Array.from({ length: 22 }, () => new SymbolModel(3));
  readonly #ahead = new NumberModel();
  readonly #strayEpoch = new NumberModel();
  readonly #strayIndex = new NumberModel();
  readonly #hasFloors = new SymbolModel(2);
  readonly #floors = new NumberModel();

  /** @param bases of each task: all draws below are over */
  constructor(seed: number, tasks: readonly DrawTask[], bases: readonly number[]) {
    this.#numTasks = tasks.length;
    this.#draws = new DrawNumbers(seed, tasks);
    this.#windows = bases.map((base) => new DrawWindow(base));
    this.#taskModels = Array.from({ length: 1 + NUM_PLACES }, () => new SymbolModel(tasks.length));
  }

  /** Where the next segment may begin. */
  get bases(): number[] {
    return this.#windows.map(({ base }) => base);
  }

  /** @param floors of each task: no draw below is expected after this step, e.g. those before the plan's window */
  encode(lanes: Lanes<PlannedExample>, floors: readonly number[] = []): Uint8Array {
    const encoder = new RangeEncoder();
    this.#counts.lanes.encode(encoder, lanes.length);
    for (const rows of lanes) {
      this.#counts.rows.encode(encoder, rows.length);
      for (const row of rows) {
        this.#counts.examples.encode(encoder, row.length);
        row.forEach((example, place) => {
          assertInvariant(example.task < this.#numTasks, `task ${example.task} of ${this.#numTasks}`);
          this.#taskModelAt(place, row.length).encode(encoder, example.task);
          this.#encodeDraw(encoder, example);
        });
      }
    }
    this.#encodeFloors(encoder, floors);
    return encoder.finish();
  }

  /** @throws LEDGER_CORRUPT where the bytes cannot be those of a step */
  decode(bytes: Uint8Array): Lanes<DrawnExample> {
    const decoder = new RangeDecoder(bytes);
    let left = MAX_EXAMPLES_OF_STEP;
    const take = (count: number): number => {
      left -= count;
      if (left >= 0) return count;
      throw new TrainerError('LEDGER_CORRUPT', `a step of more than ${MAX_EXAMPLES_OF_STEP} examples`);
    };
    const readRow = (): DrawnExample[] => {
      const row: DrawnExample[] = [];
      const numExamples = take(this.#counts.examples.decode(decoder));
      for (let place = 0; place < numExamples; place++) {
        const task = this.#taskModelAt(place, numExamples).decode(decoder);
        row.push(this.#decodeDraw(decoder, task));
      }
      return row;
    };
    const lanes = Array.from({ length: take(this.#counts.lanes.decode(decoder)) }, () =>
      Array.from({ length: take(this.#counts.rows.decode(decoder)) }, readRow),
    );
    this.#decodeFloors(decoder);
    return lanes;
  }

  #taskModelAt(place: number, numExamples: number): SymbolModel {
    return this.#taskModels[numExamples === 1 ? 0 : 1 + Math.min(place, NUM_PLACES - 1)]!;
  }

  #kindsAt(window: DrawWindow): SymbolModel {
    return this.#kinds[32 - Math.clz32(window.numFree)]!;
  }

  #encodeDraw(encoder: RangeEncoder, { task, index, epoch }: PlannedExample): void {
    const window = this.#windows[task]!;
    const kinds = this.#kindsAt(window);
    const draw = this.#draws.drawOf(task, index, epoch);
    if (draw !== undefined && window.isFree(draw)) {
      kinds.encode(encoder, FREE);
      encoder.encodeUniform(window.rankOf(draw), window.numFree);
      window.take(draw);
    } else if (draw !== undefined && window.isAhead(draw)) {
      kinds.encode(encoder, AHEAD);
      this.#ahead.encode(encoder, draw - window.end);
      window.take(draw);
    } else {
      kinds.encode(encoder, STRAY);
      this.#strayEpoch.encode(encoder, epoch);
      this.#strayIndex.encode(encoder, index);
    }
  }

  #decodeDraw(decoder: RangeDecoder, task: number): DrawnExample {
    const window = this.#windows[task]!;
    const kind = this.#kindsAt(window).decode(decoder);
    if (kind === STRAY) {
      const epoch = this.#strayEpoch.decode(decoder);
      const index = this.#strayIndex.decode(decoder);
      return { task, index, epoch, draw: this.#draws.drawOf(task, index, epoch) ?? -1 };
    }
    if (kind === FREE && window.numFree === 0)
      throw new TrainerError('LEDGER_CORRUPT', 'a draw among none that is free');
    const draw =
      kind === FREE ? window.drawAt(decoder.decodeUniform(window.numFree)) : window.end + this.#ahead.decode(decoder);
    if (kind === AHEAD && !window.isAhead(draw)) throw new TrainerError('LEDGER_CORRUPT', 'a draw too far ahead');
    window.take(draw);
    return { task, ...this.#draws.exampleOf(task, draw), draw };
  }

  /** Only after a resume inside a window are there draws below the floor that this segment did not see. */
  #encodeFloors(encoder: RangeEncoder, floors: readonly number[]): void {
    const isNeeded = floors.some((floor, task) => this.#windows[task]!.base < floor);
    this.#hasFloors.encode(encoder, isNeeded ? 1 : 0);
    if (!isNeeded) return;
    this.#windows.forEach((window, task) => {
      const rise = Math.max(0, (floors[task] ?? 0) - window.base);
      this.#floors.encode(encoder, rise);
      window.giveUpBelow(window.base + rise);
    });
  }

  #decodeFloors(decoder: RangeDecoder): void {
    if (this.#hasFloors.decode(decoder) === 0) return;
    for (const window of this.#windows) window.giveUpBelow(window.base + this.#floors.decode(decoder));
  }
}
