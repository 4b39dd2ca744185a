import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { locateTasks } from '../../mixture/plan/plan-cursor.ts';
import { Planner } from '../../mixture/plan/planner.ts';
import { writeFixtureCheckpoint } from '../../shared/checkpoint/checkpoint.fixture.ts';
import type { RunRecord } from '../../shared/checkpoint/run-record.ts';
import { checkConfig, numericsHash } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { planConfigOf } from '../deal/plan-config.ts';
import { startFromCheckpoint, startFromScratch, type LaterChanges } from './starting-point.ts';
import type { RateChange } from '../deal/rate-changes.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-start-'));
after(() => rmSync(root, { recursive: true }));

const HASH = 'cd'.repeat(32);
const TOKENIZER = 'ef'.repeat(32);

function mixtureOf(sizes: Readonly<Record<string, number>>, hash = HASH, tokenizer = TOKENIZER): PreparedMixture {
  const tasks = Object.entries(sizes).map(([name, numExamples]) => ({
    name,
    numExamples,
    kind: 'supervised' as const,
    inputsLength: (index: number) => 3 + (index % 5),
    targetsLength: () => 2,
  }));
  const facts = { folder: '/prepared', hash, tokenizer: { hash: tokenizer }, taskNames: Object.keys(sizes) };
  return { ...facts, tasks, sizes: tasks } as unknown as PreparedMixture;
}

function configOf(mixture: object = {}): RunConfig {
  return checkConfig(
    {
      name: 'test',
      model: {},
      featureLengths: { inputs: 16, targets: 8 },
      mixture: { path: '/x.yaml', denoisingRatio: 0, windowDraws: 32, ...mixture },
      training: { steps: 50, rowsPerStep: 4, numLanes: 2, microbatchRows: 1 },
      schedule: { kind: 'constant', value: 0.01 },
    },
    'the test',
  );
}

const BEFORE = mixtureOf({ a: 40, b: 30, c: 20 });
const CHANGE: RateChange = { window: 1, firstStep: 3, rates: { a: 10, b: 5 }, denoisingRatio: 0 };
const OF_CHECKPOINT: LaterChanges = { kind: 'checkpoint' };
let numCheckpoints = 0;

/** A checkpoint after some rows of the plan. */
async function checkpointOf(changes: readonly RateChange[] = [], facts: Partial<RunRecord> = {}) {
  const config = configOf();
  const planner = new Planner(planConfigOf(config, BEFORE, changes), BEFORE.tasks);
  planner.nextRows(15);
  const cursor = { ...planner.cursor(), rateChanges: [...changes] };
  const path = await writeFixtureCheckpoint(join(root, String(numCheckpoints++)), 9, {
    cursor,
    config: JSON.parse(JSON.stringify(config)) as RunRecord['config'],
    configHash: numericsHash(config),
    mixtureHash: HASH,
    tokenizerHash: TOKENIZER,
    ...facts,
  });
  return { path, cursor, config };
}

describe('where a run starts', () => {
  test('a checkpoint of the same mixture continues at its cursor, with its changes of rates', async () => {
    const { path, cursor, config } = await checkpointOf([CHANGE]);
    const start = await startFromCheckpoint(
      path,
      { config, mixture: BEFORE, allowMixtureChange: false },
      OF_CHECKPOINT,
    );
    assert.deepEqual(start.cursor, cursor);
    assert.deepEqual([start.step, start.rateChanges, start.notes], [9, [CHANGE], []]);
    assert.ok(new Planner(planConfigOf(config, BEFORE, start.rateChanges), BEFORE.tasks, start.cursor));
  });

  test('changes of later windows come from the journal, those of earlier ones from the checkpoint', async () => {
    const { path, cursor, config } = await checkpointOf([CHANGE]);
    const later: RateChange = { ...CHANGE, window: cursor.window + 2, rates: { c: 1 } };
    const other: RateChange = { ...CHANGE, window: 0, rates: { c: 9 } };
    const init = { config, mixture: BEFORE, allowMixtureChange: false };
    const start = await startFromCheckpoint(path, init, { kind: 'journal', changes: [other, later] });
    assert.deepEqual(start.rateChanges, [CHANGE, later]);
    const withoutJournal = await startFromCheckpoint(path, init, { kind: 'journal', changes: [] });
    assert.deepEqual(withoutJournal.rateChanges, [CHANGE]);
  });

  test('a changed mixture is refused with a table of the changes', async () => {
    const { path, config } = await checkpointOf();
    const mixture = mixtureOf({ b: 30, c: 21, new: 5 }, 'ab'.repeat(32));
    await assert.rejects(
      startFromCheckpoint(path, { config, mixture, allowMixtureChange: false }, OF_CHECKPOINT),
      (error: Error) => {
        assert.match(error.message, /^ {2}resized +c +20 → 21 examples$/mu);
        assert.match(error.message, /^ {2}added +new +5 examples$/mu);
        assert.match(error.message, /^ {2}removed +a +40 examples$/mu);
        assert.match(error.message, /^ {2}1 of 3 tasks keep name and size$/mu);
        assert.match(error.message, /--allow-mixture-change/u);
        assert.equal((error as { code?: string }).code, 'MIXTURE_MISMATCH');
        return true;
      },
    );
  });

  test('after confirmation unchanged tasks continue, and the rates of the last request still hold', async () => {
    const { path, cursor, config } = await checkpointOf([CHANGE]);
    const mixture = mixtureOf({ b: 30, new: 5 }, 'ab'.repeat(32));
    const changes = [CHANGE, { ...CHANGE, window: 30, rates: { a: 1, b: 60 } }];
    const init = { config, mixture, allowMixtureChange: true };
    const start = await startFromCheckpoint(path, init, { kind: 'journal', changes });
    assert.deepEqual(start.rateChanges, [
      { window: cursor.window + 1, firstStep: 10, rates: { b: 60 }, denoisingRatio: 0 },
    ]);
    const [b] = locateTasks(start.cursor!);
    const before = locateTasks(cursor)[1]!;
    assert.deepEqual([b!.next, b!.owed, b!.numGiven], [before.next, before.owed, before.numGiven]);
    assert.match(start.notes.join(), /the mixture has changed .*\n.*added +new/su);
    const planner = new Planner(planConfigOf(config, mixture, start.rateChanges), mixture.tasks, start.cursor);
    assert.ok(Math.abs(planner.cursor().tasks[0]!.share - 60 / 65) < 1e-12);
  });

  test('changed texts of the same names and sizes are a changed mixture too', async () => {
    const { path, config } = await checkpointOf();
    const mixture = mixtureOf({ a: 40, b: 30, c: 20 }, 'ab'.repeat(32));
    const start = startFromCheckpoint(path, { config, mixture, allowMixtureChange: false }, OF_CHECKPOINT);
    await assert.rejects(start, { code: 'MIXTURE_MISMATCH', message: /texts, templates .* differ/u });
  });

  test('other rates in the configuration are refused; after confirmation they replace those of the run', async () => {
    const { path } = await checkpointOf([CHANGE]);
    const init = { config: configOf({ rates: { c: 7 } }), mixture: BEFORE };
    await assert.rejects(startFromCheckpoint(path, { ...init, allowMixtureChange: false }, OF_CHECKPOINT), {
      code: 'CHECKPOINT_MISMATCH',
      message: /mixture\.rates\.c: undefined → 7.*--allow-mixture-change/u,
    });
    const start = await startFromCheckpoint(path, { ...init, allowMixtureChange: true }, OF_CHECKPOINT);
    assert.deepEqual(start.rateChanges[0]?.rates, { c: 7 });
  });

  test('another tokenizer or another model is refused even if the mixture may change', async () => {
    const { path, config } = await checkpointOf();
    const mixture = mixtureOf({ a: 40 }, 'ab'.repeat(32), '01'.repeat(32));
    await assert.rejects(startFromCheckpoint(path, { config, mixture, allowMixtureChange: true }, OF_CHECKPOINT), {
      code: 'MIXTURE_MISMATCH',
      message: /another one: prepare with that of the checkpoint/u,
    });
    const other = { ...config, seed: 2 };
    await assert.rejects(
      startFromCheckpoint(path, { config: other, mixture: BEFORE, allowMixtureChange: true }, OF_CHECKPOINT),
      {
        code: 'CHECKPOINT_MISMATCH',
        message: /seed: 1 → 2/u,
      },
    );
  });

  test('the cursor of an earlier version is refused with its version, an invalid one as damage', async () => {
    const { config } = await checkpointOf();
    for (const [cursor, code, message] of [
      [
        { fingerprint: 1, window: 0, row: 3, credits: [0], drawn: [0] },
        'CHECKPOINT_MISMATCH',
        /exmix 0\.1\.0 without/u,
      ],
      [{ version: 2, window: 0 }, 'CHECKPOINT_CORRUPT', /no place in a mixture plan/u],
    ] as const) {
      const { path } = await checkpointOf([], { cursor: JSON.parse(JSON.stringify(cursor)) as RunRecord['cursor'] });
      const start = startFromCheckpoint(path, { config, mixture: BEFORE, allowMixtureChange: true }, OF_CHECKPOINT);
      await assert.rejects(start, { code, message });
    }
  });

  test('a run without a checkpoint starts with the changes of its journal, for the tasks that the mixture has', () => {
    const change = { ...CHANGE, rates: { a: 3, gone: 4 } };
    const start = startFromScratch({ config: configOf(), mixture: BEFORE }, [change]);
    assert.deepEqual(start, { step: 0, rateChanges: [{ ...CHANGE, rates: { a: 3 } }], notes: [] });
  });
});
