/**
 * What a run evaluates while it trains: sets of examples, cut into fixed batches, and the scores of their results. The same at each validation,
 * and for any number of workers.
 *
 * Definition: a set is named by its task, or `task.set` where a task has several, as `glue_mnli.validation_matched`.
 */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { readResult, workOf, type BatchResult } from '../../evaluation/batch-messages.ts';
import type { DecodingSettings } from '../../evaluation/decoding/settings.ts';
import {
  findingsOf,
  judgeSet,
  type JudgedExample,
  type JudgedLine,
  type SetScores,
} from '../../evaluation/judge-set.ts';
import { planEvaluation, type EvaluationBatch, type PlannedSet } from '../../evaluation/plan-evaluation.ts';
import { METRICS_REVISION, setResultOf, type NewResults, type SetResult } from '../../evaluation/results.ts';
import { averagesOf } from '../../evaluation/suite-averages.ts';
import type { EvaluationSetInfo } from '../../mixture/evaluation-sets/set-record.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import type { EvaluatedMessage, EvaluationWork } from '../../shared/protocol/messages.ts';
import type { TaskEvaluation } from '../../shared/task-evaluation.ts';
import type { CheckpointRef } from '../checkpoint/saver.ts';

/** Most rows × length of a batch: part of the plan, so results do not depend on the machine. */
const BATCH_TOKENS = 8_192;
/** Raise it when results of equal parameters may change: those before are then not compared with later ones. */
const RESULTS_REVISION = 1;

export type BatchOutcome = BatchResult;

/** Of a prepared set. */
export type SetFacts = Pick<EvaluationSetInfo, 'task' | 'name' | 'split' | 'kind' | 'hash'>;

/** A set with its scores and a line for each example. */
export interface ScoredSet {
  readonly name: string;
  readonly scores: SetScores;
  readonly lines: readonly JudgedLine[];
  /** Its part of results.json. */
  readonly result: SetResult;
}

export type ValidationResults = NewResults & { readonly step: number };

export interface ValidationSets {
  readonly split: 'validation' | 'test';
  /** Hash of sets, decoding and metrics: results with equal ones can be compared. */
  readonly settings: string;
  readonly numExamples: number;
  readonly numBatches: number;
  workOf(batch: number): EvaluationWork;
  /** @throws MESSAGE_INVALID for a result that is not of this batch */
  read(batch: number, result: Exclude<EvaluatedMessage['result'], { kind: 'failed' }>): BatchOutcome;
  /** In the order of the sets' names. @param outcomes of all batches @throws ABORTED between two sets */
  score(outcomes: readonly BatchOutcome[], signal: AbortSignal): Promise<readonly ScoredSet[]>;
  /** What results.json says. @param engine fingerprint of the engine of all workers */
  resultsOf(
    scored: readonly ScoredSet[],
    evaluated: Pick<CheckpointRef, 'step' | 'paramDigest'>,
    engine: string,
  ): ValidationResults;
}

export interface NamedSet {
  readonly name: string;
  readonly info: SetFacts;
  readonly examples: readonly JudgedExample[];
  /** Left out: the set is scored alone. */
  readonly evaluation?: TaskEvaluation;
  /** Ids of examples that train has too; left out: the set was not compared with train. */
  readonly leaked?: ReadonlySet<number>;
}

export interface ValidationSetsInit {
  readonly split: 'validation' | 'test';
  readonly sets: readonly NamedSet[];
  readonly decoding: DecodingSettings;
  /** The first so many of each set are among the examples. */
  readonly maxExamples: number;
  readonly tokenizer: { readonly hash: string; readonly decode: (ids: readonly number[]) => string };
}

export function createValidationSets(init: ValidationSetsInit): ValidationSets {
  const { split, sets, decoding, maxExamples, tokenizer } = init;
  // A set that is scored alone is planned as one of denoising: nothing of it is decoded.
  const planned = sets.map(({ examples, evaluation }): PlannedSet => {
    return { kind: evaluation === undefined ? 'denoising' : 'supervised', examples };
  });
  const batches = planEvaluation(planned, { batchTokens: BATCH_TOKENS, decoding });
  const isDecoded = batches.some(({ kind }) => kind === 'decode');
  const batchOf = (number: number): EvaluationBatch => batches[number]!;
  const numExamples = sets.map(({ examples }) => examples.length);
  const content = {
    revision: RESULTS_REVISION,
    batchTokens: BATCH_TOKENS,
    decoding: isDecoded ? decoding : null,
    sets: sets.map(({ name, info, examples, evaluation = null }) => [name, info.hash, examples.length, evaluation]),
  };
  return {
    split,
    settings: createHash('sha256').update(JSON.stringify(content)).digest('hex'),
    numExamples: numExamples.reduce((sum, count) => sum + count, 0),
    numBatches: batches.length,
    workOf: (number) => workOf(batchOf(number), planned, decoding),
    read: (number, result) => readResult(batchOf(number), planned[batchOf(number).set]!.examples, result),
    async score(outcomes, signal) {
      const scored: ScoredSet[] = [];
      for (const [at, findings] of findingsOf(batches, outcomes, numExamples).entries()) {
        await setImmediate(); // the sockets of the workers are served between two sets
        throwIfAborted(signal, 'scoring a validation');
        const { name, info, ...set } = sets[at]!;
        const { scores, lines } = judgeSet(set, findings, (ids) => tokenizer.decode(ids));
        const { task, name: setName, split: ofSplit, kind, hash } = info;
        const identity = { task, name: setName, split: ofSplit, kind, hash, evaluation: set.evaluation };
        scored.push({ name, scores, lines, result: setResultOf(identity, scores) });
      }
      return scored;
    },
    resultsOf(scored, { step, paramDigest }, engine) {
      const results = scored.map(({ result }) => result);
      return {
        ...{ metricsRevision: METRICS_REVISION, paramDigest, step, tokenizer: tokenizer.hash, engine },
        ...{ decoding: isDecoded ? decoding : null, batchTokens: BATCH_TOKENS, maxExamples },
        ...{ sets: results, averages: averagesOf(results) },
      };
    },
  };
}
