import assert from 'node:assert/strict';
import { cp, mkdtemp, open, readdir, readFile, rm, truncate, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, mock, test } from 'node:test';
import fc from 'fast-check';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logger.ts';
import { DiskSpace } from '../run-folder/disk-space.ts';
import { auditLedger } from './audit.ts';
import { LedgerReader, type RecordedStep } from './ledger-reader.ts';
import { LedgerWriter } from './ledger-writer.ts';
import { dealt, encoded, openSession, plannedStep, recordOf } from './ledger.fixture.ts';
import { encodeSeal, parseSegment } from './segment-format.ts';

let root = '';
let numFolders = 0;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-ledger-'));
});
after(() => rm(root, { recursive: true, force: true }));
const newFolder = async (): Promise<string> => {
  const folder = join(root, String(numFolders++));
  await cp(join(import.meta.dirname, '..', '..', 'e2e', 'tiny.yaml'), join(folder, 'config.yaml'));
  return folder;
};

async function allSteps(folder: string): Promise<RecordedStep[]> {
  const reader = await LedgerReader.open(folder);
  const { firstStep, lastStep } = reader.history;
  const found: RecordedStep[] = [];
  for await (const step of reader.steps({ from: firstStep, to: lastStep })) found.push(step);
  return found;
}

const segments = async (folder: string) => (await readdir(join(folder, 'ledger'))).sort();

async function assertHolds(folder: string, last: number): Promise<void> {
  const steps = await allSteps(folder);
  assert.deepEqual(
    steps.map(({ step }) => step),
    Array.from({ length: last }, (_, i) => i + 1),
  );
  for (const found of steps) assert.deepEqual(found.readLanes(), dealt(found.step).lanes);
}

describe('a ledger on disk', () => {
  test('returns every step of a session, under way or ended', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    await run.train(30);
    await assertHolds(folder, 30);
    await run.stop('in order');
    await assertHolds(folder, 30);
    const [found] = await allSteps(folder);
    const { gradDigest, loss, gradNorm, learningRate, tasks } = recordOf(1);
    assert.deepEqual(
      [found?.gradDigest, found?.loss, found?.gradNorm, found?.learningRate],
      [gradDigest, loss, gradNorm, learningRate],
    );
    assert.deepEqual(
      found?.tasks.map(({ task, numExamples, inputTokens, targetTokens }) => [
        task,
        numExamples,
        inputTokens,
        targetTokens,
      ]),
      tasks.map(({ task, numExamples, inputTokens, targetTokens }) => [task, numExamples, inputTokens, targetTokens]),
    );
  });

  test('a resumed run writes a new segment, and its repeated steps supersede the earlier ones', async () => {
    const folder = await newFolder();
    const first = await openSession(folder);
    await first.train(20);
    await first.stop('in order');
    const second = await openSession(folder, { from: 12 });
    await second.train(17);
    await second.stop('killed');
    const third = await openSession(folder);
    await third.train(25);
    await third.stop('in order');
    await assertHolds(folder, 25);
    const epochs = (await allSteps(folder)).map(({ epoch }) => epoch);
    assert.deepEqual(epochs, [...Array<number>(12).fill(1), ...Array<number>(5).fill(2), ...Array<number>(8).fill(3)]);
    assert.equal((await segments(folder)).length, 3);
  });

  test('an uncommitted step is removed with a note, and the next session records it again', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    await run.train(5);
    await run.ledger.append(recordOf(6));
    await run.stop('killed');
    const init = {
      epoch: 2,
      seed: 1,
      mixtureHash: '',
      tasks: [],
      start: { step: 5, firstDraws: [], isInsideWindow: false },
    };
    const { notes } = await LedgerWriter.open({
      ...init,
      folder: join(folder, 'ledger'),
      committed: { epoch: 1, step: 5 },
    });
    assert.match(notes.join('\n'), /cut 1 step off segment-000001\.ledger that had been written and not committed/u);
    const next = await openSession(folder);
    await next.train(8);
    await next.stop('killed');
    await assertHolds(folder, 8);
  });

  test('a last record torn at any byte is removed, and the next session appends after it', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    await run.train(3);
    const whole = await readFile(join(folder, 'ledger', 'segment-000001.ledger'));
    await run.ledger.append(recordOf(4));
    await run.stop('killed');
    const torn = await readFile(join(folder, 'ledger', 'segment-000001.ledger'));
    for (let length = whole.length; length < torn.length; length += 3) {
      const copy = await newFolder();
      await cp(folder, copy, { recursive: true });
      await truncate(join(copy, 'ledger', 'segment-000001.ledger'), length);
      const next = await openSession(copy);
      await next.train(5);
      await next.stop('in order');
      await assertHolds(copy, 5);
    }
  });

  test('a segment with a torn header is set aside', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    await run.train(2);
    await run.stop('in order');
    const second = join(folder, 'ledger', 'segment-000002.ledger');
    const header = (await readFile(join(folder, 'ledger', 'segment-000001.ledger'))).subarray(0, 60);
    for (const bytes of [Buffer.alloc(0), header, Buffer.alloc(5000)]) {
      await writeFile(second, bytes);
      const next = await openSession(folder);
      await next.stop('in order');
      assert.deepEqual((await segments(folder)).filter((name) => name.endsWith('.ledger')).length, 1);
    }
    const next = await openSession(folder);
    await next.train(4);
    await next.stop('in order');
    await assertHolds(folder, 4);
  });

  test('any flipped bit and any cut of a sealed segment is detected', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    await run.train(4);
    await run.stop('in order');
    const bytes = await readFile(join(folder, 'ledger', 'segment-000001.ledger'));
    const isWhole = (found: Buffer): boolean => {
      const segment = parseSegment(found);
      return typeof segment !== 'string' && segment.isSealed && segment.damage === undefined;
    };
    assert.ok(isWhole(bytes));
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(7), (at, bit) => {
        const flipped = Buffer.from(bytes);
        flipped[at] = flipped[at]! ^ (1 << bit);
        assert.ok(!isWhole(flipped), `bit ${bit} of byte ${at}`);
      }),
      { numRuns: 400 },
    );
    for (let length = 0; length < bytes.length; length++)
      assert.ok(!isWhole(bytes.subarray(0, length)), `cut at ${length}`);
    assert.ok(!isWhole(Buffer.concat([bytes, Buffer.alloc(1)])));
  });

  test('a full segment is sealed, and the next step begins another one', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    const big = plannedStep(1);
    const rows = Array.from({ length: 60_000 }, (_, i) => [{ task: 2, index: (i * 7919) % 5000, epoch: i }]);
    for (let step = 1; step <= 9; step++) {
      await run.ledger.append(encoded({ ...big, step, lanes: [rows] }));
      const { gradDigest, loss } = big;
      const commit = { epoch: run.epoch, generation: 1, step, cursor: {}, gradDigest, loss };
      await run.journal.append({ kind: 'step-committed', ...commit });
    }
    await run.stop('in order');
    assert.ok((await segments(folder)).length > 1);
    const found = await allSteps(folder);
    assert.equal(found.length, 9);
    for (const step of found) assert.deepEqual(step.readLanes(), [rows]);
  });

  test('a full segment on a full disk is sealed when there is diskSpace, and the next one begins after it', async () => {
    const folder = await newFolder();
    let numWaits = 0;
    const clock: Clock = { ...systemClock, sleep: () => Promise.resolve(numWaits++).then(() => undefined) };
    const diskSpace = new DiskSpace({ folder, clock, signal: new AbortController().signal });
    diskSpace.logTo(createLogger({}));
    const run = await openSession(folder, { diskSpace });
    const big = plannedStep(1);
    const rows = Array.from({ length: 60_000 }, (_, i) => [{ task: 2, index: (i * 7919) % 5000, epoch: i }]);
    const sealBytes = encodeSeal(1, Buffer.alloc(32)).length;
    const probe = await open(join(folder, 'config.yaml'));
    const prototype = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const append = prototype.appendFile; // eslint-disable-line @typescript-eslint/unbound-method -- it is called on the handle below
    let toFail = 2;
    const mocked = mock.method(prototype, 'appendFile', async function (this: FileHandle, bytes: Buffer) {
      const isSeal = bytes.length === sealBytes;
      await append.call(this, isSeal && toFail > 0 ? bytes.subarray(0, 7) : bytes);
      if (isSeal && toFail-- > 0) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
    });
    try {
      for (let step = 1; step <= 9; step++) {
        await run.ledger.append(encoded({ ...big, step, lanes: [rows] }));
        const { gradDigest, loss } = big;
        const commit = { epoch: run.epoch, generation: 1, step, cursor: {}, gradDigest, loss };
        await run.journal.append({ kind: 'step-committed', ...commit });
      }
    } finally {
      mocked.mock.restore();
    }
    await run.stop('in order');
    assert.deepEqual([numWaits, toFail < 0], [2, true]);
    let numRecords = 0;
    for (const name of await segments(folder)) {
      const parsed = parseSegment(await readFile(join(folder, 'ledger', name)));
      assert.ok(typeof parsed !== 'string' && parsed.isSealed && parsed.damage === undefined, name);
      numRecords += parsed.records.length;
    }
    assert.equal(numRecords, 9);
  });

  test('after a failed write every later append fails', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    await run.train(2);
    await run.ledger.close();
    await assert.rejects(run.ledger.append(recordOf(3)), { code: 'INTERNAL', message: /closed/u });
    await run.stop('in order');
    const next = await openSession(folder);
    await writeFile(join(folder, 'ledger', 'segment-000002.ledger'), '');
    await assert.rejects(next.train(3), { code: 'PATH_UNUSABLE', message: /segment-000002/u });
    await assert.rejects(next.ledger.append(recordOf(3)), { code: 'PATH_UNUSABLE' });
    await next.stop('killed');
  });

  test('a step out of order is rejected', async () => {
    const run = await openSession(await newFolder());
    await assert.rejects(run.ledger.append(recordOf(2)), {
      code: 'INTERNAL',
      message: /step 2 recorded after step 0/u,
    });
    await run.stop('in order');
  });

  test('a ledger of an older format is rejected with the format, by reader, audit and writer', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    await run.train(2);
    await run.stop('in order');
    const path = join(folder, 'ledger', 'segment-000001.ledger');
    const bytes = await readFile(path);
    bytes.write('EXMIXLG1');
    await writeFile(path, bytes);
    const error = {
      code: 'LEDGER_CORRUPT',
      message: /segment-000001\.ledger: expected a ledger of format 2, found format 1/u,
    };
    await assert.rejects(LedgerReader.open(folder), error);
    await assert.rejects(auditLedger({ runFolder: folder }), error);
    const init = { epoch: 2, seed: 1, mixtureHash: '', tasks: [], committed: { epoch: 1, step: 2 } };
    const start = { step: 2, firstDraws: [], isInsideWindow: false };
    await assert.rejects(LedgerWriter.open({ ...init, start, folder: join(folder, 'ledger') }), error);
    assert.deepEqual(await readFile(path), bytes, 'the file is untouched');
  });
});
