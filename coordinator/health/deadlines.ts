/**
 * What is overdue: a pure rule over clocks. Alive (heartbeats) and progressing (counters, commits, checkpoints) are different clocks, each
 * with its deadline; a broken link waits a little for its cause. Who hangs is found by hang-rule.ts; the deadline of a step is what is
 * left where that rule finds nobody.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { HangVerdict } from './hang-rule.ts';
import type { WorkerStall } from '../../shared/protocol/messages.ts';

/** A broken link is the effect of something: this long its cause, a worker that is gone, may show itself, ms. */
const CAUSE_GRACE_MS = 500;

/** A member as the deadlines see it. */
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
  /** Of the oldest open step. */
  readonly hang?: HangVerdict;
  /** The oldest step that is dealt and not committed, and the ranks whose report is missing. */
  readonly step?: {
    readonly step: number;
    readonly sinceMs: number;
    readonly missing: readonly number[];
    /** Of this time ranks have waited for a source that does not answer; it is bounded by a deadline of its own, ms. */
    readonly stalledMs: number;
  };
  /** The checkpoint under way, and the members whose shards are missing. */
  readonly checkpoint?: { readonly step: number; readonly sinceMs: number; readonly missing: readonly Member[] };
}

export interface DeadlineOptions {
  readonly stepTimeoutMs: number;
  /** The most that waiting for a source excuses. */
  readonly sourceTimeoutMs: number;
}

export interface Overdue<Member = Watched> {
  readonly error: TrainerError;
  /** Who is to be left out. */
  readonly late: readonly Member[];
  /** The links between members that live are broken. */
  readonly isLinks?: true;
}

/** @returns why the generation cannot go on, or undefined while everything is in time */
export function findOverdue<Member extends Watched>(
  nowMs: number,
  options: DeadlineOptions,
  state: DeadlineState<Member>,
): Overdue<Member> | undefined {
  const { stepTimeoutMs, sourceTimeoutMs } = options;
  const { members, symptom, hang, step, checkpoint } = state;
  if (symptom !== undefined && nowMs - symptom.sinceMs >= CAUSE_GRACE_MS)
    return { error: symptom.error, late: [], isLinks: true };
  if (checkpoint !== undefined && nowMs - checkpoint.sinceMs > stepTimeoutMs) {
    const late = checkpoint.missing.map(({ workerId }) => workerId).join(', ');
    const message = `${late} did not write the checkpoint of step ${checkpoint.step} within ${stepTimeoutMs} ms`;
    return { error: new TrainerError('WORKER_LOST', message), late: checkpoint.missing };
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

// FOLDED deadlines.ts
/**
 * A worker that waits for its data: what its heartbeats say of a source that does not answer, when to tell it, and how much of an open
 * step it excuses. Pure but for what was told and counted.
 *
 * Assumption: a worker that waits for its source goes on or fails by `feed.sourceTimeoutMs`; nobody is excused for longer.
 */

interface MaybeStalled {
  readonly stall: WorkerStall | undefined;
}

/** Time for which the oldest open step has waited for a source. */
export class StalledTime {
  #step = -1;
  #lastMs = 0;
  #stalledMs = 0;

  /**
   * Call it often: the time since the last call counts where one of those that are waited for has no source now.
   * @param members in rank order @param missing ranks that are waited for
   * @returns of this step so far, ms
   */
  look(nowMs: number, step: number, members: readonly MaybeStalled[], missing: readonly number[]): number {
    if (step !== this.#step) {
      this.#step = step;
      this.#stalledMs = 0;
    } else if (missing.some((rank) => members[rank]!.stall !== undefined)) this.#stalledMs += nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    return this.#stalledMs;
  }
}
