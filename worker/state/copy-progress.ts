/**
 * Which pieces of a copy are still to be asked for, which are under way and with whom, and which have arrived. Pure.
 *
 * Holders share one queue and take from it as they answer, so a fast one gives more; a lost holder's pieces go back to it.
 * With each holder at most `STATE_WINDOW` pieces are under way; a piece is under way with one holder at a time.
 */
import { STATE_WINDOW } from './state-frames.ts';

/** How often one holder is asked again for a piece whose checksum did not hold. */
export const MAX_REPEATS = 2;

export class CopyProgress {
  readonly #numPieces: number;
  /** Pieces from this one on have never been asked for. */
  #next = 0;
  /** Of lost holders. */
  readonly #returned: number[] = [];
  /** By rank of the holder: piece → how often it was asked again. */
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

  /** The piece to ask of the holder now; null where its window is full or nothing is left to ask for. */
  next(holder: number): number | null {
    if (this.numUnderWay(holder) >= STATE_WINDOW) return null;
    const piece = this.#returned.shift() ?? (this.#next < this.#numPieces ? this.#next++ : null);
    if (piece !== null) this.#asked(holder).set(piece, 0);
    return piece;
  }

  /** A piece that is under way with the holder has come. */
  arrived(holder: number, piece: number): void {
    if (this.#asked(holder).delete(piece)) this.#numArrived++;
  }

  /** It has come with another checksum. @returns whether to ask the holder for it again; it stays under way then */
  failedChecksum(holder: number, piece: number): boolean {
    const numRepeats = this.#asked(holder).get(piece) ?? 0;
    this.#asked(holder).set(piece, numRepeats + 1);
    return numRepeats < MAX_REPEATS;
  }

  /** The holder is lost: what is under way with it is to be asked of others. */
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
