/**
 * Finds the ranks that hang. Pure: over progress counters, with the sentence that explains the verdict.
 *
 * Definitions. A rank's counter moves with each microbatch and each change of phase. In `communicate` and `waiting` it stands still because
 * of other ranks. A rank is *still* for as long as its heartbeats have shown the same counter, up to the last heartbeat: the heartbeat deadline
 * handles silent ranks (control-server.ts). Time without a source is excused up to `sourceTimeoutMs`.
 *
 * Rule, over the ranks that have not reported the oldest open step:
 * - all ranks that work and are still for longer than their limit hang;
 * - but no rank hangs while another one works and moves: the others may wait for it;
 * - where all of them are in `communicate` and still for longer than the limit, no rank computes and nothing arrives: the links are broken.
 * The limit is ten median steps, at least 10 s, and at most `stepTimeoutMs`. It is `stepTimeoutMs` in `save`, where the counter stands still
 * while memory is copied, and before three steps are known.
 *
 * Assumptions: a microbatch takes less time than the limit. A rank that moves without end is left to the deadline of the step.
 */
import type { WorkerPhase } from '../../shared/protocol/messages.ts';
import { listNames } from '../../shared/list-names.ts';
import type { RecentTimes } from '../step/step-times.ts';

/** A rank that is still for less does not hang, ms: garbage collection, a disk that wakes up, a host that swaps. */
const FLOOR_MS = 10_000;

/** A rank that is still for this many median steps hangs, and is not merely slow. */
const LIMIT_STEPS = 10;

/** The median of fewer steps means nothing: the first ones compile and fill caches. */
const MIN_STEPS = 3;

const DEADLINE_REASON = 'the deadline of a step';

export interface HangLimits {
  readonly limitMs: number;
  /** How the limit was chosen, for the sentence. */
  readonly reason: string;
  readonly stepTimeoutMs: number;
  /** The longest wait for a source that is excused. */
  readonly sourceTimeoutMs: number;
}

export interface HangMember {
  readonly rank: number;
  readonly workerId: string;
  readonly phase: WorkerPhase;
  /** When a heartbeat first showed the current counter. */
  readonly movedAtMs: number;
  /** When the last heartbeat came. */
  readonly heardAtMs: number;
  /** Part of the time since `movedAtMs` in which it waited for a source that does not answer. */
  readonly stalledMs: number;
  /** Whether it has reported the oldest open step. */
  readonly hasReported: boolean;
}

export type HangVerdict =
  | { readonly kind: 'none' }
  | { readonly kind: 'ranks'; /** In rank order. */ readonly ranks: readonly number[]; readonly reason: string }
  | { readonly kind: 'links'; readonly reason: string };

/** @param stepTimes of the last steps of the run, across generations */
export function planHangLimits(
  stepTimes: RecentTimes,
  timeouts: { readonly stepTimeoutMs: number; readonly sourceTimeoutMs: number },
): HangLimits {
  const { stepTimeoutMs, sourceTimeoutMs } = timeouts;
  const { count, medianMs } = stepTimes;
  if (count < MIN_STEPS) return { limitMs: stepTimeoutMs, reason: DEADLINE_REASON, stepTimeoutMs, sourceTimeoutMs };
  const ofSteps = LIMIT_STEPS * medianMs;
  const wanted = Math.max(FLOOR_MS, ofSteps);
  if (wanted >= stepTimeoutMs)
    return { limitMs: stepTimeoutMs, reason: DEADLINE_REASON, stepTimeoutMs, sourceTimeoutMs };
  const reason =
    ofSteps > FLOOR_MS
      ? `${LIMIT_STEPS} median steps of ${formatSeconds(medianMs)}`
      : `the minimum, for steps of ${formatSeconds(medianMs)}`;
  return { limitMs: wanted, reason, stepTimeoutMs, sourceTimeoutMs };
}

/** @param members of the generation, in rank order */
export function findHung(limits: HangLimits, members: readonly HangMember[]): HangVerdict {
  const late = members.filter(({ hasReported }) => !hasReported);
  // A single rank waits for no other rank.
  const isAlone = members.length === 1;
  const working = late.filter(({ phase }) => phase !== 'waiting' && (phase !== 'communicate' || isAlone));
  if (!working.every((member) => isStill(limits, member))) return { kind: 'none' };
  if (working.length > 0) {
    const told = working.map((member) => {
      const { rank, workerId, phase } = member;
      const excusedMs = excusedMsOf(limits, member);
      const excused = excusedMs > 0 ? `, not counting ${formatSeconds(excusedMs)} without a source` : '';
      const stillFor = formatSeconds(stillMsOf(limits, member));
      return `rank ${rank} (${workerId}) has not moved in ${phase} for ${stillFor}${excused} (${formatLimit(limits, member)})`;
    });
    return { kind: 'ranks', ranks: working.map(({ rank }) => rank), reason: listNames(told) };
  }
  if (late.length === 0 || !late.every((member) => member.phase === 'communicate' && isStill(limits, member)))
    return { kind: 'none' };
  const stillMs = Math.min(...late.map((member) => stillMsOf(limits, member)));
  const who = listNames(late.map(({ rank, workerId }) => `rank ${rank} (${workerId})`));
  const reason = `no rank computes, and ${who} ${late.length === 1 ? 'has' : 'have'} waited in communicate for ${formatSeconds(stillMs)} (${formatLimit(limits, late[0]!)}): the links do not deliver`;
  return { kind: 'links', reason };
}

function excusedMsOf({ sourceTimeoutMs }: HangLimits, { stalledMs }: HangMember): number {
  return Math.min(stalledMs, sourceTimeoutMs);
}

function stillMsOf(limits: HangLimits, member: HangMember): number {
  return member.heardAtMs - member.movedAtMs - excusedMsOf(limits, member);
}

function isStill(limits: HangLimits, member: HangMember): boolean {
  return stillMsOf(limits, member) > limitMsOf(limits, member);
}

function limitMsOf({ limitMs, stepTimeoutMs }: HangLimits, { phase }: HangMember): number {
  return phase === 'save' ? stepTimeoutMs : limitMs;
}

function formatLimit(limits: HangLimits, member: HangMember): string {
  const why = member.phase === 'save' ? DEADLINE_REASON : limits.reason;
  return `limit ${formatSeconds(limitMsOf(limits, member))}: ${why}`;
}

function formatSeconds(ms: number): string {
  return `${ms < 1000 ? (ms / 1000).toPrecision(2) : (ms / 1000).toFixed(1)} s`;
}
