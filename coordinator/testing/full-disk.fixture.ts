/** Scenarios on a small file system of their own, in a process of its own; each asserts what it shows. Arguments: scenario, folder of the disk. */
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
import { encodeRecord, Journal, replayJournal } from '../journal/journal.ts';
import { auditLedger } from '../ledger/audit.ts';
import { dealt, openSession, recordOf } from '../ledger/ledger.fixture.ts';
import { RoomOnDisk } from '../run-folder/room-on-disk.ts';
import { ScriptedLinks } from './scripted-links.fixture.ts';
import { ScriptedWorker } from './scripted-worker.fixture.ts';
import { MemoryCheckpoints } from './small-run.fixture.ts';

const BLOCK_BYTES = 4096;
const [scenario = '', disk = ''] = process.argv.slice(2);
const path = join(disk, 'journal');
const OPENED: JournalRecord = { kind: 'run-opened', epoch: 1, configHash: 'c', seed: 1, mixtureHash: 'm', step: 0 };

/** A record of several blocks, so that a full disk takes a part of it. */
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
/** Leaves so many blocks free. */
function fill(freeBlocks: number): void {
  try {
    for (;;) {
      writeFileSync(join(disk, `ballast-${numBallast}`), 'x'.repeat(BLOCK_BYTES));
      numBallast += 1;
    }
  } catch {
    rmSync(join(disk, `ballast-${numBallast}`), { force: true });
  }
  makeRoom(freeBlocks);
}

function makeRoom(blocks: number): void {
  for (let i = 0; i < blocks && numBallast > 0; i++) rmSync(join(disk, `ballast-${--numBallast}`));
}

/** A room on this disk; each second that is waited is told before it is over. */
function createRoom(onSecond: (second: number) => void) {
  const stop = new AbortController();
  const records: LogRecord[] = [];
  let nowMs = 0;
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    sleep: async (ms, signal) => {
      onSecond(Math.round(nowMs / 1_000));
      await new Promise(setImmediate);
      if (signal?.aborted === true) throw new TrainerError('ABORTED', 'called off');
      nowMs += ms;
    },
  };
  const room = new RoomOnDisk({ folder: disk, clock, signal: stop.signal });
  room.tellTo(createLogger({ onRecord: (record) => records.push(record) }));
  return { room, stop, records, msgs: () => records.map(({ msg }) => msg) };
}

const code = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof TrainerError ? error.code : String(error)),
  );
const text = (records: readonly JournalRecord[]) => records.map(encodeRecord).join('');

/** A journal with two records, on a disk that takes a part of the third and no more. */
async function fullJournal(room: RoomOnDisk): Promise<{ journal: Journal; before: string }> {
  const { journal } = await Journal.open(path, { room });
  await journal.append(OPENED);
  await journal.append(committed(1));
  fill(1);
  return { journal, before: readFileSync(path, 'utf8') };
}

async function journalWaits(): Promise<void> {
  const order: number[] = [];
  const sizes = new Set<number>();
  const { room, records } = createRoom((second) => {
    sizes.add(statSync(path).size);
    if (second === 0) assert.equal(records[0]?.['freeBytes'], BLOCK_BYTES);
    assert.match(room.waitingFor, /journal: no room \(ENOSPC\)/u);
    assert.deepEqual(order, []);
    if (second === 40) makeRoom(20);
  });
  const { journal, before } = await fullJournal(room);
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
      ['run goes on after a full disk', 41_000],
    ],
  );
  await journal.close();
  const { state, torn } = await replayJournal(path);
  assert.deepEqual([state.step, torn], [5, undefined]);
}

async function journalWaitEnds(how: 'close' | 'abort'): Promise<void> {
  let closed: Promise<void> | undefined;
  const { room, stop, msgs } = createRoom((second) => {
    if (second !== 3) return;
    if (how === 'abort') stop.abort();
    else closed = journal.close();
  });
  const { journal, before } = await fullJournal(room);
  const appends = [2, 3, 4].map((step) => code(journal.append(committed(step))));
  assert.deepEqual(await Promise.all(appends), ['DISK_FULL', 'DISK_FULL', 'DISK_FULL']);
  assert.equal(await code(journal.append(committed(2))), 'DISK_FULL');
  await (closed ?? journal.close());
  assert.equal(readFileSync(path, 'utf8'), before);
  assert.deepEqual(msgs(), ['run paused by a full disk']);
}

/** Waits for room until it is killed. */
async function journalHangs(): Promise<void> {
  const { room } = createRoom((second) => {
    if (second === 1) process.stdout.write('waiting\n');
  });
  const { journal } = await fullJournal(room);
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
  makeRoom(20);
  const { journal, replay } = await Journal.open(path);
  assert.equal(replay.state.step, 1);
  await journal.append(committed(2));
  await journal.close();
  assert.equal(readFileSync(path, 'utf8'), text([OPENED, committed(1), committed(2)]));
}

/** A block is freed whenever the run has waited for three seconds: it is paused again and again, wherever the next block is due. */
async function ledgerWaits(): Promise<void> {
  let numWaited = 0;
  const { room, msgs } = createRoom(() => {
    if (++numWaited % 3 === 0) makeRoom(1);
  });
  for (const to of [120, 240]) {
    const run = await openSession(disk, { room });
    fill(0);
    await run.train(to);
    makeRoom(2);
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
  const { room, stop } = createRoom((second) => {
    if (second !== 3) return;
    if (how === 'abort') stop.abort();
    else closed = run.ledger.close();
  });
  const run = await openSession(disk, { room });
  await run.train(4);
  fill(0);
  // One record after the other into what is left of the last block, none of them committed.
  const record = { ...recordOf(5), lanes: [Array.from({ length: 900 }, () => recordOf(5).lanes.flat(2))] };
  const { drawn } = dealt(5).cursor;
  assert.equal(await code(run.ledger.append(record, drawn)), 'DISK_FULL');
  assert.equal(await code(run.ledger.append(record, drawn)), 'DISK_FULL');
  await (closed ?? run.ledger.close());
  await run.journal.close();
  makeRoom(20);
  const next = await openSession(disk);
  await next.train(9);
  await next.stop('in order');
  const report = await auditLedger({ runFolder: disk });
  assert.deepEqual([report.violations, report.to], [[], 9]);
}

/** A coordinator at work: the disk fills up after its third step, and there is room again when it has waited for five seconds. */
async function runWaits(): Promise<void> {
  const tasks = [
    { name: 'a', kind: 'supervised' as const, numExamples: 40, inputsLength: () => 3, targetsLength: () => 2 },
  ];
  let numCommitted = 0;
  let waitedFrom: number | undefined;
  const { room } = createRoom((second) => {
    waitedFrom ??= numCommitted;
    assert.equal(numCommitted, waitedFrom, 'nothing is committed meanwhile');
    const status = JSON.stringify(coordinator.status());
    assert.match(status, /"phase":"training","waitingFor":"cannot append to .*journal: no room \(ENOSPC\)/u);
    if (second === 5) makeRoom(30);
  });
  const { journal } = await Journal.open(path, { room });
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
      room,
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
    'run goes on after a full disk',
    'step committed',
  ]);
  assert.deepEqual([msgs.at(-1), JSON.stringify(coordinator.status()).includes('no room')], ['run finished', false]);
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
