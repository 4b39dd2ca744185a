/**
 * What one task gave in a range of steps: whether an example came twice in one of its epochs, and whether the draws left a gap.
 *
 * Twice is seen at once, by a bitmap for each epoch that has begun and is not complete. A gap can be told where a window of the plan ends:
 * a window takes consecutive draws, so all draws up to the highest are over then. Both together mean that each example of a complete
 * epoch came exactly once, and of the one under way at most once.
 *
 * Memory: n/8 B for each epoch under way of a task of n examples, nothing for complete ones.
 */
import { DrawNumbers, type DrawTask } from './draw-numbers.ts';

export type Finding = 'twice' | 'early' | 'no such example';

export interface AuditedTask {
  readonly name: string;
  readonly numExamples: number;
  /** Draws in the range. */
  readonly numDraws: number;
  /** Epochs of which every example came in the range, exactly once. */
  readonly completeEpochs: number;
  /** Epochs of which some examples came: those under way at the ends of the range. */
  readonly openEpochs: number;
}

/** What the draws before the range leave open: nothing; or the range begins inside a window, or at the start of one. */
export type Beginning = { readonly kind: 'known'; readonly from: number } | { readonly kind: 'inside' | 'boundary' };

interface OpenEpoch {
  readonly seen: Uint8Array;
  count: number;
}

export class TaskAudit {
  readonly #task: DrawTask;
  readonly #seed: number;
  #beginning: Beginning;
  readonly #open = new Map<number, OpenEpoch>();
  readonly #complete = new Set<number>();
  /** All below were drawn at least once; what is above `#closed` belongs to the window under way. */
  #closed = 0;
  #highest = -1;
  #lowest = Infinity;
  #numDraws = 0;
  /** Different draws since `#beginning` was set. */
  #numDistinct = 0;
  /** Gaps that are told already. */
  #toldGap = 0;
  /** Draws that an earlier session left over, and draws since. */
  #owed = 0;
  #numSinceOwed = 0;

  constructor(seed: number, task: DrawTask, beginning: Beginning) {
    this.#seed = seed;
    this.#task = task;
    this.#beginning = beginning;
    if (beginning.kind === 'known') this.#highest = beginning.from - 1;
  }

  /** One example of the range, in the order of training. */
  take(index: number, epoch: number, draw: number): Finding | undefined {
    const { numExamples } = this.#task;
    this.#numDraws += 1;
    if (index >= numExamples) return 'no such example';
    if (this.#complete.has(epoch)) return 'twice';
    let open = this.#open.get(epoch);
    if (open === undefined) {
      open = { seen: new Uint8Array(Math.ceil(numExamples / 8)), count: 0 };
      this.#open.set(epoch, open);
    }
    const bit = 1 << (index & 7);
    if ((open.seen[index >> 3]! & bit) !== 0) return 'twice';
    open.seen[index >> 3] = open.seen[index >> 3]! | bit;
    open.count += 1;
    if (open.count === numExamples) {
      this.#open.delete(epoch);
      this.#complete.add(epoch);
    }
    if (this.#beginning.kind === 'known' && draw < this.#beginning.from) return 'early';
    this.#highest = Math.max(this.#highest, draw);
    this.#lowest = Math.min(this.#lowest, draw);
    this.#numDistinct += 1;
    this.#numSinceOwed += 1;
    return undefined;
  }

  /** A session ended here: what its window left over may come in any later one, before new draws do. */
  beginSession(): void {
    if (this.#beginning.kind !== 'known') return;
    this.#owed = Math.max(0, this.#gap(this.#beginning.from));
    this.#numSinceOwed = 0;
  }

  /** A window of the plan ends here. @returns draws that were left out, if they were not told before */
  closeWindow(): number {
    if (this.#beginning.kind === 'inside') {
      this.#beginning = { kind: 'boundary' };
      this.#highest = -1;
      this.#lowest = Infinity;
      this.#numDistinct = 0;
      return 0;
    }
    if (this.#beginning.kind === 'boundary' && this.#numDistinct === 0) return 0;
    const from = this.#beginning.kind === 'known' ? this.#beginning.from : this.#lowest;
    this.#beginning = { kind: 'known', from };
    this.#closed = this.#highest + 1;
    const allowed = Math.max(this.#toldGap, this.#owed - this.#numSinceOwed);
    const gap = this.#gap(from);
    if (gap <= allowed) {
      this.#toldGap = Math.min(this.#toldGap, gap);
      return 0;
    }
    this.#toldGap = gap;
    return gap - allowed;
  }

  /** The examples of closed windows that were told last as left out, up to `most` of them. @param count what closeWindow said */
  missing(count: number, most: number): { readonly index: number; readonly epoch: number }[] {
    if (this.#beginning.kind !== 'known') return [];
    const { numExamples } = this.#task;
    const { from } = this.#beginning;
    const draws = new DrawNumbers(this.#seed, [this.#task]);
    const found: { index: number; epoch: number }[] = [];
    const limit = this.#toldGap - count + most;
    for (let epoch = Math.floor(from / numExamples); epoch * numExamples < this.#closed; epoch++) {
      if (this.#complete.has(epoch)) continue;
      const seen = this.#open.get(epoch)?.seen;
      const end = Math.min(this.#closed, (epoch + 1) * numExamples);
      for (let draw = Math.max(from, epoch * numExamples); draw < end && found.length < limit; draw++) {
        const { index } = draws.exampleOf(0, draw);
        if (((seen?.[index >> 3] ?? 0) & (1 << (index & 7))) === 0) found.push({ index, epoch });
      }
    }
    return found.slice(Math.max(0, this.#toldGap - count));
  }

  get bitmapBytes(): number {
    return this.#open.size * Math.ceil(this.#task.numExamples / 8);
  }

  summary(): AuditedTask {
    return {
      ...this.#task,
      numDraws: this.#numDraws,
      completeEpochs: this.#complete.size,
      openEpochs: this.#open.size,
    };
  }

  #gap(from: number): number {
    return this.#highest + 1 - from - this.#numDistinct;
  }
}
