/**
 * Computes the cost of a fault or a joining worker from the log of the run. Pure. All times are ms on the clock of the host, which log and
 * bench share.
 *
 * Definitions. A recovery ends with the first commit of a generation that formed after the disturbance. A step that was in progress before and
 * is committed meanwhile does not count. Phases are contiguous and add up to `totalMs`.
 */
import { mean } from '../shared/statistics.ts';

export type LogFields = Readonly<Record<string, unknown>>;

export const DISTURBANCES = ['kill', 'stop', 'coordinator-kill', 'join'] as const;
export type Disturbance = (typeof DISTURBANCES)[number];

/** The log message that ends each phase, in order. */
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
  /** From the last commit before the new generation to its first commit. */
  readonly pauseMs: number;
}

export const timeOf = ({ time }: LogFields): number => Date.parse(String(time));

/**
 * @param records all records of the run
 * @param sinceMs time of the signal, or of the start of the process
 * @param workerId the joining worker; records of other workers do not end its phases
 * @returns undefined before the end of the recovery
 */
export function measureRecovery(
  kind: Disturbance,
  records: readonly LogFields[],
  sinceMs: number,
  workerId?: string,
): Recovery | undefined {
  const phases: { name: string; ms: number }[] = [];
  let index = records.findIndex((record) => timeOf(record) >= sinceMs);
  let [fromMs, lastCommitMs] = [sinceMs, Number.NaN];
  if (index < 0) return undefined;
  for (const { msg, ...record } of records.slice(0, index)) if (msg === 'step committed') lastCommitMs = timeOf(record);
  for (const [name, wanted] of PHASES[kind]) {
    for (; index < records.length; index++) {
      const { msg, ...record } = records[index]!;
      if (msg === wanted && isOf(record, workerId)) break;
      if (msg === 'step committed') lastCommitMs = timeOf(record);
    }
    if (index === records.length) return undefined;
    const atMs = timeOf(records[index]!);
    phases.push({ name, ms: atMs - fromMs });
    fromMs = atMs;
  }
  return { phases, totalMs: fromMs - sinceMs, pauseMs: fromMs - lastCommitMs };
}

/** Whether a record names this worker, or no worker. */
function isOf({ workerId, members }: LogFields, wanted: string | undefined): boolean {
  if (wanted === undefined) return true;
  return Array.isArray(members) ? members.includes(wanted) : workerId === undefined || workerId === wanted;
}

/** Mean time of the last steps that were committed before `ms`. */
export function stepTimeBefore(records: readonly LogFields[], ms: number, numSteps: number): number {
  const times = records
    .filter((record) => record['msg'] === 'step committed' && timeOf(record) < ms)
    .slice(-numSteps - 1)
    .map(timeOf);
  return mean(times.slice(1).map((time, i) => time - times[i]!));
}
