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
import { throwIfAborted } from '../../shared/abort.ts';
import type { EvaluatedMessage, EvaluationWork } from '../../shared/protocol/messages.ts';
import type { TaskEvaluation } from '../../shared/task-evaluation.ts';

/** Most rows × length of a batch: part of the plan, so results do not depend on the machine. */
const BATCH_TOKENS = 8_192;
/** Raise it when results of equal parameters may change: those before are then not compared with later ones. */
const RESULTS_REVISION = 1;

export type BatchOutcome = BatchResult;

/** Of a prepared set. */
export interface SetIdentity {
  readonly task: string;
  readonly name: string;
  /** Over identity and content. */
  readonly hash: string;
  /** Those that are prepared; the first ones are evaluated. */
  readonly numExamples: number;
}

/** A set with its scores and, where outputs were decoded, a line for each example. */
export interface ScoredSet {
  readonly name: string;
  readonly info: SetIdentity;
  readonly scores: SetScores;
  readonly lines: readonly JudgedLine[];
}

export interface ValidationSets {
  readonly split: 'validation' | 'test';
  /** Hash of sets, decoding and metrics: results with equal ones can be compared. */
  readonly settings: string;
  /** Undefined: targets are scored, nothing is decoded. */
  readonly decoding: DecodingSettings | undefined;
  readonly numExamples: number;
  readonly numBatches: number;
  workOf(batch: number): EvaluationWork;
  /** @throws MESSAGE_INVALID for a result that is not of this batch */
  read(batch: number, result: Exclude<EvaluatedMessage['result'], { kind: 'failed' }>): BatchOutcome;
  /** In the order of the sets' names. @param outcomes of all batches @throws ABORTED between two sets */
  score(outcomes: readonly BatchOutcome[], signal: AbortSignal): Promise<readonly ScoredSet[]>;
}

export interface NamedSet {
  readonly name: string;
  readonly info: SetIdentity;
  readonly examples: readonly JudgedExample[];
  /** Left out: the set is scored alone. */
  readonly evaluation?: TaskEvaluation;
}

export interface ValidationSetsInit {
  readonly split: 'validation' | 'test';
  readonly sets: readonly NamedSet[];
  readonly decoding: DecodingSettings;
  readonly decodeText: (ids: readonly number[]) => string;
}

export function createValidationSets({ split, sets, decoding, decodeText }: ValidationSetsInit): ValidationSets {
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
    decoding: isDecoded ? decoding : undefined,
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
        scored.push({ name, info, ...judgeSet(set, findings, decodeText) });
      }
      return scored;
    },
  };
}
