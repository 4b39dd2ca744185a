/**
 * What scripted workers have with each other: the sum of a step's gradients, which is there when every rank has put its lanes in; the
 * states they copy; the checkpoints they load.
 */
import { crc32 } from 'node:zlib';
import { TrainerError } from '../../shared/errors.ts';
import type { MessageOf } from '../../shared/protocol/messages.ts';

type Deal = MessageOf<'deal'>;
type Form = MessageOf<'form'>;

export interface SummedStep {
  /** Of the rows of all lanes in their order: the same however they are dealt. */
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
   * Puts the lanes of one rank in.
   * @param isWanted asked when the sum is there: false where the rank's generation is over by then
   * @returns never where another rank does not put its lanes in; undefined where the sum is not wanted any more
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
      for (const take of open.waiting) take({ gradDigest });
    }
    return summed;
  }

  /** All members of a generation are told the same members: they are kept once, for a thousand lists of a thousand fill the memory. */
  sharedForm(form: Form): Form {
    const key = `${form.epoch}/${form.generation}`;
    const members = this.#members.get(key) ?? form.members;
    this.#members.set(key, members);
    return { ...form, members };
  }

  /** What a worker holds now. */
  tell(workerId: string, digest: string): void {
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

/** The gradient of a step, as a function of its rows. */
function gradDigestOf(lanes: readonly Uint8Array[]): number {
  return lanes.reduce((digest, rows) => crc32(rows, digest), 0);
}

function found(digest: string | undefined, where: string): string {
  if (digest === undefined) throw new TrainerError('INTERNAL', `no state in ${where}`);
  return digest;
}
