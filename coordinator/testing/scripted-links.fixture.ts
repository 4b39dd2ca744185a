/**
 * The sums, states and checkpoints that scripted workers share. The sum of a step's gradients is complete when every rank has added its lanes.
 */
import { crc32 } from 'node:zlib';
import { TrainerError } from '../../shared/errors.ts';
import type { MessageOf } from '../../shared/protocol/messages.ts';

type Deal = MessageOf<'deal'>;
type Form = MessageOf<'form'>;

export interface SummedStep {
  /** Digest of the rows of all lanes in their order: the same for every assignment of lanes. */
  readonly gradDigest: number;
}

interface OpenSum {
  readonly lanes: Map<number, Uint8Array>;
  readonly waiting: ((summed: SummedStep) => void)[];
}

export class ScriptedLinks {
  readonly #sums = new Map<string, OpenSum>();
  readonly #workers = new Map<string, string>();
  readonly #members = new Map<string, Form['members']>();
  readonly #checkpoints = new Map<string, string>();

  /**
   * Adds the lanes of one rank.
   * @param isWanted called when the sum is complete: false if the rank's generation has ended by then
   * @returns the sum; undefined where it is not wanted any more. Does not resolve where another rank never adds its lanes
   */
  sum(
    { epoch, generation, step, lanes }: Deal,
    numRanks: number,
    isWanted: () => boolean,
  ): Promise<SummedStep | undefined> {
    const key = `${epoch}/${generation}/${step}`;
    const open = this.#sums.get(key) ?? { lanes: new Map<number, Uint8Array>(), waiting: [] };
    this.#sums.set(key, open);
    for (const { lane, rows } of lanes) open.lanes.set(lane, rows);
    const summed = new Promise<SummedStep | undefined>((resolve) =>
      open.waiting.push((result) => resolve(isWanted() ? result : undefined)),
    );
    if (open.waiting.length === numRanks) {
      const rows = [...open.lanes].sort(([a], [b]) => a - b).map(([, bytes]) => bytes);
      const gradDigest = gradDigestOf(rows);
      for (const resolve of open.waiting) resolve({ gradDigest });
    }
    return summed;
  }

  /** Keeps one list of members for all members of a generation: a thousand lists of a thousand would fill the memory. */
  sharedForm(form: Form): Form {
    const key = `${form.epoch}/${form.generation}`;
    const members = this.#members.get(key) ?? form.members;
    this.#members.set(key, members);
    return { ...form, members };
  }

  /** Sets the digest of the parameters that a worker holds. */
  setDigest(workerId: string, digest: string): void {
    this.#workers.set(workerId, digest);
  }

  /** @throws INTERNAL where the worker holds nothing */
  digestOfWorker(workerId: string): string {
    return found(this.#workers.get(workerId), workerId);
  }

  publish(path: string, digest: string): void {
    this.#checkpoints.set(path, digest);
  }

  /** @throws INTERNAL where nothing was published there */
  digestOfCheckpoint(path: string): string {
    return found(this.#checkpoints.get(path), path);
  }
}

/** The digest of a step's gradient, as a function of its rows. */
function gradDigestOf(lanes: readonly Uint8Array[]): number {
  return lanes.reduce((digest, rows) => crc32(rows, digest), 0);
}

function found(digest: string | undefined, where: string): string {
  if (digest === undefined) throw new TrainerError('INTERNAL', `no state in ${where}`);
  return digest;
}
