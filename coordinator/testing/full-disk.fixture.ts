/** Scenarios on a full disk. Each runs in a process with a small file system of its own. Arguments: scenario, folder of that file system. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, rmSync, statSync, writeFileSync, readdirSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import { TrainerError } from '../../shared/errors.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import { Coordinator } from '../coordinator.ts';
import { NO_LOCAL_WORKERS } from '../membership/worker-host.ts';
import type { JournalRecord } from '../journal/journal-records.ts';
import { journalText } from '../journal/journal.fixture.ts';
import { Journal, replayJournal } from '../journal/journal.ts';
import { auditLedger } from '../ledger/audit.ts';
import { encoded, openSession, plannedStep } from '../ledger/ledger.fixture.ts';
import { DiskSpace } from '../run-folder/disk-space.ts';
import { ScriptedLinks } from './scripted-links.fixture.ts';
import { ScriptedWorker } from './scripted-worker.fixture.ts';
import { MemoryCheckpoints } from './small-run.fixture.ts';

const BLOCK_BYTES = 4096;
const [scenario = '', disk = ''] = process.argv.slice(2);
const path = join(disk, 'journal');
const OPENED: JournalRecord = { kind: 'run-opened', epoch: 1, configHash: 'c', seed: 1, mixtureHash: 'm', step: 0 };

/** A record of several blocks: a full disk stores a part of it. */
const committed = (step: number): JournalRecord => ({
  kind: 'step-committed',
  epoch: 1,
  generation: 1,
  step,
  cursor: 'x'.repeat(9_000),
  gradDigest: 1,
  loss: 1,
});

let numBallast = 0;
/** Fills the disk up to so many free blocks. */
function fill(numFree: number): void {
  try {
    for (;;) {
      writeFileSync(join(disk, `ballast-${numBallast}`), 'x'.repeat(BLOCK_BYTES));
      numBallast += 1;
    }
  } catch {
    rmSync(join(disk, `ballast-${numBallast}`), { force: true });
  }
  freeBlocks(numFree);
}

function freeBlocks(count: number): void {
  for (let i = 0; i < count && numBallast > 0; i++) rmSync(join(disk, `ballast-${--numBallast}`));
}

/** DiskSpace of this disk, on a clock that runs by its waits. `onSecond` is called as each second of waiting begins. */
function createDiskSpace(onSecond: (second: number) => void) {
  const stop = new AbortController();
  const records: LogRecord[] = [];
  let nowMs = 0;
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    sleep: async (ms, signal) => {
      onSecond(Math.round(nowMs / 1_000));
      await new Promise(setImmediate);
      if (signal?.aborted === true) throw new TrainerError('ABORTED', 'aborted');
      nowMs += ms;
    },
  };
  const diskSpace = new DiskSpace({ folder: disk, clock, signal: stop.signal });
  diskSpace.logTo(createLogger({ onRecord: (record) => records.push(record) }));
  return { diskSpace, stop, records, msgs: () => records.map(({ msg }) => msg) };
}

const code = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof TrainerError ? error.code : String(error)),
  );
const text = journalText;

/** A journal with two records, on a disk with space for a part of the third. */
async function fullJournal(diskSpace: DiskSpace): Promise<{ journal: Journal; before: string }> {
  const { journal } = await Journal.open(path, { diskSpace });
  await journal.append(OPENED);
  await journal.append(committed(1));
  fill(1);
  return { journal, before: readFileSync(path, 'utf8') };
}

async function journalWaits(): Promise<void> {
  const order: number[] = [];
  const sizes = new Set<number>();
  const { diskSpace, records } = createDiskSpace((second) => {
    sizes.add(statSync(path).size);
    if (second === 0) assert.equal(records[0]?.['freeBytes'], BLOCK_BYTES);
    assert.match(diskSpace.waitingFor, /journal: no free space \(ENOSPC\)/u);
    assert.deepEqual(order, []);
    if (second === 40) freeBlocks(20);
  });
  const { journal, before } = await fullJournal(diskSpace);
  const steps = [2, 3, 4, 5];
  await Promise.all(steps.map((step) => journal.append(committed(step)).then(() => order.push(step))));
  assert.deepEqual(order, steps);
  assert.deepEqual([...sizes], [before.length], 'what was written of the record is cut off while it waits');
  const expected = text([OPENED, committed(1), ...steps.map(committed)]);
  assert.equal(readFileSync(path, 'utf8'), expected);
  const paused = 'run paused by a full disk';
  assert.deepEqual(
    records.map(({ msg, forMs }) => [msg, forMs]),
    [
      [paused, 0],
      [paused, 30_000],
      ['run continues after a full disk', 41_000],
    ],
  );
  await journal.close();
  const { state, torn } = await replayJournal(path);
  assert.deepEqual([state.step, torn], [5, undefined]);
}

async function journalWaitEnds(how: 'close' | 'abort'): Promise<void> {
  let closed: Promise<void> | undefined;
  const { diskSpace, stop, msgs } = createDiskSpace((second) => {
    if (second !== 3) return;
    if (how === 'abort') stop.abort();
    else closed = journal.close();
  });
  const { journal, before } = await fullJournal(diskSpace);
  const appends = [2, 3, 4].map((step) => code(journal.append(committed(step))));
  assert.deepEqual(await Promise.all(appends), ['DISK_FULL', 'DISK_FULL', 'DISK_FULL']);
  assert.equal(await code(journal.append(committed(2))), 'DISK_FULL');
  await (closed ?? journal.close());
  assert.equal(readFileSync(path, 'utf8'), before);
  assert.deepEqual(msgs(), ['run paused by a full disk']);
}

/** Waits for free space until it is killed. */
async function journalHangs(): Promise<void> {
  const { diskSpace } = createDiskSpace((second) => {
    if (second === 1) process.stdout.write('waiting\n');
  });
  const { journal } = await fullJournal(diskSpace);
  await Promise.all([2, 3].map((step) => journal.append(committed(step))));
}

async function journalKilled(): Promise<void> {
  const module = fileURLToPath(import.meta.url);
  const child = spawn(process.execPath, ['--import', 'tsx', module, 'journal hangs', disk], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child.stdout.once('data', () => child.kill('SIGKILL'));
  const [, signal] = (await once(child, 'close')) as [number | null, string | null];
  assert.equal(signal, 'SIGKILL', 'the fault fired');
  numBallast = readdirSync(disk).filter((name) => name.startsWith('ballast-')).length;
  freeBlocks(20);
  const { journal, replay } = await Journal.open(path);
  assert.equal(replay.state.step, 1);
  await journal.append(committed(2));
  await journal.close();
  assert.equal(readFileSync(path, 'utf8'), text([OPENED, committed(1), committed(2)]));
}

/** A block is freed after every three seconds of waiting: the run is paused again wherever it needs the next block. */
async function ledgerWaits(): Promise<void> {
  let numWaited = 0;
  const { diskSpace, msgs } = createDiskSpace(() => {
    if (++numWaited % 3 === 0) freeBlocks(1);
  });
  for (const to of [120, 240]) {
    const run = await openSession(disk, { diskSpace });
    fill(0);
    await run.train(to);
    freeBlocks(2);
    await run.stop('in order');
  }
  const report = await auditLedger({ runFolder: disk });
  assert.deepEqual([report.violations, report.to, report.sessions.length], [[], 240, 2]);
  const numPauses = msgs().filter((msg) => msg === 'run paused by a full disk').length;
  assert.ok(numPauses > 10, `${numPauses} pauses`);
  assert.equal(msgs().length, 2 * numPauses);
}

async function ledgerWaitEnds(how: 'close' | 'abort'): Promise<void> {
  let closed: Promise<void> | undefined;
  const { diskSpace, stop } = createDiskSpace((second) => {
    if (second !== 3) return;
    if (how === 'abort') stop.abort();
    else closed = run.ledger.close();
  });
  const run = await openSession(disk, { diskSpace });
  await run.train(4);
  fill(0);
  // Longer than the rest of the last block, deflated too; never committed.
  const rows = Array.from({ length: 3000 }, (_, i) => [{ task: 2, index: Math.imul(i, 0x9e3779b1) >>> 0, epoch: 0 }]);
  const record = encoded({ ...plannedStep(5), lanes: [rows] });
  assert.equal(await code(run.ledger.append(record)), 'DISK_FULL');
  assert.equal(await code(run.ledger.append(record)), 'DISK_FULL');
  await (closed ?? run.ledger.close());
  await run.journal.close();
  freeBlocks(20);
  const next = await openSession(disk);
  await next.train(9);
  await next.stop('in order');
  const report = await auditLedger({ runFolder: disk });
  assert.deepEqual([report.violations, report.to], [[], 9]);
}

/** A coordinator trains: the disk fills up after its third step, and there is free space again after five seconds of waiting. */
async function runWaits(): Promise<void> {
  const tasks = [
    { name: 'a', kind: 'supervised' as const, numExamples: 40, inputsLength: () => 3, targetsLength: () => 2 },
  ];
  let numCommitted = 0;
  let waitedFrom: number | undefined;
  const { diskSpace } = createDiskSpace((second) => {
    waitedFrom ??= numCommitted;
    assert.equal(numCommitted, waitedFrom, 'nothing is committed meanwhile');
    const status = JSON.stringify(coordinator.status());
    assert.match(status, /"phase":"training","waitingFor":"cannot append to .*journal: no free space \(ENOSPC\)/u);
    if (second === 5) freeBlocks(30);
  });
  const { journal } = await Journal.open(path, { diskSpace });
  await journal.append(OPENED);
  const transport = new MemoryTransport();
  const msgs: string[] = [];
  const mixture = { folder: disk, hash: 'cd'.repeat(32), tasks, sizes: tasks, taskNames: ['a'] };
  const coordinator: Coordinator = new Coordinator({
    config: checkConfig(
      {
        name: 'full-disk',
        model: {},
        featureLengths: { inputs: 16, targets: 8 },
        mixture: { path: '/x.yaml', denoisingRatio: 0, windowDraws: 64 },
        training: { steps: 60, rowsPerStep: 2, numLanes: 2, microbatchRows: 1 },
        schedule: { kind: 'constant', value: 0.01 },
        cluster: { heartbeatIntervalMs: 10, heartbeatTimeoutMs: 30_000 },
        checkpoint: {},
      },
      'the test',
    ),
    opening: { runId: 'the run', epoch: 1, start: { step: 0, rateChanges: [], notes: [] }, before: undefined },
    mixture: mixture as unknown as PreparedMixture,
    stores: {
      runFolder: disk,
      checkpoints: new MemoryCheckpoints(new ScriptedLinks()),
      journal,
      ledger: { append: () => Promise.resolve() },
      diskSpace,
    },
    workerHost: NO_LOCAL_WORKERS,
    token: TOKEN,
    transport,
    runtime: {
      clock: systemClock,
      log: createLogger({
        onRecord: ({ msg }) => {
          msgs.push(msg);
          if (msg === 'step committed' && ++numCommitted === 3) fill(0);
        },
      }),
    },
  });
  const url = await coordinator.listen(0);
  await ScriptedWorker.join(transport, url, TOKEN, { workerId: 'w0', tasks, mixtureHash: mixture.hash });
  const ending = await coordinator.run(new AbortController().signal);
  await journal.close();
  assert.deepEqual([ending.kind === 'ended' && ending.summary.step, (await replayJournal(path)).state.step], [60, 60]);
  assert.ok((waitedFrom ?? 0) >= 3 && (waitedFrom ?? 60) < 60, `paused after step ${waitedFrom}`);
  const paused = msgs.indexOf('run paused by a full disk');
  assert.deepEqual(msgs.slice(paused, paused + 3), [
    'run paused by a full disk',
    'run continues after a full disk',
    'step committed',
  ]);
  assert.deepEqual(
    [msgs.at(-1), JSON.stringify(coordinator.status()).includes('no free space')],
    ['run finished', false],
  );
}

const TOKEN = 'the token of the test';
const scenarios: Readonly<Record<string, () => Promise<void>>> = {
  'journal waits': journalWaits,
  'journal closed': () => journalWaitEnds('close'),
  'journal aborted': () => journalWaitEnds('abort'),
  'journal hangs': journalHangs,
  'journal killed': journalKilled,
  'run waits': runWaits,
  'ledger waits': ledgerWaits,
  'ledger closed': () => ledgerWaitEnds('close'),
  'ledger aborted': () => ledgerWaitEnds('abort'),
};
await scenarios[scenario]!();
process.stdout.write(`shown: ${scenario}\n`);
