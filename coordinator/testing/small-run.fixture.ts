/**
 * A small run for tests of the coordinator: in-memory network, journal and checkpoints, a clock that the test drives, and scripted workers.
 * It does not touch a disk: a run of many generations takes milliseconds and is the same each time.
 */
import assert from 'node:assert/strict';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { checkConfig, numericsHash } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import type { CheckpointStore } from '../checkpoint/checkpoint-store.ts';
import { Coordinator } from '../coordinator.ts';
import type { EpochEnding } from '../end-run.ts';
import { resumeFrom, type ResumePoint } from '../resume/resume-point.ts';
import {
  applyRecord,
  EMPTY_JOURNAL_STATE,
  type JournalRecord,
  type JournalState,
  type StepCommitted,
} from '../journal/journal-records.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import type { WorkerHost } from '../membership/worker-host.ts';
import type { RunSummaryView } from '../run-summary.ts';
import type { WrittenCheckpoint } from '../checkpoint/publish.ts';
import { parseDecodingSettings } from '../../evaluation/decoding/settings.ts';
import { createValidationSets, type ValidationSets } from '../validation/validation-sets.ts';
import { ScriptedLinks } from './scripted-links.fixture.ts';
import { ScriptedWorker, type Script } from './scripted-worker.fixture.ts';
import { startFromScratch, type StartingPoint } from '../resume/starting-point.ts';

export const TOKEN = 'a token of the test';
export const MIXTURE_HASH = 'cd'.repeat(32);
const TASKS = ['a', 'b'].map((name, task) => ({
  name,
  kind: 'supervised' as const,
  numExamples: 40,
  inputsLength: (index: number) => 3 + ((index + task) % 5),
  targetsLength: (index: number) => 2 + ((index + task) % 3),
}));
const RUN_ID = 'the run of the test';
const RUN_FOLDER = '/run';
/** Default time for a worker's lanes of a step, ms. */
export const STEP_MS = 20;

export interface SmallRunInit {
  readonly cluster?: object;
  readonly checkpoint?: object;
  readonly training?: object;
  /** Undefined: nothing is evaluated. */
  readonly evaluation?: object;
  readonly steps?: number;
  /** Called with each record of the log. */
  readonly onLog?: (record: LogRecord) => void;
}

export class SmallRun {
  readonly config: RunConfig;
  readonly clock = new ManualClock();
  readonly transport = new MemoryTransport();
  readonly links = new ScriptedLinks();
  readonly log: LogRecord[] = [];
  readonly host = new ScriptedHost();
  readonly journal: JournalRecord[] = [];
  readonly checkpoints: MemoryCheckpoints;
  /** Results of validations. */
  readonly validations: {
    readonly step: number;
    readonly paramDigest: string;
    readonly results: unknown;
    readonly scored: unknown;
  }[] = [];
  readonly #sets: ValidationSets | undefined;
  /** Ends the coordinator at once. */
  readonly signal = new AbortController();
  journalState: JournalState = EMPTY_JOURNAL_STATE;
  /** The coordinator of the last epoch. */
  coordinator!: Coordinator;
  url = '';
  readonly #onLog: ((record: LogRecord) => void) | undefined;
  readonly #watchers = new Set<{ readonly isIt: (record: LogRecord) => boolean; readonly resolve: () => void }>();
  #numKilled = 0;

  /** @param init settings under sections of the configuration */
  constructor(init: SmallRunInit = {}) {
    const { cluster = {}, checkpoint = { everySteps: 2 }, training = {}, evaluation = {}, steps = 6, onLog } = init;
    const tree = { ...configOf(cluster, checkpoint, { steps, ...training }), evaluation };
    this.config = checkConfig(tree, 'the test');
    this.checkpoints = new MemoryCheckpoints(this.links);
    this.#sets = init.evaluation === undefined ? undefined : smallSets();
    this.#onLog = onLog;
  }

  get mixture(): PreparedMixture {
    const facts = { folder: '/prepared', hash: MIXTURE_HASH, tasks: TASKS, sizes: TASKS, taskNames: ['a', 'b'] };
    return facts as unknown as PreparedMixture;
  }

  /** Starts the coordinator of the next epoch of the journal; it listens. */
  async open({
    resumeAt = { kind: 'journal' },
    workerHost = this.host,
  }: { resumeAt?: ResumePoint; workerHost?: WorkerHost } = {}): Promise<void> {
    const { config, mixture, clock, transport, checkpoints, journalState: state } = this;
    const init = { config, mixture, allowMixtureChange: false };
    const saved = checkpoints.newest ?? startFromScratch(init);
    const { start, before } = await resumeFrom(resumeAt, saved, state, init);
    const epoch = state.epoch + 1;
    const identity = { configHash: numericsHash(config), seed: config.seed, mixtureHash: MIXTURE_HASH };
    const goesOn = before === undefined ? {} : { goesOn: true as const };
    await this.#append({ kind: 'run-opened', epoch, runId: RUN_ID, ...identity, step: start.step, ...goesOn });
    const session = this.#numKilled;
    const isAlive = (): boolean => session === this.#numKilled;
    const journalState = (): JournalState => this.journalState;
    this.coordinator = new Coordinator({
      ...{ config, mixture, transport, token: TOKEN, workerHost },
      opening: { runId: RUN_ID, epoch, start, before },
      validation: this.#sets && {
        sets: this.#sets,
        store: {
          write: ({ step, paramDigest, ...results }, scored) =>
            Promise.resolve(`results ${this.validations.push({ step, paramDigest, results, scored })}`),
        },
      },
      stores: {
        runFolder: RUN_FOLDER,
        // A coordinator that was killed writes nothing any more.
        journal: {
          append: (record) => (isAlive() ? this.#append(record) : new Promise(() => undefined)),
          get state() {
            return journalState();
          },
        },
        ledger: { append: () => Promise.resolve() },
        checkpoints,
        diskSpace: undefined,
      },
      runtime: {
        clock,
        log: createLogger({ level: 'debug', onRecord: (record) => (isAlive() ? this.#logged(record) : undefined) }),
      },
    });
    this.url = await this.coordinator.listen(0);
  }

  /** A worker joins; its default id is w0, w1 … */
  async join(script: Partial<Script> = {}, index = 0): Promise<ScriptedWorker> {
    const { transport, clock, links } = this;
    const defaults = { workerId: `w${index}`, tasks: TASKS, mixtureHash: MIXTURE_HASH, stepMs: STEP_MS };
    return ScriptedWorker.join(transport, this.url, TOKEN, { ...defaults, clock, links, ...script });
  }

  /** The worker joins the present coordinator again, with the state it holds. */
  rejoin(worker: ScriptedWorker): Promise<void> {
    return worker.dial(this.transport, this.url, TOKEN);
  }

  /** Runs the coordinator to its end and drives the clock. */
  run(): Promise<EpochEnding> {
    return this.clock.during(this.coordinator.run(this.signal.signal));
  }

  /** @throws where the run must go back to a checkpoint */
  async runToEnd(): Promise<RunSummaryView> {
    const ending = await this.run();
    assert.equal(ending.kind, 'ended');
    return ending.summary;
  }

  /** As SIGKILL of the coordinator: its later writes do not count, and the sockets of the workers close. */
  kill(workers: readonly ScriptedWorker[]): void {
    this.#numKilled += 1;
    for (const worker of workers) worker.die();
  }

  /** Resolves when the log has a record with these fields. */
  logged(msg: string, fields: Readonly<Record<string, unknown>> = {}): Promise<void> {
    const isIt = (record: LogRecord): boolean =>
      record.msg === msg && Object.entries(fields).every(([name, value]) => record[name] === value);
    if (this.log.some(isIt)) return Promise.resolve();
    return new Promise((resolve) => this.#watchers.add({ isIt, resolve }));
  }

  records<K extends JournalRecord['kind']>(kind: K): Extract<JournalRecord, { kind: K }>[] {
    return this.journal.filter((record) => record.kind === kind) as Extract<JournalRecord, { kind: K }>[];
  }

  messages(msg: string): LogRecord[] {
    return this.log.filter((record) => record.msg === msg);
  }

  /** The committed steps, without epoch and generation. */
  get committed(): Pick<StepCommitted, 'step' | 'cursor' | 'gradDigest' | 'loss'>[] {
    return this.records('step-committed').map(({ step, cursor, gradDigest, loss }) => ({
      step,
      cursor,
      gradDigest,
      loss,
    }));
  }

  #append(record: JournalRecord): Promise<void> {
    const next = applyRecord(this.journalState, record);
    assert.notEqual(typeof next, 'string', `journal: ${JSON.stringify(next)}`);
    this.journalState = next as JournalState;
    this.journal.push(record);
    return Promise.resolve();
  }

  #logged(record: LogRecord): void {
    this.log.push(record);
    this.#onLog?.(record);
    for (const watcher of this.#watchers)
      if (watcher.isIt(record)) {
        this.#watchers.delete(watcher);
        watcher.resolve();
      }
  }
}

/** Two sets of a few examples; inputs of other lengths are in other batches. */
function smallSets(): ValidationSets {
  const sets = ['a', 'b'].map((task) => ({
    name: task,
    info: { task, name: 'validation', split: 'validation' as const, kind: 'supervised' as const, hash: task },
    evaluation: { postprocess: { name: 'text' as const }, metrics: ['sequence_accuracy' as const] },
    examples: Array.from({ length: 12 }, (_, id) => ({
      ...{ id, inputs: `${task} ${id}`, targets: 'yes', fields: {}, cutInputTokens: 0 },
      inputIds: Array.from({ length: 1 + 20 * (id % 4) }, (__, at) => 2 + ((id + at) % 9)),
      targetIds: [3, 1],
    })),
  }));
  const decoding = parseDecodingSettings({ method: 'greedy', maxNewTokens: 4 });
  const tokenizer = { hash: 'words', decode: (ids: readonly number[]) => ids.join(' ') };
  return createValidationSets({ split: 'validation', sets, decoding, maxExamples: 12, tokenizer });
}

/** A host whose processes end when the test says so. */
class ScriptedHost implements WorkerHost {
  /** Ids of workers that were dropped as hung. */
  readonly killed: string[] = [];
  failure: string | undefined;
  readonly #ended = new Set<string>();

  start(): Promise<void> {
    return Promise.resolve();
  }

  kill(workerId: string): void {
    this.killed.push(workerId);
  }

  end(workerId: string, pid: number): void {
    this.#ended.add(`${workerId} ${pid}`);
  }

  hasEnded(workerId: string, pid: number): boolean {
    return this.#ended.has(`${workerId} ${pid}`);
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}

/** A run with its workers joined, ready to be run. */
export async function startRun(
  workers: readonly Partial<Script>[],
  init: SmallRunInit = {},
): Promise<{ run: SmallRun; workers: ScriptedWorker[] }> {
  const { cluster = {}, ...rest } = init;
  const run = new SmallRun({ ...rest, cluster: { minWorkers: Math.max(1, workers.length), ...cluster } });
  await run.open();
  const joined = await Promise.all(workers.map((script, index) => run.join(script, index)));
  return { run, workers: joined };
}

/** The commits of a run without faults. */
export async function undisturbed(init: SmallRunInit = {}): Promise<SmallRun['committed']> {
  const { run } = await startRun([{}], init);
  await run.runToEnd();
  return run.committed;
}

/** Checkpoints in memory: a name and the digest of the parameters. */
export class MemoryCheckpoints implements CheckpointStore {
  readonly #links: ScriptedLinks;
  /** Folders that were begun, in order. */
  readonly begun: string[] = [];
  readonly discarded: string[] = [];
  readonly published: (WrittenCheckpoint & { readonly path: string; readonly engineFingerprint: string })[] = [];

  constructor(links: ScriptedLinks) {
    this.#links = links;
  }

  /** The starting point at the newest checkpoint; undefined where there is none. */
  get newest(): StartingPoint | undefined {
    const last = this.published.at(-1);
    if (last === undefined) return undefined;
    const { step, cursor, path, paramDigest, engineFingerprint } = last;
    const checkpoint = { step, path, paramDigest, engineFingerprint };
    return { step, cursor, rateChanges: [], checkpoint, notes: [] };
  }

  begin({ step, epoch, generation }: { step: number; epoch: number; generation: number }): Promise<string> {
    const folder = `/run/checkpoints/.writing-${step}-e${epoch}-g${generation}`;
    this.begun.push(folder);
    return Promise.resolve(folder);
  }

  discard(writingFolder: string): Promise<void> {
    this.discarded.push(writingFolder);
    return Promise.resolve();
  }

  publish(written: WrittenCheckpoint & { readonly engineFingerprint: string }) {
    const { step, paramDigest } = written;
    const path = `/run/checkpoints/step-${step}`;
    this.published.push({ ...written, path });
    this.#links.publish(path, paramDigest);
    return Promise.resolve({ path, step, bytes: 1, paramDigest });
  }

  prune(): Promise<readonly object[]> {
    return Promise.resolve([]);
  }
}

function configOf(cluster: object, checkpoint: object, training: object): object {
  return {
    name: 'test',
    model: {},
    featureLengths: { inputs: 16, targets: 8 },
    mixture: { path: '/x.yaml', denoisingRatio: 0, windowDraws: 64 },
    training: { rowsPerStep: 4, numLanes: 4, microbatchRows: 1, ...training },
    schedule: { kind: 'constant', value: 0.01 },
    cluster: { heartbeatIntervalMs: 10, heartbeatTimeoutMs: 5_000, rendezvousTimeoutMs: 60_000, ...cluster },
    checkpoint,
  };
}

/** An edit that changes the messages of one kind and leaves the others. */
export function changing(
  kind: NonNullable<Parameters<NonNullable<Script['edit']>>[0]>['kind'],
  change: (...given: Parameters<NonNullable<Script['edit']>>) => object | undefined,
): NonNullable<Script['edit']> {
  return (message, worker) => (message.kind === kind ? change(message, worker) : message);
}
