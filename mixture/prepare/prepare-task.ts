/**
 * One task: its source → token shards and a manifest, in a folder that appears whole or not at all.
 *
 * The folder is made under a temporary name that no other process uses, and renamed when all its files are on disk; two processes
 * that prepare the same task at the same time make the same bytes, and one of them is thrown away.
 */
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, systemCode, throwIfAborted, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { dropPartialFolder, makePartialFolder } from '../../shared/partial-folders.ts';
import { readSource } from '../sources/read-unit.ts';
import type { ResolvedSource } from '../sources/resolved-source.ts';
import type { SourceAccess } from '../sources/source-access.ts';
import type { RecordBatch } from '../sources/source-record.ts';
import type { Denoising, Task } from '../tasks/task.ts';
import { parseTemplate, renderTemplate } from '../tasks/template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { ExampleEncoder, SegmentCutter } from './example-encoder.ts';
import {
  createTaskManifest,
  MANIFEST_FILE,
  serializeTaskManifest,
  type TaskIdentity,
  type TaskManifest,
} from './manifest.ts';
import { checkRows, RowTally } from './row-tally.ts';
import { ShardWriter } from './shard-writer.ts';

export type PreparableTask =
  | { readonly kind: 'supervised'; readonly task: Task }
  | { readonly kind: 'denoising'; readonly task: Denoising; readonly segmentLength: number };

export interface TaskProgress {
  readonly task: string;
  /** Bytes of the source read so far, and all of them, before decompression. */
  readonly bytesRead: number;
  readonly totalBytes: number;
  readonly numExamples: number;
  readonly numTokens: number;
}

export interface PrepareTaskInit {
  readonly preparable: PreparableTask;
  readonly source: ResolvedSource;
  readonly access: SourceAccess;
  readonly identity: TaskIdentity;
  readonly tokenizer: Tokenizer;
  /** Folder of the prepared mixture. */
  readonly outDir: string;
  readonly badRowThreshold: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TaskProgress) => void;
}

/**
 * @throws SOURCE_MALFORMED, SOURCE_UNREADABLE, CONFIG_INVALID (a header without a column of the template), DISK_FULL,
 *   PATH_UNUSABLE, ABORTED; nothing of the task is left then
 */
export async function prepareTask(init: PrepareTaskInit): Promise<TaskManifest> {
  const { name } = init.preparable.task;
  const partial = await makePartialFolder(init.outDir, name);
  try {
    const manifest = await writeShards(init, partial);
    await writeNewFile(join(partial, MANIFEST_FILE), serializeTaskManifest(manifest));
    await syncFolder(partial);
    await publish(partial, join(init.outDir, name));
    await syncFolder(init.outDir);
    return manifest;
  } finally {
    await dropPartialFolder(partial);
  }
}

async function publish(partial: string, folder: string): Promise<void> {
  try {
    await rm(folder, { recursive: true, force: true });
    await rename(partial, folder);
  } catch (error) {
    // Another process published the same task in between: its bytes are those of `partial`, which is dropped.
    if (systemCode(error) !== 'ENOTEMPTY' && systemCode(error) !== 'EEXIST')
      throw toStorageError(error, 'create', folder);
  }
}

async function writeShards(init: PrepareTaskInit, folder: string): Promise<TaskManifest> {
  const { preparable, identity, tokenizer, badRowThreshold } = init;
  const { name } = preparable.task;
  const tokenBytes = tokenizer.vocabSize <= 65_536 ? 2 : 4;
  const writer = new ShardWriter({
    folder,
    tokenBytes,
    shardBytes: identity.shardBytes,
    hasIndex: preparable.kind === 'supervised',
  });
  const consumer =
    preparable.kind === 'supervised'
      ? new SupervisedRows(init, preparable.task, writer)
      : new Documents(init, preparable, writer);
  const totalBytes = identity.source.files.reduce((sum, { bytes }) => sum + bytes, 0);
  const reading = { bytesRead: 0 };
  try {
    for await (const batch of readRows(init, consumer.fields, reading)) {
      throwIfAborted(init.signal, `preparing task ${name}`);
      await consumer.take(batch);
      consumer.tally.checkEarly();
      const { numExamples, numTokens } = consumer;
      init.onProgress?.({ task: name, bytesRead: reading.bytesRead, totalBytes, numExamples, numTokens });
    }
    const rows = consumer.tally.counts();
    checkRows(name, rows, badRowThreshold);
    const shards = [...(await writer.finish())];
    if (consumer.numExamples === 0) throw consumer.noExamples();
    return createTaskManifest({
      name,
      identity,
      tokenType: tokenBytes === 2 ? 'uint16' : 'int32',
      numExamples: consumer.numExamples,
      numTokens: consumer.numTokens,
      segmentLength: preparable.kind === 'denoising' ? preparable.segmentLength : 0,
      truncated: consumer.truncated,
      droppedTokens: consumer.droppedTokens,
      ...rows,
      shards,
    });
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

function readRows(
  { source, access, signal }: PrepareTaskInit,
  requiredFields: readonly string[],
  reading: { bytesRead: number },
): AsyncGenerator<RecordBatch> {
  return readSource(source, {
    requiredFields,
    ...(signal === undefined ? {} : { signal }),
    onBytes: (numBytes) => (reading.bytesRead += numBytes),
    access,
  });
}

/** Rows of a supervised task → examples. */
class SupervisedRows {
  readonly tally: RowTally;
  readonly truncated = { inputs: 0, targets: 0 };
  readonly droppedTokens = 0;
  readonly fields: readonly string[];
  numExamples = 0;
  numTokens = 0;
  readonly #task: Task;
  readonly #writer: ShardWriter;
  readonly #encoder: ExampleEncoder;

  constructor({ tokenizer, identity, badRowThreshold }: PrepareTaskInit, task: Task, writer: ShardWriter) {
    this.tally = new RowTally(task.name, badRowThreshold);
    this.fields = task.preprocessor.fields;
    this.#task = task;
    this.#writer = writer;
    this.#encoder = new ExampleEncoder(tokenizer, identity.featureLengths);
  }

  async take(batch: RecordBatch): Promise<void> {
    for (const record of batch) {
      const reason = record.ok ? await this.#addRow(record.fields) : record.reason;
      if (reason === undefined) this.tally.addGood();
      else this.tally.addMalformed(record.file, record.row, reason, record.ok ? 1 : record.rows);
    }
  }

  noExamples(): TrainerError {
    const what = `task ${this.#task.name}: none of ${this.tally.counts().numRows} rows gives an example`;
    return new TrainerError('SOURCE_MALFORMED', `${what}; correct its preprocessor or remove the task`);
  }

  /** @returns why the row is malformed; undefined: its examples are written */
  async #addRow(fields: Readonly<Record<string, unknown>>): Promise<string | undefined> {
    const preprocessed = this.#task.preprocessor.apply(fields);
    if (!preprocessed.ok) return preprocessed.reason;
    for (const pair of preprocessed.examples) {
      const encoded = this.#encoder.encode(pair);
      if (!encoded.ok) return encoded.reason;
      if (encoded.truncated.inputs) this.truncated.inputs += 1;
      if (encoded.truncated.targets) this.truncated.targets += 1;
      this.numExamples += 1;
      this.numTokens += encoded.tokens.length;
      const writing = this.#writer.add(encoded.tokens, encoded.inputsLength);
      if (writing !== undefined) await writing;
    }
    return undefined;
  }
}

/** Documents of the denoising task → segments. */
class Documents {
  readonly tally: RowTally;
  readonly truncated = { inputs: 0, targets: 0 };
  readonly fields: readonly string[];
  numExamples = 0;
  numTokens = 0;
  readonly #name: string;
  readonly #segmentLength: number;
  readonly #template: ReturnType<typeof parseTemplate>;
  readonly #writer: ShardWriter;
  readonly #cutter: SegmentCutter;

  constructor(
    { tokenizer, badRowThreshold }: PrepareTaskInit,
    { task, segmentLength }: Extract<PreparableTask, { kind: 'denoising' }>,
    writer: ShardWriter,
  ) {
    this.tally = new RowTally(task.name, badRowThreshold);
    this.#name = task.name;
    this.#segmentLength = segmentLength;
    this.#template = parseTemplate(task.text);
    this.fields = this.#template.fields;
    this.#writer = writer;
    this.#cutter = new SegmentCutter(tokenizer, segmentLength);
  }

  get droppedTokens(): number {
    return this.#cutter.numLeft;
  }

  async take(batch: RecordBatch): Promise<void> {
    for (const record of batch) {
      const reason = record.ok ? await this.#addDocument(record.fields) : record.reason;
      if (reason === undefined) this.tally.addGood();
      else this.tally.addMalformed(record.file, record.row, reason, record.ok ? 1 : record.rows);
    }
  }

  noExamples(): TrainerError {
    return new TrainerError(
      'SOURCE_MALFORMED',
      `task ${this.#name}: expected text for at least one segment of ${this.#segmentLength} tokens, found ${this.droppedTokens} tokens; ` +
        'give it more text or choose a smaller inputs length',
    );
  }

  async #addDocument(fields: Readonly<Record<string, unknown>>): Promise<string | undefined> {
    const document = renderTemplate(this.#template, fields);
    if (!document.ok) return document.reason;
    const segments = this.#cutter.push(document.text);
    if (segments === undefined) return 'the document has no tokens or is too long for the tokenizer';
    for (const segment of segments) {
      this.numExamples += 1;
      this.numTokens += segment.length;
      const writing = this.#writer.add(segment, segment.length);
      if (writing !== undefined) await writing;
    }
    return undefined;
  }
}
