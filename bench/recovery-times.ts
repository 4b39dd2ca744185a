/**
 * What a fault or a joiner cost, from the log of the run. Pure. All times are ms, on the clock of the host, which the log shares with
 * whoever sends the signal.
 *
 * Definitions. A recovery is over with the first step that is committed after a generation was formed after the disturbance: what was
 * under way before and is committed meanwhile does not count. Phases follow each other without a gap and add up to `totalMs`.
 */
import { mean } from '../shared/statistics.ts';

export type LogFields = Readonly<Record<string, unknown>>;

export const DISTURBANCES = ['kill', 'stop', 'coordinator-kill', 'join'] as const;
export type Disturbance = (typeof DISTURBANCES)[number];

/** What ends each phase, in order. */
const PHASES: Readonly<Record<Disturbance, readonly (readonly [name: string, msg: string])[]>> = {
  kill: [
    ['detection', 'generation ended'],
    ['repair', 'generation formed'],
    ['first step', 'step committed'],
  ],
  stop: [
    ['detection', 'generation ended'],
    ['repair', 'generation formed'],
    ['first step', 'step committed'],
  ],
  'coordinator-kill': [
    ['start', 'run opened'],
    ['workers back', 'generation formed'],
    ['first step', 'step committed'],
  ],
  join: [
    ['process', 'worker joined'],
    ['engine', 'worker ready'],
    ['boundary', 'generation changes'],
    ['copy', 'generation formed'],
    ['first step', 'step committed'],
  ],
};

export interface Recovery {
  readonly phases: readonly { readonly name: string; readonly ms: number }[];
  readonly totalMs: number;
  /** From the last step committed before it was formed to the first of the new generation. */
  readonly pauseMs: number;
}

export const timeOf = ({ time }: LogFields): number => Date.parse(String(time));

/**
 * @param records of the run from its begin
 * @param sinceMs when the signal was sent, or the process started
 * @param workerId who joins: records of other workers are none of its phases
 * @returns undefined while it is not over
 */
export function measureRecovery(
  kind: Disturbance,
  records: readonly LogFields[],
  sinceMs: number,
  workerId?: string,
): Recovery | undefined {
  const phases: { name: string; ms: number }[] = [];
  let place = records.findIndex((record) => timeOf(record) >= sinceMs);
  let [fromMs, lastCommitMs] = [sinceMs, Number.NaN];
  if (place < 0) return undefined;
  for (const { msg, ...record } of records.slice(0, place)) if (msg === 'step committed') lastCommitMs = timeOf(record);
  for (const [name, wanted] of PHASES[kind]) {
    for (; place < records.length; place++) {
      const { msg, ...record } = records[place]!;
      if (msg === wanted && isOf(record, workerId)) break;
      if (msg === 'step committed') lastCommitMs = timeOf(record);
    }
    if (place === records.length) return undefined;
    const atMs = timeOf(records[place]!);
    phases.push({ name, ms: atMs - fromMs });
    fromMs = atMs;
  }
  return { phases, totalMs: fromMs - sinceMs, pauseMs: fromMs - lastCommitMs };
}

/** Whether a record that names workers names this one. */
function isOf({ workerId, members }: LogFields, wanted: string | undefined): boolean {
  if (wanted === undefined) return true;
  return Array.isArray(members) ? members.includes(wanted) : workerId === undefined || workerId === wanted;
}

/** Mean time of the last steps that were committed before a moment. */
export function stepTimeBefore(records: readonly LogFields[], ms: number, numSteps: number): number {
  const times = records
    .filter((record) => record['msg'] === 'step committed' && timeOf(record) < ms)
    .slice(-numSteps - 1)
    .map(timeOf);
  return mean(times.slice(1).map((time, i) => time - times[i]!));
}
