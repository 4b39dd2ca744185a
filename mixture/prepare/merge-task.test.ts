import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createIdentity, hashIdentity } from './manifest.ts';
import { mergeTask, type MergeInit } from './merge-task.ts';
import { addCounts, type UnitCounts } from './unit-counts.ts';
import { createUnitRecord, parseUnitRecord, serializeUnitRecord, type UnitRecord } from './unit-record.ts';

const HASH = 'a'.repeat(64);
const identity = createIdentity({
  kind: 'supervised',
  source: { format: 'jsonl', quotes: true, files: [{ name: 'a.jsonl', bytes: 10, version: 'sha256:0' }] },
  unitBytes: 5,
  preprocessor: {},
  tokenizer: HASH,
  featureLengths: { inputs: 8, targets: 8 },
  shardBytes: 100,
});

function record(number: number, numExamples: number, counts: Partial<UnitCounts> = {}): UnitRecord {
  const digest = (file: string) => ({ file, bytes: 4 * numExamples, sha256: HASH });
  return createUnitRecord({
    task: 'a',
    number,
    identity: hashIdentity('a', identity),
    file: 'a.jsonl',
    part: { kind: 'bytes', from: 5 * number, to: 5 * number + 5 },
    counts: {
      ...addCounts([]),
      numExamples,
      numTokens: 2 * numExamples,
      rows: { read: numExamples, withExamples: numExamples, leftOut: 0, malformed: 0 },
      ...counts,
    },
    shards:
      numExamples === 0
        ? []
        : [
            {
              numExamples,
              tokens: digest('shard-00000.tokens'),
              checksums: digest('shard-00000.crc'),
              index: digest('shard-00000.index'),
            },
          ],
  });
}

const merge = (records: readonly UnitRecord[], init: Partial<MergeInit> = {}) =>
  mergeTask({
    name: 'a',
    identity,
    declared: HASH,
    segmentLength: 0,
    tokenBytes: 2,
    badRowThreshold: 0.1,
    records,
    ...init,
  });

describe('merging a task', () => {
  test('adds up its units and names their shards by folder, also if a unit is empty', () => {
    const { numExamples, numTokens, numUnits, shards } = merge([record(0, 3), record(1, 0), record(2, 4)]);
    assert.deepEqual([numExamples, numTokens, numUnits], [7, 14, 3]);
    assert.deepEqual(
      shards.map(({ tokens, index }) => [tokens.file, index?.file]),
      [
        ['unit-00000/shard-00000.tokens', 'unit-00000/shard-00000.index'],
        ['unit-00002/shard-00000.tokens', 'unit-00002/shard-00000.index'],
      ],
    );
  });

  test('is INTERNAL for units in the wrong order, of another task or identity, or with other counts in their shards', () => {
    const [first, second] = [record(0, 3), record(1, 4)];
    for (const records of [
      [second, first],
      [first, { ...second, task: 'b' }],
      [first, { ...second, identity: HASH }],
      [first, { ...second, shards: first.shards }],
    ])
      assert.throws(() => merge(records), { code: 'INTERNAL', message: /task a/ });
  });

  test('is SOURCE_MALFORMED for too many malformed rows in all units together, not in a single unit', () => {
    const bad = {
      rows: { read: 4, withExamples: 2, leftOut: 1, malformed: 1 },
      malformedKinds: [{ reason: 'not JSON', rows: 1 }],
      malformedFirst: [{ file: 'a.jsonl@5', row: 2, reason: 'not JSON: x' }],
    };
    const records = [record(0, 20), record(1, 2, bad)];
    const { numRows, leftOutRows, malformed } = merge(records);
    assert.deepEqual([numRows, leftOutRows, malformed.numRows], [24, 1, 1]);
    assert.throws(() => merge(records, { badRowThreshold: 0.01 }), {
      code: 'SOURCE_MALFORMED',
      message:
        /task a: 1 of 24 rows are malformed \(4\.17%\), at most 1% may be.*1 × not JSON.*\n {2}a\.jsonl@5:2: not JSON: x/,
    });
  });

  test('is SOURCE_MALFORMED if there are no rows, or no row gives an example', () => {
    assert.throws(() => merge([]), { code: 'SOURCE_MALFORMED', message: /no rows/ });
    const leftOut = record(0, 0, { rows: { read: 3, withExamples: 0, leftOut: 3, malformed: 0 } });
    assert.throws(() => merge([leftOut]), { code: 'SOURCE_MALFORMED', message: /none of 3 rows/ });
  });
});

describe('the record of a unit', () => {
  test('is read back unchanged, and any changed byte is SHARD_CORRUPT', () => {
    const text = serializeUnitRecord(record(3, 2));
    assert.equal(serializeUnitRecord(parseUnitRecord(text, 'p')), text);
    for (let at = 0; at < text.length; at += 7) {
      const changed = text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ 1) + text.slice(at + 1);
      assert.throws(() => parseUnitRecord(changed, 'the/path'), { code: 'SHARD_CORRUPT', message: /the\/path/ });
    }
  });
});
