/**
 * The examples of one task in a range of steps: whether one came twice in a task epoch, and whether the draws left a gap.
 *
 * A bitmap of each epoch under way detects repeats at once. Gaps are detected where a window of the plan ends: a window takes consecutive
 * draws, so every draw up to the highest one must have come. Together: each example of a complete epoch came exactly once, each of an
 * epoch under way at most once.
 *
 * Memory: n/8 B for each epoch under way of a task of n examples, nothing for complete epochs.
 */
import { TaskDraws, type LedgerTask } from './task-draws.ts';

export type Finding = 'twice' | 'early' | 'no such example';

export interface AuditedTask {
  readonly name: string;
  readonly numExamples: number;
  /** Draws in the range. */
  readonly numDraws: number;
  /** Epochs of which every example came in the range exactly once. */
  readonly completeEpochs: number;
  /** Epochs of which only some examples came: those under way at the ends of the range. */
  readonly openEpochs: number;
}

/** Where the task's draws begin in the range: at a known draw; or at an unknown draw, inside a window or at its start. */
export type Beginning = { readonly kind: 'known'; readonly from: number } | { readonly kind: 'inside' | 'boundary' };

interface OpenEpoch {
  readonly seen: Uint8Array;
  count: number;
}

export class TaskAudit {
  readonly #task: LedgerTask;
  readonly #draws: TaskDraws;
  #beginning: Beginning;
  readonly #open = new Map<number, OpenEpoch>();
  readonly #complete = new Set<number>();
  /** Every draw below belongs to an ended window; the others belong to the window under way. */
  #closed = 0;
  #highest = -1;
  #lowest = Infinity;
  #numDraws = 0;
  /** Distinct draws since `#beginning` was set. */
  #numDistinct = 0;
  /** Size of the gaps already reported. */
  #reportedGap = 0;
  /** Draws that an earlier session left over, and draws since then. */
  #owed = 0;
  #numSinceOwed = 0;

  constructor(seed: number, task: LedgerTask, beginning: Beginning) {
    this.#task = task;
    this.#draws = new TaskDraws(seed, task);
    this.#beginning = beginning;
    if (beginning.kind === 'known') this.#highest = beginning.from - 1;
  }

  /** Adds one example of the range, in the order of training. */
  add(index: number, epoch: number): Finding | undefined {
    const { numExamples } = this.#task;
    this.#numDraws += 1;
    const draw = this.#draws.drawOf(index, epoch);
    if (draw === undefined) return 'no such example';
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

  /** A session ended here. The draws that its window left over may come in any later window, before new draws. */
  beginSession(): void {
    if (this.#beginning.kind !== 'known') return;
    this.#owed = Math.max(0, this.#gap(this.#beginning.from));
    this.#numSinceOwed = 0;
  }

  /** A window of the plan ends here. @returns the number of draws left out and not reported before */
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
    const allowed = Math.max(this.#reportedGap, this.#owed - this.#numSinceOwed);
    const gap = this.#gap(from);
    if (gap <= allowed) {
      this.#reportedGap = Math.min(this.#reportedGap, gap);
      return 0;
    }
    this.#reportedGap = gap;
    return gap - allowed;
  }

  /** The examples that the last `closeWindow` found left out, up to `most` of them. @param count its result */
  missing(count: number, most: number): { readonly index: number; readonly epoch: number }[] {
    if (this.#beginning.kind !== 'known') return [];
    const { numExamples } = this.#task;
    const { from } = this.#beginning;
    const found: { index: number; epoch: number }[] = [];
    const limit = this.#reportedGap - count + most;
    for (let epoch = Math.floor(from / numExamples); epoch * numExamples < this.#closed; epoch++) {
      if (this.#complete.has(epoch)) continue;
      const seen = this.#open.get(epoch)?.seen;
      const end = Math.min(this.#closed, (epoch + 1) * numExamples);
      for (let draw = Math.max(from, epoch * numExamples); draw < end && found.length < limit; draw++) {
        const { index } = this.#draws.exampleOf(draw);
        if (((seen?.[index >> 3] ?? 0) & (1 << (index & 7))) === 0) found.push({ index, epoch });
      }
    }
    return found.slice(Math.max(0, this.#reportedGap - count));
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
