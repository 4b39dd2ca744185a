import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TrainerError } from '../../shared/errors.ts';
import { EXMIX_TASKS } from './exmix/exmix.ts';
import { loadMixture, parseMixture } from './load-mixture.ts';
import type { MixtureOptions, Preprocessed } from './task.ts';
import upper from './upper-task.fixture.ts';

const HEAD = 'name: mine\ntokenizer: spiece.model\n';
const load = (yaml: string, options?: MixtureOptions) => parseMixture(HEAD + yaml, '/m/mixture.yaml', options);
const namesOf = (yaml: string, options?: MixtureOptions) => load(yaml, options).tasks.map(({ name }) => name);
const exmixFile = fileURLToPath(new URL('../../deploy/exmix/mixture.yaml', import.meta.url));

function problemsOf(yaml: string, options?: MixtureOptions): string {
  try {
    load(yaml, options);
  } catch (error) {
    assert.ok(error instanceof TrainerError);
    return `${error.code} ${error.message}`;
  }
  return assert.fail('accepted');
}

describe('use', () => {
  test('adds a task of ExMix with its source and its rule', () => {
    const [mnli] = load('tasks:\n  - use: glue_mnli\n').tasks;
    assert.deepEqual(mnli!.source, { kind: 'hub', dataset: 'nyu-mll/glue', config: 'mnli', split: 'train' });
    assert.deepEqual(mnli!.preprocessor.apply({ premise: 'P', hypothesis: 'H', label: 2n, idx: 0 }), {
      ok: true,
      examples: [{ inputs: 'mnli hypothesis: H premise: P', targets: 'contradiction' }],
    });
  });

  test('accepts globs and lists; leaves out the names in except and tasks with their own entry', () => {
    assert.deepEqual(namesOf("tasks:\n  - use: ['glue_*', squad_v1]\n    except: ['glue_?qp', glue_rte]\n"), [
      'glue_cola',
      'glue_sst2',
      'glue_mrpc',
      'glue_stsb',
      'glue_mnli',
      'glue_qnli',
      'squad_v1',
    ]);
    const mixture = load(
      "tasks:\n  - use: 'funql_*'\n  - use: funql_geo\n    name: geo\n    source: { path: geo.tsv.gz, format: tsv, quotes: false }\n",
      { given: '/given' },
    );
    assert.deepEqual(
      mixture.tasks.map(({ name, source }) => [name, source.kind === 'files' && source.files[0]!.location]),
      [
        ['funql_atis', '/given/funql_atis.tsv'],
        ['funql_jobs', '/given/funql_jobs.tsv'],
        ['geo', '/m/geo.tsv.gz'],
      ],
    );
  });

  test('has the evaluation sets of the table: two of MNLI, three rounds of ANLI with their files, all rows of WSC', () => {
    const [mnli, anli, wsc] = load('tasks:\n  - use: [glue_mnli, anli, super_glue_wsc]\n').tasks;
    const hub = { kind: 'hub', dataset: 'nyu-mll/glue', config: 'mnli' };
    assert.deepEqual(mnli!.splits.validation, [
      { name: 'validation_matched', source: { ...hub, split: 'validation_matched' } },
      { name: 'validation_mismatched', source: { ...hub, split: 'validation_mismatched' } },
    ]);
    assert.deepEqual(
      anli!.splits.validation.map(({ source }) => source.kind === 'hub' && source.files),
      [['plain_text/dev_r1-*.parquet'], ['plain_text/dev_r2-*.parquet'], ['plain_text/dev_r3-*.parquet']],
    );
    const falsePair = { text: 'Mia saw Ana .', span1_text: 'Mia', span2_text: 'Ana', span2_index: 2, label: 0 };
    const numExamples = (apply: (fields: typeof falsePair) => Preprocessed): number => {
      const result = apply(falsePair);
      assert.ok(result.ok);
      return result.examples.length;
    };
    assert.equal(
      numExamples((row) => wsc!.preprocessor.apply(row)),
      0,
    );
    assert.equal(
      numExamples((row) => wsc!.splits.validation[0]!.preprocessor!.apply(row)),
      1,
    );
  });

  test('sets in the file replace those of the table; a file that nobody brings is named, and is no problem', () => {
    const entry = 'use: cogs\n    source: { path: cogs.tsv, format: tsv }\n    test: { path: gen.tsv, format: tsv }';
    const [cogs] = load(`tasks:\n  - ${entry}\n`).tasks;
    const [validation] = cogs!.splits.validation;
    assert.ok(validation?.source.kind === 'missing');
    assert.equal(validation.source.file, 'cogs.validation.tsv');
    const [test] = cogs!.splits.test;
    assert.deepEqual(test!.source.kind === 'files' && test!.source.files, [
      { location: '/m/gen.tsv', name: 'gen.tsv' },
    ]);
    const [given] = load('given: files\ntasks:\n  - use: cogs\n').tasks;
    const set = given!.splits.validation[0]!.source;
    assert.equal(set.kind === 'files' && set.files[0]!.location, '/m/files/cogs.validation.tsv');
  });

  test('a hub source in the file replaces the source of the table', () => {
    const source = '{ hub: me/mnli, config: x, split: train, revision: abc }';
    assert.deepEqual(load(`tasks:\n  - use: glue_mnli\n    source: ${source}\n`).tasks[0]!.source, {
      kind: 'hub',
      dataset: 'me/mnli',
      config: 'x',
      split: 'train',
      revision: 'abc',
      format: 'parquet',
      quotes: true,
    });
  });

  test('a set that the hub does not have: the problem says which file to bring, by source: or given:', () => {
    const message = problemsOf('tasks:\n  - use: cogs\n  - use: glue_rte\n');
    assert.match(
      message,
      /line 4: tasks\[0\]\.use \(cogs\): the hub does not have cogs: bring cogs\.tsv \(tsv with sentence, form\)/,
    );
    assert.match(message, /1 problem\(s\)/);
    assert.deepEqual(load('given: files\ntasks:\n  - use: cogs\n').tasks[0]!.source, {
      kind: 'files',
      format: 'tsv',
      quotes: false,
      files: [{ location: '/m/files/cogs.tsv', name: 'cogs.tsv' }],
    });
  });

  test('one error reports all names that match nothing, with the nearest names', () => {
    const message = problemsOf(
      "tasks:\n  - use: glue_mnil\n  - use: 'glu_*'\n  - use: c4_en\n  - use: 'glue_*'\n    name: all\ndenoising: { use: c5_en }\n",
    );
    assert.match(message, /^CONFIG_INVALID \/m\/mixture\.yaml: 5 problem/);
    assert.match(
      message,
      /line 4: tasks\[0\]\.use \(glue_mnil\): ExMix has no task "glue_mnil"; did you mean glue_mnli/,
    );
    assert.match(message, /line 5: tasks\[1\]\.use \(glu_\*\): ExMix has no task "glu_\*"/);
    assert.match(message, /line 6: tasks\[2\]\.use \(c4_en\): .*write it as denoising: \{ use: c4_en \}/);
    assert.match(message, /line 8: tasks\[3\]\.name \(all\): is only allowed with the use of one task/);
    assert.match(message, /line 9: denoising\.use: ExMix has no denoising text "c5_en"; did you mean c4_en/);
  });

  test('an unknown key is reported with the nearest key of its kind of entry', () => {
    assert.match(
      problemsOf('tasks:\n  - use: glue_rte\n    exept: x\n'),
      /tasks\[0\]\.exept \(glue_rte\): unknown key; did you mean except/,
    );
    assert.match(
      problemsOf('tasks: []\ndenoising: { use: c4_en, sorce: x }\n'),
      /denoising\.sorce: unknown key; did you mean source/,
    );
  });
});

describe('deploy/exmix/mixture.yaml', () => {
  test('is the whole table and C4; it needs a tokenizer and the files of sets that the hub does not have', () => {
    const mixture = loadMixture(exmixFile, { tokenizer: '/t5/spiece.model', given: '/given' });
    assert.deepEqual(
      mixture.tasks.map(({ name }) => name),
      EXMIX_TASKS.map(({ name }) => name),
    );
    assert.equal(mixture.denoising?.name, 'c4_en');
    assert.equal(mixture.tokenizerPath, '/t5/spiece.model');
    assert.throws(() => loadMixture(exmixFile, { given: '/given' }), {
      code: 'CONFIG_INVALID',
      message: /give --tokenizer FILE/,
    });
    const given = EXMIX_TASKS.filter(({ source }) => source.kind === 'given');
    assert.throws(() => loadMixture(exmixFile, { tokenizer: 't' }), {
      code: 'CONFIG_INVALID',
      message: new RegExp(`${given.length} problem`),
    });
  });

  test('a selection keeps what it names, denoising included, and builds no other source', () => {
    const mixture = loadMixture(exmixFile, { tokenizer: 't', tasks: ['glue_*', 'squad_v1'] });
    assert.equal(mixture.tasks.length, 9);
    assert.equal(mixture.denoising, undefined);
    assert.equal(loadMixture(exmixFile, { tokenizer: 't', tasks: ['c4_en', 'dpr'] }).denoising?.name, 'c4_en');
    assert.deepEqual(
      loadMixture(mixture.path, mixture.options).tasks.map(({ name }) => name),
      mixture.tasks.map(({ name }) => name),
    );
  });

  test('a selection with unknown names reports all of them', () => {
    assert.throws(() => loadMixture(exmixFile, { tokenizer: 't', given: 'g', tasks: ['sqaud_v1', 'gluu_*', 'dpr'] }), {
      code: 'NAME_UNKNOWN',
      message: /"sqaud_v1" \(did you mean squad_v1.*"gluu_\*"; exmix tasks lists them/,
    });
  });
});

describe('module', () => {
  const folder = mkdtempSync(join(tmpdir(), 'exmix-module-'));
  after(() => rmSync(folder, { recursive: true }));
  const rates = new URL('../plan/rates.ts', import.meta.url).pathname;
  const GOOD = `
    import { PAPER_RATES } from ${JSON.stringify(rates)};
    interface Row { readonly a: string }
    export default ({ source }) => ({
      name: 'upper',
      family: 'mine',
      metrics: ['accuracy'],
      source: source({ path: 'rows.jsonl', format: 'jsonl' }),
      preprocessor: {
        identity: { version: 1, cap: PAPER_RATES.cap },
        fields: ['a'],
        apply: (row: Row) => typeof row.a === 'string'
          ? { ok: true, examples: [{ inputs: row.a, targets: row.a.toUpperCase() }] }
          : { ok: false, reason: 'field "a" must be text' },
      },
    });`;
  let numModules = 0;
  const loadModule = (text: string) => {
    const file = `task-${numModules++}.ts`;
    writeFileSync(join(folder, file), text);
    return parseMixture(`${HEAD}tasks:\n  - module: ./${file}\n`, join(folder, 'mixture.yaml')).tasks;
  };

  test('loads a task in TypeScript, with imports and types; its identity changes with its file', () => {
    const [task] = loadModule(GOOD);
    assert.deepEqual(task!.source, {
      kind: 'files',
      format: 'jsonl',
      quotes: true,
      files: [{ location: join(folder, 'rows.jsonl'), name: 'rows.jsonl' }],
    });
    assert.deepEqual(task!.preprocessor.apply({ a: 'x' }), { ok: true, examples: [{ inputs: 'x', targets: 'X' }] });
    const { identity } = task!.preprocessor;
    assert.deepEqual(identity['rule'], { version: 1, cap: 300_000 });
    assert.notDeepEqual(loadModule(`${GOOD}\n// changed`)[0]!.preprocessor.identity, identity);
  });

  test('a module names evaluation sets and post-processor as a file does', () => {
    const [task] = loadModule(
      GOOD.replace(
        "metrics: ['accuracy'],",
        "metrics: ['accuracy'], postprocess: 'lower_text', validation: source({ path: 'dev.jsonl', format: 'jsonl' }),",
      ),
    );
    assert.deepEqual(task!.evaluation, { postprocess: { name: 'lower_text' }, metrics: ['accuracy'], fields: {} });
    const set = task!.splits.validation[0]!.source;
    assert.equal(set.kind === 'files' && set.files[0]!.name, 'dev.jsonl');
  });

  test('loads the example of the README, with its types', () => {
    const path = fileURLToPath(new URL('upper-task.fixture.ts', import.meta.url));
    const [task] = load(`tasks:\n  - module: ${path}\n`).tasks;
    assert.deepEqual(task!.preprocessor.apply({ word: 'mill' }), {
      ok: true,
      examples: [{ inputs: 'upper: mill', targets: 'MILL' }],
    });
    assert.equal(task!.preprocessor.apply({ word: 1 }).ok, false);
    assert.equal(typeof upper, 'function');
  });

  for (const [what, text, expected] of [
    [
      'no default export',
      'export const a = 1;',
      /line 4: tasks\[0\]\.module \(\.\/task-\d\.ts\): its default export must be a Task/,
    ],
    ['a task without apply', GOOD.replace('apply:', 'aply:'), /expected a function[^]*preprocessor\.apply/],
    [
      'an unknown metric',
      GOOD.replace("['accuracy']", "['acuracy']"),
      /task upper: metrics: unknown metric "acuracy"; did you mean accuracy/,
    ],
    ['a name that cannot be a folder', GOOD.replace("'upper'", "'../up'"), /must be small letters/],
    ['a function that throws', 'export default () => { throw new RangeError("no luck"); };', /failed: no luck/],
    ['text that is not TypeScript', 'export default {{{', /cannot be loaded/],
  ] as const)
    test(`rejects ${what}`, () => {
      assert.throws(() => loadModule(text), { code: 'CONFIG_INVALID', message: expected });
    });

  test('rejects a module that does not exist', () => {
    assert.throws(() => parseMixture(`${HEAD}tasks:\n  - module: ./none.ts\n`, join(folder, 'mixture.yaml')), {
      code: 'CONFIG_INVALID',
      message: /cannot be loaded/,
    });
  });
});
