/**
 * An oracle on the evaluation sets of all 107 tasks: each set is prepared from made-up rows as `exmix prepare` prepares it, the target text is the
 * prediction, and each figure is at its best value.
 *
 * Exceptions, each with its reason in BEST or ORACLES:
 *   super_glue_wsc           the target of a false row names the wrong noun: the right answer is any other one
 *   glue_cola, rainbow_cosmosqa, super_glue_record  a made-up row has no label, as rows of test splits: no answer is right
 *   METEOR                   one chunk in order costs 0.5 / words³, so it is below 1 also for equal texts
 *   ROUGE-2, caption BLEU    a target of one word has no pair of words, one of n − 1 words no n-gram
 *   macro F1                 labels that no row has count as 0
 *   CIDEr                    no best value: it weighs words by how rare they are among the targets
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { prepareEvaluationSets } from '../mixture/evaluation-sets/prepare-evaluation-sets.ts';
import { readEvaluationSet } from '../mixture/evaluation-sets/read-evaluation-sets.ts';
import type { EvaluationSetInfo, SetExample } from '../mixture/evaluation-sets/set-record.ts';
import { NO_LABEL } from '../mixture/tasks/exmix/derivation.ts';
import { EXMIX_TASKS } from '../mixture/tasks/exmix/exmix.ts';
import { taskFixtures } from '../mixture/tasks/exmix/task-fixtures.fixture.ts';
import { loadMixture } from '../mixture/tasks/load-mixture.ts';
import { SPLITS, type EvaluationSet, type Mixture, type SourceFields, type Task } from '../mixture/tasks/task.ts';
import { GOLDEN_MODEL_PATH } from '../mixture/tokenizer/golden-lines.fixture.ts';
import { scoreTask } from './task-scores.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-oracle-'));
after(() => rmSync(root, { recursive: true, force: true }));

const EXMIX = fileURLToPath(new URL('../deploy/exmix/mixture.yaml', import.meta.url));

/** Labels of made-up rows that are none. */
const UNLABELLED: ReadonlySet<string> = new Set(['glue_cola', 'rainbow_cosmosqa', 'super_glue_record']);

/** What an oracle says where it is not the target. */
const ORACLES: Readonly<Record<string, (example: SetExample) => string>> = {
  super_glue_wsc: ({ targets, fields }) => (fields['label'] === 1 ? targets : 'another noun'),
};

/** Rows that a set needs besides the made-up ones: the split of UKP stands in a column, and no row is of `val`. */
const MORE_ROWS: Readonly<Record<string, (rows: readonly SourceFields[]) => SourceFields[]>> = {
  ukp_argument: (rows) => ['val', 'test'].flatMap((set) => rows.map((row) => ({ ...row, set }))),
};

const words = (text: string): string[] => text.split(/\s+/u).filter((word) => /[\p{L}\p{N}]/u.test(word));
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

interface Judged {
  readonly task: Task;
  readonly targets: readonly string[];
}

/** Share of targets with so many words. */
const withWords = (least: number) => ({ targets }: Judged): number => mean(targets.map((text) => (words(text).length >= least ? 1 : 0))); // prettier-ignore
/** Of caption BLEU: n-grams are counted over all targets, and one with an n-gram is enough. */
const withAnyWords =
  (least: number) =>
  (judged: Judged): number =>
    withWords(least)(judged) > 0 ? 1 : NaN;
/** Labels that a target has, of all labels. */
function shareOfLabels({ task, targets }: Judged): number {
  const { labels = [] } = task.evaluation.postprocess;
  return labels.filter((label) => targets.some((text) => text.split(/, ?/u).includes(label))).length / labels.length;
}

type Best = number | ((judged: Judged) => number);

/** Metric and figure → its best value. NaN: these rows have none. Every figure that a task has must be here. */
const BEST: Readonly<Record<string, Best | undefined>> = {
  'accuracy accuracy': 100,
  'f1_score_with_invalid f1': 100,
  'matthews_corrcoef matthews_corrcoef': 100,
  'pearson_corrcoef pearson_corrcoef': 100,
  'spearman_corrcoef spearman_corrcoef': 100,
  'mean_multiclass_f1 mean_3class_f1': 100,
  'record em': 100,
  'record f1': 100,
  'multirc f1': 100,
  'multirc exact_match': 100,
  'accepted_answer accuracy': 100,
  'sequence_accuracy sequence_accuracy': 100,
  'squad em': 100,
  'squad f1': 100,
  'trivia_qa em': 100,
  'trivia_qa f1': 100,
  'coqa_f1 f1': 100,
  'sari sari': 100,
  'sari sari_as_published': 100,
  'slot_f1 precision': 1,
  'slot_f1 recall': 1,
  'slot_f1 f1': 1,
  'multi_label_f1 macro_f1': shareOfLabels,
  'multi_label_f1 micro_f1': 1,
  'multi_label_f1 subset_accuracy': 1,
  'macro_f1 macro_f1': shareOfLabels,
  'macro_f1 micro_f1': 1,
  'macro_f1 weighted_f1': 1,
  'macro_f1 accuracy': 1,
  'meteor meteor': ({ targets }) => mean(targets.map((text) => 1 - 0.5 / text.split(' ').length ** 3)),
  'caption bleu1': 1,
  'caption bleu2': withAnyWords(2),
  'caption bleu3': withAnyWords(3),
  'caption bleu4': withAnyWords(4),
  'caption rougeL': 1,
  'caption cider': NaN,
  ...Object.fromEntries(
    ['rouge', 'gem_rouge'].flatMap((metric): [string, Best][] => [
      [`${metric} rouge1`, 100],
      [`${metric} rouge2`, (judged: Judged) => 100 * withWords(2)(judged)],
      [`${metric} rougeL`, 100],
      [`${metric} rougeLsum`, 100],
    ]),
  ),
  ...Object.fromEntries(
    ['bleu', 'gem_bleu'].flatMap((metric): [string, Best][] => [
      ...['bleu', 'precision1', 'precision2', 'precision3', 'precision4'].map((figure): [string, Best] => [
        `${metric} ${figure}`,
        100,
      ]),
      [`${metric} brevity_penalty`, 1],
      ...['prediction_length', 'reference_length'].map((figure): [string, Best] => [`${metric} ${figure}`, NaN]), // equal: brevity_penalty
    ]),
  ),
};

/** Its sets read the made-up rows of the task; everything else is as declared. */
function withMadeUpRows(task: Task, rows: readonly SourceFields[]): Task {
  const location = join(root, `${task.name}.jsonl`);
  const all = [...rows, ...(MORE_ROWS[task.name]?.(rows) ?? [])];
  writeFileSync(location, all.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const source = { kind: 'files', format: 'jsonl', quotes: true, files: [{ location, name: `${task.name}.jsonl` }] } as const; // prettier-ignore
  const own = (sets: readonly EvaluationSet[]): EvaluationSet[] => sets.map((set) => ({ ...set, source }));
  const { validation, test: tests } = task.splits;
  return { ...task, source, splits: { validation: own(validation), test: own(tests) } };
}

const outDir = join(root, 'prepared');
const declared = loadMixture(EXMIX, { given: '/given', tokenizer: GOLDEN_MODEL_PATH });
const rowsOf = new Map(taskFixtures().map(({ task, rows }) => [task, rows]));
const { name, path, tokenizerPath, options } = declared;
const mixture: Mixture = {
  ...{ name, path, tokenizerPath, options },
  tasks: declared.tasks.map((task) => withMadeUpRows(task, rowsOf.get(task.name) ?? [])),
};
const infos = new Map<string, EvaluationSetInfo>();
before(async () => {
  await prepareEvaluationSets({
    ...{ mixture, outDir, featureLengths: { inputs: 512, targets: 114 } },
    onSet: ({ info }) => infos.set(`${info.task} ${info.name}`, info),
    onAbsent: ({ task, name }) => assert.fail(`${task} has no set ${name}`),
  });
});

describe('predictions that are the targets have the best scores on the evaluation sets of', () => {
  test('all tasks of ExMix', () => {
    assert.deepEqual(mixture.tasks.map(({ name }) => name).sort(), EXMIX_TASKS.map(({ name }) => name).sort());
    assert.equal(mixture.tasks.length, 107);
  });

  for (const task of mixture.tasks)
    test(task.name, async () => {
      const { evaluation } = task;
      assert.ok(evaluation.metrics.length > 0);
      for (const { name } of SPLITS.flatMap((split) => task.splits[split])) {
        const info = infos.get(`${task.name} ${name}`);
        assert.ok(info, `the set ${name} is prepared`);
        assert.deepEqual([info.numMalformedRows, info.numCutInputs, info.numCutTargets], [0, 0, 0]);
        const all = await readEvaluationSet(outDir, info);
        const examples = all.filter(({ targets }) => targets !== NO_LABEL);
        assert.equal(examples.length < all.length, UNLABELLED.has(task.name));
        assert.ok(examples.length > 0);
        const oracle = ORACLES[task.name] ?? (({ targets }: SetExample) => targets);
        const compared = examples.map(({ references, fields }) => ({ references, fields })); // prettier-ignore
        const { numInvalid, metrics } = scoreTask(evaluation, compared, examples.map(oracle));
        assert.equal(numInvalid, 0);
        assert.deepEqual([...metrics.keys()], evaluation.metrics);
        const targets = examples.map((example) => example.targets);
        for (const [metric, { figures }] of metrics)
          for (const [figure, { score }] of Object.entries(figures)) {
            const best = BEST[`${metric} ${figure}`];
            assert.ok(best !== undefined, `${metric} ${figure} has a best value`);
            const expected = typeof best === 'number' ? best : best({ task, targets });
            if (Number.isNaN(expected)) continue;
            assert.ok(Math.abs(score - expected) < 1e-9 * expected, `${name}, ${metric} ${figure}: expected ${expected}, got ${score}`); // prettier-ignore
          }
      }
    });
});
