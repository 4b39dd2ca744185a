/** Our numbers against those of the reference programs (golden/README.md). */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkJsonFile, checkJsonText } from './golden-report.ts';
import { checkGenerateFile, generateKind } from './generate-cases.ts';
import { openModel } from './golden-model.ts';
import { checkOptimizerFile } from './optimizer-cases.ts';
import { checkTrainingFile } from './training-cases.ts';
import { METRIC_ANSWERS, POSTPROCESSOR_ANSWERS, type GoldenCase } from './metric-cases.ts';

for (const folder of ['golden/metrics', 'golden/postprocess']) {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json'));
  for (const name of names) {
    test(`${folder}/${name}: every case is equal within the file's tolerance`, async () => {
      const report = await checkJsonFile(join(folder, name));
      assert.deepEqual(report?.failures, []);
      assert.ok(report.numCases >= 12, `${report.numCases} cases`);
    });
  }

  test(`${folder}: a figure that is off by a millionth, or a text that is another one, makes its file fail`, async () => {
    for (const name of names) {
      const content = JSON.parse(await readFile(join(folder, name), 'utf8')) as Record<string, unknown>;
      const answers = 'metric' in content ? METRIC_ANSWERS : POSTPROCESSOR_ANSWERS;
      const answer = answers[(content['metric'] ?? content['postprocessor']) as string]!;
      const report = checkJsonText(name, JSON.stringify(content), (one, options) => plantError(answer(one, options)) as never);
      assert.ok(report!.failures.length > 0, name);
    }
  });
}

for (const engine of ['wasm', 'cpu']) {
  for (const name of await readdir('golden/generate')) {
    test(`golden/generate/${name} on ${engine}: tokens are the same, scores within the tolerance`, async () => {
      const report = await checkJsonFile(join('golden/generate', name), engine);
      assert.deepEqual(report?.failures, []);
      assert.ok(report.numCases >= 9, `${report.numCases} cases`);
    });
  }
}

for (const engine of ['wasm', 'cpu']) {
  test(`golden/load on ${engine}: each folder gives the reference's tokens, or is refused`, async () => {
    const report = await checkJsonFile('golden/load/expected.json', engine);
    assert.deepEqual(report?.failures, []);
    assert.equal(report.numCases, 22);
  });
}

const OPTIMIZERS = 'golden/optimizers/optimizers.json';

for (const engine of ['wasm', 'cpu']) {
  test(`golden/optimizers on ${engine}: every parameter after each step, and the state, is equal within the tolerance`, async () => {
    const report = await checkJsonFile(OPTIMIZERS, engine);
    assert.deepEqual(report?.failures, []);
    assert.equal(report.numCases, 7);
  });
}

test('an optimizer with another setting fails its case', async () => {
  const content = JSON.parse(await readFile(OPTIMIZERS, 'utf8')) as GoldenCase;
  for (const [change, numFailing] of [
    [{ epsilon: 1e-5 }, 4],
    [{ weightDecay: 0.011 }, 3], // no tensor of adamw_rms decays
    [{ beta2: 0.99 }, 4],
    [{ maxGradNorm: 0.9 }, 4],
    [{ kind: 'adamw' as const }, 2],
  ] as const) {
    const tensors = OPTIMIZERS.replace('json', 'safetensors');
    const { failures } = await checkOptimizerFile(content, tensors, 'wasm', (settings) => ({ ...settings, ...change }) as never);
    const failing = new Set(failures.map((failure) => failure.split(' ')[0]));
    assert.equal(failing.size, numFailing, `${JSON.stringify(change)}: ${[...failing].join()}`);
  }
});

for (const engine of ['wasm', 'cpu']) {
  for (const [name, numCases] of [['dropout/dropout', 10], ['finetune/finetune', 2]] as const) {
    test(`golden/${name}.json on ${engine}: losses, gradients and parameters are within their tolerances`, async () => {
      const report = await checkJsonFile(`golden/${name}.json`, engine);
      assert.deepEqual(report?.failures, []);
      assert.equal(report.numCases, numCases);
    });
  }
}

for (const name of ['dropout/dropout', 'finetune/finetune']) {
  test(`golden/${name}.json: a number that is off by a hundred-thousandth makes its file fail`, async () => {
    const file = `golden/${name}.json`;
    const content = JSON.parse(await readFile(file, 'utf8')) as GoldenCase;
    assert.ok((await checkTrainingFile(content, file, 'wasm', (value) => value * (1 + 1e-5))).failures.length > 0);
  });
}

test('another rate fails the file of dropout', async () => {
  const file = 'golden/dropout/dropout.json';
  const content = JSON.parse(await readFile(file, 'utf8')) as { cases: { file: string; rate: number }[] };
  const [first] = content.cases;
  const report = await checkTrainingFile({ cases: [{ ...first, rate: 0.2 }] }, file, 'wasm');
  assert.ok(report.failures.some((failure) => failure.includes('loss')));
});

test('a model with another weight fails every file of decoding that it is asked for', async () => {
  for (const name of await readdir('golden/generate')) {
    const content = JSON.parse(await readFile(join('golden/generate', name), 'utf8')) as GoldenCase;
    if (generateKind(content) === 'next-token') continue; // compares distributions of given logits
    const other = (content['model'] as string).endsWith('v1_0') ? 'golden/t5-tiny-v1_1' : 'golden/t5-tiny-v1_0';
    const engine = await openModel(name, other, 'wasm');
    const tooLarge = (id: number): number => id % 384; // v1_0 has fewer tokens
    const changed = JSON.parse(JSON.stringify(content), (key, value: unknown) =>
      Array.isArray(value) && ['input_ids', 'labels'].includes(key) ? mapIds(value, tooLarge) : value,
    ) as GoldenCase;
    assert.ok((await checkGenerateFile(changed, engine)).failures.length > 0, name);
    await engine.dispose();
  }
});

/** Each id of nested lists by `change`; -100 stays. */
function mapIds(list: readonly unknown[], change: (id: number) => number): unknown[] {
  return list.map((one) => (Array.isArray(one) ? mapIds(one, change) : (one as number) < 0 ? one : change(one as number)));
}

test('a file whose metric nobody computes fails, and so does one without cases', () => {
  assert.match(checkJsonText('x', '{"metric":"unheard_of","cases":[{}]}')!.failures[0]!, /nothing here computes/u);
  assert.match(checkJsonText('x', '{"metric":"accuracy","cases":[]}')!.failures[0]!, /no case/u);
  assert.equal(checkJsonText('x', '{"tables":{}}'), undefined, 'another kind of file');
});

/** The answer with each number a little larger and each text a little longer. */
function plantError(answer: unknown): unknown {
  if (typeof answer === 'number') return answer === 0 ? 2e-6 : answer * (1 + 2e-6);
  if (typeof answer === 'string') return `${answer}x`;
  if (typeof answer !== 'object' || answer === null) return answer;
  if (Array.isArray(answer)) return answer.map(plantError);
  return Object.fromEntries(Object.entries(answer).map(([key, value]) => [key, plantError(value)]));
}
