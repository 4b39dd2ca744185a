/**
 * The words of the mixture, as in SeqIO: a task is a source, a preprocessor and metrics; a mixture is named tasks and one
 * denoising text. Plain values: nothing here reads a file.
 */

export const SOURCE_FORMATS = ['jsonl', 'csv', 'tsv', 'text', 'parquet', 'tfrecord'] as const;
export type SourceFormat = (typeof SOURCE_FORMATS)[number];

/** The one field of a record of a `text` source: a line of the file. */
export const TEXT_FIELD = 'text';

export interface SourceFile {
  /** Absolute path, or an http:, https: or s3: URL. */
  readonly location: string;
  /** As written in the mixture, with `/`: the name in manifests, so that bytes do not depend on where the files lie. */
  readonly name: string;
}

/** What a task declares: where its records come from. */
export type SourceSpec = FilesSource | HubSource;

/** Files of one format, read one after the other; a name that ends in `.gz` is decompressed. */
export interface FilesSource {
  readonly kind: 'files';
  readonly format: SourceFormat;
  /** csv and tsv: `"` quotes a field (RFC 4180). False for files in which `"` is an ordinary character. */
  readonly quotes: boolean;
  readonly files: readonly SourceFile[];
}

/** A split of a dataset of a Hugging Face hub. */
export interface HubSource {
  readonly kind: 'hub';
  /** E.g. `nyu-mll/glue`. */
  readonly dataset: string;
  readonly config?: string;
  readonly split: string;
  /** Branch, tag or commit; default `main`. */
  readonly revision?: string;
  /**
   * Globs of files in the repository. Without them: the parquet files of config and split, on the revision or, where it has none,
   * on `refs/convert/parquet`.
   */
  readonly files?: readonly string[];
  /** Default parquet. */
  readonly format?: SourceFormat;
  /** As for files; default true. */
  readonly quotes?: boolean;
}

/** One record of a source: field name → value as the format gave it. */
export type SourceFields = Readonly<Record<string, unknown>>;

export interface TextPair {
  readonly inputs: string;
  readonly targets: string;
}

/** Zero examples is a row left out on purpose; `reason` is a malformed row. */
export type Preprocessed =
  { readonly ok: true; readonly examples: readonly TextPair[] } | { readonly ok: false; readonly reason: string };

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/** Record → text-to-text examples. A pure function: the same fields give the same examples. */
export interface Preprocessor {
  /** What the shards depend on besides source, tokenizer and lengths; another identity means preparing again. */
  readonly identity: Readonly<Record<string, JsonValue>>;
  /** The fields it reads, for checks against a header before a row is read. */
  readonly fields: readonly string[];
  apply(fields: SourceFields): Preprocessed;
}

export interface Task {
  readonly name: string;
  /** Family of the paper (CLS, NLI, SUM, …) or any other word that groups tasks. */
  readonly family: string;
  readonly source: SourceSpec;
  readonly preprocessor: Preprocessor;
  readonly metrics: readonly string[];
}

/** The span-denoising task: documents of plain text, without targets of their own. */
export interface Denoising {
  readonly name: string;
  readonly source: SourceSpec;
  /** Template that makes a document of a record, e.g. `{text}`. */
  readonly text: string;
}

export interface Mixture {
  readonly name: string;
  /** The file it was read from. */
  readonly path: string;
  /** A SentencePiece model, absolute path. */
  readonly tokenizerPath: string;
  readonly tasks: readonly Task[];
  readonly denoising?: Denoising;
  /** What it was loaded with: `loadMixture(path, options)` gives the same mixture in another process. */
  readonly options: MixtureOptions;
}

/** What the command line says on top of a mixture file; paths are relative to the working folder. */
export interface MixtureOptions {
  /** Names and globs of the tasks to take; a denoising text that none matches is left out too. Default: all. */
  readonly tasks?: readonly string[];
  /** A SentencePiece model in place of the file's `tokenizer`. */
  readonly tokenizer?: string;
  /** Folder with the files of sets that have no home on a hub, in place of the file's `given`. */
  readonly given?: string;
}

/** Static lengths of a row, tokens, EOS included. */
export interface FeatureLengths {
  readonly inputs: number;
  readonly targets: number;
}
