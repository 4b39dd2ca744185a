import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkEvaluation, type DeclaredEvaluation } from './task-evaluation.ts';

function messagesOf(declared: DeclaredEvaluation): string[] {
  const checked = checkEvaluation(declared);
  return checked.ok ? [] : checked.problems.map(({ at, message }) => `${at}: ${message}`);
}

describe('the declaration of an evaluation', () => {
  for (const [what, declared, expected] of [
    ['labels give class ids', { metrics: ['accuracy'], labels: ['no', 'yes'] }, 'string_label_to_class_id'],
    ['generated text has all its references', { metrics: ['bleu', 'chrf'] }, 'references'],
    ['a metric of one text takes the first reference', { metrics: ['accuracy', 'bleu'] }, 'text'],
    ['a text metric on a task with labels compares the texts', { metrics: ['rouge'], labels: ['no', 'yes'] }, 'text'],
    ['no metric at all', { metrics: [] }, 'references'],
    ['the named post-processor stands', { metrics: ['bleu'], postprocess: 'lower_text' }, 'lower_text'],
  ] as const)
    test(`${what}: ${expected}`, () => {
      const checked = checkEvaluation(declared);
      assert.ok(checked.ok);
      assert.equal(checked.evaluation.postprocess.name, expected);
      assert.deepEqual(checked.evaluation.metrics, declared.metrics);
    });

  test('labels go only to a post-processor that reads them', () => {
    const labels = ['no', 'yes'];
    const withLabels = checkEvaluation({ metrics: ['accuracy'], labels });
    assert.deepEqual(withLabels.ok && withLabels.evaluation.postprocess, { name: 'string_label_to_class_id', labels });
    const withText = checkEvaluation({ metrics: ['rouge'], labels });
    assert.deepEqual(withText.ok && withText.evaluation.postprocess, { name: 'text' });
  });

  for (const [what, declared, expected] of [
    ['an unknown metric', { metrics: ['acuracy'] }, [/^metrics: unknown metric "acuracy"; did you mean accuracy/u]],
    [
      'two unknown metrics and a known one',
      { metrics: ['blue', 'squad', 'sqaud'] },
      [/"blue"; did you mean bleu/u, /"sqaud"; did you mean squad/u],
    ],
    [
      'an unknown post-processor',
      { metrics: [], postprocess: 'reference' },
      [/^postprocess: unknown post-processor "reference"; did you mean references/u],
    ],
    [
      'a metric of another kind',
      { metrics: ['squad'], postprocess: 'string_to_float' },
      [/^metrics: squad compares references, but post-processor string_to_float gives number; those that fit: text, /u],
    ],
    [
      'metrics that no post-processor fits',
      { metrics: ['accuracy', 'squad', 'pearson_corrcoef'] },
      [/^metrics: no default post-processor .*pearson_corrcoef compares number/u],
    ],
    [
      'a post-processor without its labels',
      { metrics: ['accuracy'], postprocess: 'string_label_to_class_id' },
      [/^postprocess: string_label_to_class_id needs the labels/u],
    ],
    [
      'an average over labels where there are none',
      { metrics: ['macro_f1'], postprocess: 'wsc_simple', fields: ['label'] },
      [/^metrics: macro_f1 averages over labels/u],
    ],
    [
      'F1 of class 1 with three labels',
      { metrics: ['f1_score_with_invalid'], labels: ['a', 'b', 'c'] },
      [/^metrics: f1_score_with_invalid expects two labels, found 3/u],
    ],
    [
      'a field without a column, and one that nothing reads',
      { metrics: ['multirc'], postprocess: 'multirc', fields: ['idx'] },
      [/^fields: multirc reads field "idx\/question"/u, /^fields: multirc does not read field "idx"/u],
    ],
    ['a name of Object', { metrics: ['toString'] }, [/unknown metric "toString"/u]],
  ] as const)
    test(`rejects ${what}`, () => {
      const messages = messagesOf(declared);
      assert.equal(messages.length, expected.length, messages.join('\n'));
      expected.forEach((pattern, at) => assert.match(messages[at]!, pattern));
    });
});
