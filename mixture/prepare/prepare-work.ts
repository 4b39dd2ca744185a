/**
 * Makes the units of a preparation: which units this process makes, with how many children, and what a failure means
 * for the other tasks. Merges each task when all its units exist.
 */
import { join } from 'node:path';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import { plainAccess } from '../sources/source-access.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { EnsuredUnit, UnitContext } from './ensure-unit.ts';
import { estimateRoom } from './estimate-room.ts';
import { MANIFEST_FILE, serializeTaskManifest } from './manifest.ts';
import { mergeTask } from './merge-task.ts';
import { removePlan } from './plan-file.ts';
import type { TaskPlan } from './plan-tasks.ts';
import {
  chooseProcesses,
  PROGRESS_INTERVAL_MS,
  type PreparedTaskReport,
  type PrepareSettings,
} from './prepare-options.ts';
import { PrepareProgress } from './prepare-progress.ts';
import { ProcessWorker } from './process-worker.ts';
import { publishFile } from './publish-file.ts';
import { surveyTask, type TaskSurvey } from './survey-tasks.ts';
import { isAssigned, orderUnits } from './unit-queue.ts';
import type { UnitRecord } from './unit-record.ts';
import { LocalWorker, runUnits, type PlannedUnit, type UnitWorker } from './unit-workers.ts';

/** Hashing a shard is about this many times faster than making it. */
const HASHING_SPEEDUP = 20;

export interface Assignment {
  /** Units to make, or to keep if they exist. */
  readonly own: readonly PlannedUnit[];
  /** Units of other members of the job array. */
  readonly others: readonly PlannedUnit[];
  /** Tasks with units to make, or with a manifest of another identity. */
  readonly tasksToMake: readonly string[];
}

/** Which units this process makes. */
export function assignUnits(surveys: readonly TaskSurvey[], { units, hashUpToBytes }: PrepareSettings): Assignment {
  const hashes = surveys.reduce((sum, { storedBytes }) => sum + storedBytes, 0) <= hashUpToBytes;
  const own: PlannedUnit[] = [];
  const others: PlannedUnit[] = [];
  const tasksToMake = new Set<string>();
  let position = 0;
  for (const { plan, isThere, change } of surveys)
    for (const number of plan.units.keys()) {
      const isOwn = typeof units === 'string' ? units === 'all' : isAssigned(position, units);
      position += 1;
      (isOwn ? own : others).push(planUnit(plan, number, isOwn ? 'make' : 'check', hashes));
      if (isOwn && (isThere[number] !== true || change !== undefined)) tasksToMake.add(plan.name);
    }
  return { own, others, tasksToMake: [...tasksToMake] };
}

/** The missing units of a task that this process makes: how many, their source bytes, and the disk space they need. */
export function remainingUnits(
  { plan, isThere }: TaskSurvey,
  { own }: Assignment,
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
      // A source may have thousands of files, but a unit reads only one.
      source: { ...source, files: [source.files[unit.file]!] },
      unit: { ...unit, file: 0 },
    },
  };
}

/** A task while it is being prepared: its units, its merge, its report. */
class TaskRun {
  readonly plan: TaskPlan;
  readonly #records: (UnitRecord | undefined)[];
  #numKnown = 0;
  #reason: string | undefined;
  #unitsMade = 0;

  constructor({ plan, change }: TaskSurvey) {
    this.plan = plan;
    this.#records = plan.units.map(() => undefined);
    this.#reason = change;
  }

  /** Units that are not known to exist. */
  get missing(): number[] {
    return [...this.#records.keys()].filter((number) => this.#records[number] === undefined);
  }

  get isComplete(): boolean {
    return this.#numKnown === this.#records.length;
  }

  /** @param reason why an existing unit was not kept */
  addUnit(record: UnitRecord, isMade: boolean, reason?: string): void {
    if (this.#records[record.number] === undefined) this.#numKnown += 1;
    this.#records[record.number] = record;
    if (isMade) this.#unitsMade += 1;
    this.#reason ??= reason;
  }

  /**
   * Checks the units and writes the manifest. All units must exist. @throws SOURCE_MALFORMED, DISK_FULL, PATH_UNUSABLE
   */
  async merge(outDir: string, tokenBytes: 2 | 4, badRowThreshold: number): Promise<PreparedTaskReport> {
    const { name, identity, declared, preparable, units, source } = this.plan;
    const records = this.#records.filter((record) => record !== undefined);
    assertInvariant(records.length === units.length, `task ${name}: all ${units.length} units exist`);
    const segmentLength = preparable.kind === 'denoising' ? preparable.segmentLength : 0;
    const manifest = mergeTask({
      name,
      identity,
      declared,
      segmentLength,
      tokenBytes,
      records,
      badRowThreshold,
      expectedRows: source.expectedRows,
    });
    await publishFile(join(outDir, name), MANIFEST_FILE, serializeTaskManifest(manifest));
    return {
      name,
      outcome: this.#unitsMade > 0 ? 'prepared' : 'reused',
      unitsMade: this.#unitsMade,
      unitsKept: units.length - this.#unitsMade,
      ...(this.#reason === undefined || this.#unitsMade === 0 ? {} : { reason: this.#reason }),
      manifest,
    };
  }
}

export class PrepareWork {
  readonly #settings: PrepareSettings;
  readonly #tokenizer: Tokenizer;
  readonly #surveys: readonly TaskSurvey[];
  readonly #runs: ReadonlyMap<string, TaskRun>;
  readonly #failures = new Map<string, TrainerError>();
  readonly #finishTask: (run: TaskRun) => Promise<void>;
  readonly #progress: PrepareProgress;
  readonly #assignment: Assignment;
  /** Units of other members that seem to exist, by task. */
  readonly #presentUnits = new Map<string, readonly boolean[]>();
  #reportedAtMs = -Infinity;
  #unitsMade = 0;

  /** @param finishTask called once for each task, when all its units exist */
  constructor(
    settings: PrepareSettings,
    tokenizer: Tokenizer,
    surveys: readonly TaskSurvey[],
    assignment: Assignment,
    finishTask: (run: TaskRun) => Promise<void>,
  ) {
    this.#settings = settings;
    this.#tokenizer = tokenizer;
    this.#surveys = surveys;
    this.#runs = new Map(surveys.map((survey) => [survey.plan.name, new TaskRun(survey)]));
    this.#finishTask = finishTask;
    this.#assignment = assignment;
    const shown = assignment.own.length > 0 ? assignment.own : assignment.others;
    this.#progress = new PrepareProgress(
      surveys.map(({ plan: { name } }) => ({
        name,
        unitBytes: shown.filter(({ task }) => task === name).map(({ bytes }) => bytes),
      })),
    );
  }

  /**
   * Makes the units of this process, then checks those of other members.
   * @returns units made @throws the failures of all tasks as one error, or the first failure that concerns more than
   * one task
   */
  async run(): Promise<number> {
    const { own, others } = this.#assignment;
    await this.#runUnits(own);
    if (await this.#othersSeemFinished(others)) {
      this.#presentUnits.clear(); // from here on, only checked units count
      await this.#runUnits(others);
    }
    this.#reportProgress(true);
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

  /** Tasks with missing units. */
  missing(): { task: string; units: number[]; numUnits: number }[] {
    return [...this.#runs.values()]
      .map(({ plan, missing }) => {
        const seen = this.#presentUnits.get(plan.name);
        const units = missing.filter((number) => seen?.[number] !== true);
        return { task: plan.name, units, numUnits: plan.units.length };
      })
      .filter(({ units }) => units.length > 0);
  }

  async #runUnits(units: readonly PlannedUnit[]): Promise<void> {
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
        this.#reportProgress();
      },
      onDone: (unit, ensured) => this.#onDone(unit, ensured),
      onDeath: async ({ task, number }, reason, next) => {
        this.#progress.lost(task, number);
        const then = next === 'again' ? 'it is made again' : 'it is given up';
        this.#settings.onNote?.(`task ${task} unit ${number}: ${reason}; ${then}`);
        await removeAbandoned(join(this.#settings.outDir, task));
      },
      onFailed: ({ task }, error) => {
        if (!isOfOneTask(error)) return false;
        if (!this.#failures.has(task))
          this.#settings.onNote?.(`task ${task} failed, the other tasks continue: ${error.message}`);
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
    if (ensured.outcome === 'missing') return; // missing() reports it
    const isMade = ensured.outcome === 'made';
    if (isMade) this.#unitsMade += 1;
    // Checking units of other members does not change the progress of this process.
    if (order.mode === 'make' || this.#assignment.own.length === 0)
      this.#progress.done(task, number, bytes, ensured.record.counts, isMade);
    const run = this.#runs.get(task)!;
    run.addUnit(ensured.record, isMade, ensured.reason);
    this.#reportProgress();
    if (run.isComplete) await this.#finishTask(run);
  }

  /** Whether all other members seem to have finished their units. */
  async #othersSeemFinished(others: readonly PlannedUnit[]): Promise<boolean> {
    if (others.length === 0) return false;
    const tasks = new Set(others.map(({ task }) => task));
    for (const { plan } of this.#surveys)
      if (tasks.has(plan.name))
        this.#presentUnits.set(plan.name, (await surveyTask(this.#settings.outDir, plan)).isThere);
    return others.every(({ task, number }) => this.#presentUnits.get(task)?.[number] === true);
  }

  #reportProgress(isLast = false): void {
    const { clock, onProgress } = this.#settings;
    if (onProgress === undefined) return;
    const nowMs = clock.monotonicMs();
    if (!isLast && nowMs - this.#reportedAtMs < PROGRESS_INTERVAL_MS) return;
    this.#reportedAtMs = nowMs;
    onProgress(this.#progress.snapshot(nowMs));
  }
}

/** Whether the other tasks can continue after this error. */
function isOfOneTask({ code }: TrainerError): boolean {
  return (
    code.startsWith('STORAGE_') ||
    code === 'SOURCE_MALFORMED' ||
    code === 'SOURCE_UNREADABLE' ||
    code === 'CONFIG_INVALID' ||
    code === 'WORKER_LOST'
  );
}
