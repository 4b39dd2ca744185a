/**
 * The pieces of a copy: not yet requested, under way with a holder, or arrived. Pure.
 *
 * Holders share one queue: a fast holder gets more requests, and a lost holder's pieces go back to the queue. At most `STATE_WINDOW` pieces
 * are under way with each holder; a piece is under way with one holder at a time.
 */
import { STATE_WINDOW } from './state-frames.ts';

/** Repeated requests to one holder for a piece with a wrong checksum. */
export const MAX_REPEATS = 2;

export class CopyProgress {
  readonly #numPieces: number;
  /** Pieces from this one on were never requested. */
  #next = 0;
  /** Pieces of lost holders, to request again. */
  readonly #returned: number[] = [];
  /** By rank of the holder: piece → number of repeated requests. */
  readonly #underWay = new Map<number, Map<number, number>>();
  #numArrived = 0;

  constructor(numPieces: number) {
    this.#numPieces = numPieces;
  }

  get numArrived(): number {
    return this.#numArrived;
  }

  get isDone(): boolean {
    return this.#numArrived === this.#numPieces;
  }

  /** Pieces under way with the holder. */
  numUnderWay(holder: number): number {
    return this.#underWay.get(holder)?.size ?? 0;
  }

  isUnderWay(holder: number, piece: number): boolean {
    return this.#underWay.get(holder)?.has(piece) === true;
  }

  /** The next piece to request from the holder, counted as under way; null when its window is full or no piece is left. */
  next(holder: number): number | null {
    if (this.numUnderWay(holder) >= STATE_WINDOW) return null;
    const piece = this.#returned.shift() ?? (this.#next < this.#numPieces ? this.#next++ : null);
    if (piece !== null) this.#asked(holder).set(piece, 0);
    return piece;
  }

  /** A piece that was under way with the holder has arrived. */
  arrived(holder: number, piece: number): void {
    if (this.#asked(holder).delete(piece)) this.#numArrived++;
  }

  /** The piece came with a wrong checksum. @returns whether to request it from the holder again; it stays under way then */
  failedChecksum(holder: number, piece: number): boolean {
    const numRepeats = this.#asked(holder).get(piece) ?? 0;
    this.#asked(holder).set(piece, numRepeats + 1);
    return numRepeats < MAX_REPEATS;
  }

  /** The holder is lost: its pieces are requested from others. */
  drop(holder: number): void {
    this.#returned.push(...this.#asked(holder).keys());
    this.#underWay.delete(holder);
  }

  #asked(holder: number): Map<number, number> {
    const asked = this.#underWay.get(holder) ?? new Map<number, number>();
    this.#underWay.set(holder, asked);
    return asked;
  }
}
