/**
 * Decides what is overdue in a generation. Pure: time is an argument. Being alive (heartbeats) and making progress (counters, commits,
 * checkpoints) have separate deadlines. A broken link waits a little for its cause. hang-rule.ts finds ranks that hang; the deadline of a
 * step remains where that rule finds none. StalledTime measures how long a step has waited for a source of data.
 *
 * Assumption: a worker that waits for its source resumes or fails within `feed.sourceTimeoutMs`; no step is excused for longer.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { HangVerdict } from './hang-rule.ts';
import type { WorkerStall } from '../../shared/protocol/messages.ts';

/** A broken link waits this long for its cause, the loss of a worker, ms. */
const CAUSE_GRACE_MS = 500;

/** A member, as far as deadlines are concerned. */
interface Watched {
  readonly workerId: string;
  readonly phase: string;
  toString(): string;
}

/** A failure that may be the effect of another one. */
export interface Symptom {
  readonly error: TrainerError;
  readonly sinceMs: number;
}

export interface DeadlineState<Member extends Watched = Watched> {
  /** In rank order. */
  readonly members: readonly Member[];
  readonly symptom?: Symptom;
  /** Judgement of the hang rule on the oldest open step. */
  readonly hang?: HangVerdict;
  /** Batches of a validation that members evaluate now. */
  readonly batches?: readonly MemberBatch<Member>[];
  /** The oldest step that is dealt and not committed, and the ranks whose report is missing. */
  readonly step?: {
    readonly step: number;
    readonly sinceMs: number;
    readonly missing: readonly number[];
    /** Part of this time in which ranks waited for a source that does not answer, ms. The feed has a deadline for it. */
    readonly stalledMs: number;
  };
  /** The checkpoint under way, and the members whose shards are missing. */
  readonly checkpoint?: { readonly step: number; readonly sinceMs: number; readonly missing: readonly Member[] };
}

/** A batch of a validation. Its number of tokens is bounded, so a member that moves finishes it. */
export interface MemberBatch<Member> {
  readonly worker: Member;
  readonly batch: number;
  /** Of the checkpoint. */
  readonly step: number;
  /** Since when the member has not moved, or has the batch, ms. */
  readonly stillSinceMs: number;
}

export interface DeadlineOptions {
  readonly stepTimeoutMs: number;
  /** The longest wait for a source that is excused. */
  readonly sourceTimeoutMs: number;
}

export interface Overdue<Member = Watched> {
  readonly error: TrainerError;
  /** Members that are late: they are dropped. */
  readonly late: readonly Member[];
  /** Links between members that are alive are broken. */
  readonly isLinks?: true;
}

/** @returns why the generation cannot continue; undefined while nothing is overdue */
export function findOverdue<Member extends Watched>(
  nowMs: number,
  options: DeadlineOptions,
  state: DeadlineState<Member>,
): Overdue<Member> | undefined {
  const { stepTimeoutMs, sourceTimeoutMs } = options;
  const { members, symptom, hang, step, checkpoint, batches = [] } = state;
  if (symptom !== undefined && nowMs - symptom.sinceMs >= CAUSE_GRACE_MS)
    return { error: symptom.error, late: [], isLinks: true };
  if (checkpoint !== undefined && nowMs - checkpoint.sinceMs > stepTimeoutMs) {
    const late = checkpoint.missing.map(({ workerId }) => workerId).join(', ');
    const message = `${late} did not write the checkpoint of step ${checkpoint.step} within ${stepTimeoutMs} ms`;
    return { error: new TrainerError('WORKER_LOST', message), late: checkpoint.missing };
  }
  const still = batches.filter(({ stillSinceMs }) => nowMs - stillSinceMs > stepTimeoutMs);
  if (still.length > 0) {
    const told = still.map(({ worker, batch }) => `${worker.workerId} (batch ${batch})`).join(', ');
    const message = `${told} did not move within ${stepTimeoutMs} ms in the validation of step ${still[0]!.step}`;
    return { error: new TrainerError('WORKER_LOST', message), late: still.map(({ worker }) => worker) };
  }
  if (hang?.kind === 'ranks')
    return { error: new TrainerError('WORKER_LOST', hang.reason), late: hang.ranks.map((rank) => members[rank]!) };
  if (hang?.kind === 'links')
    return { error: new TrainerError('COLLECTIVE_TIMEOUT', hang.reason), late: [], isLinks: true };
  if (step === undefined) return undefined;
  const excusedMs = Math.min(step.stalledMs, sourceTimeoutMs);
  if (nowMs - step.sinceMs - excusedMs <= stepTimeoutMs) return undefined;
  const late = step.missing.map((rank) => `rank ${rank} (${members[rank]!.phase})`).join(', ');
  const openMs = Math.round(nowMs - step.sinceMs);
  const excused = excusedMs > 0 ? `, not counting ${Math.round(excusedMs)} ms without a source` : '';
  const message = `step ${step.step} is open for ${openMs} ms (limit ${stepTimeoutMs}${excused}): waiting for ${late}`;
  const behind = step.missing.map((rank) => members[rank]!);
  return { error: new TrainerError('COLLECTIVE_TIMEOUT', message), late: behind };
}

interface MaybeStalled {
  readonly stall: WorkerStall | undefined;
}

/** Measures how long the oldest open step has waited for a source of data. */
export class StalledTime {
  #step = -1;
  #lastMs = 0;
  #stalledMs = 0;

  /**
   * Call it often: the time since the last call counts if a missing rank waits for its source now.
   * @param members in rank order @param missing ranks whose report is missing
   * @returns time of this step so far, ms
   */
  poll(nowMs: number, step: number, members: readonly MaybeStalled[], missing: readonly number[]): number {
    if (step !== this.#step) {
      this.#step = step;
      this.#stalledMs = 0;
    } else if (missing.some((rank) => members[rank]!.stall !== undefined)) this.#stalledMs += nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    return this.#stalledMs;
  }
}
