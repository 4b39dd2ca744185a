/** The records of all units of a task → its manifest. Only checks; no shard is read or moved. Pure. */
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { listNames } from '../../shared/list-names.ts';
import { createTaskManifest, hashIdentity, type TaskIdentity, type TaskManifest } from './manifest.ts';
import { checkRows } from './row-tally.ts';
import type { ShardEntry } from './prepared-format.ts';
import { addCounts, checkCounts } from './unit-counts.ts';
import { unitFolderName } from './unit-folder.ts';
import type { UnitRecord } from './unit-record.ts';

export interface MergeInit {
  readonly name: string;
  readonly identity: TaskIdentity;
  readonly declared: string;
  /** 0 for a supervised task. */
  readonly segmentLength: number;
  readonly tokenBytes: 2 | 4;
  /** The records of all units, in order. */
  readonly records: readonly UnitRecord[];
  /** Largest share of malformed rows. */
  readonly badRowThreshold: number;
  /** Rows of the source, if its publisher tells them. */
  readonly expectedRows?: number | undefined;
}

/**
 * @throws SOURCE_MALFORMED for too many malformed rows, other rows than expected, no rows, or no example; INTERNAL if a unit is of another task
 * or number, or if a row or token is not accounted for
 */
export function mergeTask(init: MergeInit): TaskManifest {
  const { name, identity, declared, segmentLength, tokenBytes, records, badRowThreshold } = init;
  const hash = hashIdentity(name, identity);
  for (const [number, record] of records.entries())
    assertInvariant(
      record.task === name && record.number === number && record.identity === hash,
      `task ${name}: unit ${number} is unit ${record.number} of ${record.task}`,
    );
  const counts = addCounts(records.map((record) => record.counts));
  const shards = records.flatMap((record) =>
    record.shards.map((shard) => inFolder(shard, unitFolderName(record.number))),
  );
  checkCounts(counts, identity.kind, `task ${name}`);
  const stored = shards.reduce((sum, shard) => sum + shard.numExamples, 0);
  assertInvariant(
    stored === counts.numExamples,
    `task ${name}: ${counts.numExamples} examples, ${stored} in the shards`,
  );
  checkRows(name, counts, badRowThreshold);
  checkExpectedRows(init, counts.rows.read);
  if (counts.numExamples === 0) throw noExamples(init, counts);
  return createTaskManifest({
    name,
    identity,
    declared,
    numUnits: records.length,
    tokenType: tokenBytes === 2 ? 'uint16' : 'int32',
    numExamples: counts.numExamples,
    numTokens: counts.numTokens,
    segmentLength,
    truncated: counts.truncated,
    tokensIn: counts.tokensIn,
    droppedTokens: counts.dropped,
    numRows: counts.rows.read,
    leftOutRows: counts.rows.leftOut,
    ...(counts.rows.heldOut === undefined ? {} : { heldOutRows: counts.rows.heldOut }),
    malformed: { numRows: counts.rows.malformed, kinds: counts.malformedKinds, first: counts.malformedFirst },
    shards,
  });
}

function inFolder({ numExamples, tokens, checksums, index }: ShardEntry, folder: string): ShardEntry {
  const placed = (digest: ShardEntry['tokens']) => ({ ...digest, file: `${folder}/${digest.file}` });
  return {
    numExamples,
    tokens: placed(tokens),
    checksums: placed(checksums),
    ...(index === undefined ? {} : { index: placed(index) }),
  };
}

/** As the datasets library does: another number means files of another upload, missing ones, or a README.md that is out of date. */
function checkExpectedRows({ name, identity, expectedRows }: MergeInit, found: number): void {
  if (expectedRows === undefined || expectedRows === found) return;
  const { origin, files } = identity.source;
  const of = origin === undefined ? 'its source' : `${origin.dataset}, split ${origin.split}`;
  throw new TrainerError(
    'SOURCE_MALFORMED',
    `task ${name}: README.md of ${of} tells ${expectedRows} rows (dataset_info.num_examples), but its ${files.length} file(s) have ${found}: ` +
      `${listNames(
        files.map((file) => file.name),
        { most: 6 },
      )}. Files may be missing or of another upload. If they are right, name them ` +
      'with files and format, and prepare again: what was made is kept',
  );
}

function noExamples({ name, segmentLength }: MergeInit, counts: ReturnType<typeof addCounts>): TrainerError {
  const message =
    segmentLength > 0
      ? `task ${name}: expected text for at least one segment of ${segmentLength} tokens, found ${counts.tokensIn} tokens; ` +
        'give it more text, larger units or a smaller inputs length'
      : (counts.rows.heldOut ?? 0) > 0
        ? `task ${name}: all ${counts.rows.heldOut} rows with examples are held out for validation; name its source, or write validation: { cut: none }`
        : `task ${name}: none of ${counts.rows.read} rows gives an example; correct its preprocessor or remove the task`;
  return new TrainerError('SOURCE_MALFORMED', message);
}
