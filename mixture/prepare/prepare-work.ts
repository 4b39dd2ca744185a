/** The units of a preparation seen to: which are this process's, by how many children, what their failures mean for the whole. */
import { join } from 'node:path';
import { TrainerError } from '../../shared/errors.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import { plainAccess } from '../sources/source-access.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { EnsuredUnit, UnitContext } from './ensure-unit.ts';
import { estimateRoom } from './estimate-room.ts';
import { removePlan } from './plan-file.ts';
import type { TaskPlan } from './plan-tasks.ts';
import { chooseProcesses, PROGRESS_INTERVAL_MS, type PrepareSettings } from './prepare-options.ts';
import { PrepareProgress } from './prepare-progress.ts';
import { ProcessWorker } from './process-worker.ts';
import { surveyTask, type TaskSurvey } from './survey-tasks.ts';
import { TaskRun } from './task-run.ts';
import { isDealt, orderUnits } from './unit-queue.ts';
import { LocalWorker, runUnits, type PlannedUnit, type UnitWorker } from './unit-workers.ts';

/** Hashing a shard is so many times faster than making it. */
const HASHING_SPEEDUP = 20;

export interface Deal {
  /** To be made, or kept where they are there. */
  readonly own: readonly PlannedUnit[];
  /** Of other members of the array. */
  readonly others: readonly PlannedUnit[];
  /** Tasks of which something is to be made, or whose manifest is of something else. */
  readonly tasksToMake: readonly string[];
}

/** Which units are this process's. */
export function dealUnits(surveys: readonly TaskSurvey[], { shard, mergeOnly, hashUpToBytes }: PrepareSettings): Deal {
  const hashes = surveys.reduce((sum, { storedBytes }) => sum + storedBytes, 0) <= hashUpToBytes;
  const own: PlannedUnit[] = [];
  const others: PlannedUnit[] = [];
  const tasksToMake = new Set<string>();
  let position = 0;
  for (const { plan, isThere, change } of surveys)
    for (const number of plan.units.keys()) {
      const isOwn = mergeOnly !== true && (shard === undefined || isDealt(position, shard));
      position += 1;
      (isOwn ? own : others).push(planUnit(plan, number, isOwn ? 'make' : 'check', hashes));
      if (isOwn && (isThere[number] !== true || change !== undefined)) tasksToMake.add(plan.name);
    }
  return { own, others, tasksToMake: [...tasksToMake] };
}

/** Of this process's units of a task those that do not seem to be there: how many, what is read for them, and the room they take. */
export function leftToMake(
  { plan, isThere }: TaskSurvey,
  { own }: Deal,
  tokenBytes: 2 | 4,
): { numUnits: number; bytes: number; roomBytes: number } {
  const units = own.filter(({ task, number }) => task === plan.name && isThere[number] !== true);
  const bytes = units.reduce((sum, unit) => sum + unit.bytes, 0);
  return { numUnits: units.length, bytes, roomBytes: estimateRoom(plan.source, bytes, tokenBytes) };
}

function planUnit(plan: TaskPlan, number: number, mode: 'make' | 'check', hashes: boolean): PlannedUnit {
  const { name, source, units, identityHash, preprocessor } = plan;
  const unit = units[number]!;
  return {
    task: name,
    number,
    bytes: unit.bytes,
    order: {
      task: name,
      number,
      identity: identityHash,
      preprocessor,
      mode,
      hashes,
      // A source may have thousands of files; a unit is a piece of one.
      source: { ...source, files: [source.files[unit.file]!] },
      unit: { ...unit, file: 0 },
    },
  };
}

export class PrepareWork {
  readonly #settings: PrepareSettings;
  readonly #tokenizer: Tokenizer;
  readonly #surveys: readonly TaskSurvey[];
  readonly #runs: ReadonlyMap<string, TaskRun>;
  readonly #failures = new Map<string, TrainerError>();
  readonly #finishTask: (run: TaskRun) => Promise<void>;
  readonly #progress: PrepareProgress;
  readonly #deal: Deal;
  /** Units of other members that seem to be there, by task. */
  readonly #seen = new Map<string, readonly boolean[]>();
  #saidAtMs = -Infinity;
  #unitsMade = 0;

  /** @param finishTask called once for each task when all its units are there */
  constructor(
    settings: PrepareSettings,
    tokenizer: Tokenizer,
    surveys: readonly TaskSurvey[],
    deal: Deal,
    finishTask: (run: TaskRun) => Promise<void>,
  ) {
    this.#settings = settings;
    this.#tokenizer = tokenizer;
    this.#surveys = surveys;
    this.#runs = new Map(surveys.map((survey) => [survey.plan.name, new TaskRun(survey)]));
    this.#finishTask = finishTask;
    this.#deal = deal;
    const shown = deal.own.length > 0 ? deal.own : deal.others;
    this.#progress = new PrepareProgress(
      surveys.map(({ plan: { name } }) => ({
        name,
        unitBytes: shown.filter(({ task }) => task === name).map(({ bytes }) => bytes),
      })),
    );
  }

  /**
   * Makes this process's units, then looks for those of the others.
   * @returns units made @throws the failures of all tasks as one, or the first that is not of one task
   */
  async run(): Promise<number> {
    const { own, others } = this.#deal;
    await this.#see(own);
    if (await this.#seemThere(others)) {
      this.#seen.clear(); // from here on only what has been checked counts
      await this.#see(others);
    }
    this.#say(true);
    for (const { plan } of this.#surveys)
      if (plan.units.length === 0) await this.#finishTask(this.#runs.get(plan.name)!);
    for (const [task, run] of this.#runs)
      if (this.#failures.has(task) && run.missing.length === run.plan.units.length)
        await removePlan(this.#settings.outDir, task);
    const failures = this.#surveys.flatMap(({ plan }) => this.#failures.get(plan.name) ?? []);
    if (failures.length === 1) throw failures[0]!;
    if (failures.length > 1)
      throw new TrainerError(failures[0]!.code, failures.map(({ message }) => message).join('\n'), { cause: failures });
    return this.#unitsMade;
  }

  /** Tasks of which units are not there. */
  missing(): { task: string; units: number[]; numUnits: number }[] {
    return [...this.#runs.values()]
      .map(({ plan, missing }) => {
        const seen = this.#seen.get(plan.name);
        const units = missing.filter((number) => seen?.[number] !== true);
        return { task: plan.name, units, numUnits: plan.units.length };
      })
      .filter(({ units }) => units.length > 0);
  }

  async #see(units: readonly PlannedUnit[]): Promise<void> {
    const isThere = new Map(this.#surveys.map(({ plan, isThere: of }) => [plan.name, of]));
    const bytes = units.reduce((sum, { task, number, bytes: of }) => {
      return sum + (isThere.get(task)?.[number] === true ? of / HASHING_SPEEDUP : of);
    }, 0);
    const numWorkers = chooseProcesses(this.#settings.processes, bytes, units.length);
    await runUnits({
      units: orderUnits(units),
      numWorkers,
      createWorker: () => this.#createWorker(numWorkers),
      signal: this.#settings.signal,
      onProgress: (unit, progress) => {
        this.#progress.running(unit.task, unit.number, unit.bytes, progress);
        this.#say();
      },
      onDone: (unit, ensured) => this.#onDone(unit, ensured),
      onDeath: async ({ task, number }, reason, next) => {
        this.#progress.lost(task, number);
        const then = next === 'again' ? 'it is done again' : 'it is given up';
        this.#settings.onNote?.(`task ${task} unit ${number}: ${reason}; ${then}`);
        await removeAbandoned(join(this.#settings.outDir, task));
      },
      onFailed: ({ task }, error) => {
        if (!isOfOneTask(error)) return false;
        if (!this.#failures.has(task))
          this.#settings.onNote?.(`task ${task} failed, the others go on: ${error.message}`);
        this.#failures.set(task, this.#failures.get(task) ?? error);
        this.#progress.failed(task);
        return true;
      },
    });
  }

  #createWorker(numWorkers: number): UnitWorker {
    const { mixture, outDir, featureLengths, shardBytes, access, openFile, onNote } = this.#settings;
    if (numWorkers > 1)
      return new ProcessWorker(
        {
          mixturePath: mixture.path,
          mixtureOptions: mixture.options,
          outDir,
          featureLengths,
          shardBytes,
          access: plainAccess(access),
        },
        onNote,
      );
    const preparables = new Map(this.#surveys.map(({ plan }) => [plan.name, plan.preparable]));
    const context: UnitContext = {
      outDir,
      tokenizer: this.#tokenizer,
      featureLengths,
      shardBytes,
      access,
      preparableOf: (task) => preparables.get(task),
      ...(openFile === undefined ? {} : { openFile }),
    };
    return new LocalWorker(context);
  }

  async #onDone({ task, number, bytes, order }: PlannedUnit, ensured: EnsuredUnit): Promise<void> {
    if (ensured.outcome === 'missing') return; // told by missing()
    const isMade = ensured.outcome === 'made';
    if (isMade) this.#unitsMade += 1;
    // While the units of others are looked at, progress stays at what this process had to do.
    if (order.mode === 'make' || this.#deal.own.length === 0)
      this.#progress.done(task, number, bytes, ensured.record.counts, isMade);
    const run = this.#runs.get(task)!;
    run.addUnit(ensured.record, isMade, ensured.reason);
    this.#say();
    if (run.isComplete) await this.#finishTask(run);
  }

  /** Whether all other members have finished their units, by the look of it. */
  async #seemThere(others: readonly PlannedUnit[]): Promise<boolean> {
    if (others.length === 0) return false;
    const tasks = new Set(others.map(({ task }) => task));
    for (const { plan } of this.#surveys)
      if (tasks.has(plan.name)) this.#seen.set(plan.name, (await surveyTask(this.#settings.outDir, plan)).isThere);
    return others.every(({ task, number }) => this.#seen.get(task)?.[number] === true);
  }

  #say(isLast = false): void {
    const { clock, onProgress } = this.#settings;
    if (onProgress === undefined) return;
    const nowMs = clock.monotonicMs();
    if (!isLast && nowMs - this.#saidAtMs < PROGRESS_INTERVAL_MS) return;
    this.#saidAtMs = nowMs;
    onProgress(this.#progress.snapshot(nowMs));
  }
}

/** Whether the other tasks can be prepared in spite of it. */
function isOfOneTask({ code }: TrainerError): boolean {
  return (
    code.startsWith('STORAGE_') ||
    code === 'SOURCE_MALFORMED' ||
    code === 'SOURCE_UNREADABLE' ||
    code === 'CONFIG_INVALID' ||
    code === 'WORKER_LOST'
  );
}
