import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BatchResult } from './batch-messages.ts';
import { findingsOf, judgeSet, type JudgedSet } from './judge-set.ts';
import { parseDecodingSettings } from './decoding/settings.ts';
import { planEvaluation } from './plan-evaluation.ts';

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

  test('a field that no post-processor can read is refused by name', () => {
    const [first] = set.examples;
    const odd: JudgedSet = { examples: [{ ...first!, fields: { group: { a: 1 } } }] };
    assert.throws(() => judgeSet(odd, { losses: [1], numRight: [0], outputs: undefined }, decodeText), {
      code: 'METRIC_INPUT_INVALID',
      message: /field "group"/u,
    });
  });
});
