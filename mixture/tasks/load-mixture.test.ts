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
      mixture.tasks.map(({ name, family, metrics }) => [name, family, metrics]),
      [
        ['spam', 'CLS', ['accuracy']],
        ['define', 'GEN', []],
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
