import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import type { EnsuredUnit, UnitOrder } from './ensure-unit.ts';
import { prepareMixture, prepareShard } from './prepare-mixture.ts';
import { writeSmallMixture } from './small-mixture.fixture.ts';
import { MAX_ATTEMPTS } from './unit-queue.ts';
import { runUnits, type PlannedUnit, type RunUnitsInit, type UnitWorker } from './unit-workers.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-workers-'));
after(() => rmSync(root, { recursive: true }));
let numFolders = 0;
const newFolder = () => join(root, String(numFolders++));

const planned = (task: string, number: number): PlannedUnit => ({
  task,
  number,
  bytes: 1,
  order: { task, number } as UnitOrder, // the workers of these tests read nothing else
});
const made = { outcome: 'missing' } satisfies EnsuredUnit;
const lost = () => new TrainerError('WORKER_LOST', 'process 1 ended with SIGKILL', { retryable: true });

/** Runs units with workers that answer each unit with `answer`. @returns the events and the error */
async function run(
  units: readonly PlannedUnit[],
  answer: (order: UnitOrder, numWorker: number) => Promise<EnsuredUnit>,
  options: Partial<RunUnitsInit> = {},
) {
  const events: string[] = [];
  let numWorkers = 0;
  const createWorker = (): UnitWorker => {
    const number = numWorkers++;
    return {
      ensure: (order) => answer(order, number),
      stop: () => {
        events.push(`stop ${number}`);
        return Promise.resolve();
      },
    };
  };
  const done = runUnits({
    units,
    numWorkers: 1,
    createWorker,
    onProgress: () => undefined,
    onDone: ({ task, number }) => Promise.resolve(void events.push(`done ${task}${number}`)),
    onDeath: ({ task, number }, _reason, next) => Promise.resolve(void events.push(`death ${task}${number} ${next}`)),
    onFailed: ({ task, number }, { code }) => {
      events.push(`failed ${task}${number} ${code}`);
      return code !== 'DISK_FULL';
    },
    ...options,
  });
  const error = await done.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return { events, error };
}

describe('units through workers', () => {
  test('if a worker dies, another worker makes its unit again', async () => {
    const { events, error } = await run([planned('a', 0), planned('a', 1)], (order, worker) =>
      worker === 0 && order.number === 1 ? Promise.reject(lost()) : Promise.resolve(made),
    );
    assert.equal(error, undefined);
    assert.deepEqual(events.slice(0, 3), ['done a0', 'death a1 again', 'done a1']);
  });

  test('a unit that ends every worker fails its task; the other tasks continue', async () => {
    const { events, error } = await run([planned('a', 0), planned('a', 1), planned('b', 0)], ({ task }) =>
      task === 'a' ? Promise.reject(lost()) : Promise.resolve(made),
    );
    assert.equal(error, undefined);
    assert.deepEqual(events.slice(0, MAX_ATTEMPTS + 2), [
      ...Array<string>(MAX_ATTEMPTS - 1).fill('death a0 again'),
      'death a0 given up',
      'failed a0 WORKER_LOST',
      'done b0',
    ]);
  });

  test('a failure that concerns more than one task stops all workers and is thrown', async () => {
    const full = new TrainerError('DISK_FULL', 'no room');
    const { events, error } = await run([planned('a', 0), planned('b', 0)], () => Promise.reject(full));
    assert.equal(error, full);
    assert.deepEqual(events.slice(0, 2), ['failed a0 DISK_FULL', 'stop 0']);
    assert.ok(!events.includes('done b0'));
  });

  test('an abort stops the workers, starts no further unit and is ABORTED', async () => {
    const controller = new AbortController();
    const { events, error } = await run(
      [planned('a', 0), planned('b', 0)],
      () => {
        controller.abort('enough');
        return Promise.reject(new TrainerError('ABORTED', 'stopped'));
      },
      { signal: controller.signal },
    );
    assert.ok(error instanceof TrainerError && error.code === 'ABORTED');
    assert.ok(events.includes('stop 0') && !events.some((line) => line.startsWith('done')));
  });
});

describe('processes', () => {
  const mixture = writeSmallMixture(newFolder(), 200);
  const options = { mixture, featureLengths: { inputs: 24, targets: 12 }, shardBytes: 4096, unitBytes: 8000 };

  function contentOf(folder: string): [string, string][] {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name))
      .sort()
      .map((path) => [path.slice(folder.length), readFileSync(path, 'latin1')]);
  }

  /** Process ids of the children of this process. */
  function children(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        const path = `/proc/${pid}/status`;
        return existsSync(path) && new RegExp(`^PPid:\\s+${process.pid}$`, 'm').test(readFileSync(path, 'utf8'));
      })
      .map(Number);
  }

  test('give the bytes of a single process, also if some are killed, and leave no partial folder', async (t) => {
    if (!existsSync('/proc/self/status')) {
      t.skip('needs /proc to find the children');
      return;
    }
    const alone = newFolder();
    const { hash, tasks } = await prepareMixture({ ...options, outDir: alone });
    assert.ok(tasks.every(({ outcome }) => outcome === 'prepared'));
    const outDir = newFolder();
    const notes: string[] = [];
    let numKilled = 0;
    const report = await prepareMixture({
      ...options,
      outDir,
      processes: 2,
      // The clock runs fast, so that every unit reports progress.
      clock: { monotonicMs: () => 10_000 * performance.now(), wallMs: () => 0, sleep: () => Promise.resolve() },
      onNote: (line) => notes.push(line),
      onProgress: ({ total }) => {
        if (total.unitsDone < 2 * (numKilled + 1) || numKilled === 2) return;
        const [child] = children();
        if (child === undefined) return;
        process.kill(child, 'SIGKILL');
        numKilled += 1;
      },
    });
    assert.equal(numKilled, 2);
    assert.match(notes.join('\n'), /task \w+ unit \d+: process \d+ ended with SIGKILL; it is made again/);
    assert.equal(report.hash, hash);
    assert.deepEqual(contentOf(outDir), contentOf(alone));
    assert.deepEqual(children(), []);
  });

  test('end when the preparation is aborted; the next one keeps the finished units', async () => {
    const outDir = newFolder();
    const controller = new AbortController();
    await assert.rejects(
      prepareMixture({
        ...options,
        outDir,
        processes: 2,
        signal: controller.signal,
        clock: { monotonicMs: () => 10_000 * performance.now(), wallMs: () => 0, sleep: () => Promise.resolve() },
        onProgress: ({ total }) => {
          if (total.unitsDone >= 3) controller.abort('enough');
        },
      }),
      { code: 'ABORTED' },
    );
    const left = contentOf(outDir).map(([path]) => path);
    assert.ok(
      left.every((path) => !path.includes('.partial-')),
      left.join('\n'),
    );
    const again = await prepareMixture({ ...options, outDir });
    assert.ok(again.tasks.reduce((sum, { unitsKept }) => sum + unitsKept, 0) >= 3);
  });

  test('of a job array share the units; the last one merges, and the others report what is missing', async () => {
    const alone = newFolder();
    const { hash } = await prepareMixture({ ...options, outDir: alone });
    const outDir = newFolder();
    const first = await prepareShard({ ...options, outDir, units: { index: 3, count: 3 } });
    assert.ok(first.unitsMade > 0 && first.finished === undefined && first.missing.length > 0);
    assert.ok(!existsSync(join(outDir, 'mixture.json')));
    const early = await prepareShard({ ...options, outDir, units: 'none' });
    assert.equal(early.unitsMade, 0);
    assert.deepEqual(early.missing, first.missing);
    const second = await prepareShard({ ...options, outDir, units: { index: 1, count: 3 } });
    const last = await prepareShard({ ...options, outDir, units: { index: 2, count: 3 } });
    assert.ok(second.finished === undefined && last.finished?.hash === hash);
    assert.deepEqual(contentOf(outDir), contentOf(alone));
    const merged = await prepareShard({ ...options, outDir, units: 'none' });
    assert.deepEqual([merged.unitsMade, merged.finished?.hash], [0, hash]);
  });
});
