import assert from 'node:assert/strict';
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import { computeRates, PAPER_RATES } from '../plan/rates.ts';
import { Planner } from '../plan/planner.ts';
import { prepareMixture } from '../prepare/prepare-mixture.ts';
import { writeSmallMixture } from '../prepare/small-mixture.fixture.ts';
import { createBatchArrays, fillRow } from './batch.ts';
import { readPlannedExample } from './planned-examples.ts';
import { openPreparedMixture } from './prepared-mixture.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-feed-'));
const original = join(root, 'prepared');
const featureLengths = { inputs: 32, targets: 16 };
before(async () => {
  const mixture = writeSmallMixture(join(root, 'sources'));
  await prepareMixture({ mixture, outDir: original, featureLengths, shardBytes: 1024 });
});
after(() => rmSync(root, { recursive: true }));

let numCopies = 0;
function copy(): string {
  const folder = join(root, `copy-${numCopies++}`);
  cpSync(original, folder, { recursive: true });
  return folder;
}

const filesOf = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));

async function openAndClose(folder: string): Promise<void> {
  (await openPreparedMixture(folder)).close();
}

/** Opens it and reads every example. */
async function readAll(folder: string): Promise<void> {
  const mixture = await openPreparedMixture(folder);
  try {
    for (const task of mixture.tasks)
      for (let index = 0; index < task.numExamples; index++) await task.readTokens(index);
  } finally {
    mixture.close();
  }
}

describe('opening a prepared mixture', () => {
  test('a flipped bit in any file is SHARD_CORRUPT before any of its examples is returned; the error names the file', async () => {
    const folder = copy();
    for (const path of filesOf(folder)) {
      const bytes = readFileSync(path);
      if (path.endsWith('unit.json')) continue; // used for preparing again, not for reading
      for (const at of [0, Math.floor(bytes.length / 2), bytes.length - 1]) {
        const flipped = Buffer.from(bytes);
        flipped[at]! ^= 1;
        writeFileSync(path, flipped);
        await assert.rejects(readAll(folder), (error) => {
          assert.ok(
            error instanceof TrainerError && error.code === 'SHARD_CORRUPT',
            `${path} byte ${at}: ${String(error)}`,
          );
          assert.ok(error.message.includes(path), error.message);
          return true;
        });
      }
      writeFileSync(path, bytes);
    }
    await readAll(folder);
  });

  test('a truncated or missing file is SHARD_CORRUPT when the mixture is opened, or for checksums when they are needed', async () => {
    for (const path of filesOf(original).map((file) => file.slice(original.length + 1))) {
      if (path.endsWith('unit.json')) continue;
      const open = path.endsWith('.crc') ? readAll : openAndClose;
      const folder = copy();
      const damaged = join(folder, path);
      truncateSync(damaged, readFileSync(damaged).length - 1);
      await assert.rejects(open(folder), { code: 'SHARD_CORRUPT' }, path);
      unlinkSync(damaged);
      const code = path === 'mixture.json' ? 'PATH_UNUSABLE' : 'SHARD_CORRUPT';
      await assert.rejects(open(folder), { code }, path);
      rmSync(folder, { recursive: true });
    }
  });

  test('the error gives the expected and found hash of a damaged index, and the damaged bytes of a token file', async () => {
    const folder = copy();
    const [index, tokens] = ['.index', '.tokens'].map((kind) =>
      filesOf(join(folder, 'plain')).find((path) => path.endsWith(kind))!,
    ) as [string, string];
    const flip = (path: string) => {
      const bytes = readFileSync(path);
      bytes[7]! ^= 64;
      writeFileSync(path, bytes);
    };
    flip(tokens);
    await openAndClose(folder);
    await assert.rejects(readAll(folder), {
      message: /shard-00000\.tokens: expected bytes 0 to \d+ with the checksum they were written with, found others/,
    });
    flip(index);
    await assert.rejects(openAndClose(folder), {
      message: /shard-00000\.index: expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}/,
    });
  });

  test('another mixture than the run started with is MIXTURE_MISMATCH with both hashes', async () => {
    const { hash } = await openPreparedMixture(original);
    await assert.rejects(openPreparedMixture(original, { expectedHash: 'f'.repeat(64) }), {
      code: 'MIXTURE_MISMATCH',
      message: new RegExp(`expected the prepared mixture f{64}, found ${hash}`),
    });
    assert.equal((await openPreparedMixture(original, { expectedHash: hash })).hash, hash);
  });

  test('reading an example that does not exist is INTERNAL', async () => {
    const { tasks } = await openPreparedMixture(original);
    for (const index of [-1, tasks[0]!.numExamples, 0.5, Number.NaN])
      await assert.rejects(tasks[0]!.readTokens(index), { code: 'INTERNAL' });
  });
});

describe('examples of the plan', () => {
  test('have the planned lengths, for all tasks', async () => {
    const mixture = await openPreparedMixture(original);
    for (const [task, { numExamples, inputsLength, targetsLength }] of mixture.tasks.map(
      (t, i) =>
        [
          i,
          { numExamples: t.numExamples, inputsLength: t.inputsLength.bind(t), targetsLength: t.targetsLength.bind(t) },
        ] as const,
    ))
      for (let index = 0; index < numExamples; index++) {
        const { inputs, targets } = await readPlannedExample(mixture, { task, index, epoch: 3 }, 1);
        assert.deepEqual([inputs.length, targets.length], [inputsLength(index), targetsLength(index)]);
        assert.deepEqual([inputs.at(-1), targets.at(-1)], [1, 1]);
      }
  });

  test('denoising keeps every token of the segment, and depends on seed, epoch and example', async () => {
    const mixture = await openPreparedMixture(original);
    const task = mixture.taskNames.indexOf('denoise');
    const { vocabSize, numExtraIds } = mixture.tokenizer;
    const read = async (seed: number, epoch: number, index: number) => {
      const { inputs, targets } = await readPlannedExample(mixture, { task, index, epoch }, seed);
      return { inputs: [...inputs], targets: [...targets] };
    };
    const restored = ({ inputs, targets }: { inputs: number[]; targets: number[] }) => {
      const isSentinel = (id: number) => id >= vocabSize - numExtraIds;
      return inputs.slice(0, -1).flatMap((id) => {
        if (!isSentinel(id)) return [id];
        const from = targets.indexOf(id) + 1;
        const next = targets.findIndex((other, i) => i >= from && (isSentinel(other) || i === targets.length - 1));
        return targets.slice(from, next);
      });
    };
    const raw = [...(await mixture.tasks[task]!.readTokens(2))];
    const variants = [await read(1, 0, 2), await read(2, 0, 2), await read(1, 1, 2)];
    for (const variant of variants) assert.deepEqual(restored(variant), raw);
    assert.equal(new Set(variants.map((variant) => JSON.stringify(variant))).size, 3);
    assert.deepEqual(await read(1, 0, 2), variants[0]);
  });

  test('rows of a real plan have each token of their examples once, and use all tasks', async () => {
    const mixture = await openPreparedMixture(original);
    const shares = computeRates(mixture.sizes, PAPER_RATES).map(({ share }) => share);
    const config = { seed: 5, inputsLimit: 32, targetsLimit: 16, windowDraws: 512, shares };
    const batch = createBatchArrays(1, 32, 16);
    const seen = new Set<number>();
    for (const row of new Planner(config, mixture.tasks).nextRows(200)) {
      const inputTokens = await fillRow(batch, 0, row, mixture, 5);
      const examples = await Promise.all(row.map((planned) => readPlannedExample(mixture, planned, 5)));
      const inputs = examples.flatMap((example) => [...example.inputs]);
      const targets = examples.flatMap((example) => [...example.targets]);
      assert.equal(inputTokens, inputs.length);
      assert.deepEqual([...batch.encoderInputIds.subarray(0, inputs.length)], inputs);
      assert.deepEqual(
        [...batch.labels].filter((id) => id !== -100),
        targets,
      );
      for (const { task } of row) seen.add(task);
    }
    assert.equal(seen.size, 5);
    mixture.close();
  });
});
