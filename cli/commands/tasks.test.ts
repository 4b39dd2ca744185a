import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EXMIX_NAMES } from '../../mixture/tasks/exmix/exmix.ts';
import { tasksText } from './tasks.ts';

const home = mkdtempSync(join(tmpdir(), 'exmix-tasks-'));
after(() => rmSync(home, { recursive: true }));
const exmixFile = fileURLToPath(new URL('../exmix.mjs', import.meta.url));

function exmix(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, EXMIX_HOME: home };
  return spawnSync(process.execPath, [exmixFile, ...args], { encoding: 'utf8', env });
}

type Options = Partial<Omit<Parameters<typeof tasksText>[0], 'words'>>;
const text = (words: string[], options: Options = {}) =>
  tasksText({ words, samples: 2, splits: ['validation'], json: false, out: join(home, 'none'), ...options });

interface Listed {
  readonly name: string;
  readonly kind: string;
  readonly numExamples: number;
  readonly exmixRate: number;
  readonly overallRate: number;
}

describe('exmix tasks', () => {
  test('--json lists 107 supervised tasks and C4 with the sizes and rates of golden/mixing.json', () => {
    const { status, stdout } = exmix('tasks', '--json');
    assert.equal(status, 0);
    const tasks = JSON.parse(stdout) as Listed[];
    assert.equal(tasks.filter(({ kind }) => kind === 'supervised').length, 107);
    assert.deepEqual(
      tasks.filter(({ kind }) => kind === 'denoising').map(({ name }) => name),
      ['c4_en'],
    );
    const golden = JSON.parse(readFileSync(new URL('../../golden/mixing.json', import.meta.url), 'utf8')) as {
      c4_rate: number;
      with_styleptb_total: {
        per_task: Record<string, { train_examples: number; exmix_rate: number; overall_rate: number }>;
      };
    };
    const byName = new Map(tasks.map((task) => [task.name, task]));
    for (const [name, { train_examples: size, exmix_rate: exmixRate, overall_rate: overallRate }] of Object.entries(
      golden.with_styleptb_total.per_task,
    )) {
      const task = byName.get(name)!;
      assert.equal(task.numExamples, size, name);
      assert.ok(Math.abs(task.exmixRate - exmixRate) < 1e-12 && Math.abs(task.overallRate - overallRate) < 1e-12, name);
    }
    assert.ok(Math.abs(byName.get('c4_en')!.overallRate - golden.c4_rate) < 1e-12);
  });

  test('lists a table; --tasks takes lists and can be repeated', () => {
    const { stdout } = exmix('tasks', 'list', '--tasks', 'glue_r*,c4_en', '--tasks', 'cogs');
    assert.match(stdout, /^glue_rte +NLI +nyu-mll\/glue +2,490 +0\.0111 +high$/mu);
    assert.match(stdout, /^cogs +SEM +bring cogs\.tsv/mu);
    assert.match(stdout, /^3 tasks of ExMix .* 1 need a file from you/mu);
  });

  test('show prints all facts of a task and an example that it calls made up', async () => {
    const shown = await text(['show', 'glue_mnli']);
    for (const line of [
      /^source +hub nyu-mll\/glue, mnli, train \(parquet, revision main\)$/mu,
      /^columns +premise: string$/mu,
      /^ +label: int64$/mu,
      /^inputs +mnli hypothesis: \{hypothesis\} premise: \{premise\}$/mu,
      /^labels +entailment, neutral, contradiction$/mu,
      /^metrics +accuracy$/mu,
      /^judged +by string_label_to_class_id$/mu,
      /^sets +validation_matched: split validation_matched of the hub$/mu,
      /^ +validation_mismatched: /mu,
      /^ +sure of the sets: high$/mu,
      /^examples +392,702$/mu,
      /^rate +4 % of ExMix, 1\.33 % of all draws$/mu,
      /^sure +high$/mu,
      /^a made-up row, and the example made of it:$/mu,
      /^ {2}inputs: {2}mnli hypothesis: /mu,
      /^ {2}targets: neutral$/mu,
    ])
      assert.match(shown, line);
    assert.match(await text(['imdb']), /^sets +validation: one of 20 records of train$/mu);
    assert.match(await text(['cogs']), /^ +test: bring cogs\.test\.tsv: data\/test\.tsv/mu);
    assert.match(await text(['cogs']), /^source +bring cogs\.tsv: data\/train\.tsv of najoungkim\/COGS/mu);
    const json = JSON.parse(await text(['glue_mnli'], { json: true })) as { madeUpExample: { targets: string } };
    assert.equal(json.madeUpExample.targets, 'neutral');
  });

  test('every task of the table can be shown', async () => {
    for (const name of EXMIX_NAMES) assert.match(await text(['show', name]), /made-up row[^]*inputs: {2}\S/u, name);
  });

  test('without --mixture, tasks of the demo are found too; an unknown name gets the nearest ones', async () => {
    const satire = await text(['satire'], { samples: 1 });
    for (const line of [
      /^task +satire$/mu,
      /^metrics +accuracy$/mu,
      /^judged +by string_label_to_class_id$/mu,
      /^sets +validation: .*deploy\/demo\/validation\/satire\.csv$/mu,
      /^ +test: .*deploy\/demo\/test\/satire\.csv$/mu,
    ])
      assert.match(satire, line);
    await assert.rejects(text(['show', 'glue_mnil']), {
      code: 'NAME_UNKNOWN',
      message: /there is no task "glue_mnil"; did you mean glue_mnli/u,
    });
  });

  test('--mixture demo lists the demo; a mistyped built-in name gets the nearest one', async () => {
    assert.match(await text([], { mixture: 'demo' }), /^18 tasks/mu);
    await assert.rejects(text([], { mixture: 'exmxi' }), {
      code: 'NAME_UNKNOWN',
      message: /no mixture is called "exmxi".*did you mean exmix/u,
    });
  });

  test('overlap tells which evaluation examples are in train, as a table and as JSON', () => {
    const folder = join(home, 'leaky');
    mkdirSync(folder);
    const tokenizer = fileURLToPath(new URL('../../deploy/demo/tokenizer/spiece.model', import.meta.url));
    const yaml = `name: leaky
tokenizer: ${JSON.stringify(tokenizer)}
tasks:
  - name: qa
    family: A
    source: { path: train.jsonl, format: jsonl }
    validation: { path: dev.jsonl, format: jsonl }
    test: { path: dev.jsonl, format: jsonl }
    inputs: '{q}'
    targets: '{a}'
`;
    writeFileSync(join(folder, 'mixture.yaml'), yaml);
    writeFileSync(join(folder, 'train.jsonl'), '{"q":"who is it","a":"he"}\n');
    writeFileSync(join(folder, 'dev.jsonl'), '{"q":"what is it","a":"it"}\n{"q":"Who is it?","a":"she"}\n');
    const args = ['tasks', 'overlap', '--mixture', join(folder, 'mixture.yaml')];
    const table = exmix(...args);
    assert.equal(table.status, 0, table.stderr);
    assert.match(table.stdout, /^qa +validation +2 +qa +1 +0 +1$/mu);
    assert.match(table.stdout, /^2 of 4 examples of 2 evaluation sets are in train$/mu);
    assert.match(table.stderr, /^compared with qa: 1 train examples$/mu);
    const json = exmix(...args, '--splits', 'test', '--json');
    assert.equal(json.status, 0, json.stderr);
    const [set, ...others] = JSON.parse(json.stdout) as { hash: string }[];
    assert.deepEqual(others, []);
    assert.match(set!.hash, /^[0-9a-f]{64}$/u);
    assert.deepEqual(
      { ...set, hash: '' },
      {
        ...{ task: 'qa', split: 'test', name: 'test', hash: '', numExamples: 2, leaked: [1] },
        train: [{ task: 'qa', numExamples: 1, sameInputs: [1], sharedGrams: [] }],
      },
    );
    const wrong = exmix(...args, '--splits', 'train');
    assert.equal(wrong.status, 2);
    assert.match(wrong.stderr, /splits: expected validation or test, found "train"/u);
  });

  test('--mixture exmix needs a tokenizer only to prepare rows', async () => {
    assert.match(await text([], { mixture: 'exmix' }), /^108 tasks of ExMix/mu);
    const { status, stderr } = exmix('prepare', '--mixture', 'exmix', '--tasks', 'glue_cola');
    assert.equal(status, 2);
    assert.match(
      stderr,
      /CONFIG_INVALID: [^]*tokenizer: expected the path of a SentencePiece model.*give --tokenizer FILE/u,
    );
  });

  test('other words are rejected', async () => {
    for (const words of [['show'], ['list', 'x'], ['show', 'a', 'b']])
      await assert.rejects(text(words), { code: 'CONFIG_INVALID', message: /expected list, show NAME or NAME/u });
  });
});
