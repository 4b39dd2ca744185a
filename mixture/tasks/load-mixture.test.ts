import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import { findTask, loadMixture, parseMixture } from './load-mixture.ts';

const GOOD = `name: small
tokenizer: tokenizer/spiece.model
tasks:
  - name: spam
    family: CLS
    metrics: [accuracy]
    source: { path: data/spam.jsonl, format: jsonl }
    inputs: "spam message: {message}"
    targets: "{label}"
    labels: [ham, spam]
  - name: define
    family: GEN
    source: { path: [a.tsv, b.tsv.gz], format: tsv, quotes: false }
    inputs: "define: {word}"
    targets: "{gloss}"
denoising:
  name: denoise
  source: { path: data/text.txt.gz, format: text }
`;

function problemsOf(yaml: string): string {
  try {
    parseMixture(yaml, '/m/mixture.yaml');
  } catch (error) {
    assert.ok(error instanceof TrainerError);
    assert.equal(error.code, 'CONFIG_INVALID');
    return error.message;
  }
  return assert.fail('accepted');
}

describe('mixture.yaml', () => {
  test('gives tasks, a denoising text, and paths relative to the file', () => {
    const mixture = parseMixture(GOOD, '/m/mixture.yaml');
    assert.equal(mixture.tokenizerPath, '/m/tokenizer/spiece.model');
    assert.deepEqual(
      mixture.tasks.map(({ name, family, evaluation }) => [name, family, evaluation]),
      [
        [
          'spam',
          'CLS',
          {
            postprocess: { name: 'string_label_to_class_id', labels: ['ham', 'spam'] },
            metrics: ['accuracy'],
            fields: {},
          },
        ],
        ['define', 'GEN', { postprocess: { name: 'references' }, metrics: [], fields: {} }],
      ],
    );
    assert.deepEqual(mixture.tasks[1]!.source, {
      kind: 'files',
      format: 'tsv',
      quotes: false,
      files: [
        { location: '/m/a.tsv', name: 'a.tsv' },
        { location: '/m/b.tsv.gz', name: 'b.tsv.gz' },
      ],
    });
    assert.deepEqual(mixture.denoising, {
      name: 'denoise',
      text: '{text}',
      source: {
        kind: 'files',
        format: 'text',
        quotes: true,
        files: [{ location: '/m/data/text.txt.gz', name: 'data/text.txt.gz' }],
      },
    });
  });

  test('a task may use a set of the hub: source, templates, labels', () => {
    const yaml = GOOD.replace(
      'source: { path: data/spam.jsonl, format: jsonl }',
      'source: { hub: me/spam, config: default, split: train, revision: 3f1a9c2 }',
    );
    const [spam] = parseMixture(yaml, '/m/mixture.yaml').tasks;
    assert.deepEqual(spam!.source, {
      kind: 'hub',
      dataset: 'me/spam',
      config: 'default',
      split: 'train',
      revision: '3f1a9c2',
      format: 'parquet',
      quotes: true,
    });
    // An int64 of parquet is an index into the labels.
    assert.deepEqual(spam!.preprocessor.apply({ message: 'Win a boat', label: 1n }), {
      ok: true,
      examples: [{ inputs: 'spam message: Win a boat', targets: 'spam' }],
    });
  });

  test('a task names its evaluation sets; without a validation set it declares a cut of train', () => {
    const yaml = GOOD.replace(
      'inputs: "spam',
      'validation: { path: dev.jsonl, format: jsonl }\n    test: { hub: me/spam, split: test }\n    inputs: "spam',
    );
    const [spam, define] = parseMixture(yaml, '/m/mixture.yaml').tasks;
    const files = [{ location: '/m/dev.jsonl', name: 'dev.jsonl' }];
    assert.deepEqual(spam!.splits, {
      validation: [{ name: 'validation', source: { kind: 'files', format: 'jsonl', quotes: true, files } }],
      test: [
        {
          name: 'test',
          source: { kind: 'hub', dataset: 'me/spam', split: 'test', format: 'parquet', quotes: true },
        },
      ],
    });
    assert.deepEqual(define!.splits, {
      validation: [{ name: 'validation', source: { kind: 'cut', oneIn: 20 } }],
      test: [],
    });
  });

  test('validation may be another cut of train or none; text has only the sets that it names', () => {
    const of = (validation: string) =>
      parseMixture(
        GOOD.replace('inputs: "spam', `validation: { cut: ${validation} }\n    inputs: "spam`),
        '/m/mixture.yaml',
      );
    assert.deepEqual(of('50').tasks[0]!.splits.validation, [
      { name: 'validation', source: { kind: 'cut', oneIn: 50 } },
    ]);
    assert.deepEqual(of('none').tasks[0]!.splits.validation, []);
    for (const wrong of ['1', 'some', '2.5', '2, format: jsonl'])
      assert.throws(() => of(wrong), { code: 'CONFIG_INVALID', message: /validation\.cut/u }, wrong);
    const text = (sets: string) =>
      parseMixture(`name: t\ntokenizer: t.model\ndenoising: { use: c4_en, ${sets} }`, '/m/mixture.yaml').denoising;
    const hubSplit = {
      kind: 'hub',
      dataset: 'allenai/c4',
      config: 'en',
      split: 'validation',
      format: 'jsonl',
    } as const;
    assert.deepEqual(text('')?.splits?.validation, [
      { name: 'validation', source: { ...hubSplit, files: ['en/c4-validation.*.json.gz'] } },
    ]);
    assert.equal(text('source: { path: a.txt, format: text }')?.splits, undefined);
    assert.deepEqual(text('source: { path: a.txt, format: text }, validation: { cut: 100 }')?.splits, {
      validation: [{ name: 'validation', source: { kind: 'cut', oneIn: 100 } }],
      test: [],
    });
  });

  test('a task names post-processor, references and the columns of fields', () => {
    const yaml = GOOD.replace(
      'family: GEN',
      'family: GEN\n    metrics: [sari, bleu]\n    postprocess: simplification\n    references: simple\n    fields: { source: word }',
    );
    assert.deepEqual(parseMixture(yaml, '/m/mixture.yaml').tasks[1]!.evaluation, {
      postprocess: { name: 'simplification' },
      metrics: ['sari', 'bleu'],
      references: { path: 'simple' },
      fields: { source: 'word' },
    });
  });

  test('how a task is judged does not change what it is trained on', () => {
    const yaml = GOOD.replace(
      'metrics: [accuracy]',
      'metrics: [macro_f1]\n    validation: { path: v.jsonl, format: jsonl }',
    );
    const [before, after] = [GOOD, yaml].map((text) => parseMixture(text, '/m/mixture.yaml').tasks[0]!);
    assert.deepEqual(after!.source, before!.source);
    assert.deepEqual(after!.preprocessor.identity, before!.preprocessor.identity);
  });

  test('manifests hold only the last part of an absolute path', () => {
    const mixture = parseMixture(GOOD.replace('data/spam.jsonl', '/data/2024/spam.jsonl'), '/m/mixture.yaml');
    const { source } = mixture.tasks[0]!;
    assert.deepEqual(source.files, [{ location: '/data/2024/spam.jsonl', name: 'spam.jsonl' }]);
  });

  test('one error reports all problems, each with line, place, task and the nearest known key', () => {
    const message = problemsOf(
      GOOD.replace('family: CLS', 'famly: CLS')
        .replace('format: tsv,', 'format: tvs,')
        .replace('name: denoise', 'name: "../escape"')
        .replace('tokenizer: tokenizer/spiece.model\n', ''),
    );
    assert.match(message, /line 4: tasks\[0\]\.famly \(spam\): unknown key; did you mean family/);
    assert.match(message, /tasks\[0\]\.family \(spam\): .*expected string/);
    assert.match(message, /line 12: tasks\[1\]\.source\.format \(define\): .*"tsv"/);
    assert.match(message, /line 16: denoising\.name: must be small letters/);
    assert.match(message, /tokenizer: expected the path of a SentencePiece model/);
    assert.match(message, /^\/m\/mixture\.yaml: 5 problem/);
  });

  for (const [what, from, to, expected] of [
    ['a brace without its partner', '{word}', '{word', /line 14: tasks\[1\]\.inputs \(define\): .*"\{" at character 8/],
    [
      'a template without placeholder',
      '"{gloss}"',
      '"yes"',
      /tasks\[1\]\.targets \(define\): .*no \{field\} placeholder/,
    ],
    [
      'a name used twice',
      'name: denoise',
      'name: spam',
      /denoising\.name: an earlier task already has the name "spam"/,
    ],
    ['a label used twice', '[ham, spam]', '[ham, ham]', /tasks\[0\]\.labels \(spam\): a label is listed twice/],
    [
      'an unknown metric',
      '[accuracy]',
      '[acuracy]',
      /line 6: tasks\[0\]\.metrics \(spam\): unknown metric "acuracy"; did you mean accuracy/,
    ],
    [
      'an unknown post-processor',
      'family: GEN',
      'family: GEN\n    postprocess: reference',
      /tasks\[1\]\.postprocess \(define\): unknown post-processor "reference"; did you mean references/,
    ],
    [
      'a field that the post-processor needs and nobody names',
      'family: GEN',
      'family: GEN\n    postprocess: simplification',
      /tasks\[1\]\.fields \(define\): simplification reads field "source"/,
    ],
    [
      'a mistyped key of an evaluation set',
      'family: GEN',
      'family: GEN\n    test: { pth: t.jsonl, format: jsonl }',
      /tasks\[1\]\.test\.pth \(define\): unknown key; did you mean path/,
    ],
    ['a single label', '[ham, spam]', '[ham]', /tasks\[0\]\.labels \(spam\): must hold at least two/],
    ['a key given twice', 'family: CLS', 'family: CLS\n    family: NLI', /not YAML:[^]*unique/],
    ['text that is not YAML', 'tasks:', 'tasks: [', /not YAML/],
    [
      'a field that a text source cannot have',
      'source: { path: data/text.txt.gz, format: text }',
      'source: { path: t.txt, format: text }\n  text: "{txt}"',
      /denoising\.text: field "txt" is missing; did you mean "text"/,
    ],
  ] as const) {
    test(`rejects ${what}`, () => {
      const changed = GOOD.replace(from, to);
      assert.notEqual(changed, GOOD);
      assert.match(problemsOf(changed), expected);
    });
  }

  test('rejects a mixture without any task', () => {
    assert.match(problemsOf('name: empty\ntokenizer: t\n'), /neither tasks nor denoising/);
  });

  test('a missing file is PATH_UNUSABLE', () => {
    assert.throws(() => loadMixture('/nowhere/mixture.yaml'), { code: 'PATH_UNUSABLE' });
  });

  test('an unknown task name is NAME_UNKNOWN with the nearest names', () => {
    const mixture = parseMixture(GOOD, '/m/mixture.yaml');
    assert.equal(findTask(mixture, 'denoise').name, 'denoise');
    assert.throws(() => findTask(mixture, 'defien'), { code: 'NAME_UNKNOWN', message: /did you mean define/ });
  });
});
