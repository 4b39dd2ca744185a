import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { encodeRecord, FIRST_LINK } from '../../coordinator/journal/journal.ts';
import { CommitWatch } from './commit-watch.ts';

// The watch reads one line at a time; the coordinator alone compares the links.
const OPENED = encodeRecord(
  { kind: 'run-opened', epoch: 1, configHash: 'c', seed: 1, mixtureHash: 'm', step: 0 },
  FIRST_LINK,
);

function commit(step: number): string {
  return encodeRecord(
    { kind: 'step-committed', epoch: 1, generation: 1, step, cursor: null, gradDigest: 0, loss: 1 },
    FIRST_LINK,
  );
}

function scene(t: TestContext): { path: string; watch: CommitWatch } {
  const folder = mkdtempSync(join(tmpdir(), 'exmix-commit-watch-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'journal');
  return { path, watch: new CommitWatch(path) };
}

describe('watching commits', () => {
  test('each commit is returned once, in order; a missing journal has none', async (t) => {
    const { path, watch } = scene(t);
    assert.deepEqual(await watch.poll(), []);
    appendFileSync(path, OPENED + commit(1) + commit(2));
    assert.deepEqual(await watch.poll(), [1, 2]);
    assert.deepEqual(await watch.poll(), []);
    appendFileSync(path, commit(3));
    assert.deepEqual(await watch.poll(), [3]);
  });

  test('a partial line is read when it is complete', async (t) => {
    const { path, watch } = scene(t);
    const line = commit(1);
    appendFileSync(path, OPENED + line.slice(0, 20));
    assert.deepEqual(await watch.poll(), []);
    appendFileSync(path, line.slice(20));
    assert.deepEqual(await watch.poll(), [1]);
  });

  test('a torn line that the next coordinator truncates is not a commit', async (t) => {
    const { path, watch } = scene(t);
    const whole = OPENED + commit(1);
    appendFileSync(path, `${whole}${commit(2).slice(0, 30)}\n`);
    assert.deepEqual(await watch.poll(), [1]);
    truncateSync(path, whole.length);
    appendFileSync(path, commit(2));
    assert.deepEqual(await watch.poll(), [2]);
  });

  test('a journal longer than one read', async (t) => {
    const { path, watch } = scene(t);
    const steps = Array.from({ length: 5_000 }, (_, i) => i + 1);
    appendFileSync(path, OPENED + steps.map(commit).join(''));
    assert.deepEqual(await watch.poll(), steps);
  });
});
