/**
 * Makes one unit, or keeps it if it exists, is whole and has the same identity. It is safe to repeat this, anywhere, at
 * any time.
 *
 * Memory: the state of the source's decoder, one record, and the buffers of the shard writer.
 */
import { join } from 'node:path';
import { writeNewFile } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { dropPartialFolder, makePartialFolder } from '../../shared/partial-folders.ts';
import { readUnit } from '../sources/read-unit.ts';
import type { ResolvedSource, SourceUnit } from '../sources/resolved-source.ts';
import type { SourceAccess } from '../sources/source-access.ts';
import type { FeatureLengths } from '../tasks/task.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { hashPreprocessor, type PreparableTask } from './preparable-task.ts';
import { ShardWriter, type ShardWriterInit } from './shard-writer.ts';
import { checkCounts } from './unit-counts.ts';
import { verifyUnit, publishUnit, removeUnit, unitFolderName, type UnitKey } from './unit-folder.ts';
import { createUnitRecord, serializeUnitRecord, UNIT_FILE, type UnitRecord } from './unit-record.ts';
import { createUnitRows } from './unit-rows.ts';

/** A unit that a process must make or check: plain values. */
export interface UnitOrder extends UnitKey {
  /** `check` makes nothing. */
  readonly mode: 'make' | 'check';
  /** Whether to hash the shards of an existing unit, or to compare only their sizes. */
  readonly hashes: boolean;
  /** Hash of the preprocessor's identity. */
  readonly preprocessor: string;
  /** The source, with only the file of this unit. */
  readonly source: ResolvedSource;
  readonly unit: SourceUnit;
}

/** What all units of a mixture have in common. */
export interface UnitContext {
  /** Folder of the prepared mixture. It contains the folders of the tasks. */
  readonly outDir: string;
  readonly tokenizer: Tokenizer;
  readonly featureLengths: FeatureLengths;
  readonly shardBytes: number;
  readonly access: SourceAccess;
  readonly preparableOf: (task: string) => PreparableTask | undefined;
  /** Opens the files of shards. Tests replace it. */
  readonly openFile?: ShardWriterInit['openFile'];
}

export interface UnitProgress {
  /** Bytes of the file that were read so far, before decompression. */
  readonly bytesRead: number;
  readonly numRows: number;
  readonly numExamples: number;
  readonly numTokens: number;
}

export type EnsuredUnit =
  | {
      readonly outcome: 'made' | 'kept';
      /** Why an existing unit was not kept. */
      readonly reason?: string;
      readonly record: UnitRecord;
    }
  /** The unit was only checked, and does not exist. */
  | { readonly outcome: 'missing' };

/**
 * @throws SOURCE_MALFORMED if most rows are malformed, SOURCE_UNREADABLE, CONFIG_INVALID (a missing column), DISK_FULL,
 * PATH_UNUSABLE, ABORTED. Nothing of the unit is left then.
 */
export async function ensureUnit(
  order: UnitOrder,
  context: UnitContext,
  { signal, onProgress }: { signal?: AbortSignal; onProgress?: (progress: UnitProgress) => void } = {},
): Promise<EnsuredUnit> {
  const taskFolder = join(context.outDir, order.task);
  const found = await verifyUnit(join(taskFolder, unitFolderName(order.number)), order, order.hashes, signal);
  if (found.state === 'whole') return { outcome: 'kept', record: found.record };
  if (order.mode === 'check') return { outcome: 'missing' };
  const reason = found.state === 'missing' ? {} : { reason: found.reason };
  if (found.state !== 'missing') await removeUnit(taskFolder, order, found.state);
  const partial = await makePartialFolder(taskFolder, unitFolderName(order.number));
  try {
    const record = await writeUnit(order, context, partial, signal, onProgress);
    await publishUnit(partial, taskFolder, order);
    return { outcome: 'made', record, ...reason };
  } finally {
    await dropPartialFolder(partial);
  }
}

async function writeUnit(
  { task, number, identity, source, unit, preprocessor }: UnitOrder,
  { tokenizer, featureLengths, shardBytes, access, preparableOf, openFile }: UnitContext,
  folder: string,
  signal: AbortSignal | undefined,
  onProgress: ((progress: UnitProgress) => void) | undefined,
): Promise<UnitRecord> {
  const preparable = preparableOf(task);
  if (preparable === undefined || hashPreprocessor(preparable) !== preprocessor)
    throw new TrainerError(
      'CONFIG_INVALID',
      `task ${task}: the mixture file changed while it was being prepared; start again when the file is complete`,
    );
  const tokenBytes = tokenBytesOf(tokenizer);
  const writer = new ShardWriter({
    folder,
    tokenBytes,
    shardBytes,
    hasIndex: preparable.kind === 'supervised',
    ...(openFile === undefined ? {} : { openFile }),
  });
  const rows = createUnitRows({ preparable, tokenizer, featureLengths, sink: writer });
  let bytesRead = 0;
  const report = (): void => {
    const { numExamples, numTokens } = rows;
    onProgress?.({ bytesRead, numRows: rows.tally.numRows, numExamples, numTokens });
  };
  try {
    const batches = readUnit(source, unit, {
      requiredFields: rows.fields,
      access,
      ...(signal === undefined ? {} : { signal }),
      onBytes: (numBytes) => {
        bytesRead += numBytes;
        report();
      },
      onDownload: report,
    });
    for await (const batch of batches) {
      throwIfAborted(signal, `preparing task ${task}`);
      await rows.add(batch);
      rows.tally.checkEarly();
      report();
    }
    const shards = [...(await writer.finish())];
    const counts = rows.counts();
    const what = `task ${task} unit ${number}`;
    checkCounts(counts, preparable.kind, what);
    const stored = shards.reduce((sum, shard) => sum + shard.numExamples, 0);
    const storedBytes = shards.reduce((sum, { tokens }) => sum + tokens.bytes, 0);
    assertInvariant(
      stored === counts.numExamples && storedBytes === counts.numTokens * tokenBytes,
      `${what}: ${counts.numExamples} examples of ${counts.numTokens} tokens, but the shards hold ${stored} in ${storedBytes} B`,
    );
    const file = source.files[unit.file]?.name ?? '';
    const record = createUnitRecord({ task, number, identity, file, part: unit.part, counts, shards });
    await writeNewFile(join(folder, UNIT_FILE), serializeUnitRecord(record));
    return record;
  } catch (error) {
    await writer.abandon();
    throw withTask(error, task);
  }
}

/** Bytes of a stored token. */
export function tokenBytesOf({ vocabSize }: Tokenizer): 2 | 4 {
  return vocabSize <= 65_536 ? 2 : 4;
}

/** Adds the name of the task to an error of its source. */
function withTask(thrown: unknown, task: string): unknown {
  if (!(thrown instanceof TrainerError) || thrown.message.startsWith(`task ${task}`)) return thrown;
  const { code, message, retryable } = thrown;
  if (code !== 'SOURCE_UNREADABLE' && code !== 'CONFIG_INVALID' && !code.startsWith('STORAGE_')) return thrown;
  return new TrainerError(code, `task ${task}: ${message}`, { retryable, cause: thrown.cause ?? thrown });
}
