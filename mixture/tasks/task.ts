/**
 * The words of the mixture, as in SeqIO: a task is a source, a preprocessor and metrics; a mixture is named tasks and one
 * denoising text. Plain values: nothing here reads a file.
 */

export const SOURCE_FORMATS = ['jsonl', 'csv', 'tsv', 'text'] as const;
export type SourceFormat = (typeof SOURCE_FORMATS)[number];

/** The one field of a record of a `text` source: a line of the file. */
export const TEXT_FIELD = 'text';

export interface SourceFile {
  readonly path: string;
  /** As written in the mixture, with `/`: the name in manifests, so that bytes do not depend on where the files lie. */
  readonly relativePath: string;
}

/** Files of one format, read one after the other; a name that ends in `.gz` is decompressed. */
export interface SourceSpec {
  readonly format: SourceFormat;
  readonly files: readonly SourceFile[];
  /** csv and tsv: `"` quotes a field (RFC 4180). False for files in which `"` is an ordinary character. */
  readonly quotes: boolean;
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
}

/** Static lengths of a row, tokens, EOS included. */
export interface FeatureLengths {
  readonly inputs: number;
  readonly targets: number;
}
