/**
 * exmix as a library: `import { train } from 'exmix'`. Every failure is a TrainerError; match on its `code`.
 *
 * @packageDocumentation
 */
export { train, type TrainOptions, type TrainSummary } from './train.ts';
export type { RunSettings } from './run-settings.ts';
export { prepare, type PreparedMixtureReport, type PreparedTask, type PrepareOptions } from './prepare.ts';
export { readCheckpoint, type Checkpoint, type Parameter } from './checkpoint.ts';
export { loadMixture } from '../mixture/tasks/load-mixture.ts';
export type { ModuleFile } from '../mixture/tasks/known-modules.ts';
export { defineTask, type TaskContext, type TaskDefinition, type TaskModule } from '../mixture/tasks/task-module.ts';
export type { SourceEntry } from '../mixture/tasks/mixture-schema.ts';
export {
  SOURCE_FORMATS,
  type Denoising,
  type Evaluation,
  type EvaluationSet,
  type EvaluationSplits,
  type FeatureLengths,
  type FilesSource,
  type HubSource,
  type JsonValue,
  type MissingFile,
  type Mixture,
  type MixtureOptions,
  type Preprocessed,
  type Preprocessor,
  type References,
  type SourceFields,
  type SourceFile,
  type SourceFormat,
  type SourceSpec,
  type Task,
  type TextPair,
  type TrainCut,
} from '../mixture/tasks/task.ts';
export { loadTokenizer, type Tokenizer, type TokenizerOptions } from '../mixture/tokenizer/tokenizer.ts';
export {
  ERROR_CODES,
  TrainerError,
  type ErrorCode,
  type Reaction,
  type TrainerErrorOptions,
} from '../shared/errors.ts';
export {
  METRIC_KINDS,
  POSTPROCESSORS,
  type MetricName,
  type Postprocess,
  type PostprocessorName,
  type ValueKind,
} from '../shared/task-evaluation.ts';
export type { LogRecord } from '../shared/logger.ts';
export type { ValidatedTasks } from '../coordinator/checkpoint/validation-score.ts';
export type { ValidatedTask } from '../coordinator/journal/journal-records.ts';
export type { LossSpan, PredictedRun, RunSummaryView } from '../coordinator/run-summary.ts';
export type { EarlyStop } from '../coordinator/validation/early-stop.ts';
export type { ValidationOfStep, ValidationView } from '../coordinator/validation/validator.ts';
export { VERSION } from '../shared/version.ts';
