/**
 * Link trials: a worker that was left out after link trouble proves its links beside the run, before it takes part again. The worker and all
 * members try the links between them; the generation trains on meanwhile (docs/protocol.md, Link trial).
 *
 * Rule: one trial at a time. It is decided when all have answered, or at its deadline. If a link fails, or an answer is missing, the worker is
 * left out again, for longer (link-pauses.ts). A trial is void if one of those in it is lost, or if members have come that were not in it.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { listNames } from '../../shared/list-names.ts';
import type { Logger } from '../../shared/logger.ts';
import type { MessageOf } from '../../shared/protocol/messages.ts';
import { SECRET_BYTES } from '../../shared/transport/mutual-proof.ts';
import { LinkPauses } from './link-pauses.ts';
import type { WorkerHandle } from './worker-handle.ts';

/** A worker has `cluster.connectTimeoutMs` for the links, and as long again for its answer. */
const ANSWER_FACTOR = 2;

/** `paused`: left out for a while. `unproved`: its pause is over, its links are to be tried. `good`: it may take part. */
export type LinkStanding = 'good' | 'paused' | 'unproved';

export interface LinkTrialsInit {
  readonly clock: Clock;
  readonly log: Logger;
  readonly epoch: number;
  /** Time of a worker to try links: `cluster.connectTimeoutMs`. */
  readonly timeoutMs: number;
}

type Participant = Pick<WorkerHandle, 'workerId' | 'isGone'>;

/** What is known of a trial. */
export interface TrialSoFar<P extends Participant = Participant> {
  /** The worker on trial, then the members. */
  readonly participants: readonly P[];
  /** Why links of a participant do not work; undefined where all work. */
  readonly answers: ReadonlyMap<P, string | undefined>;
  readonly isLate: boolean;
}

export type TrialVerdict =
  { readonly kind: 'wait' | 'void' | 'passed' } | { readonly kind: 'failed'; readonly reason: string };

/** Pure. @param members of the generation that trains now */
export function judgeTrial<P extends Participant>(
  { participants, answers, isLate }: TrialSoFar<P>,
  members: readonly P[],
): TrialVerdict {
  if (participants.some(({ isGone }) => isGone)) return { kind: 'void' };
  const missing = participants.filter((participant) => !answers.has(participant));
  if (missing.length > 0 && !isLate) return { kind: 'wait' };
  const faults = [...answers].flatMap(([{ workerId }, fault]) =>
    fault === undefined ? [] : [`${workerId}: ${fault}`],
  );
  const silent = missing.map(({ workerId }) => `${workerId}: no answer`);
  const [first, ...more] = [...faults, ...silent];
  if (first === undefined)
    return { kind: members.every((member) => participants.includes(member)) ? 'passed' : 'void' };
  return { kind: 'failed', reason: more.length === 0 ? first : `${first}; and ${more.length} more` };
}

interface Trial extends Pick<TrialSoFar<WorkerHandle>, 'participants'> {
  readonly number: number;
  readonly worker: WorkerHandle;
  readonly answers: Map<WorkerHandle, string | undefined>;
  readonly deadlineMs: number;
}

export class LinkTrials {
  readonly #init: LinkTrialsInit;
  readonly #pauses = new LinkPauses();
  /** Workers by id whose links were proved since they were left out, by a trial or in a generation. */
  readonly #proved = new Map<string, WorkerHandle>();
  #numTrials = 0;
  #trial: Trial | undefined;

  constructor(init: LinkTrialsInit) {
    this.#init = init;
  }

  /** The worker stays connected and takes no part for a while. */
  leaveOut(workerId: string, reason: string): void {
    const { clock, log } = this.#init;
    const forMs = this.#pauses.begin(workerId, clock.monotonicMs());
    this.#proved.delete(workerId);
    log.warn({ workerId, forMs, reason }, 'worker left out');
  }

  /** Whether the worker was left out, and its links have not yet held for long enough since. */
  isOnTrial(workerId: string): boolean {
    return this.#pauses.isOnTrial(workerId, this.#init.clock.monotonicMs());
  }

  standingOf(worker: WorkerHandle): LinkStanding {
    const { workerId } = worker;
    if (this.#pauses.isLeftOut(workerId, this.#init.clock.monotonicMs())) return 'paused';
    return this.#proved.get(workerId) === worker || !this.isOnTrial(workerId) ? 'good' : 'unproved';
  }

  /** A generation was formed with the worker: its links to all members work. */
  formed(worker: WorkerHandle): void {
    const { workerId } = worker;
    this.#pauses.formed(workerId, this.#init.clock.monotonicMs());
    if (this.isOnTrial(workerId)) this.#proved.set(workerId, worker);
    else this.#proved.delete(workerId);
  }

  /**
   * Decides the trial under way, or begins the next one. Call it on every event while members train, and when no event waits: after a pause
   * of this process, answers look late that are not.
   * @param candidates unproved workers
   */
  poll(candidates: readonly WorkerHandle[], members: readonly WorkerHandle[]): void {
    const { clock, log } = this.#init;
    const trial = this.#trial;
    if (trial === undefined) {
      const [worker] = candidates;
      if (worker !== undefined) this.#begin(worker, members);
      return;
    }
    const { workerId } = trial.worker;
    const verdict = judgeTrial({ ...trial, isLate: clock.monotonicMs() >= trial.deadlineMs }, members);
    if (verdict.kind === 'wait') return;
    this.#trial = undefined;
    if (verdict.kind === 'failed') this.leaveOut(workerId, `link trial ${trial.number}: ${verdict.reason}`);
    if (verdict.kind === 'passed') {
      this.#proved.set(workerId, trial.worker);
      log.info({ workerId, trial: trial.number }, 'worker passed its link trial');
    }
  }

  receive(worker: WorkerHandle, { trial, error }: MessageOf<'links-probed'>): void {
    const open = this.#trial;
    if (open?.number !== trial || !open.participants.includes(worker)) return; // late
    open.answers.set(worker, error?.message);
  }

  #begin(worker: WorkerHandle, members: readonly WorkerHandle[]): void {
    const { clock, log, epoch, timeoutMs } = this.#init;
    const participants = [worker, ...members];
    const number = ++this.#numTrials;
    const deadlineMs = clock.monotonicMs() + ANSWER_FACTOR * timeoutMs;
    this.#trial = { number, worker, participants, answers: new Map(), deadlineMs };
    const secret = randomBytes(SECRET_BYTES);
    const views = participants.map(({ workerId, dataUrl }, rank) => ({ workerId, rank, dataUrl }));
    for (const [rank, participant] of participants.entries()) {
      const peers = rank === 0 ? views.slice(1) : views.slice(0, 1);
      participant.send({ kind: 'probe-links', epoch, trial: number, rank, peers, secret });
    }
    const names = listNames(members.map(({ workerId }) => workerId));
    const reason = `its links to ${names} are tried beside the run`;
    log.info({ workerId: worker.workerId, trial: number, reason }, 'worker on trial');
  }
}
