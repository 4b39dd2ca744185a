/**
 * Evaluates a model on chosen sets: plan, results that are there, workers for the batches that are missing, scores, files.
 *
 * One process at a time works in a folder of results: its lock is that of a run folder.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BatchLog, type PartOfPlan } from '../../coordinator/evaluation/batch-log.ts';
import type { EvaluationPlan } from '../../coordinator/evaluation/run-evaluation.ts';
import type { WorkerHost } from '../../coordinator/membership/worker-host.ts';
import { acquireRunLock } from '../../coordinator/run-folder/run-lock.ts';
import { readResult, workOf } from '../../evaluation/batch-messages.ts';
import type { DecodingSettings } from '../../evaluation/decoding/settings.ts';
import { findingsOf, judgeSet } from '../../evaluation/judge-set.ts';
import { planEvaluation, type EvaluationBatch, type PlannedSet } from '../../evaluation/plan-evaluation.ts';
import {
  formatPrediction,
  formatResults,
  METRICS_REVISION,
  parseResults,
  RESULTS_FILE,
  setResultOf,
  type Results,
} from '../../evaluation/results.ts';
import { averagesOf } from '../../evaluation/suite-averages.ts';
import type { Tokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import { systemClock } from '../../shared/clock.ts';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { formatSeconds } from '../console-reporter.ts';
import { computeBatches } from '../launch/compute-batches.ts';
import type { EvaluatedModel } from './evaluated-model.ts';
import type { ChosenSet } from './evaluated-sets.ts';
import { readResultsIfThere, timeKey, writeResultFiles, type Times } from './result-files.ts';

/** Pause between two lines of progress, ms. */
const PROGRESS_MS = 5_000;

export interface RunEvaluateInit {
  readonly model: EvaluatedModel;
  readonly sets: readonly ChosenSet[];
  readonly tokenizer: Tokenizer;
  /** Left out: scores only. */
  readonly decoding: DecodingSettings | undefined;
  readonly batchTokens: number;
  readonly maxExamples: number | undefined;
  /** Its engine is one that exists on this host; the key of the results has it. */
  readonly config: EvaluationConfig;
  readonly workerHost: WorkerHost;
  /** Left out: a new one. */
  readonly token: string | undefined;
  readonly outDir: string;
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
}

/** @throws what runEvaluation and BatchLog throw; RUN_LOCKED, METRIC_INPUT_INVALID */
export async function runEvaluate(
  init: RunEvaluateInit,
): Promise<{ readonly results: Results; readonly times: Times }> {
  const { outDir, onLine, signal } = init;
  await mkdir(outDir, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', outDir);
  });
  const onWaiting = ({ reason }: { readonly reason: string }): void => onLine(reason);
  const lock = await acquireRunLock(outDir, { clock: systemClock, signal, onWaiting });
  try {
    return await evaluate(init, AbortSignal.any([signal, lock.lost]));
  } finally {
    await lock.release();
  }
}

/** Whether the results of this evaluation are there, so that runEvaluate would change nothing. @throws PATH_UNUSABLE, CONFIG_INVALID */
export async function isEvaluated(init: RunEvaluateInit): Promise<boolean> {
  const results = await readResultsIfThere(init.outDir);
  if (results === undefined) return false;
  const { log, settings } = await openEvaluation(init);
  await log.close();
  return log.finishedBy !== undefined && areOf(results, init, settings);
}

/** The folder may have results of other sets and settings. A set that was compared with train since then is judged again. */
function areOf(results: Results, { model, sets }: RunEvaluateInit, settings: DecodingSettings | undefined): boolean {
  if (results.paramDigest !== model.paramDigest || results.sets.length !== sets.length) return false;
  if (JSON.stringify(results.decoding) !== JSON.stringify(settings ?? null)) return false;
  return sets.every(({ info, examples, leaked }) => {
    const found = results.sets.find((set) => timeKey(set) === timeKey(info));
    const numLeaked = leaked && examples.filter(({ id }) => leaked.has(id)).length;
    return (
      found?.hash === info.hash && found.numExamples === examples.length && found.withoutLeaked?.numLeaked === numLeaked
    );
  });
}

interface OpenEvaluation {
  readonly batches: readonly EvaluationBatch[];
  readonly planned: readonly PlannedSet[];
  readonly settings: DecodingSettings | undefined;
  readonly log: BatchLog;
}

/** Plans the batches and reads the results that are there. */
async function openEvaluation(init: RunEvaluateInit): Promise<OpenEvaluation> {
  const { sets, decoding, batchTokens, outDir } = init;
  // The task judges one output; the plan's messages carry no more.
  const settings = decoding === undefined ? undefined : oneOutput(decoding);
  const planned = sets.map(({ info, examples, evaluation }): PlannedSet => ({
    kind: evaluation === undefined ? 'denoising' : info.kind,
    examples,
  }));
  const batches = planEvaluation(planned, { batchTokens, ...(settings === undefined ? {} : { decoding: settings }) });
  const log = await BatchLog.open(join(outDir, 'batches'), partsOf(init, batches, settings));
  return { batches, planned, settings, log };
}

async function evaluate(init: RunEvaluateInit, signal: AbortSignal) {
  const { model, sets, tokenizer, batchTokens, maxExamples, outDir, onLine } = init;
  const opened = await openEvaluation(init);
  const { batches, planned, settings, log } = opened;
  let times: Times = {};
  try {
    if (log.finishedBy === undefined) times = await computeMissing({ ...init, signal }, opened);
    else onLine(`all ${batches.length} batches are in ${outDir}: nothing is computed again`);
    const engine = log.finishedBy;
    if (engine === undefined) throw new TrainerError('INTERNAL', 'a finished evaluation has results of one engine');
    const findings = findingsOf(batches, log.results(), planned.map(({ examples }) => examples.length)); // prettier-ignore
    const predictions = new Map<string, string>();
    const setResults = sets.map((set, index) => {
      const { evaluation, examples, info, leaked } = set;
      const judged = {
        examples,
        ...(evaluation === undefined ? {} : { evaluation }),
        ...(leaked === undefined ? {} : { leaked }),
      };
      const { scores, lines } = judgeSet(judged, findings[index]!, (ids) => tokenizer.decode(ids));
      const { task, name, split, kind, hash } = info;
      const result = setResultOf({ task, name, split, kind, hash, evaluation }, scores);
      predictions.set(result.predictions, lines.map(formatPrediction).join(''));
      return result;
    });
    const text = formatResults({
      ...{ metricsRevision: METRICS_REVISION, paramDigest: model.paramDigest, step: model.step },
      ...{ tokenizer: tokenizer.hash, engine, decoding: settings ?? null, batchTokens },
      maxExamples: maxExamples ?? null,
      sets: setResults,
      averages: averagesOf(setResults),
    });
    const all = await writeResultFiles(outDir, { results: text, predictions, times });
    return { results: parseResults(text, join(outDir, RESULTS_FILE)), times: all };
  } finally {
    await log.close();
  }
}

function oneOutput(decoding: DecodingSettings): DecodingSettings {
  return 'numReturnSequences' in decoding ? { ...decoding, numReturnSequences: 1 } : decoding;
}

/** A part for each set and kind, in the order of the plan. */
function partsOf(
  { model, sets, batchTokens, config }: RunEvaluateInit,
  batches: readonly EvaluationBatch[],
  decoding: DecodingSettings | undefined,
): PartOfPlan[] {
  return sets.flatMap(({ info, examples }, set) =>
    (['score', 'decode'] as const).flatMap((kind): PartOfPlan[] => {
      const own = batches.filter((batch) => batch.set === set && batch.kind === kind);
      if (own.length === 0) return [];
      const key = {
        ...{ paramDigest: model.paramDigest, set: info.hash, numExamples: examples.length, kind, batchTokens },
        compute: config.compute,
        decoding: kind === 'decode' && decoding !== undefined ? decoding : null,
      };
      const batchSizes = own.map((batch) => batch.examples.length);
      return [{ label: `${info.task}.${info.name}.${kind}`, key, batchSizes }];
    }),
  );
}

/** @returns the times of the sets that were computed */
async function computeMissing(init: RunEvaluateInit, { batches, planned, settings, log: results }: OpenEvaluation) {
  const { model, sets, config, workerHost, outDir, onLine, signal } = init;
  const { numDone } = results;
  if (numDone > 0) onLine(`${numDone} of ${batches.length} batches are in ${outDir}: the others are computed`);
  const plan: EvaluationPlan = {
    work: (batch) => workOf(batches[batch]!, planned, settings),
    read: (batch, result) => readResult(batches[batch]!, planned[batches[batch]!.set]!.examples, result),
  };
  const numKinds = sets.map((_, set) => new Set(batches.filter((batch) => batch.set === set).map(({ kind }) => kind)).size); // prettier-ignore
  const progress = new EvaluationProgress(sets, numKinds, batches, onLine);
  try {
    await computeBatches({
      ...{ config, model, plan, results, workerHost, onLine, signal, token: init.token },
      ...{ folder: outDir, logFile: 'evaluation.jsonl', isOpen: true },
      onResult: (batch, numLeft) => progress.add(batch, numLeft),
    });
  } catch (thrown) {
    const error = toTrainerError(thrown);
    const state = `${results.numDone} of ${batches.length} batches are in ${outDir}; the same command goes on`;
    throw new TrainerError(error.code, `${error.message}; ${state}`, { cause: error });
  }
  return progress.times();
}

/** Lines of progress, and the time that each set took: that from one result to the next goes to the set of the latter. */
class EvaluationProgress {
  readonly #sets: readonly ChosenSet[];
  readonly #numKinds: readonly number[];
  readonly #batches: readonly EvaluationBatch[];
  readonly #onLine: (line: string) => void;
  /** By set. */
  readonly #spent: { numExamples: number; ms: number }[];
  #startMs: number | undefined;
  #lastMs = systemClock.monotonicMs();
  #toldMs = this.#lastMs;
  #numExamples = 0;
  #numResults = 0;

  constructor(
    sets: readonly ChosenSet[],
    numKinds: readonly number[],
    batches: readonly EvaluationBatch[],
    onLine: (line: string) => void,
  ) {
    this.#sets = sets;
    this.#numKinds = numKinds;
    this.#batches = batches;
    this.#onLine = onLine;
    this.#spent = sets.map(() => ({ numExamples: 0, ms: 0 }));
  }

  add(batch: number, numLeft: number): void {
    const nowMs = systemClock.monotonicMs();
    this.#startMs ??= this.#lastMs;
    const { set, examples } = this.#batches[batch]!;
    const spent = this.#spent[set]!;
    // An example that is scored and decoded is half done by each.
    const numExamples = examples.length / this.#numKinds[set]!;
    spent.numExamples += numExamples;
    spent.ms += nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    this.#numExamples += numExamples;
    this.#numResults++;
    if (nowMs - this.#toldMs < PROGRESS_MS) return;
    this.#toldMs = nowMs;
    const seconds = (nowMs - this.#startMs) / 1000;
    const eta = formatSeconds((seconds / this.#numResults) * numLeft);
    const done = this.#batches.length - numLeft;
    const rate = (this.#numExamples / seconds).toFixed(1);
    this.#onLine(`${done} of ${this.#batches.length} batches, ${rate} examples/s, ETA ${eta}`);
  }

  times(): Times {
    const entries = this.#sets.flatMap(({ info }, set) => {
      const { numExamples, ms } = this.#spent[set]!;
      return numExamples === 0 ? [] : [[timeKey(info), { numExamples, ms: Math.round(ms) }] as const];
    });
    return Object.fromEntries(entries);
  }
}
