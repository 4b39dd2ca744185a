/**
 * The draws of one task around the place where the run is: which were taken, and the rank of a draw among those that were not.
 *
 * Definition: all draws below `base` were taken or given up; `end` is one past the highest that was taken. The draws between that were
 * not taken are *free*. A window of the plan takes consecutive draws in random order, so the next draw is a free one or a new highest,
 * and its rank among the free ones is the least that says which.
 *
 * A Fenwick tree over the span holds the ranks: O(log span) each, 5 B for each draw of the span, at most MAX_SPAN of them.
 */

/** Draws from `base` on that are kept track of. */
const MAX_SPAN = 2 ** 20;

export class DrawWindow {
  #base: number;
  #end: number;
  /** Draw at position 0 of the arrays. */
  #origin: number;
  #isTaken = new Uint8Array(16);
  /** Fenwick tree over positions, 1-based: 1 for a free draw. */
  #tree = new Int32Array(17);
  #numFree = 0;

  constructor(base: number) {
    this.#base = base;
    this.#end = base;
    this.#origin = base;
  }

  get base(): number {
    return this.#base;
  }

  get end(): number {
    return this.#end;
  }

  get numFree(): number {
    return this.#numFree;
  }

  isFree(draw: number): boolean {
    return draw >= this.#base && draw < this.#end && this.#isTaken[draw - this.#origin] === 0;
  }

  /** Whether a draw can be the next highest. */
  isAhead(draw: number): boolean {
    return draw >= this.#end && draw - this.#base < MAX_SPAN;
  }

  /** How many free draws are below a draw. */
  rankOf(draw: number): number {
    let rank = 0;
    for (let at = draw - this.#origin; at > 0; at -= at & -at) rank += this.#tree[at]!;
    return rank;
  }

  /** The free draw of a rank below `numFree`. */
  drawAt(rank: number): number {
    let position = 0;
    let rest = rank;
    for (let step = this.#isTaken.length; step > 0; step >>= 1) {
      const next = position + step;
      if (next >= this.#tree.length || this.#tree[next]! > rest) continue;
      position = next;
      rest -= this.#tree[next]!;
    }
    return this.#origin + position;
  }

  /** Takes a free draw, or one that `isAhead`: those it leaps over become free. */
  take(draw: number): void {
    if (draw < this.#end) this.#remove(draw);
    else {
      this.#reach(draw);
      for (let free = this.#end; free < draw; free++) this.#add(free - this.#origin, 1);
      this.#numFree += draw - this.#end;
      this.#isTaken[draw - this.#origin] = 1;
      this.#end = draw + 1;
    }
    this.#closeRank();
  }

  /** From now on no draw below this one is expected. */
  giveUpBelow(floor: number): void {
    for (let draw = this.#base; draw < Math.min(floor, this.#end); draw++) if (this.isFree(draw)) this.#remove(draw);
    if (floor > this.#end) {
      this.#base = floor;
      this.#end = floor;
      this.#origin = floor;
      this.#isTaken.fill(0);
      this.#tree.fill(0);
    }
    this.#closeRank();
  }

  #remove(draw: number): void {
    this.#isTaken[draw - this.#origin] = 1;
    this.#add(draw - this.#origin, -1);
    this.#numFree -= 1;
  }

  #closeRank(): void {
    while (this.#base < this.#end && this.#isTaken[this.#base - this.#origin] === 1) this.#base += 1;
  }

  #add(position: number, change: number): void {
    for (let at = position + 1; at < this.#tree.length; at += at & -at) this.#tree[at] = this.#tree[at]! + change;
  }

  /** Makes room for a draw: what is below the base is forgotten, the arrays grow where that is not enough. */
  #reach(draw: number): void {
    if (draw - this.#origin < this.#isTaken.length) return;
    let capacity = 16;
    while (capacity < 2 * (draw + 1 - this.#base)) capacity *= 2;
    const taken = new Uint8Array(capacity);
    taken.set(this.#isTaken.subarray(this.#base - this.#origin, this.#end - this.#origin));
    const span = this.#end - this.#base;
    this.#origin = this.#base;
    this.#isTaken = taken;
    this.#tree = new Int32Array(capacity + 1);
    for (let position = 0; position < span; position++) if (taken[position] === 0) this.#add(position, 1);
  }
}
