/**
 * Records → the examples of a set. Every row is counted, as for shards.
 *
 * Of a cut of train only the records that are held out count as rows. A record that cannot be read is in no cut: train counts it.
 * A denoising example is a segment of the joined documents, corrupted by a random stream that is named by the set and the number of the
 * segment: the same spans at each evaluation.
 */
import { hashName, RandomStream } from '../../shared/random.ts';
import { corruptSpans } from '../plan/span-corruption.ts';
import { chooseChunk } from '../prepare/document-chunk.ts';
import { CUT_CHARACTER, ExampleEncoder, SegmentCutter, TextIds } from '../prepare/example-encoder.ts';
import { RowTally } from '../prepare/row-tally.ts';
import type { RecordBatch, SourceRecord } from '../sources/source-record.ts';
import type { FeatureLengths, SourceFields } from '../tasks/task.ts';
import { parseTemplate, renderTemplate, type Template } from '../tasks/template.ts';
import { createHeldOutTest } from '../tasks/train-cut.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { heldOutFields, type DeclaredSet } from './declared-sets.ts';
import { judgedColumns, orderReferences, readJudged } from './evaluation-columns.ts';
import type { SetExample } from './set-record.ts';

export type NewExample = Omit<SetExample, 'id'>;

type GoodRecord = Extract<SourceRecord, { ok: true }>;

interface Content {
  /** The fields of a record that it reads. */
  readonly fields: readonly string[];
  /** The examples of a record, or undefined if it is malformed (then it has been counted). Counts the others too. */
  examplesOf(record: GoodRecord, tally: RowTally): readonly NewExample[];
}

export class SetRows {
  readonly tally: RowTally;
  readonly #content: Content;
  readonly #isHeldOut: ((record: SourceFields) => boolean) | undefined;

  constructor(set: DeclaredSet, tokenizer: Tokenizer, featureLengths: FeatureLengths) {
    const { content, heldOut, rules } = set;
    this.tally = new RowTally(`${rules.task}, set ${rules.name}`);
    this.#content =
      content.kind === 'supervised'
        ? new Supervised(content, tokenizer, featureLengths)
        : new Documents(content, rules.name, tokenizer);
    this.#isHeldOut = heldOut === undefined ? undefined : createHeldOutTest(heldOut, heldOutFields(set));
  }

  get fields(): readonly string[] {
    return this.#content.fields;
  }

  *add(batch: RecordBatch): Generator<NewExample> {
    for (const record of batch)
      if (!record.ok) {
        if (this.#isHeldOut === undefined) this.tally.addMalformed(record.file, record.row, record.reason, record.rows);
      } else if (this.#isHeldOut?.(record.fields) !== false) yield* this.#content.examplesOf(record, this.tally);
  }
}

class Supervised implements Content {
  readonly fields: readonly string[];
  readonly #of: Extract<DeclaredSet['content'], { kind: 'supervised' }>;
  readonly #encoder: ExampleEncoder;

  constructor(
    of: Extract<DeclaredSet['content'], { kind: 'supervised' }>,
    tokenizer: Tokenizer,
    featureLengths: FeatureLengths,
  ) {
    this.#of = of;
    this.#encoder = new ExampleEncoder(tokenizer, featureLengths);
    this.fields = [...new Set([...of.preprocessor.fields, ...judgedColumns(of.task.evaluation)])];
  }

  examplesOf({ fields: record, file, row }: GoodRecord, tally: RowTally): readonly NewExample[] {
    const { task, preprocessor } = this.#of;
    const malformed = (reason: string): [] => {
      tally.addMalformed(file, row, reason);
      return [];
    };
    const preprocessed = preprocessor.apply(record);
    if (!preprocessed.ok) return malformed(preprocessed.reason);
    if (preprocessed.examples.length === 0) {
      tally.addLeftOut();
      return [];
    }
    const judged = readJudged(task.evaluation, record);
    if (!judged.ok) return malformed(judged.reason);
    const examples: NewExample[] = [];
    for (const pair of preprocessed.examples) {
      const encoded = this.#encoder.encode(pair);
      if (!encoded.ok) return malformed(encoded.reason);
      const { tokens, inputsLength, cut } = encoded;
      examples.push({
        inputs: pair.inputs,
        inputIds: Array.from(tokens.subarray(0, inputsLength)),
        targets: pair.targets,
        targetIds: Array.from(tokens.subarray(inputsLength)),
        references: orderReferences(judged.references, pair.targets),
        fields: judged.fields,
        cutInputTokens: cut.inputs,
        cutTargetTokens: cut.targets,
      });
    }
    tally.addWithExamples();
    return examples;
  }
}

const EVALUATION_SPANS = hashName('evaluation-span-corruption');

class Documents implements Content {
  readonly fields: readonly string[];
  readonly #task: string;
  readonly #set: string;
  readonly #tokenizer: Tokenizer;
  readonly #template: Template;
  readonly #encoder: TextIds;
  readonly #cutter: SegmentCutter;
  #numSegments = 0;

  constructor(
    { text, segmentLength }: Extract<DeclaredSet['content'], { kind: 'denoising' }>,
    set: string,
    tokenizer: Tokenizer,
  ) {
    this.#task = text.name;
    this.#set = set;
    this.#tokenizer = tokenizer;
    this.#template = parseTemplate(text.text);
    this.fields = this.#template.fields;
    this.#encoder = new TextIds(tokenizer);
    this.#cutter = new SegmentCutter(segmentLength);
  }

  examplesOf({ fields, file, row }: GoodRecord, tally: RowTally): readonly NewExample[] {
    const malformed = (reason: string): [] => {
      tally.addMalformed(file, row, reason);
      return [];
    };
    const document = renderTemplate(this.#template, fields);
    if (!document.ok) return malformed(document.reason);
    if (!document.text.isWellFormed()) return malformed(CUT_CHARACTER);
    const count = this.#encoder.encodeAt(document.text, 0);
    if (count === undefined) return malformed('the document is too long for the tokenizer');
    if (count === 0) return malformed('the document has no tokens');
    tally.addWithExamples();
    const { from, to } = chooseChunk(count, { task: this.#task, file, row });
    const examples: NewExample[] = [];
    for (const segment of this.#cutter.push(this.#encoder.ids.subarray(from, to)))
      examples.push(this.#corrupt(segment));
    return examples;
  }

  #corrupt(segment: Int32Array): NewExample {
    const { vocabSize, numExtraIds } = this.#tokenizer;
    const random = new RandomStream([EVALUATION_SPANS, hashName(this.#task), hashName(this.#set), this.#numSegments++]);
    const { inputs, targets } = corruptSpans(segment, random, {
      firstSentinel: vocabSize - 1,
      numSentinels: numExtraIds,
    });
    const text = this.#tokenizer.decode(targets);
    return {
      inputs: this.#tokenizer.decode(inputs),
      inputIds: [...inputs],
      targets: text,
      targetIds: [...targets],
      references: [text],
      fields: {},
      cutInputTokens: 0,
      cutTargetTokens: 0,
    };
  }
}
