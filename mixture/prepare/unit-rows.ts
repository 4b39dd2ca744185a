/** Records of a unit → examples in shards. Counts every row and every token. */
import { assertInvariant } from '../../shared/errors.ts';
import type { RecordBatch, SourceRecord } from '../sources/source-record.ts';
import type { FeatureLengths, SourceFields } from '../tasks/task.ts';
import { parseTemplate, renderTemplate, type Template } from '../tasks/template.ts';
import { createHeldOutTest } from '../tasks/train-cut.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { chooseChunk } from './document-chunk.ts';
import { CUT_CHARACTER, ExampleEncoder, SegmentCutter, TextIds, type EncodedExample } from './example-encoder.ts';
import type { PreparableTask } from './preparable-task.ts';
import { RowTally } from './row-tally.ts';
import type { UnitCounts } from './unit-counts.ts';

/** Receives examples. If `add` returns a promise, the caller must await it. */
export interface ExampleSink {
  add(tokens: Int32Array, inputsLength: number): Promise<void> | undefined;
}

export interface UnitRowsInit {
  readonly preparable: PreparableTask;
  readonly tokenizer: Tokenizer;
  readonly featureLengths: FeatureLengths;
  readonly sink: ExampleSink;
}

/** Processes the records of a unit in order. */
export interface UnitRows {
  /** The fields of a record that it reads. */
  readonly fields: readonly string[];
  readonly tally: RowTally;
  readonly numExamples: number;
  readonly numTokens: number;
  add(batch: RecordBatch): Promise<void>;
  counts(): UnitCounts;
}

/** Whether a record that gives examples is held out for evaluation. */
function heldOutTest({ heldOut }: PreparableTask, fields: readonly string[]): (record: SourceFields) => boolean {
  return heldOut === undefined ? () => false : createHeldOutTest(heldOut, fields);
}

export function createUnitRows(init: UnitRowsInit): UnitRows {
  return init.preparable.kind === 'supervised' ? new SupervisedRows(init) : new Documents(init);
}

type Encoded = Extract<EncodedExample, { ok: true }>;

class SupervisedRows implements UnitRows {
  readonly tally: RowTally;
  readonly fields: readonly string[];
  numExamples = 0;
  numTokens = 0;
  readonly #task: Extract<PreparableTask, { kind: 'supervised' }>['task'];
  readonly #sink: ExampleSink;
  readonly #encoder: ExampleEncoder;
  readonly #truncated = { inputs: 0, targets: 0, tokens: 0 };
  readonly #isHeldOut: (record: SourceFields) => boolean;

  constructor({ preparable, tokenizer, featureLengths, sink }: UnitRowsInit) {
    assertInvariant(preparable.kind === 'supervised', 'rows of a supervised task');
    this.#task = preparable.task;
    this.fields = this.#task.preprocessor.fields;
    this.tally = new RowTally(this.#task.name, preparable.heldOut !== undefined);
    this.#isHeldOut = heldOutTest(preparable, this.fields);
    this.#sink = sink;
    this.#encoder = new ExampleEncoder(tokenizer, featureLengths);
  }

  async add(batch: RecordBatch): Promise<void> {
    for (const record of batch) {
      if (!record.ok) {
        addMalformed(this.tally, record);
        continue;
      }
      const preprocessed = this.#task.preprocessor.apply(record.fields);
      if (!preprocessed.ok) {
        this.tally.addMalformed(record.file, record.row, preprocessed.reason);
        continue;
      }
      const { examples } = preprocessed;
      if (examples.length === 0) {
        this.tally.addLeftOut();
        continue;
      }
      if (this.#isHeldOut(record.fields)) {
        this.tally.addHeldOut();
        continue;
      }
      // A row counts as a whole: if one of its examples cannot be encoded, none is stored. The encoder reuses its
      // memory, so several examples are copied first.
      let malformed: string | undefined;
      const encoded: Encoded[] = [];
      for (const pair of examples) {
        const example = this.#encoder.encode(pair);
        if (example.ok) encoded.push(examples.length === 1 ? example : { ...example, tokens: example.tokens.slice() });
        else malformed ??= example.reason;
      }
      if (malformed !== undefined) {
        this.tally.addMalformed(record.file, record.row, malformed);
        continue;
      }
      this.tally.addWithExamples();
      for (const example of encoded) {
        const writing = this.#store(example);
        if (writing !== undefined) await writing;
      }
    }
  }

  counts(): UnitCounts {
    return {
      numExamples: this.numExamples,
      numTokens: this.numTokens,
      truncated: { ...this.#truncated },
      tokensIn: 0,
      dropped: { longDocuments: 0, remainder: 0 },
      ...this.tally.counts(),
    };
  }

  #store({ tokens, inputsLength, cut }: Encoded): Promise<void> | undefined {
    if (cut.inputs > 0) this.#truncated.inputs += 1;
    if (cut.targets > 0) this.#truncated.targets += 1;
    this.#truncated.tokens += cut.inputs + cut.targets;
    this.numExamples += 1;
    this.numTokens += tokens.length;
    return this.#sink.add(tokens, inputsLength);
  }
}

class Documents implements UnitRows {
  readonly tally: RowTally;
  readonly fields: readonly string[];
  numExamples = 0;
  numTokens = 0;
  readonly #name: string;
  readonly #template: Template;
  readonly #sink: ExampleSink;
  readonly #encoder: TextIds;
  readonly #cutter: SegmentCutter;
  readonly #isHeldOut: (record: SourceFields) => boolean;
  #tokensIn = 0;
  #longDocuments = 0;

  constructor({ preparable, tokenizer, sink }: UnitRowsInit) {
    assertInvariant(preparable.kind === 'denoising', 'documents of a denoising task');
    this.#name = preparable.task.name;
    this.#template = parseTemplate(preparable.task.text);
    this.fields = this.#template.fields;
    this.tally = new RowTally(this.#name, preparable.heldOut !== undefined);
    this.#isHeldOut = heldOutTest(preparable, this.fields);
    this.#sink = sink;
    this.#encoder = new TextIds(tokenizer);
    this.#cutter = new SegmentCutter(preparable.segmentLength);
  }

  async add(batch: RecordBatch): Promise<void> {
    for (const record of batch) {
      if (!record.ok) {
        addMalformed(this.tally, record);
        continue;
      }
      const tokens = this.#tokensOf(record.fields);
      if (typeof tokens === 'string') {
        this.tally.addMalformed(record.file, record.row, tokens);
        continue;
      }
      if (this.#isHeldOut(record.fields)) {
        this.tally.addHeldOut();
        continue;
      }
      this.tally.addWithExamples();
      this.#tokensIn += tokens.length;
      const { from, to } = chooseChunk(tokens.length, { task: this.#name, file: record.file, row: record.row });
      this.#longDocuments += tokens.length - (to - from);
      for (const segment of this.#cutter.push(tokens.subarray(from, to))) {
        this.numExamples += 1;
        this.numTokens += segment.length;
        const writing = this.#sink.add(segment, segment.length);
        if (writing !== undefined) await writing;
      }
    }
  }

  counts(): UnitCounts {
    return {
      numExamples: this.numExamples,
      numTokens: this.numTokens,
      truncated: { inputs: 0, targets: 0, tokens: 0 },
      tokensIn: this.#tokensIn,
      dropped: { longDocuments: this.#longDocuments, remainder: this.#cutter.numLeft },
      ...this.tally.counts(),
    };
  }

  /** @returns ids, valid until the next document, or the reason why the row is malformed */
  #tokensOf(fields: SourceFields): Int32Array | string {
    const document = renderTemplate(this.#template, fields);
    if (!document.ok) return document.reason;
    if (!document.text.isWellFormed()) return CUT_CHARACTER;
    const count = this.#encoder.encodeAt(document.text, 0);
    if (count === undefined) return 'the document is too long for the tokenizer';
    return count === 0 ? 'the document has no tokens' : this.#encoder.ids.subarray(0, count);
  }
}

function addMalformed(tally: RowTally, { file, row, reason, rows }: Extract<SourceRecord, { ok: false }>): void {
  tally.addMalformed(file, row, reason, rows);
}
