import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { parquetReadObjects } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { computeRates, PAPER_RATES } from '../../plan/rates.ts';
import type { SourceFields, TextPair } from '../task.ts';
import { parseTemplate, renderTemplate } from '../template.ts';
import { C4 } from './c4.ts';
import { createColumnCheck, parseColumnType, type ColumnType } from './column-type.ts';
import { judgementOf } from './exmix-task.ts';
import { EXMIX_NAMES, EXMIX_TASKS, exmixSizes } from './exmix.ts';
import { loadMadeUpRows, MADE_UP_GROUPS } from './made-up-rows.ts';
import { createRulePreprocessor } from './rule.ts';
import { STYLEPTB_EXAMPLES } from './style-transfer.ts';
import { parquetColumns, parquetSchema, taskFixtures } from './task-fixtures.fixture.ts';

const byName = new Map(EXMIX_TASKS.map((task) => [task.name, task]));

/** The examples of these rows. A malformed row fails the test. */
function render(name: string, rows: readonly SourceFields[]): TextPair[] {
  const task = byName.get(name);
  if (task === undefined) {
    const template = parseTemplate(C4.text);
    return rows.map((row) => {
      const document = renderTemplate(template, row);
      assert.ok(document.ok);
      return { inputs: document.text, targets: '' };
    });
  }
  const preprocessor = createRulePreprocessor(task.rule, task.columns);
  return rows.flatMap((row) => {
    const result = preprocessor.apply(row);
    assert.ok(result.ok, result.ok ? '' : `${name}: ${result.reason}`);
    return result.examples;
  });
}

describe('each task of ExMix makes the expected examples from its made-up rows', () => {
  for (const { task, rows, expected } of taskFixtures())
    test(task, () => {
      assert.ok(rows.length >= 2 && rows.length <= 4);
      assert.deepEqual(render(task, rows), expected);
    });
});

describe('each task with a parquet source makes the same examples from rows read back from parquet', () => {
  for (const fixture of taskFixtures()) {
    if (byName.get(fixture.task)?.source.kind !== 'hub') continue;
    test(fixture.task, async () => {
      const file = parquetWriteBuffer({
        columnData: parquetColumns(fixture),
        schema: parquetSchema(fixture.columns),
      });
      assert.deepEqual(render(fixture.task, await parquetReadObjects({ file })), fixture.expected);
    });
  }
});

describe('the made-up rows', () => {
  test('exist for each task of the table and for C4, in the order of the table, and for no other', () => {
    assert.deepEqual(
      MADE_UP_GROUPS.flatMap((group) => [...loadMadeUpRows(group).keys()]),
      [...EXMIX_NAMES],
    );
    const files = readdirSync(new URL('examples/', import.meta.url));
    assert.deepEqual(files.sort(), MADE_UP_GROUPS.map((group) => `${group}.yaml`).sort());
  });

  test('have the columns of the source, each with its type, and no other column', () => {
    for (const { task, columns, rows } of taskFixtures()) {
      const check = createColumnCheck(Object.fromEntries(columns.map(({ name, type }) => [name, type])));
      for (const row of rows) {
        assert.equal(check(row), undefined, task);
        assert.deepEqual(
          Object.keys(row).filter((name) => !columns.some((column) => column.name === name)),
          [],
          task,
        );
      }
    }
  });
});

describe('each task of the table can be judged', () => {
  const columnsOf = new Map(taskFixtures().map(({ task, columns }) => [task, columns]));

  /** Throws if the columns of the source have no such path. */
  function typeAt(name: string, path: string): ColumnType {
    const [column = '', ...members] = path.replaceAll('[]', '').split('.');
    const type = columnsOf.get(name)?.find((one) => one.name === column)?.type;
    assert.ok(type !== undefined, `${name} has no column ${column}`);
    return members.reduce<ColumnType>((at, member) => {
      const struct = at.kind === 'list' ? at.element : at;
      assert.ok(struct.kind === 'struct', `${name}: ${path} leads into a struct`);
      const inner = struct.members.find(([known]) => known === member)?.[1];
      assert.ok(inner !== undefined, `${name} has no ${path}`);
      return inner;
    }, parseColumnType(type));
  }

  for (const task of EXMIX_TASKS)
    test(task.name, () => {
      const { metrics, fields, references, postprocess } = judgementOf(task);
      assert.ok(metrics.length > 0);
      assert.equal(new Set(metrics).size, metrics.length);
      const { validation, test: testSets } = task.splits;
      assert.ok(validation.length > 0);
      const names = [...validation, ...testSets].map(({ name }) => name);
      assert.equal(new Set(names).size, names.length, 'each set has its own name');
      for (const { kind } of [...validation, ...testSets])
        if (kind !== 'cut') assert.equal(kind === 'split', task.source.kind === 'hub', `${kind} with its train source`);
      for (const path of Object.values(fields)) typeAt(task.name, path);
      if (references !== undefined)
        assert.ok(typeAt(task.name, references.path).kind === 'list' || references.path.includes('[].'));
      // The labels of the rule and those of the evaluation are the same classes, in any order.
      if (postprocess.name === 'string_label_to_class_id')
        assert.deepEqual([...(postprocess.labels ?? [])].sort(), [...task.rule.labels].sort());
    });
});

describe('the table', () => {
  test('has 107 supervised tasks with distinct names', () => {
    assert.equal(EXMIX_TASKS.length, 107);
    assert.equal(new Set(EXMIX_NAMES).size, 108);
  });

  test('gives each preprocessor a distinct identity that survives JSON', () => {
    const identities = EXMIX_TASKS.map(({ rule, columns }) => createRulePreprocessor(rule, columns).identity);
    assert.deepEqual(JSON.parse(JSON.stringify(identities)), identities);
    assert.equal(new Set(identities.map((identity) => JSON.stringify(identity))).size, 107);
  });

  test('declares exactly the columns that its rules read', () => {
    for (const { name, rule, columns } of EXMIX_TASKS) {
      const derived = new Set([
        ...Object.keys(rule.derive),
        ...(rule.each === undefined ? [] : ['question', 'answer', 'history']),
      ]);
      const placeholders = [...parseTemplate(rule.inputs).fields, ...parseTemplate(rule.targets).fields];
      const steps = [
        ...Object.values(rule.derive),
        ...(rule.each === undefined ? [] : [rule.each]),
        ...(rule.keep === undefined ? [] : [rule.keep]),
      ];
      const read = [...placeholders.filter((field) => !derived.has(field)), ...steps.flatMap((step) => step.columns)];
      assert.deepEqual([...new Set(read)].sort(), Object.keys(columns).sort(), name);
    }
  });
});

describe('sizes and rates', () => {
  interface Golden {
    readonly train_examples: number;
    readonly exmix_rate: number;
    readonly overall_rate: number;
  }
  const golden = JSON.parse(readFileSync(new URL('../../../golden/mixing.json', import.meta.url), 'utf8')) as {
    c4_rate: number;
    sum_uncapped_known: number;
    tasks_reaching_cap: number;
    tasks_without_size: string[];
    with_styleptb_total: {
      per_task: Record<string, Golden>;
      styleptb_group: { total_examples: number; exmix_rate: number; overall_rate: number };
    };
  };
  const { per_task: perTask, styleptb_group: group } = golden.with_styleptb_total;
  const rates = new Map(computeRates(exmixSizes(), PAPER_RATES).map((rate) => [rate.name, rate]));
  const near = (found: number, expected: number, what: string) =>
    assert.ok(Math.abs(found - expected) < 1e-12, `${what}: ${found} is not ${expected}`);

  test('equal golden/mixing.json for all 107 tasks and C4', () => {
    const estimated = EXMIX_TASKS.filter(({ isSizeEstimated }) => isSizeEstimated === true).map(({ name }) => name);
    assert.deepEqual(estimated, golden.tasks_without_size);
    assert.deepEqual([...Object.keys(perTask), ...estimated].sort(), [...byName.keys()].sort());
    for (const [name, expected] of Object.entries(perTask)) {
      assert.equal(byName.get(name)!.numExamples, expected.train_examples, name);
      near(rates.get(name)!.exmixShare, expected.exmix_rate, name);
      near(rates.get(name)!.share, expected.overall_rate, name);
    }
    near(rates.get(C4.name)!.share, golden.c4_rate, 'C4');
    assert.equal(
      EXMIX_TASKS.filter(({ numExamples }) => numExamples >= PAPER_RATES.cap).length,
      golden.tasks_reaching_cap,
    );
  });

  test('of StylePTB add up to the known total of the group', () => {
    const tasks = golden.tasks_without_size.map((name) => rates.get(name)!);
    assert.equal(
      tasks.reduce((sum, { numExamples }) => sum + numExamples, 0),
      group.total_examples,
    );
    assert.equal(group.total_examples, STYLEPTB_EXAMPLES);
    near(
      tasks.reduce((sum, { exmixShare }) => sum + exmixShare, 0),
      group.exmix_rate,
      'StylePTB in ExMix',
    );
    near(
      tasks.reduce((sum, { share }) => sum + share, 0),
      group.overall_rate,
      'StylePTB',
    );
  });
});
