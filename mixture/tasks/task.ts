/**
 * The vocabulary of the mixture, as in SeqIO. These are plain values; nothing here reads a file.
 *
 * Definitions: a task is a source, a preprocessor, evaluation sets and a way to judge predictions. A mixture is tasks and at most one denoising text.
 */

import type { TaskEvaluation } from '../../shared/task-evaluation.ts';
import type { ModuleFile } from './known-modules.ts';

export const SOURCE_FORMATS = ['jsonl', 'csv', 'tsv', 'text', 'parquet', 'tfrecord'] as const;
export type SourceFormat = (typeof SOURCE_FORMATS)[number];

/** The only field of a record of a `text` source: a line of the file. */
export const TEXT_FIELD = 'text';

export interface SourceFile {
  /** Absolute path, or an http:, https: or s3: URL. */
  readonly location: string;
  /**
   * As written in the mixture, with `/`. Manifests hold this name, so their bytes do not depend on the place of the
   * files.
   */
  readonly name: string;
}

/** The source that a task declares. */
export type SourceSpec = FilesSource | HubSource;

/** Files of one format, read in order. Their first bytes tell whether they are compressed. */
export interface FilesSource {
  readonly kind: 'files';
  readonly format: SourceFormat;
  /** csv and tsv: `"` quotes a field (RFC 4180). False if `"` is an ordinary character. */
  readonly quotes: boolean;
  readonly files: readonly SourceFile[];
}

/** A split of a data set on a Hugging Face hub. */
export interface HubSource {
  readonly kind: 'hub';
  /** E.g. `nyu-mll/glue`. */
  readonly dataset: string;
  readonly config?: string;
  readonly split: string;
  /** Branch, tag or commit. Default: `main`. */
  readonly revision?: string;
  /**
   * Globs of files in the repository, also with classes: `[0-9]`. Default: the parquet files of config and split, from the
   * revision or, if it has none, from `refs/convert/parquet`.
   */
  readonly files?: readonly string[];
  /** Default: parquet. */
  readonly format?: SourceFormat;
  /** As for files. Default: true. */
  readonly quotes?: boolean;
}

/** A record of a source: field name → value as the format gives it. */
export type SourceFields = Readonly<Record<string, unknown>>;

export interface TextPair {
  readonly inputs: string;
  readonly targets: string;
}

/** Zero examples means that the row is left out on purpose. `reason` says why a row is malformed. */
export type Preprocessed =
  { readonly ok: true; readonly examples: readonly TextPair[] } | { readonly ok: false; readonly reason: string };

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/** Record → text-to-text examples. A pure function: equal fields give equal examples. */
export interface Preprocessor {
  /** What the shards depend on besides source, tokenizer and lengths. If it changes, the task is prepared again. */
  readonly identity: Readonly<Record<string, JsonValue>>;
  /** The fields that it reads. A header is checked for them before any row is read. */
  readonly fields: readonly string[];
  apply(fields: SourceFields): Preprocessed;
}

export interface Task {
  readonly name: string;
  /** A family of the paper (CLS, NLI, SUM, …) or any other word that groups tasks. */
  readonly family: string;
  /** The split `train`. */
  readonly source: SourceSpec;
  readonly preprocessor: Preprocessor;
  readonly splits: EvaluationSplits;
  readonly evaluation: Evaluation;
}

/** The splits besides `train`, by SeqIO's names. */
export const SPLITS = ['validation', 'test'] as const;
export type SplitName = (typeof SPLITS)[number];

/** The sets of each split. A split may have several, as MNLI's validation. */
export interface EvaluationSplits {
  readonly validation: readonly EvaluationSet[];
  readonly test: readonly EvaluationSet[];
}

export interface EvaluationSet {
  /** E.g. `validation`, or `validation_matched` where there are several. */
  readonly name: string;
  readonly source: SourceSpec | TrainCut | MissingFile;
  /** Left out: the task's own. */
  readonly preprocessor?: Preprocessor;
}

/** One of `oneIn` records of the train source, chosen by a hash of the record that is keyed by the name of the set (train-cut.ts). */
export interface TrainCut {
  readonly kind: 'cut';
  readonly oneIn: number;
}

/** A file that the user must bring and has not named. */
export interface MissingFile {
  readonly kind: 'missing';
  readonly file: string;
  readonly how: string;
}

export interface Evaluation extends TaskEvaluation {
  /** The column with all right answers. Left out, or empty in a record: the target of the record is the only one. */
  readonly references?: References;
  /** Field of an evaluation example → path of its column. */
  readonly fields: Readonly<Record<string, string>>;
}

export interface References {
  /** A path into structs and lists: `answers.text`, `output[].answer`. */
  readonly path: string;
  /** T5's SQuAD rule: spaces around punctuation. */
  readonly isPadded?: true;
}

/** The span-denoising task: documents of plain text. Span corruption makes the targets. */
export interface Denoising {
  readonly name: string;
  readonly source: SourceSpec;
  /** Template that makes a document from a record, e.g. `{text}`. */
  readonly text: string;
  /** Left out: it has no evaluation sets. */
  readonly splits?: EvaluationSplits;
}

export interface Mixture {
  readonly name: string;
  /** The file it was read from. */
  readonly path: string;
  /** Absolute path of a SentencePiece model, or BYTE_VOCABULARY. */
  readonly tokenizerPath: string;
  readonly tasks: readonly Task[];
  readonly denoising?: Denoising;
  /** The TypeScript that its file names, as it was run. */
  readonly modules?: readonly ModuleFile[];
  /** The options it was loaded with: `loadMixture(path, options)` gives the same mixture in another process. */
  readonly options: MixtureOptions;
}

/** Settings of the command line. They override the mixture file; paths are relative to the working folder. */
export interface MixtureOptions {
  /** Names and globs of the tasks to use. A denoising text that none matches is left out too. Default: all. */
  readonly tasks?: readonly string[];
  /** A SentencePiece model, or `bytes`, that replaces the file's `tokenizer`. */
  readonly tokenizer?: string;
  /** Folder with the files of sets that the hub does not have. Replaces the file's `given`. */
  readonly given?: string;
  /**
   * The file of a checkpoint or run folder that names the mixture, where the user named none. Modules are then loaded only if a mixture
   * with them was prepared on this machine.
   */
  readonly namedBy?: string;
}

/** Static lengths of a row in tokens, EOS included. */
export interface FeatureLengths {
  readonly inputs: number;
  readonly targets: number;
}
