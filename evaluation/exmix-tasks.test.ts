import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { valueAt, NO_LABEL } from '../mixture/tasks/exmix/derivation.ts';
import { EXMIX_TASKS } from '../mixture/tasks/exmix/exmix.ts';
import { judgementOf, type ExmixTask } from '../mixture/tasks/exmix/exmix-task.ts';
import { createRulePreprocessor } from '../mixture/tasks/exmix/rule.ts';
import { taskFixtures } from '../mixture/tasks/exmix/task-fixtures.fixture.ts';
import type { SourceFields } from '../mixture/tasks/task.ts';
import type { EvaluationExample } from './postprocess.ts';
import { scoreTask } from './task-scores.ts';

/** The figure that is highest, with its value, where every prediction is the target. Other metrics do not give a round figure for a few words. */
const PERFECT: Readonly<Record<string, readonly [figure: string, value: number]>> = {
  accuracy: ['accuracy', 100],
  accepted_answer: ['accuracy', 100],
  sequence_accuracy: ['sequence_accuracy', 100],
  squad: ['em', 100],
  trivia_qa: ['em', 100],
  coqa_f1: ['f1', 100],
  record: ['em', 100],
  multirc: ['exact_match', 100],
  rouge: ['rouge1', 100],
  gem_rouge: ['rouge1', 100],
  multi_label_f1: ['subset_accuracy', 1],
  slot_f1: ['f1', 1],
  caption: ['rougeL', 1],
};

function examplesOf(task: ExmixTask, rows: readonly SourceFields[]): EvaluationExample[] {
  const { fields } = judgementOf(task);
  const preprocessor = createRulePreprocessor(task.rule, task.columns);
  return rows.flatMap((row) => {
    const result = preprocessor.apply(row);
    assert.ok(result.ok);
    const values = Object.entries(fields).map(([field, path]): [string, string | number] => {
      const value = valueAt(row, path);
      assert.ok(typeof value === 'string' || typeof value === 'number', `${path} is a text or a number`);
      return [field, value];
    });
    return result.examples
      .filter(({ targets }) => targets !== NO_LABEL)
      .map(({ targets }) => ({ references: [targets], fields: Object.fromEntries(values) }));
  });
}

describe('predictions that are the targets of made-up rows are right for each task', () => {
  const rowsOf = new Map(taskFixtures().map(({ task, rows }) => [task, rows]));
  for (const task of EXMIX_TASKS)
    test(task.name, () => {
      const examples = examplesOf(task, rowsOf.get(task.name) ?? []);
      assert.ok(examples.length > 0);
      const predictions = examples.map(({ references }) => references[0]!);
      const scores = scoreTask(judgementOf(task), examples, predictions);
      assert.equal(scores.numInvalid, 0, 'each target names a value');
      for (const [metric, { figures }] of scores.metrics) {
        const perfect = PERFECT[metric];
        if (perfect === undefined) continue;
        const [figure, value] = perfect;
        assert.ok(Math.abs(figures[figure]!.score - value) < 1e-9, `${metric}: ${JSON.stringify(figures)}`);
      }
    });
});
