import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BatchResult } from './batch-messages.ts';
import { findingsOf, judgeSet, type JudgedSet } from './judge-set.ts';
import { parseDecodingSettings } from './decoding/settings.ts';
import { planEvaluation } from './plan-evaluation.ts';
import { formatPrediction, parsePredictions, setResultOf } from './results.ts';

/** Token 10 + n is the n-th label; 1 ends. */
const LABELS = ['yes', 'no'];
const decodeText = (ids: readonly number[]): string => ids.filter((id) => id > 9).map((id) => LABELS[id - 10] ?? '?').join(' '); // prettier-ignore
const set: JudgedSet = {
  evaluation: { postprocess: { name: 'string_label_to_class_id', labels: LABELS }, metrics: ['accuracy'] },
  examples: ['yes', 'no', 'no', 'yes'].map((targets, id) => ({
    id,
    inputs: `question ${id}`,
    inputIds: Array.from({ length: 3 + 20 * (id % 2) }, () => 5),
    targets,
    targetIds: [10 + LABELS.indexOf(targets), 1],
    fields: {},
    cutInputTokens: id === 2 ? 7 : 0,
  })),
};
const planned = [{ kind: 'supervised' as const, examples: set.examples }];
const batches = planEvaluation(planned, { batchTokens: 64, decoding: parseDecodingSettings({ method: 'greedy', maxNewTokens: 4 }) }); // prettier-ignore

/** Example n has loss n + 1, one hit, and an output of `said[n]`. */
const results = (said: readonly (readonly number[])[]): BatchResult[] =>
  batches.map(({ kind, examples }) =>
    kind === 'score'
      ? { kind, losses: examples.map((example) => example + 1), numRight: examples.map(() => 1) }
      : { kind, outputs: examples.map((example) => [{ ids: [...said[example]!], score: 0 - example }]) },
  );

describe('scores of a set', () => {
  const said = [[10, 1], [10, 1], [12, 12, 12, 12], [10, 1]]; // prettier-ignore
  const [findings] = findingsOf(batches, results(said), [set.examples.length]);
  const { scores, lines } = judgeSet(set, findings!, decodeText);

  test('loss, perplexity and hits are over all target tokens', () => {
    const { figures, numUnits } = scores.teacherForcing;
    assert.deepEqual([numUnits, scores.numExamples, scores.numTargetTokens, scores.numCut], [4, 4, 8, 1]);
    assert.equal(figures['loss']!.score, 10 / 8);
    assert.equal(figures['perplexity']!.score, Math.exp(10 / 8));
    assert.equal(figures['token_accuracy']!.score, 50);
    assert.ok(figures['loss']!.standardError > 0);
  });

  test('outputs are judged by the metrics of the task; invalid and unended ones are counted', () => {
    assert.equal(scores.outputs!.metrics.get('accuracy')!.figures['accuracy']!.score, 50);
    assert.deepEqual([scores.outputs!.numInvalid, scores.outputs!.numUnended], [1, 1]);
  });

  test('each example has its line with its own figures', () => {
    assert.deepEqual(
      lines.map(({ output }) => [output!.prediction, output!.score, output!.isInvalid, output!.scores['accuracy']!['accuracy']]), // prettier-ignore
      [['yes', 0, false, 100], ['yes', -1, false, 0], ['? ? ? ?', -2, true, 0], ['yes', -3, false, 100]], // prettier-ignore
    );
    const { output, ...rest } = lines[1]!;
    assert.ok(output !== undefined);
    assert.deepEqual(rest, { id: 1, inputs: 'question 1', references: ['no'], fields: {}, loss: 2, numTokens: 2, numRight: 1 }); // prettier-ignore
  });

  test('scores alone give no outputs', () => {
    const plan = planEvaluation(planned, { batchTokens: 64 });
    const found = results(said).filter(({ kind }) => kind === 'score');
    const judged = judgeSet(set, findingsOf(plan, found, [4])[0]!, decodeText);
    assert.equal(judged.scores.outputs, undefined);
    assert.equal(judged.lines[0]!.output, undefined);
    assert.deepEqual(judged.scores.teacherForcing, scores.teacherForcing);
  });

  test('of a set that was compared with train, the leaked examples are left out beside: figures of the others, with errors of their own', () => {
    const judged = judgeSet({ ...set, leaked: new Set([0, 9]) }, findings!, decodeText);
    const { withoutLeaked, ...rest } = judged.scores;
    assert.deepEqual(rest, scores);
    assert.equal(withoutLeaked?.numLeaked, 1);
    assert.equal(withoutLeaked.metrics.get('accuracy')!.figures['accuracy']!.score, 100 / 3);
    assert.equal(withoutLeaked.metrics.get('accuracy')!.numUnits, 3);
    assert.equal(withoutLeaked.teacherForcing.figures['loss']!.score, (2 + 3 + 4) / 6);
    assert.deepEqual(judged.lines.map(({ isLeaked }) => isLeaked), [true, undefined, undefined, undefined]); // prettier-ignore
    const result = setResultOf({ task: 'qa', name: 'validation', split: 'validation', kind: 'supervised', hash: '', evaluation: set.evaluation }, judged.scores); // prettier-ignore
    assert.equal(result.withoutLeaked?.metrics['accuracy']?.figures['accuracy']?.score, 100 / 3);
    assert.deepEqual(judged.lines.map(formatPrediction).map((line) => line.includes('"leaked":true')), [true, false, false, false]); // prettier-ignore
    parsePredictions(judged.lines.map(formatPrediction).join(''), 'qa.jsonl');
  });

  test('without a leak both scores are equal; where every example is leaked none is defined', () => {
    const clean = judgeSet({ ...set, leaked: new Set() }, findings!, decodeText).scores;
    assert.deepEqual(clean.withoutLeaked, { numLeaked: 0, teacherForcing: scores.teacherForcing, metrics: scores.outputs!.metrics }); // prettier-ignore
    const all = judgeSet({ ...set, leaked: new Set([0, 1, 2, 3]) }, findings!, decodeText).scores;
    const { numUnits, figures } = all.withoutLeaked!.metrics.get('accuracy')!;
    assert.deepEqual([numUnits, figures['accuracy']!.score], [0, NaN]);
    const alone = judgeSet({ examples: set.examples, leaked: new Set([3]) }, { ...findings!, outputs: undefined }, decodeText); // prettier-ignore
    assert.deepEqual([alone.scores.withoutLeaked?.numLeaked, alone.scores.withoutLeaked?.metrics.size], [1, 0]);
  });

  test('a field that no post-processor can read is refused by name', () => {
    const [first] = set.examples;
    const odd: JudgedSet = { examples: [{ ...first!, fields: { group: { a: 1 } } }] };
    assert.throws(() => judgeSet(odd, { losses: [1], numRight: [0], outputs: undefined }, decodeText), {
      code: 'METRIC_INPUT_INVALID',
      message: /field "group"/u,
    });
  });
});
