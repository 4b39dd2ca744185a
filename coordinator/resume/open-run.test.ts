import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writeFixtureCheckpoint } from '../../shared/checkpoint/checkpoint.fixture.ts';
import type { RunRecord } from '../../shared/checkpoint/run-record.ts';
import { numericsHash } from '../../shared/config/load-config.ts';
import { replayJournal } from '../journal/journal.ts';
import type { JournalRecord } from '../journal/journal-records.ts';
import { auditLedger } from '../ledger/audit.ts';
import { sessionStart } from '../ledger/ledger-writer.ts';
import { configOf, dealerOf, MEMBERS, MIXTURE_HASH, mixtureOf, open, train } from '../testing/open-run.fixture.ts';
import { LEASE_MS } from '../run-folder/run-lock.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-open-run-'));
after(() => rmSync(root, { recursive: true }));
let numFolders = 0;
const newFolder = (): string => join(root, String(numFolders++));
const FIXTURE = fileURLToPath(new URL('../testing/open-run.fixture.ts', import.meta.url));

/** Where an uninterrupted plan is after so many steps. */
async function cursorAt(step: number): Promise<object> {
  const dealer = dealerOf();
  while (dealer.step < step) await dealer.deal();
  return dealer.cursor;
}

async function openings(runDir: string) {
  const found: JournalRecord[] = [];
  await replayJournal(join(runDir, 'journal'), { onRecord: (record) => found.push(record) });
  return found.filter((record) => record.kind === 'run-opened');
}

/** A run after so many steps that nobody has ended: its journal is as a kill leaves it. */
async function killedRun(step: number): Promise<string> {
  const runDir = newFolder();
  const run = await open({ runDir });
  await train(run, step);
  await run.close();
  return runDir;
}

/** The run of a coordinator that lives, and whose lock is as that of one of another host that was not renewed within the lease. */
async function takenOver(runDir: string) {
  const path = join(runDir, 'lock');
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), host: 'elsewhere' }));
  const then = new Date(Date.now() - 2 * LEASE_MS);
  await utimes(path, then, then);
  return open({ resume: runDir });
}

/** A checkpoint of the run, as it would have been saved after a step. */
async function checkpointOf(runDir: string, step: number): Promise<string> {
  const config = configOf();
  return writeFixtureCheckpoint(join(runDir, 'checkpoints'), step, {
    cursor: (await cursorAt(step)) as RunRecord['cursor'],
    config: JSON.parse(JSON.stringify(config)) as RunRecord['config'],
    configHash: numericsHash(config),
    mixtureHash: MIXTURE_HASH,
    tokenizerHash: mixtureOf().tokenizer.hash,
  });
}

describe('a run that is opened', () => {
  test('is new in a new folder: epoch 1 at step 0, with an identity of its own', async () => {
    const runDir = newFolder();
    const run = await open({ runDir });
    assert.deepEqual([run.epoch, run.start.step, run.before], [1, 0, undefined]);
    await run.close();
    const other = await open({ runDir: newFolder() });
    assert.notEqual(other.runId, run.runId);
    await other.close();
    const [opened] = await openings(runDir);
    assert.deepEqual([opened?.runId, opened?.goesOn, opened?.fromCheckpoint], [run.runId, undefined, undefined]);
  });

  test('is refused in a folder that is not empty', async () => {
    const runDir = await killedRun(1);
    await assert.rejects(open({ runDir }), { code: 'PATH_UNUSABLE', message: /continue that run with --resume/u });
  });

  test('keeps its identity in all epochs', async () => {
    const runDir = await killedRun(2);
    const ids = [(await openings(runDir))[0]!.runId];
    for (let i = 0; i < 2; i++) {
      const run = await open({ resume: runDir });
      ids.push(run.runId);
      await run.close();
    }
    assert.equal(new Set(ids).size, 1);
    assert.deepEqual(
      (await openings(runDir)).map(({ runId }) => runId),
      ids,
    );
  });

  test('after a SIGKILL continues at its last commit, where an undisturbed plan would be', async () => {
    const runDir = newFolder();
    const child = spawn(process.execPath, ['--import', 'tsx', FIXTURE, runDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      if (/committed 7\n/u.test(printed)) child.kill('SIGKILL');
    });
    const signal = await new Promise((resolve) => child.once('close', (_, name) => resolve(name)));
    assert.equal(signal, 'SIGKILL', 'the fault fired');
    const run = await open({ resume: runDir });
    const { step } = run.start;
    assert.ok(step >= 7);
    assert.deepEqual(run.start.cursor, await cursorAt(step));
    assert.deepEqual([run.before?.epoch, run.before?.generation, run.before?.members], [1, 1, MEMBERS]);
    await train(run, step + 5);
    await run.close();
    const report = await auditLedger({ runFolder: runDir });
    assert.deepEqual([report.violations, report.to], [[], step + 5]);
  });

  test('after a takeover from a frozen owner has no later write of that owner', async () => {
    const runDir = newFolder();
    const frozen = await open({ runDir });
    let next: Awaited<ReturnType<typeof open>> | undefined;
    await train(frozen, 5, async (step) => {
      if (step === 3) next = await takenOver(runDir);
    });
    assert.equal(next!.start.step, 3);
    await train(next!, 4);
    await frozen.close();
    await next!.close();
    const found: JournalRecord[] = [];
    const { state } = await replayJournal(join(runDir, 'journal'), { onRecord: (record) => found.push(record) });
    assert.deepEqual([state.epoch, state.step], [2, 4]);
    assert.deepEqual(
      found.flatMap((record) => (record.kind === 'step-committed' ? [[record.epoch, record.step]] : [])),
      [1, 1, 1, 2].map((epoch, i) => [epoch, i + 1]),
    );
    assert.deepEqual((await auditLedger({ runFolder: runDir })).violations, []);
    const again = await open({ resume: runDir });
    assert.deepEqual([again.epoch, again.start.step], [3, 4]);
    await again.close();
  });

  test('continues from the state of the workers, beyond the newest checkpoint, and notes it', async () => {
    const runDir = await killedRun(9);
    await checkpointOf(runDir, 6);
    const run = await open({ resume: runDir });
    assert.deepEqual([run.epoch, run.start.step, run.start.checkpoint?.step], [2, 9, 6]);
    assert.deepEqual(run.start.cursor, await cursorAt(9));
    assert.deepEqual(run.before?.members, MEMBERS);
    assert.ok(run.notes.some((note) => note.includes('continues at step 9, 3 steps after the newest checkpoint')));
    await run.close();
    const opened = (await openings(runDir))[1]!;
    assert.deepEqual([opened.step, opened.goesOn, opened.fromCheckpoint], [9, true, undefined]);
  });

  test('after epochs that died before they formed a generation still knows the last members', async () => {
    const runDir = await killedRun(4);
    for (let epoch = 2; epoch <= 4; epoch++) {
      const run = await open({ resume: runDir });
      assert.deepEqual([run.epoch, run.before?.epoch, run.before?.members, run.start.step], [epoch, 1, MEMBERS, 4]);
      await run.close();
    }
  });

  test('continues at an earlier step if workers hold that', async () => {
    const runDir = await killedRun(9);
    await checkpointOf(runDir, 6);
    const run = await open({ resume: runDir, resumeAt: { kind: 'held-step', step: 8 } });
    assert.deepEqual([run.start.step, run.before?.members], [8, MEMBERS]);
    assert.deepEqual(run.start.cursor, await cursorAt(8));
    await train(run, 10);
    await run.close();
    assert.deepEqual((await auditLedger({ runFolder: runDir })).violations, []);
  });

  test('goes back to its newest checkpoint if no worker holds a later state; the last members count no more', async () => {
    const runDir = await killedRun(9);
    const path = await checkpointOf(runDir, 6);
    const run = await open({ resume: runDir, resumeAt: { kind: 'newest-checkpoint' } });
    assert.deepEqual([run.start.step, run.start.checkpoint?.path, run.before], [6, path, undefined]);
    await run.close();
    const opened = (await openings(runDir))[1]!;
    assert.deepEqual([opened.step, opened.goesOn, opened.fromCheckpoint], [6, undefined, path]);
    const next = await open({ resume: runDir });
    assert.deepEqual([next.start.step, next.before], [6, undefined], 'also for the coordinator after that');
    await next.close();
  });

  test('goes back to the beginning without a checkpoint', async () => {
    const runDir = await killedRun(3);
    const run = await open({ resume: runDir, resumeAt: { kind: 'newest-checkpoint' } });
    assert.deepEqual([run.start.step, run.start.cursor, run.before], [0, undefined, undefined]);
    await run.close();
  });

  test('names the checkpoint it starts from in its ledger, and none if workers hold a later state', async () => {
    const runDir = await killedRun(9);
    const path = await checkpointOf(runDir, 6);
    const held = await open({ resume: runDir });
    const { step, checkpoint } = sessionStart(held.start, 2);
    assert.deepEqual([step, checkpoint], [9, undefined]);
    await held.close();
    const loaded = await open({ resume: runDir, resumeAt: { kind: 'newest-checkpoint' } });
    assert.equal(sessionStart(loaded.start, 2).checkpoint, path);
    await loaded.close();
  });

  test('after an orderly end starts from its newest checkpoint', async () => {
    const runDir = newFolder();
    const first = await open({ runDir });
    await train(first, 5);
    await first.journal.append({ kind: 'run-interrupted', epoch: 1, step: 5, reason: 'SIGTERM' });
    await first.close();
    await checkpointOf(runDir, 5);
    const run = await open({ resume: runDir });
    assert.deepEqual([run.start.step, run.start.checkpoint?.step, run.before], [5, 5, undefined]);
    await run.close();
  });

  test('continues from a checkpoint in a new folder, as another run', async () => {
    const runDir = await killedRun(9);
    const path = await checkpointOf(runDir, 6);
    const target = newFolder();
    const run = await open({ resume: path, runDir: target });
    assert.deepEqual([run.epoch, run.start.step, run.before], [1, 6, undefined]);
    assert.notEqual(run.runId, (await openings(runDir))[0]!.runId);
    await run.close();
  });

  for (const [what, config] of [
    ['seed', configOf({ seed: 2 })],
    ['size of a step', configOf({ training: { steps: 50, rowsPerStep: 8, numLanes: 2, microbatchRows: 1 } })],
  ] as const)
    test(`with another ${what} than it was opened with is refused, and nothing is written`, async () => {
      const runDir = await killedRun(4);
      await assert.rejects(open({ resume: runDir, config }), {
        code: 'CHECKPOINT_MISMATCH',
        message: /opened with another configuration/u,
      });
      assert.equal((await openings(runDir)).length, 1);
      assert.ok(!(await readdir(runDir)).includes('lock'), 'the folder is given back');
      await (await open({ resume: runDir })).close();
    });

  test('with other steps, workers and checkpoint schedule continues: these are free', async () => {
    const runDir = await killedRun(4);
    const training = { steps: 500, rowsPerStep: 4, numLanes: 2, microbatchRows: 1 };
    const config = configOf({ training, cluster: { minWorkers: 2 }, checkpoint: { everySteps: 3 } });
    const run = await open({ resume: runDir, config });
    assert.equal(run.start.step, 4);
    await run.close();
  });

  test('with another mixture is refused, and with --allow-mixture-change continues from its newest checkpoint', async () => {
    const runDir = await killedRun(9);
    const mixture = mixtureOf('ab'.repeat(32));
    await assert.rejects(open({ resume: runDir, mixture }), {
      code: 'MIXTURE_MISMATCH',
      message: /opened with the prepared mixture cdcd.* found abab.*--allow-mixture-change/u,
    });
    await checkpointOf(runDir, 6);
    const run = await open({ resume: runDir, mixture, allowMixtureChange: true });
    assert.deepEqual([run.start.step, run.before], [6, undefined]);
    await run.close();
  });

  test('with other rates and --allow-mixture-change continues from its newest checkpoint', async () => {
    const runDir = await killedRun(9);
    await checkpointOf(runDir, 6);
    const config = configOf({
      mixture: { path: '/x.yaml', denoisingRatio: 0, windowDraws: 32, rates: { a: 3, b: 1 } },
    });
    await assert.rejects(open({ resume: runDir, config }), { code: 'CHECKPOINT_MISMATCH' });
    const run = await open({ resume: runDir, config, allowMixtureChange: true });
    assert.deepEqual([run.start.step, run.before], [6, undefined]);
    await run.close();
  });

  test('with --allow-mixture-change and no change continues from the state of the workers', async () => {
    const runDir = await killedRun(4);
    const run = await open({ resume: runDir, allowMixtureChange: true });
    assert.deepEqual([run.start.step, run.before?.members], [4, MEMBERS]);
    await run.close();
  });
});
