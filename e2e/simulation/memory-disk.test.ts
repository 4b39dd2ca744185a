import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { JournalRecord } from '../../coordinator/journal/journal-records.ts';
import type { StepToRecord } from '../../coordinator/ledger/step-record.ts';
import { MemoryCheckpoints, stateDigest, type ToPublish } from './memory-checkpoints.ts';
import { MemoryDisk } from './memory-disk.ts';
import { MemoryJournal, readMemoryJournal } from './memory-journal.ts';
import { MemoryLedger, type LedgerSession } from './memory-ledger.ts';
import { VirtualTime } from './virtual-clock.ts';
import { VirtualProcess } from './virtual-process.ts';

const HEX = 'ab'.repeat(32);
const opened = (epoch: number, step: number): JournalRecord => ({
  kind: 'run-opened',
  epoch,
  configHash: HEX,
  seed: 1,
  mixtureHash: HEX,
  step,
});
const committed = (epoch: number, step: number): JournalRecord => ({
  kind: 'step-committed',
  epoch,
  generation: 1,
  step,
  cursor: {},
  gradDigest: step,
  loss: 1,
});

function open(seed = 1) {
  const time = new VirtualTime();
  const process = new VirtualProcess(time, 'c');
  return { time, process, disk: new MemoryDisk(time, seed, { minWriteMs: 5, maxWriteMs: 5 }) };
}

describe('memory journal', () => {
  test('writes each record in some time, keeps their order, and returns the state on disk', async () => {
    const { time, process, disk } = open();
    const lines: string[] = [];
    const journal = new MemoryJournal({ disk, process, lines });
    const written: number[] = [];
    for (const record of [opened(1, 0), committed(1, 1), committed(1, 2)])
      void journal.append(record).then(() => written.push(time.nowMs));
    assert.equal(journal.state.epoch, 0);
    await time.run(12);
    assert.deepEqual([written, journal.state.step, lines.length], [[5, 10], 1, 2]);
    await time.run(20);
    assert.deepEqual(readMemoryJournal(lines).records, [opened(1, 0), committed(1, 1), committed(1, 2)]);
  });

  test('rejects a record that cannot follow the last one, and finds such lines when it opens', async () => {
    const { process, disk } = open();
    const journal = new MemoryJournal({ disk, process, lines: [] });
    await assert.rejects(journal.append(committed(1, 1)), { code: 'INTERNAL', message: /before any run-opened/u });
    const lines = [opened(1, 0), committed(1, 2)].map((record) => JSON.stringify(record));
    assert.throws(() => new MemoryJournal({ disk, process, lines }), { code: 'JOURNAL_CORRUPT', message: /line 2/u });
  });

  test('a crash keeps acknowledged records, keeps or drops the pending one by the seed, and drops the rest', async () => {
    const found = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      const { time, process, disk } = open(seed);
      const lines: string[] = [];
      const journal = new MemoryJournal({ disk, process, lines });
      let numAcknowledged = 0;
      for (const record of [opened(1, 0), committed(1, 1), committed(1, 2)])
        void journal.append(record).then(() => numAcknowledged++);
      await time.run(7);
      process.crash();
      await time.run(100);
      assert.equal(numAcknowledged, 1);
      found.add(lines.length);
      const next = new MemoryJournal({ disk, process: new VirtualProcess(time, 'c2'), lines });
      assert.equal(next.state.step, lines.length - 1);
    }
    assert.deepEqual([...found].sort(), [1, 2]);
  });
});

describe('memory ledger', () => {
  const stepOf = (step: number): StepToRecord => ({
    step,
    generation: 1,
    gradDigest: step,
    loss: 1,
    gradNorm: 1,
    learningRate: 1,
    tasks: [],
    lanes: [],
  });

  test('removes uncommitted steps when the next session opens, and does not change older sessions', async () => {
    const { time, process, disk } = open();
    const sessions: LedgerSession[] = [];
    const session = (epoch: number, startStep: number, committed: { epoch: number; step: number }): MemoryLedger =>
      new MemoryLedger({ disk, process, sessions, epoch, startStep, committed });
    const first = session(1, 0, { epoch: 0, step: 0 });
    for (const step of [1, 2, 3]) void first.append(stepOf(step));
    await assert.rejects(first.append(stepOf(5)), { code: 'INTERNAL' });
    await time.run(20);
    const second = session(2, 1, { epoch: 1, step: 2 });
    void second.append(stepOf(2));
    await time.run(40);
    session(3, 2, { epoch: 2, step: 2 });
    assert.deepEqual(
      sessions.map(({ epoch, startStep, steps }) => [epoch, startStep, steps.map(({ step }) => step)]),
      [
        [1, 0, [1, 2]],
        [2, 1, [2]],
        [3, 2, []],
      ],
    );
  });
});

describe('memory checkpoints', () => {
  const parameters = [
    { name: 'a', shape: [200] },
    { name: 'b', shape: [100] },
  ];
  const optimizerSlots = [{ name: 'a.v', shape: [200] }];
  const state = () => ({
    parameters: new Map(parameters.map(({ name, shape }) => [name, new Float32Array(shape[0]!).fill(name.length)])),
    optimizer: new Map([['a.v', new Float32Array(200).fill(0.5)]]),
  });

  async function write(numWriters: number, seed = 1) {
    const { time, process, disk } = open(seed);
    const checkpoints = new MemoryCheckpoints(disk, { parameters, optimizerSlots });
    const folder = await checkpoints.begin({ step: 4, epoch: 1, generation: 1 });
    const tensors = state();
    const writing = Promise.all(
      Array.from({ length: numWriters }, (_, writer) =>
        checkpoints.writeShards(process, { folder, writer, numWriters, ...tensors }),
      ),
    );
    // A later change of the tensors does not change the shards.
    tensors.parameters.get('a')!.fill(9);
    await time.run(50);
    const shards = await writing;
    const toPublish = {
      step: 4,
      writingFolder: folder,
      workerFiles: shards.map(({ files, paramDigest }, i) => ({ workerId: `w${i}`, files, paramDigest })),
      paramDigest: shards[0]!.paramDigest,
      // Not read here.
      ...({} as Pick<ToPublish, 'cursor' | 'generation' | 'worldSize' | 'engineFingerprint'>),
    };
    return { time, process, checkpoints, toPublish };
  }

  test('shards of any number of writers become one checkpoint, which appears at once when it is published', async () => {
    for (const numWriters of [1, 2]) {
      const { time, process, checkpoints, toPublish } = await write(numWriters);
      const published = checkpoints.publish(process, toPublish);
      assert.deepEqual(checkpoints.published(), []);
      assert.throws(() => checkpoints.read(toPublish.writingFolder), { code: 'CHECKPOINT_CORRUPT' });
      await time.run(100);
      assert.equal((await published).bytes, 4 * 500);
      const [saved] = checkpoints.published();
      assert.equal(saved?.run.step, 4);
      assert.equal(stateDigest(saved), stateDigest(state()));
    }
  });

  test('a checkpoint with a missing shard is not published, and a published one is not replaced by other parameters', async () => {
    const { time, process, checkpoints, toPublish } = await write(2);
    const [first] = toPublish.workerFiles;
    await assert.rejects(checkpoints.publish(process, { ...toPublish, workerFiles: [first!] }), { code: 'INTERNAL' });
    void checkpoints.publish(process, toPublish);
    await time.run(100);
    const { writingFolder } = toPublish;
    const toWrite = { folder: writingFolder, writer: 0, numWriters: 1, ...state() };
    await assert.rejects(checkpoints.writeShards(process, toWrite), { code: 'PATH_UNUSABLE' });
    assert.equal(await checkpoints.begin({ step: 4, epoch: 1, generation: 1 }), writingFolder);
    toWrite.parameters.get('a')!.fill(9);
    const written = checkpoints.writeShards(process, toWrite);
    await time.run(150);
    const { files, paramDigest } = await written;
    const other = { ...toPublish, workerFiles: [{ workerId: 'w0', files, paramDigest }], paramDigest };
    await assert.rejects(checkpoints.publish(process, other), { code: 'CHECKPOINT_MISMATCH' });
    assert.deepEqual(
      checkpoints.published().map(({ run }) => run.paramDigest),
      [toPublish.paramDigest],
    );
  });

  test('a coordinator that crashes while it publishes leaves the whole checkpoint or none', async () => {
    const found = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      const { time, process, checkpoints, toPublish } = await write(1, seed);
      void checkpoints.publish(process, toPublish);
      process.crash();
      await time.run(100);
      for (const saved of checkpoints.published()) assert.equal(stateDigest(saved), stateDigest(state()));
      found.add(checkpoints.published().length);
    }
    assert.deepEqual([...found].sort(), [0, 1]);
  });
});
