/**
 * What goes wrong in a simulated run, and when: a list that follows from a seed, can be read by people, and made smaller while it still
 * fails. Pure but for the run that `shrinkSchedule` is given.
 *
 * Faults name workers by their number and connections by a number that is taken modulo those that live at that moment: a schedule means
 * something in every run, and leaving one fault out changes nothing in the others.
 */
import { hashName, RandomStream } from '../../shared/random.ts';

/** A virtual time, or a place between two events. */
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
      /** Another worker, or everybody. */
      readonly from: number | 'all';
      readonly forMs: number;
      readonly connections: 'held' | 'broken';
    }
  | { readonly kind: 'corrupt-frame'; readonly connection: number }
  | { readonly kind: 'crash-coordinator'; readonly restartAfterMs: number }
  | { readonly kind: 'stop-coordinator'; readonly forMs: number }
  /** It is stopped until its lease is over and another one has taken the run over; then it goes on as well. */
  | { readonly kind: 'replace-coordinator'; readonly continueAfterMs: number }
  /** The next gradient that a worker computes is not finite. */
  | { readonly kind: 'not-finite'; readonly worker: number }
  /** A bit of a worker's parameters is another one after its next update. */
  | { readonly kind: 'flip-state'; readonly worker: number }
  /** The next gradient digest that a worker reports is another one. */
  | { readonly kind: 'wrong-digest'; readonly worker: number };

export type FaultKind = FaultAction['kind'];
export type Fault = FaultAction & { readonly at: Moment };

export interface Schedule {
  readonly seed: number;
  readonly faults: readonly Fault[];
}

export interface ScheduleOptions {
  /** Workers at the beginning. */
  readonly numWorkers: number;
  /** Faults happen before this time, or this many events: about what a run without them takes. */
  readonly spanMs: number;
  readonly spanEvents: number;
  readonly maxFaults: number;
  /** How often a kind is drawn; 0 or left out: never. */
  readonly weights: Partial<Readonly<Record<FaultKind, number>>>;
  /** Bounds of stops, partitions, restarts: long enough to be taken for a loss now and then, ms. */
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

/** What one worker holds or says is wrong, which the others tell by being more: they must be there to do so. */
const CORRUPTING: readonly FaultKind[] = ['flip-state', 'wrong-digest'];
/** They take workers or their links away, or a coordinator: the one that is wrong may be alone with the newest step then, and nobody can tell. */
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

/** Whether one worker may hold something else than the others. */
export function isCorrupting({ faults }: Schedule): boolean {
  return faults.some(({ kind }) => CORRUPTING.includes(kind));
}

/** While the one that has taken over is opening the run, ms. */
const SOON_MS = 50;

const KINDS = Object.keys(ALL_FAULTS) as FaultKind[];

/** The schedule of a seed: one to `maxFaults` faults, by their moments. */
export function planSchedule(seed: number, options: ScheduleOptions): Schedule {
  const random = new RandomStream([seed, hashName('fault-schedule')]);
  const numFaults = 1 + random.nextBelow(options.maxFaults);
  const faults = Array.from({ length: numFaults }, () => planFault(random, options));
  faults.sort((a, b) => placeOf(a.at, options) - placeOf(b.at, options));
  return { seed, faults: keepSurvivable(faults) };
}

/**
 * Leaves out what no run is to survive: a worker that goes wrong while others are lost, or a second gradient that is not finite in the
 * same step.
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

/** Where in the run a moment is expected, from 0 to 1: the two kinds of moments are only ordered so. */
function placeOf(at: Moment, { spanMs, spanEvents }: ScheduleOptions): number {
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

/** The seed, and one line a fault. */
export function describeSchedule({ seed, faults }: Schedule): string {
  return [`seed ${seed}`, ...faults.map((fault) => `  ${describeFault(fault)}`)].join('\n');
}

export function describeFault({ at, kind, ...rest }: Fault): string {
  const moment = 'afterMs' in at ? `after ${at.afterMs} ms` : `after ${at.afterEvents} events`;
  const details = Object.entries(rest).map(([name, value]) => ` ${name}=${value === null ? 'never' : value}`);
  return `${moment}: ${kind}${details.join('')}`;
}

/**
 * Leaves out one fault after the other as long as the run still fails.
 * @param fails runs a schedule @returns a schedule that fails, none of whose faults can be left out alone
 */
export async function shrinkSchedule(
  schedule: Schedule,
  fails: (smaller: Schedule) => Promise<boolean>,
): Promise<Schedule> {
  let smallest = schedule;
  for (let i = 0; i < smallest.faults.length;) {
    const smaller = { ...smallest, faults: smallest.faults.filter((_, place) => place !== i) };
    if (await fails(smaller)) {
      smallest = smaller;
      i = 0;
    } else i += 1;
  }
  return smallest;
}
