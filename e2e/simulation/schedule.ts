/**
 * Plans the faults of a simulated run and their moments from a seed, prints them, and shrinks a failing schedule. Pure, except for the
 * function that `shrinkSchedule` calls.
 *
 * A fault names a worker or connection by a number modulo those that exist at that moment. So every schedule is valid in every run, and
 * removing one fault does not change the others.
 */
import { hashName, RandomStream } from '../../shared/random.ts';

/** A virtual time, or a number of events that fired before. */
export type Moment = { readonly afterMs: number } | { readonly afterEvents: number };

export type FaultAction =
  | { readonly kind: 'crash-worker'; readonly worker: number; readonly restartAfterMs: number | null }
  | { readonly kind: 'stop-worker'; readonly worker: number; readonly forMs: number }
  | { readonly kind: 'join-worker' }
  | { readonly kind: 'cut-connection'; readonly connection: number }
  | {
      readonly kind: 'half-open';
      readonly connection: number;
      readonly aware: 'near' | 'far';
      readonly silentMs: number;
    }
  | {
      readonly kind: 'partition';
      readonly worker: number;
      /** Another worker, or all processes. */
      readonly from: number | 'all';
      readonly forMs: number;
      readonly connections: 'held' | 'broken';
    }
  | { readonly kind: 'corrupt-frame'; readonly connection: number }
  | { readonly kind: 'crash-coordinator'; readonly restartAfterMs: number }
  | { readonly kind: 'stop-coordinator'; readonly forMs: number }
  /** The coordinator is stopped until its lease has expired and another one has taken the run over; then it continues. */
  | { readonly kind: 'replace-coordinator'; readonly continueAfterMs: number }
  /** The next gradient that a worker computes is not finite. */
  | { readonly kind: 'not-finite'; readonly worker: number }
  /** One bit of a worker's parameters is flipped after its next update. */
  | { readonly kind: 'flip-state'; readonly worker: number }
  /** The next gradient digest that a worker reports is changed. */
  | { readonly kind: 'wrong-digest'; readonly worker: number };

export type FaultKind = FaultAction['kind'];
export type Fault = FaultAction & { readonly at: Moment };

export interface Schedule {
  readonly seed: number;
  readonly faults: readonly Fault[];
}

export interface ScheduleOptions {
  /** Workers at the start. */
  readonly numWorkers: number;
  /** Faults happen before this time or this number of events. Choose about the length of a run without faults. */
  readonly spanMs: number;
  readonly spanEvents: number;
  readonly maxFaults: number;
  /** Relative frequency of each kind; default: never. */
  readonly weights: Partial<Readonly<Record<FaultKind, number>>>;
  /** Longest stop, partition or time to a restart, ms. Choose it longer than the timeouts, so that some workers are dropped. */
  readonly maxPauseMs: number;
}

export const ALL_FAULTS: Readonly<Record<FaultKind, number>> = {
  'crash-worker': 4,
  'stop-worker': 2,
  'join-worker': 2,
  'cut-connection': 3,
  'half-open': 1,
  partition: 2,
  'corrupt-frame': 1,
  'crash-coordinator': 2,
  'stop-coordinator': 1,
  'replace-coordinator': 1,
  'not-finite': 1,
  'flip-state': 0.5,
  'wrong-digest': 0.5,
};

/** They make the state or report of one worker wrong. The others outvote it, so they must be present. */
const CORRUPTING: readonly FaultKind[] = ['flip-state', 'wrong-digest'];
/** They remove workers, links or a coordinator. Then the wrong worker may be the only one with the newest step, which cannot be detected. */
const SEPARATING: readonly FaultKind[] = [
  ...CORRUPTING,
  'crash-worker',
  'stop-worker',
  'cut-connection',
  'half-open',
  'partition',
  'corrupt-frame',
  'crash-coordinator',
  'replace-coordinator',
];

/** Whether the state or report of one worker may be wrong. */
export function isCorrupting({ faults }: Schedule): boolean {
  return faults.some(({ kind }) => CORRUPTING.includes(kind));
}

/** A former coordinator continues within this time in half of the cases: while its successor opens the run. ms */
const SOON_MS = 50;

const KINDS = Object.keys(ALL_FAULTS) as FaultKind[];

/** The schedule of a seed: one to `maxFaults` faults, in the order of their moments. */
export function planSchedule(seed: number, options: ScheduleOptions): Schedule {
  const random = new RandomStream([seed, hashName('fault-schedule')]);
  const numFaults = 1 + random.nextBelow(options.maxFaults);
  const faults = Array.from({ length: numFaults }, () => planFault(random, options));
  faults.sort((a, b) => expectedPosition(a.at, options) - expectedPosition(b.at, options));
  return { seed, faults: keepSurvivable(faults) };
}

/**
 * Removes faults that a run need not survive: a wrong worker together with lost ones, and a second gradient that is not finite in the same
 * step.
 */
function keepSurvivable(faults: readonly Fault[]): Fault[] {
  const corrupting = faults.find(({ kind }) => CORRUPTING.includes(kind));
  const notFinite = faults.find(({ kind }) => kind === 'not-finite');
  return faults.filter(
    (fault) =>
      fault === corrupting ||
      fault === notFinite ||
      (fault.kind !== 'not-finite' && (corrupting === undefined || !SEPARATING.includes(fault.kind))),
  );
}

/** Expected position of a moment in the run, from 0 to 1. Orders the two kinds of moments. */
function expectedPosition(at: Moment, { spanMs, spanEvents }: ScheduleOptions): number {
  return 'afterMs' in at ? at.afterMs / spanMs : at.afterEvents / spanEvents;
}

function planFault(random: RandomStream, options: ScheduleOptions): Fault {
  const { spanMs, spanEvents } = options;
  const at: Moment =
    random.nextBelow(2) === 0
      ? { afterMs: random.nextBelow(Math.ceil(spanMs)) }
      : { afterEvents: random.nextBelow(spanEvents) };
  return { at, ...planAction(drawKind(random, options.weights), random, options) };
}

function drawKind(random: RandomStream, weights: ScheduleOptions['weights']): FaultKind {
  const total = KINDS.reduce((sum, kind) => sum + (weights[kind] ?? 0), 0);
  let left = random.nextFloat() * total;
  for (const kind of KINDS) {
    left -= weights[kind] ?? 0;
    if (left < 0) return kind;
  }
  return 'crash-worker';
}

function planAction(kind: FaultKind, random: RandomStream, options: ScheduleOptions): FaultAction {
  const worker = random.nextBelow(options.numWorkers);
  const other = random.nextBelow(options.numWorkers);
  const connection = random.nextBelow(1_000);
  const pauseMs = 1 + random.nextBelow(options.maxPauseMs);
  const isHeads = random.nextBelow(2) === 0;
  switch (kind) {
    case 'crash-worker':
      return { kind, worker, restartAfterMs: isHeads ? pauseMs : null };
    case 'stop-worker':
      return { kind, worker, forMs: pauseMs };
    case 'join-worker':
      return { kind };
    case 'cut-connection':
    case 'corrupt-frame':
      return { kind, connection };
    case 'half-open':
      return { kind, connection, aware: isHeads ? 'near' : 'far', silentMs: pauseMs };
    case 'partition':
      return {
        kind,
        worker,
        from: other === worker ? 'all' : other,
        forMs: pauseMs,
        connections: isHeads ? 'held' : 'broken',
      };
    case 'crash-coordinator':
      return { kind, restartAfterMs: pauseMs };
    case 'stop-coordinator':
      return { kind, forMs: pauseMs };
    case 'replace-coordinator':
      return { kind, continueAfterMs: isHeads ? pauseMs : pauseMs % SOON_MS };
    case 'not-finite':
    case 'flip-state':
    case 'wrong-digest':
      return { kind, worker };
  }
}

/** The seed, and one line per fault. */
export function describeSchedule({ seed, faults }: Schedule): string {
  return [`seed ${seed}`, ...faults.map((fault) => `  ${describeFault(fault)}`)].join('\n');
}

export function describeFault({ at, kind, ...rest }: Fault): string {
  const moment = 'afterMs' in at ? `after ${at.afterMs} ms` : `after ${at.afterEvents} events`;
  const details = Object.entries(rest).map(([name, value]) => ` ${name}=${value === null ? 'never' : value}`);
  return `${moment}: ${kind}${details.join('')}`;
}

/**
 * Removes faults one by one while the schedule still fails.
 * @param fails runs a schedule @returns a failing schedule that passes without any one of its faults
 */
export async function shrinkSchedule(
  schedule: Schedule,
  fails: (smaller: Schedule) => Promise<boolean>,
): Promise<Schedule> {
  let smallest = schedule;
  for (let i = 0; i < smallest.faults.length;) {
    const smaller = { ...smallest, faults: smallest.faults.filter((_, index) => index !== i) };
    if (await fails(smaller)) {
      smallest = smaller;
      i = 0;
    } else i += 1;
  }
  return smallest;
}
