import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compareSets, type ComparedSide } from './compare-results.ts';
import {
  evaluationOf,
  formatPrediction,
  formatResults,
  parsePredictions,
  parseResults,
  setResultOf,
} from './results.ts';
import { judgeSet, type JudgedSet } from './judge-set.ts';
import { averagesOf } from './suite-averages.ts';

const WORDS = ['', '', 'yes', 'no', 'maybe'];
const decodeText = (ids: readonly number[]): string => ids.map((id) => WORDS[id]!).join('');
const NUM = 200;
const set: JudgedSet = {
  evaluation: { postprocess: { name: 'string_label_to_class_id', labels: ['yes', 'no'] }, metrics: ['accuracy'] },
  examples: Array.from({ length: NUM }, (_, id) => ({
    ...{ id, inputs: `question ${id}`, inputIds: [5, 1], targets: 'yes', targetIds: [2, 1], cutInputTokens: 0 },
    fields: id % 2 === 0 ? { group: [id, 'a'] } : {},
  })),
};
const identity = { task: 'glue_cola', name: 'validation', split: 'validation', kind: 'supervised' as const, hash: 'ab', evaluation: set.evaluation }; // prettier-ignore

/** A model whose outputs are right up to example `numRight`, then wrong ones. */
function sideOf(numRight: number, loss = 1): ComparedSide {
  const outputs = set.examples.map(({ id }) => ({
    ids: [id < numRight ? 2 : id % 3 === 0 ? 4 : 3, 1],
    score: -id / 3,
  }));
  const findings = { losses: outputs.map((_, id) => loss + id / 1000), numRight: outputs.map(() => 1), outputs };
  const { scores, lines } = judgeSet(set, findings, decodeText);
  const results = formatResults({
    ...{
      metricsRevision: 1,
      paramDigest: 'p',
      step: 3,
      tokenizer: 't',
      engine: 'wasm',
      decoding: { method: 'greedy' },
    },
    ...{ batchTokens: 64, maxExamples: null, sets: [setResultOf(identity, scores)], averages: {} },
  });
  const [found] = parseResults(results, 'results.json').sets;
  return { place: 'here', set: found!, lines: parsePredictions(lines.map(formatPrediction).join(''), 'p.jsonl') };
}

describe('two results of the same examples', () => {
  const find = (a: ComparedSide, b: ComparedSide, figure: string) =>
    compareSets(a, b).figures.find((found) => found.figure === figure)!;

  test('a clear difference is told, with its interval around it and the changed examples', () => {
    const [a, b] = [sideOf(100), sideOf(150)];
    const { a: left, b: right, difference, low, high, verdict } = find(a, b, 'accuracy');
    assert.deepEqual([left, right, difference, verdict], [50, 75, 25, 'B is higher']);
    assert.ok(low > 0 && low < 25 && high > 25 && high < 50, `${low} ${high}`);
    assert.equal(find(b, a, 'accuracy').verdict, 'B is lower');
    const { changed, numExamples } = compareSets(a, b);
    assert.deepEqual([numExamples, changed.length, changed[0]!.id, changed[1]!.a, changed[1]!.b], [NUM, 50, 100, 'no', 'yes']); // prettier-ignore
  });

  test('a difference within chance is not told apart, and equal results neither', () => {
    assert.equal(find(sideOf(100), sideOf(101), 'accuracy').verdict, 'not told apart');
    const { figures, changed } = compareSets(sideOf(100), sideOf(100));
    assert.deepEqual([...new Set(figures.map(({ verdict, difference }) => `${verdict} ${difference}`))], ['not told apart 0']); // prettier-ignore
    assert.deepEqual(changed, []);
  });

  test('losses are compared too: pairs make a small difference clear', () => {
    const { difference, low, high, verdict } = find(sideOf(100, 1), sideOf(100, 1.01), 'loss');
    assert.equal(verdict, 'B is higher');
    for (const value of [difference, low, high]) assert.ok(Math.abs(value - 0.005) < 1e-12);
  });

  test('results of other examples, or judged in another way, are refused with what differs', () => {
    const [a, b] = [sideOf(100), sideOf(150)];
    const other = (change: Partial<ComparedSide['set']>): ComparedSide => ({ ...b, set: { ...b.set, ...change } });
    for (const [side, message] of [
      [
        other({ hash: 'cd' }),
        /glue_cola \(validation\): expected two results with one set, found "ab" in here and "cd"/u,
      ],
      [{ ...b, lines: b.lines.slice(1) }, /one number of examples/u],
      [other({ evaluation: null }), /one way of judging/u],
    ] as const)
      assert.throws(() => compareSets(a, side), { code: 'METRIC_INPUT_INVALID', message });
  });

  test('results and predictions are the same after the way through their files, and another file is refused', () => {
    const { set: found, lines } = sideOf(100);
    assert.deepEqual(evaluationOf(found), set.evaluation);
    assert.deepEqual(lines[0]!.fields, { group: [0, 'a'] });
    assert.deepEqual([lines[0]!.scores, lines[199]!.scores], [{ accuracy: { accuracy: 100 } }, { accuracy: { accuracy: 0 } }]); // prettier-ignore
    assert.deepEqual([lines[1]!.invalid, lines[198]!.invalid], [undefined, true]);
    assert.deepEqual([found.numInvalid, found.numUnended, found.predictions], [33, 0, 'predictions/glue_cola.jsonl']);
    assert.throws(() => parseResults('{}', 'r.json'), { code: 'CONFIG_INVALID' });
    assert.throws(() => parsePredictions('{"id":1}\n', 'p.jsonl'), { code: 'METRIC_INPUT_INVALID', message: /p\.jsonl:1/u }); // prettier-ignore
  });

  test('a suite is averaged where each of its tasks is there: means of tasks, then their mean', () => {
    const { set: one } = sideOf(100);
    const names = ['cola', 'sst2', 'mrpc', 'qqp', 'stsb', 'mnli', 'qnli', 'rte'];
    const all = names.map((name) => ({ ...one, task: `glue_${name}` }));
    assert.deepEqual(averagesOf(all.slice(1)), {});
    const second = sideOf(150).set;
    const { glue } = averagesOf([...all, { ...second, task: 'glue_mnli', name: 'validation_mismatched' }]);
    assert.deepEqual([glue!.perTask['glue_cola'], glue!.perTask['glue_mnli'], glue!.average], [50, 62.5, (7 * 50 + 62.5) / 8]); // prettier-ignore
  });
});
