import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pruneCheckpoints } from '../../coordinator/checkpoint/retention.ts';
import type { JournalRecord } from '../../coordinator/journal/journal-records.ts';
import { journalText } from '../../coordinator/journal/journal.fixture.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { writeFixtureCheckpoint } from '../../shared/checkpoint/checkpoint.fixture.ts';
import { readCheckpoint, readRunRecord } from '../../shared/checkpoint/read.ts';
import { systemClock } from '../../shared/clock.ts';
import { ALREADY_EVALUATED, followRun, type FollowRunInit } from './follow-run.ts';

let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-follow-'));
});
after(() => rm(root, { recursive: true, force: true }));

/** A run folder whose journal and checkpoints a test writes. */
class WrittenRun {
  readonly folder: string;
  readonly checkpoints: string;
  readonly #journal: string;
  #step = 0;

  private constructor(folder: string) {
    this.folder = folder;
    this.checkpoints = join(folder, 'checkpoints');
    this.#journal = join(folder, 'journal');
  }

  static async name(): Promise<WrittenRun> {
    return new WrittenRun(join(await mkdtemp(join(root, 'case-')), 'run'));
  }

  async begin(): Promise<void> {
    await mkdir(this.checkpoints, { recursive: true });
    await this.#append({ kind: 'run-opened', epoch: 1, configHash: 'c', seed: 1, mixtureHash: 'm', step: 0 });
  }

  /** @param on false: only the journal has it */
  async publish(step: number, on = true): Promise<void> {
    while (this.#step < step) {
      this.#step += 1;
      const facts = { step: this.#step, cursor: null, gradDigest: 1, loss: 1 };
      await this.#append({ kind: 'step-committed', epoch: 1, generation: 1, ...facts });
    }
    const paramDigest = on ? (await readRunRecord(await writeFixtureCheckpoint(this.checkpoints, step))).paramDigest : '00'; // prettier-ignore
    await this.#append({ kind: 'checkpoint-published', step, path: `checkpoints/step-${step}`, paramDigest });
  }

  finish(): Promise<void> {
    return this.#append({ kind: 'run-finished', epoch: 1, step: this.#step });
  }

  async #append(record: JournalRecord): Promise<void> {
    const before = await readFile(this.#journal, 'utf8').catch(() => '');
    const last = before.split('\n').at(-2);
    await appendFile(this.#journal, journalText([record], last));
  }
}

interface Followed {
  readonly evaluated: number[];
  readonly lines: string[];
}

/** Follows to the end; the evaluation of a checkpoint is to read it. */
async function follow(
  { folder }: WrittenRun,
  more: Partial<FollowRunInit> & { readonly during?: (step: number) => Promise<unknown> } = {},
): Promise<Followed> {
  const { during, ...init } = more;
  const evaluated: number[] = [];
  const lines: string[] = [];
  await followRun({
    runFolder: folder,
    resultsFolder: join(folder, 'evaluation'),
    hasResults: () => Promise.resolve(false),
    evaluate: async (pinned, { step, paramDigest }) => {
      await during?.(step);
      const { run } = await readCheckpoint(pinned);
      assert.deepEqual([run.step, run.paramDigest], [step, paramDigest]);
      evaluated.push(step);
      return { kind: 'evaluated' };
    },
    clock: systemClock,
    onLine: (line) => lines.push(line),
    signal: new AbortController().signal,
    ...init,
  });
  return { evaluated, lines };
}

describe('a run that is followed', () => {
  test('from before it began: each checkpoint is evaluated when it is published, and the follower ends with the run', async () => {
    const run = await WrittenRun.name();
    const steps = [2, 4, 6];
    const lines: string[] = [];
    const evaluated: number[] = [];
    const next = async (): Promise<void> => {
      const step = steps.shift();
      await (step === undefined ? run.finish() : run.publish(step));
    };
    await follow(run, {
      onLine(line) {
        lines.push(line);
        if (line.includes('waiting for the run to begin')) void run.begin();
        else if (line.includes('waiting for')) void next();
      },
      evaluate: (_, { step }) => {
        evaluated.push(step);
        return Promise.resolve({ kind: 'evaluated' });
      },
    });
    assert.deepEqual(evaluated, [2, 4, 6]);
    assert.equal(lines.at(-1), 'the run has finished at step 6');
    assert.deepEqual((await readdir(run.checkpoints)).sort(), ['step-2', 'step-4', 'step-6']);
    assert.deepEqual(await readdir(join(run.folder, 'evaluation')), []);
  });

  test('the newest comes first; what retention removes meanwhile is skipped, but not what is being read', async () => {
    const run = await WrittenRun.name();
    await run.begin();
    for (const step of [2, 4, 6]) await run.publish(step);
    let isFirst = true;
    const { evaluated, lines } = await follow(run, {
      async during(step) {
        if (!isFirst) return;
        isFirst = false;
        assert.equal(step, 6);
        await run.publish(8);
        await pruneCheckpoints(run.checkpoints, { keepLast: 1 }, new Map());
        await run.finish();
      },
    });
    assert.deepEqual(evaluated, [6, 8]);
    assert.ok(lines.includes('step 6 is evaluated; steps 2 and 4 wait: this one is newer'), lines.join('\n'));
    assert.ok(lines.includes('steps 2 and 4 skipped: removed before its evaluation began'), lines.join('\n'));
    assert.deepEqual(await readdir(run.checkpoints), ['step-8']);
  });

  test('older checkpoints that are still there are evaluated after the newest, and a damaged one is skipped', async () => {
    const run = await WrittenRun.name();
    await run.begin();
    for (const step of [2, 4, 6]) await run.publish(step);
    await run.finish();
    await writeFile(join(run.checkpoints, 'step-4', 'run.json'), '{}');
    const { evaluated, lines } = await follow(run);
    assert.deepEqual(evaluated, [6, 2]);
    assert.ok(
      lines.some((line) => /^step 4 skipped: damaged: .*run\.json/su.test(line)),
      lines.join('\n'),
    );
  });

  test('without its last checkpoint is an error, unless its results are there', async () => {
    const run = await WrittenRun.name();
    await run.begin();
    await run.publish(2);
    await run.publish(4, false);
    await run.finish();
    await assert.rejects(follow(run), { code: 'PATH_UNUSABLE', message: /step-4: the last checkpoint .* removed/u });
    const known = { hasResults: ({ step }: { readonly step: number }) => Promise.resolve(step === 4) };
    const { evaluated, lines } = await follow(run, known);
    assert.deepEqual(evaluated, [2]);
    assert.ok(lines.includes('step 4 skipped: already evaluated'), lines.join('\n'));
    const again = await follow(run, {
      ...known,
      evaluate: () => Promise.resolve({ kind: 'skipped', reason: ALREADY_EVALUATED }),
    });
    assert.ok(again.lines.includes('step 2 skipped: already evaluated'), again.lines.join('\n'));
  });

  test('with its last checkpoint damaged, or with none, is an error', async () => {
    const run = await WrittenRun.name();
    await run.begin();
    await run.publish(2);
    await run.finish();
    await rm(join(run.checkpoints, 'step-2', 'run.json'));
    await assert.rejects(follow(run), { code: 'CHECKPOINT_CORRUPT', message: /last checkpoint/u });
    const empty = await WrittenRun.name();
    await empty.begin();
    await empty.finish();
    await assert.rejects(follow(empty), { code: 'PATH_UNUSABLE', message: /finished without a checkpoint/u });
  });

  test('by two processes into one folder is refused, and so is a checkpoint in place of a run', async () => {
    const run = await WrittenRun.name();
    await run.begin();
    await run.publish(2);
    await run.finish();
    await follow(run, { during: () => assert.rejects(follow(run), { code: 'RUN_LOCKED' }) });
    await assert.rejects(followRun({ ...ANY, runFolder: join(run.checkpoints, 'step-2') }), {
      code: 'PATH_UNUSABLE',
      message: /expected a run folder to follow, found a model \(manifest\.json\)/u,
    });
  });

  test('a stop while it waits, or while it evaluates, leaves neither pin nor lock', async () => {
    for (const place of ['waiting', 'evaluating']) {
      const run = await WrittenRun.name();
      await run.begin();
      if (place === 'evaluating') await run.publish(2);
      const stop = new AbortController();
      const followed = follow(run, {
        signal: stop.signal,
        onLine: (line) => {
          if (line.includes('waiting')) stop.abort();
        },
        evaluate: (_, __, signal) => {
          stop.abort();
          throwIfAborted(signal, 'evaluating');
          return Promise.resolve({ kind: 'evaluated' });
        },
      });
      const message = place === 'waiting' ? /stopped; the same command goes on/u : /evaluating was aborted/u;
      await assert.rejects(followed, { code: 'ABORTED', message });
      assert.deepEqual(await readdir(run.checkpoints), place === 'waiting' ? [] : ['step-2']);
      assert.deepEqual(await readdir(join(run.folder, 'evaluation')), []);
    }
  });
});

const ANY: FollowRunInit = {
  runFolder: '',
  resultsFolder: '',
  hasResults: () => Promise.resolve(false),
  evaluate: () => Promise.resolve({ kind: 'evaluated' }),
  clock: systemClock,
  onLine: () => undefined,
  signal: new AbortController().signal,
};
