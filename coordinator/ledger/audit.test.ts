import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { PlannedExample } from '../../mixture/plan/planned-rows.ts';
import { auditLedger, type AuditReport } from './audit.ts';
import { dealt, openSession, recordOf, TASKS, type PlannedStep } from './ledger.fixture.ts';

let root = '';
let numFolders = 0;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-audit-'));
});
after(() => rm(root, { recursive: true, force: true }));
const newFolder = () => mkdtemp(join(root, `run-${numFolders++}-`));

/** A run of three sessions, the second of which begins where the first was saved, not where it ended. */
async function trainInSessions(folder: string, edit?: (step: PlannedStep) => PlannedStep): Promise<void> {
  for (const [from, to] of [
    [0, 30],
    [23, 41],
    [41, 70],
  ] as const) {
    const run = await openSession(folder, { from, ...(edit === undefined ? {} : { edit }) });
    await run.train(to);
    await run.stop(to === 41 ? 'killed' : 'in order');
  }
}

/** The steps, with one example of a row changed. */
const changing =
  (at: number, change: (example: PlannedExample) => readonly PlannedExample[]) =>
  (step: PlannedStep): PlannedStep => {
    if (step.step !== at) return step;
    let isDone = false;
    const lanes = step.lanes.map((rows) =>
      rows.map((row) =>
        row.flatMap((example) => {
          if (isDone || example.task !== 1) return [example];
          isDone = true;
          return change(example);
        }),
      ),
    );
    return { ...step, lanes };
  };

const kinds = ({ violations }: AuditReport) => violations.map(({ kind }) => kind);

describe('the audit of a ledger', () => {
  test('a run of three sessions, one with repeated steps, is clean, and every epoch but the last is complete', async () => {
    const folder = await newFolder();
    await trainInSessions(folder);
    const report = await auditLedger({ runFolder: folder });
    assert.deepEqual(report.violations, []);
    assert.equal(report.numViolations, 0);
    const numExamples = Array.from({ length: 70 }, (_, i) => dealt(i + 1).lanes.flat(2).length).reduce(
      (a, b) => a + b,
      0,
    );
    assert.equal(report.numExamples, numExamples);
    for (const [task, { name, numExamples: size }] of TASKS.entries()) {
      const found = report.tasks[task]!;
      assert.equal(found.name, name);
      assert.ok(
        found.completeEpochs * size <= found.numDraws && (found.completeEpochs + 4) * size + 40 > found.numDraws,
      );
    }
    assert.ok(report.tasks[0]!.completeEpochs > 10);
    assert.deepEqual(
      report.sessions.map(({ startStep, keptStep, lastStep }) => [startStep, keptStep, lastStep]),
      [
        [0, 23, 30],
        [23, 41, 41],
        [41, 70, 70],
      ],
    );
  });

  test('every range of its steps is clean', async () => {
    const folder = await newFolder();
    await trainInSessions(folder);
    for (let from = 1; from <= 70; from += 3) {
      const report = await auditLedger({ runFolder: folder, from, to: Math.min(70, from + 30) });
      assert.deepEqual(report.violations, [], `from ${from}`);
    }
  });

  test('a repeated example is found, with its steps', async () => {
    const folder = await newFolder();
    const [first] = dealt(7)
      .lanes.flat(2)
      .filter(({ task }) => task === 1);
    await trainInSessions(
      folder,
      changing(35, (example) => [example, first!]),
    );
    const { violations, numViolations } = await auditLedger({ runFolder: folder });
    assert.equal(numViolations, 1);
    const [found] = violations;
    assert.deepEqual([found?.kind, found?.task, found?.index, found?.steps], ['twice', 'long', first?.index, [7, 35]]);
  });

  test('an example twice in one row is found', async () => {
    const folder = await newFolder();
    await trainInSessions(
      folder,
      changing(12, (example) => [example, example]),
    );
    const report = await auditLedger({ runFolder: folder });
    assert.deepEqual([kinds(report), report.violations[0]?.steps], [['twice'], [12]]);
  });

  test('a left-out example is found when its window ends', async () => {
    const folder = await newFolder();
    const skipped: PlannedExample[] = [];
    await trainInSessions(
      folder,
      changing(26, (example) => (skipped.push(example), [])),
    );
    const report = await auditLedger({ runFolder: folder });
    assert.deepEqual(kinds(report), ['never']);
    const { task, index, epoch } = report.violations[0]!;
    assert.deepEqual([task, index, epoch], ['long', skipped[0]?.index, skipped[0]?.epoch]);
    const early = await auditLedger({ runFolder: folder, to: 22 });
    assert.equal(early.numViolations, 0);
  });

  test('an example in place of another one leaves the other one out', async () => {
    const folder = await newFolder();
    await trainInSessions(
      folder,
      changing(50, (example) => [{ ...example, index: (example.index + 1) % 400 }]),
    );
    assert.ok(kinds(await auditLedger({ runFolder: folder })).includes('never'));
  });

  test('an example that the task does not have is found', async () => {
    const folder = await newFolder();
    await trainInSessions(
      folder,
      changing(50, (example) => [example, { ...example, index: 400 }]),
    );
    assert.deepEqual(kinds(await auditLedger({ runFolder: folder })), ['no such example']);
  });

  test('a gradient digest that differs from the journal is found', async () => {
    const folder = await newFolder();
    await trainInSessions(folder, (step) => (step.step === 60 ? { ...step, gradDigest: 1 } : step));
    const report = await auditLedger({ runFolder: folder });
    assert.deepEqual([kinds(report), report.violations[0]?.steps], [['differs'], [60]]);
  });

  test('a missing segment and a damaged one are found, and their steps are listed', async () => {
    const folder = await newFolder();
    await trainInSessions(folder);
    const [first, second] = (await readdir(join(folder, 'ledger'))).sort();
    const path = join(folder, 'ledger', second!);
    const bytes = await readFile(path);
    await rm(path);
    const without = await auditLedger({ runFolder: folder });
    assert.ok(kinds(without).includes('damaged') && kinds(without).includes('not recorded'));
    assert.match(
      without.violations.map(({ what }) => what).join('\n'),
      /steps 24 to 41 of epoch 2: committed, and not in the ledger/u,
    );
    bytes[bytes.length - 60] = bytes[bytes.length - 60]! ^ 1;
    await writeFile(path, bytes);
    const damaged = await auditLedger({ runFolder: folder });
    assert.ok(kinds(damaged).includes('damaged'));
    await writeFile(path, await readFile(join(folder, 'ledger', first!)));
    assert.ok(kinds(await auditLedger({ runFolder: folder })).includes('damaged'));
  });

  test('a run under way, with a step recorded before its commit, is clean', async () => {
    const folder = await newFolder();
    const run = await openSession(folder);
    await run.train(9);
    await run.ledger.append(recordOf(10));
    assert.equal((await auditLedger({ runFolder: folder })).numViolations, 0);
    await run.stop('in order');
  });

  test('a range outside the run and a run without a ledger are rejected', async () => {
    const folder = await newFolder();
    await trainInSessions(folder);
    for (const range of [{ to: 71 }, { from: 0 }, { from: NaN }, { to: NaN }, { from: 1.5 }, { from: 9, to: 8 }])
      await assert.rejects(auditLedger({ runFolder: folder, ...range }), {
        code: 'CONFIG_INVALID',
        message: /1 to 70/u,
      });
    await rm(join(folder, 'ledger'), { recursive: true });
    await assert.rejects(auditLedger({ runFolder: folder }), { code: 'PATH_UNUSABLE', message: /kept no ledger/u });
  });
});
