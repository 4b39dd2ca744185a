/**
 * Runs many schedules, one after the other. Used by CI, and by hand to find or replay a failure.
 *
 *   node --import tsx e2e/simulation/storm.ts [first seed] [number]     prints failing schedules, shrunk
 *   node --import tsx e2e/simulation/storm.ts --replay <seed>           prints the logs of one schedule
 *   … --fault <kind>                                                    injects one kind of fault only
 */
import { parseArgs } from 'node:util';
import type { TrainerError } from '../../shared/errors.ts';
import { computeReference } from './reference-run.ts';
import { runSchedule, type RunScheduleInit, type ScheduleOutcome } from './run-schedule.ts';
import {
  ALL_FAULTS,
  describeSchedule,
  planSchedule,
  shrinkSchedule,
  type Schedule,
  type ScheduleOptions,
} from './schedule.ts';
import { createToyMixture } from './toy-mixture.ts';
import { createToyConfig } from './toy-run.ts';

const NUM_WORKERS = 3;
const STEPS = 8;

/** Without faults a run takes about 500 ms and 700 events. With faults it takes longer, so later faults hit repairs. */
export const STORM: ScheduleOptions = {
  numWorkers: NUM_WORKERS,
  spanMs: 1_500,
  spanEvents: 1_500,
  maxFaults: 6,
  weights: ALL_FAULTS,
  maxPauseMs: 8_000,
};

interface Failure {
  readonly schedule: Schedule;
  readonly problems: readonly string[];
}

export async function createStorm(): Promise<RunScheduleInit> {
  Error.stackTraceLimit = 0; // most errors come from cancelled waits, and a stack costs more than an event
  const mixture = createToyMixture();
  const config = createToyConfig({ steps: STEPS, startWorkers: NUM_WORKERS, checkpointEverySteps: 3 });
  return { config, mixture, reference: await computeReference(config, mixture), numWorkers: NUM_WORKERS };
}

/** @returns broken rules, and the error of a run that did not finish */
export function problemsOf({ ended, violations }: ScheduleOutcome): readonly string[] {
  return ended === 'finished' ? violations : [`it did not finish: ${describeEnd(ended)}`, ...violations];
}

/**
 * @param onOutcome called with the outcome of each run
 * @returns failing schedules, shrunk
 */
async function runStorm(
  seeds: { readonly first: number; readonly count: number },
  options: ScheduleOptions,
  init: RunScheduleInit,
  onOutcome: (outcome: ScheduleOutcome) => void,
): Promise<Failure[]> {
  const failures: Failure[] = [];
  for (let seed = seeds.first; seed < seeds.first + seeds.count; seed++) {
    const outcome = await runSchedule(planSchedule(seed, options), init);
    onOutcome(outcome);
    if (problemsOf(outcome).length === 0) continue;
    const schedule = await shrink(planSchedule(seed, options), init);
    failures.push({ schedule, problems: problemsOf(await runSchedule(schedule, init)) });
  }
  return failures;
}

function shrink(schedule: Schedule, init: RunScheduleInit): Promise<Schedule> {
  return shrinkSchedule(schedule, async (smaller) => problemsOf(await runSchedule(smaller, init)).length > 0);
}

function describeEnd({ code, message }: TrainerError): string {
  return `${code}: ${message}`;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { replay: { type: 'string' }, fault: { type: 'string' } },
    allowPositionals: true,
  });
  const init = await createStorm();
  const options = values.fault === undefined ? STORM : { ...STORM, weights: { [values.fault]: 1 } };
  if (values.replay !== undefined) {
    const schedule = await shrink(planSchedule(Number(values.replay), options), init);
    console.log(describeSchedule(schedule));
    const onLog = (record: object, process: string): void => console.log(process, JSON.stringify(record));
    const outcome = await runSchedule(schedule, { ...init, onLog });
    console.log(outcome.injection.happened, problemsOf(outcome));
    return;
  }
  const [first = 0, count = 200] = positionals.map(Number);
  const startMs = performance.now();
  let numEvents = 0;
  const happened = new Map<string, number>();
  const failures = await runStorm({ first, count }, options, init, ({ simulation, injection }) => {
    numEvents += simulation.time.numFired;
    for (const { kind } of injection.happened) happened.set(kind, (happened.get(kind) ?? 0) + 1);
  });
  for (const { schedule, problems } of failures) console.log(describeSchedule(schedule), problems);
  const ms = (performance.now() - startMs) / count;
  console.log([...happened].map(([kind, times]) => `${times} ${kind}`).join(', '));
  console.log(
    `${count} schedules, ${failures.length} failed, ${ms.toFixed(1)} ms and ${Math.round(numEvents / count)} events each`,
  );
}

if (process.argv[1] === new URL(import.meta.url).pathname) await main();
