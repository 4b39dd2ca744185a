import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  isMetricName,
  isPostprocessorName,
  METRIC_KINDS,
  METRIC_NAMES,
  POSTPROCESSOR_NAMES,
  POSTPROCESSORS,
  type TaskEvaluation,
  type ValueKind,
} from '../shared/task-evaluation.ts';
import type { EvaluationExample } from './postprocess.ts';
import { scoreTask, type TaskScores } from './task-scores.ts';

const example = (references: readonly string[], fields: EvaluationExample['fields'] = {}): EvaluationExample => ({
  references,
  fields,
});

function scoresOf(scores: TaskScores): Record<string, number> {
  return Object.fromEntries(
    [...scores.metrics].flatMap(([metric, { figures }]) =>
      Object.entries(figures).map(([name, { score }]) => [`${metric}.${name}`, score]),
    ),
  );
}

describe('the scores of a task', () => {
  const entailment: TaskEvaluation = {
    postprocess: { name: 'string_label_to_class_id', labels: ['entailment', 'not_entailment'] },
    metrics: ['accuracy', 'f1_score_with_invalid', 'macro_f1', 'matthews_corrcoef'],
  };
  const examples = ['entailment', 'entailment', 'not_entailment', 'not_entailment'].map((text) => example([text]));

  test('a text that names no label is wrong and counted', () => {
    const scores = scoreTask(entailment, examples, ['entailment', 'Entailment', 'not_entailment', 'not_entailment']);
    assert.equal(scores.numExamples, 4);
    assert.equal(scores.numInvalid, 1);
    const figures = scoresOf(scores);
    assert.equal(figures['accuracy.accuracy'], 75);
    assert.equal(figures['f1_score_with_invalid.f1'], 80);
    assert.equal(figures['macro_f1.macro_f1'], (2 / 3 + 1) / 2);
  });

  test('a standard error belongs to each figure', () => {
    const scores = scoreTask(
      entailment,
      examples,
      examples.map(() => 'entailment'),
    );
    const { numUnits, figures } = scores.metrics.get('accuracy')!;
    assert.equal(numUnits, 4);
    // Half of four are right: the error of a mean of four is 100 · √(0.5 · 0.5 / 4) = 25.
    assert.ok(Math.abs(figures['accuracy']!.standardError - 25) < 2, String(figures['accuracy']!.standardError));
  });

  test('one number of predictions for each example', () => {
    assert.throws(() => scoreTask(entailment, examples, ['entailment']), { code: 'METRIC_INPUT_INVALID' });
  });

  test('a field that the post-processor reads is missing: METRIC_INPUT_INVALID names it', () => {
    const declared: TaskEvaluation = { postprocess: { name: 'multirc' }, metrics: ['multirc'] };
    assert.throws(() => scoreTask(declared, [example(['True'])], ['True']), {
      code: 'METRIC_INPUT_INVALID',
      message: /idx\/question/u,
    });
  });

  test('a metric of a kind that the post-processor does not give is METRIC_INPUT_INVALID', () => {
    const declared: TaskEvaluation = { postprocess: { name: 'string_to_float' }, metrics: ['squad'] };
    assert.throws(() => scoreTask(declared, [example(['1'])], ['1']), {
      code: 'METRIC_INPUT_INVALID',
      message: /squad compares references.*gives number/u,
    });
  });

  test('groups are judged whole: MultiRC by question, ReCoRD by passage and query', () => {
    const answer = (text: string, question: number): EvaluationExample => example([text], { 'idx/question': question });
    const multiRc = scoreTask(
      { postprocess: { name: 'multirc' }, metrics: ['multirc'] },
      [answer('True', 0), answer('False', 0), answer('True', 1)],
      ['True', 'True', 'True'],
    );
    assert.equal(multiRc.metrics.get('multirc')!.numUnits, 2);
    assert.equal(scoresOf(multiRc)['multirc.exact_match'], 50);
    const query = (references: string[], at: number): EvaluationExample =>
      example(references, { 'idx/passage': 7, 'idx/query': at });
    const record = scoreTask(
      { postprocess: { name: 'record' }, metrics: ['record'] },
      [query(['Ona'], 0), query(['Ona'], 0), query(['Lyra', 'Amra'], 1)],
      ['Ona', 'Leo', 'amra'],
    );
    assert.equal(scoresOf(record)['record.em'], 100);
  });

  test('WSC: whether the text names the referent, against the label of the pair', () => {
    const pair = (label: number): EvaluationExample => example(['the old mill'], { label });
    const scores = scoreTask(
      { postprocess: { name: 'wsc_simple' }, metrics: ['accuracy'] },
      [pair(1), pair(0), pair(1)],
      ['The Mill', 'river', ''],
    );
    assert.ok(Math.abs(scoresOf(scores)['accuracy.accuracy']! - 200 / 3) < 1e-9);
    assert.equal(scores.numInvalid, 1);
  });

  test('several labels of one example, none of them, and one that the task does not have', () => {
    const labels = ['toxic', 'insult'];
    const scores = scoreTask(
      { postprocess: { name: 'label_names', labels }, metrics: ['multi_label_f1'] },
      [example(['toxic, insult']), example(['none']), example(['toxic'])],
      ['insult, toxic', 'none', 'toxic, rude'],
    );
    assert.deepEqual(scoresOf(scores), {
      'multi_label_f1.macro_f1': 1,
      'multi_label_f1.micro_f1': 1,
      'multi_label_f1.subset_accuracy': 2 / 3,
    });
    assert.equal(scores.numInvalid, 1);
  });

  test('slots: a value may hold commas and colons; a part without a name is invalid', () => {
    const scores = scoreTask(
      { postprocess: { name: 'slots' }, metrics: ['slot_f1'] },
      [example(['time: 7:30 pm, date: Monday, the 3rd']), example(['none']), example(['people: two'])],
      ['date: Monday, the 3rd, time: 7:30 pm', 'none', 'two people'],
    );
    assert.equal(scores.numInvalid, 1);
    assert.equal(scoresOf(scores)['slot_f1.recall'], 2 / 3);
  });

  test('a label with its explanation: the label is a class, the explanation a text', () => {
    const scores = scoreTask(
      {
        postprocess: { name: 'explained_label', labels: ['entailment', 'neutral'] },
        metrics: ['accuracy', 'bleu', 'accepted_answer'],
      },
      [
        example(['neutral explanation: a b c d', 'neutral explanation: e f g h']),
        example(['entailment explanation: x']),
      ],
      ['entailment explanation: e f g h', 'x'],
    );
    const figures = scoresOf(scores);
    assert.equal(figures['accuracy.accuracy'], 0);
    assert.equal(figures['accepted_answer.accuracy'], 50);
    assert.equal(scores.numInvalid, 1);
  });

  test('an unreadable number is -1 and counted', () => {
    const scores = scoreTask(
      { postprocess: { name: 'string_to_float' }, metrics: ['pearson_corrcoef', 'spearman_corrcoef'] },
      [example(['1.0']), example(['2.0']), example(['3.0'])],
      ['none', '2.4', '3.2'],
    );
    assert.equal(scores.numInvalid, 1);
    assert.ok(Math.abs(scoresOf(scores)['spearman_corrcoef.spearman_corrcoef']! - 100) < 1e-9);
  });
});

describe('the names of metrics and post-processors', () => {
  /** Fields of every post-processor; the reference is right for all of them. */
  const whole = (text: string): EvaluationExample =>
    example([text], {
      'idx/question': 1,
      'idx/passage': 1,
      'idx/query': 2,
      label: 1,
      source: 'a long text',
      context: 'a long text',
    });
  const labels = ['False', 'True'];

  for (const name of POSTPROCESSOR_NAMES) {
    assert.ok(isPostprocessorName(name));
    const kinds: readonly ValueKind[] = POSTPROCESSORS[name].kinds;
    const metrics = METRIC_NAMES.filter(isMetricName).filter((metric) => kinds.includes(METRIC_KINDS[metric]));
    test(`${name} gives the values that its metrics compare: ${metrics.join(', ')}`, () => {
      const texts = name === 'string_to_float' ? ['1.0', '2.5'] : ['True', 'False'];
      const scores = scoreTask({ postprocess: { name, labels }, metrics }, texts.map(whole), texts);
      for (const metric of metrics) {
        const figures = Object.values(scores.metrics.get(metric)!.figures);
        assert.ok(figures.length > 0, metric);
        for (const { score } of figures) assert.equal(typeof score, 'number', metric);
      }
    });
  }

  test('a post-processor gives each kind that a metric compares', () => {
    const given = new Set<ValueKind>(Object.values(POSTPROCESSORS).flatMap(({ kinds }): readonly ValueKind[] => kinds));
    for (const kind of Object.values(METRIC_KINDS)) assert.ok(given.has(kind), kind);
  });
});
