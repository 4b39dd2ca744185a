import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { computeRates, expectedEpochs, PAPER_RATES, type TaskSize } from './rates.ts';

interface GoldenTask {
  train_examples: number;
  capped: number;
  exmix_rate: number;
  overall_rate: number;
  overall_fraction: [number, number];
  seqio_unnormalised_rate_temperature_2?: number;
}
interface GoldenBlock {
  sum_capped: number;
  per_task: Record<string, GoldenTask>;
}
const golden = JSON.parse(readFileSync(new URL('../../golden/mixing.json', import.meta.url), 'utf8')) as {
  K: number;
  R: number;
  c4_rate: number;
  tasks_without_size: string[];
  tasks_reaching_cap: number;
  with_styleptb_total: GoldenBlock & {
    styleptb_group: { total_examples: number; exmix_rate: number; overall_rate: number };
  };
  without_styleptb: GoldenBlock;
};

const TOLERANCE = 1e-12;
const near = (found: number, expected: number, name: string) =>
  assert.ok(Math.abs(found - expected) <= TOLERANCE, `${name}: expected ${expected}, found ${found}`);
const supervised = (name: string, numExamples: number): TaskSize => ({ name, numExamples, kind: 'supervised' });
const denoising = (name: string, numExamples = 1e6): TaskSize => ({ name, numExamples, kind: 'denoising' });
const goldenTasks = (block: GoldenBlock) =>
  Object.entries(block.per_task).map(([name, task]) => supervised(name, task.train_examples));

function assertGolden(block: GoldenBlock, rates: ReturnType<typeof computeRates>): void {
  const byName = new Map(rates.map((rate) => [rate.name, rate]));
  for (const [name, expected] of Object.entries(block.per_task)) {
    const found = byName.get(name)!;
    assert.equal(found.cappedExamples, expected.capped);
    near(found.exmixShare, expected.exmix_rate, name);
    near(found.share, expected.overall_rate, name);
    near(found.share, expected.overall_fraction[0] / expected.overall_fraction[1], name);
  }
  const capped = rates.filter(({ kind }) => kind === 'supervised').reduce((sum, rate) => sum + rate.cappedExamples, 0);
  assert.equal(capped, block.sum_capped);
  near(
    rates.reduce((sum, { share }) => sum + share, 0),
    1,
    'all shares',
  );
}

describe('mixing rates', () => {
  test('the 86 tasks with a size have the reference rates', () => {
    assert.equal(PAPER_RATES.cap, golden.K);
    assert.equal(PAPER_RATES.denoisingRatio, golden.R);
    const rates = computeRates([...goldenTasks(golden.without_styleptb), denoising('c4')], PAPER_RATES);
    assertGolden(golden.without_styleptb, rates);
    near(rates.at(-1)!.share, golden.c4_rate, 'c4');
    assert.equal(rates.at(-1)!.exmixShare, 0);
    const reaching = rates.filter(({ kind, numExamples }) => kind === 'supervised' && numExamples >= golden.K);
    assert.equal(reaching.length, golden.tasks_reaching_cap);
  });

  test('all 107 tasks have the reference rates, for any division of the StylePTB total', () => {
    const { styleptb_group: group } = golden.with_styleptb_total;
    const names = golden.tasks_without_size;
    const style = names.map((name, i) => supervised(name, i === 0 ? group.total_examples - 20 * 1000 : 1000));
    assert.equal(goldenTasks(golden.with_styleptb_total).length + style.length, 107);
    const rates = computeRates([...goldenTasks(golden.with_styleptb_total), ...style, denoising('c4')], PAPER_RATES);
    assertGolden(golden.with_styleptb_total, rates);
    const ofGroup = rates.filter(({ name }) => names.includes(name));
    near(
      ofGroup.reduce((sum, { exmixShare }) => sum + exmixShare, 0),
      group.exmix_rate,
      'group within ExMix',
    );
    near(
      ofGroup.reduce((sum, { share }) => sum + share, 0),
      group.overall_rate,
      'group overall',
    );
  });

  test('temperature 2 gives the rates of seqio', () => {
    const rates = computeRates([...goldenTasks(golden.without_styleptb), denoising('c4')], {
      ...PAPER_RATES,
      temperature: 2,
    });
    for (const { name, kind, rate } of rates) {
      if (kind === 'denoising') continue;
      const expected = golden.without_styleptb.per_task[name]!.seqio_unnormalised_rate_temperature_2!;
      assert.ok(Math.abs(rate - expected) <= TOLERANCE * expected, `${name}: expected ${expected}, found ${rate}`);
    }
    near(rates.at(-1)!.share, 2 / 3, 'temperature does not change R');
  });

  for (const [ratio, expected] of [
    [0, [0.25, 0.75, 0]],
    [1, [0.125, 0.375, 0.5]],
    [3, [0.0625, 0.1875, 0.75]],
  ] as const)
    test(`R = ${ratio} denoising examples for each ExMix example`, () => {
      const rates = computeRates([supervised('a', 10), supervised('b', 30), denoising('c4')], {
        ...PAPER_RATES,
        denoisingRatio: ratio,
      });
      rates.forEach(({ share, name }, i) => near(share, expected[i]!, name));
    });

  test('a user rate replaces the computed one; 0 leaves the task out; the cap does not apply to it', () => {
    const tasks = [supervised('a', 10), supervised('b', 30), supervised('c', 99), denoising('c4')];
    const rates = computeRates(tasks, { ...PAPER_RATES, cap: 20, overrides: { a: 60, c: 0 } });
    assert.deepEqual(
      rates.map(({ rate }) => rate),
      [60, 20, 0, 1e6],
    );
    near(rates[0]!.exmixShare, 0.75, 'a');
    near(rates[0]!.share, 0.25, 'a');
    assert.equal(rates[2]!.share, 0);
  });

  test('several denoising tasks divide the denoising share by size, without the cap', () => {
    const rates = computeRates([supervised('a', 10), denoising('c4', 3e6), denoising('wiki', 1e6)], PAPER_RATES);
    near(rates[1]!.share, 0.5, 'c4');
    near(rates[2]!.share, 1 / 6, 'wiki');
    const flattened = computeRates([supervised('a', 10), denoising('c4', 3e6), denoising('wiki', 1e6)], {
      ...PAPER_RATES,
      temperature: 2,
    });
    near(flattened[1]!.share, 0.5, 'c4: the temperature applies only to ExMix');
  });

  test('without supervised tasks all draws are denoising', () => {
    assert.equal(computeRates([denoising('c4')], PAPER_RATES)[0]!.share, 1);
  });

  test('the expected passes are the draws of a task divided by its size', () => {
    const [a, b] = computeRates([supervised('a', 10), supervised('b', 0), denoising('c4')], PAPER_RATES);
    near(expectedEpochs(a!, 300), 10, 'a');
    assert.equal(expectedEpochs(b!, 300), 0);
  });

  const two = [supervised('glue_cola', 5), denoising('c4')];
  for (const [what, tasks, options, code, message] of [
    ['cap 0', two, { cap: 0 }, 'CONFIG_INVALID', /cap K/],
    ['temperature below 1', two, { temperature: 0.5 }, 'CONFIG_INVALID', /temperature/],
    ['a negative R', two, { denoisingRatio: -1 }, 'CONFIG_INVALID', /ratio R/],
    ['an infinite R', two, { denoisingRatio: Infinity }, 'CONFIG_INVALID', /ratio R/],
    ['a negative user rate', two, { overrides: { glue_cola: -1 } }, 'CONFIG_INVALID', /glue_cola/],
    ['a rate for an unknown task', two, { overrides: { glue_coal: 1 } }, 'NAME_UNKNOWN', /nearest: glue_cola/],
    ['R above 0 without a denoising task', [two[0]!], {}, 'CONFIG_INVALID', /set R to 0/],
    [
      'a mixture without a positive rate',
      [supervised('a', 0)],
      { denoisingRatio: 0 },
      'CONFIG_INVALID',
      /positive rate/,
    ],
    ['a task listed twice', [two[0]!, ...two], {}, 'CONFIG_INVALID', /listed twice/],
    ['a size that is not a count', [supervised('a', 1.5)], {}, 'CONFIG_INVALID', /task a/],
  ] as const)
    test(`rejects ${what}`, () => {
      assert.throws(() => computeRates(tasks, { ...PAPER_RATES, ...options }), { code, message });
    });
});
