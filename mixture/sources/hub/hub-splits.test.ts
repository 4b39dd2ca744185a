import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createGlob } from '../glob.ts';
import { expectedRows, NO_CARD, parseCard } from './hub-card.ts';
import { findConverted, findSplit, type SplitFiles } from './hub-splits.ts';

interface Repository {
  readonly name: string;
  readonly paths: readonly string[];
  readonly readme?: string;
  readonly config?: string;
  readonly splits: Readonly<Record<string, readonly string[]>>;
}

const golden = JSON.parse(
  readFileSync(new URL('../../../golden/hub-splits/repositories.json', import.meta.url), 'utf8'),
) as Repository[];

const sorted = (paths: readonly string[]) => [...paths].sort();
const find = (paths: readonly string[], split: string, config?: string, readme = ''): SplitFiles =>
  findSplit(sorted(paths), parseCard(readme), { config, split });
const pathsOf = (found: SplitFiles) => (found.kind === 'files' ? found.paths : []);
const reasonOf = (found: SplitFiles) => ('reason' in found ? found.reason : `${found.kind}: ${found.paths.join(' ')}`);

/** Repositories that the library reads and we refuse: what it means is open. */
const REFUSED = new Map([
  ['folders first', 'train'], // x/ may be a configuration
  ['capitals', 'train'], // TEST.parquet
]);

describe('the files of a split', () => {
  for (const { name, paths, readme, config, splits } of golden)
    test(`are those of the datasets library: ${name}`, () => {
      for (const split of new Set([...Object.keys(splits), 'train', 'validation', 'test', 'other'])) {
        const found = find(paths, split, config, readme);
        const isRefused = REFUSED.get(name) === split;
        if (isRefused) assert.match(reasonOf(found), /files/, split);
        assert.deepEqual(pathsOf(found), isRefused ? [] : (splits[split] ?? []), `${split}: ${reasonOf(found)}`);
      }
    });

  test('are in the folder of a configuration, where README.md lists none', () => {
    const paths = [
      'mnli/train-00000-of-00001.parquet',
      'mnli/validation_matched-00000-of-00001.parquet',
      'data/qqp/train/0.parquet',
    ];
    assert.deepEqual(pathsOf(find(paths, 'train', 'mnli')), [paths[0]]);
    assert.deepEqual(pathsOf(find(paths, 'validation_matched', 'mnli')), [paths[1]]);
    assert.deepEqual(pathsOf(find(paths, 'train', 'qqp')), [paths[2]]);
    assert.match(
      reasonOf(find(paths.slice(0, 2).concat('qqp/train.parquet'), 'train')),
      /several configurations, name one: mnli, qqp; or name its files/,
    );
    assert.match(
      reasonOf(find(paths, 'train')),
      /names of their folders \(data\/qqp.*\), others in their own: mnli\/train/,
    );
    assert.match(reasonOf(find(paths, 'train', 'mnly')), /no configuration mnly; did you mean mnli/);
  });

  test('of several splits with one word in common are refused', () => {
    const paths = ['c/validation_a-00000-of-00001.parquet', 'c/validation_b-00000-of-00001.parquet'];
    const found = find(paths, 'validation', 'c');
    assert.match(
      reasonOf(found),
      /several splits have a word of validation.*validation_a-\* and validation_b-\*.*name its files with files and format/,
    );
  });

  test('of several formats are parquet files, unless another format has more', () => {
    const two = ['train.parquet', 'train.csv', 'requirements.txt'];
    assert.deepEqual(pathsOf(find(two, 'train')), ['train.parquet']);
    assert.match(reasonOf(find([...two, 'train-b.csv'], 'train')), /1 parquet files and 2 of \.csv; name its files/);
    assert.deepEqual(find(['train.csv', 'x/embeddings.parquet'], 'train'), {
      kind: 'other-format',
      config: undefined,
      paths: ['train.csv'],
    });
  });

  for (const [what, names, reason] of [
    [
      'a shard is missing',
      ['train-00000-of-00003', 'train-00002-of-00003'],
      /missing: data\/train-\*-of-3 \(2 of 3 shards\), without 1;/,
    ],
    ['the last is missing', ['train-00000-of-00002'], /\(1 of 2 shards\), without 1;/],
    [
      'two uploads',
      ['train-00000-of-00001', 'train-00000-of-00002', 'train-00001-of-00002'],
      /several uploads lie in one folder: data\/train-\*-of-1 \(1 of 1 shards\) and data\/train-\*-of-2 \(2 of 2 shards\)/,
    ],
    [
      'two uploads of one size',
      ['train-00000-of-00001-0123456789abcdef', 'train-00000-of-00001-fedcba9876543210'],
      /train-\*-of-1 has a shard twice among 2 files/,
    ],
  ] as const)
    test(`are refused where ${what}, also if README.md lists them`, () => {
      const paths = names.map((name) => `data/${name}.parquet`);
      const readme = '---\nconfigs:\n- config_name: default\n  data_files: data/train-*\n---\n';
      for (const card of ['', readme]) {
        const found = find(paths, 'train', undefined, card);
        assert.equal(found.kind, 'refused');
        assert.match(reasonOf(found), reason);
        assert.match(reasonOf(found), /name its files with files and format/);
      }
    });

  test('may be shards of different hashes, counted from 1, or a part that README.md chooses', () => {
    for (const names of [
      ['data/train-00000-of-00002-0123456789abcdef', 'data/train-00001-of-00002-fedcba9876543210'],
      ['train-1-of-2', 'train-2-of-2'],
      ['train/00000-of-00002', 'train/00001-of-00002'],
      ['train.00000-of-00002', 'train.00001-of-00002'],
    ]) {
      const paths = names.map((name) => `${name}.parquet`);
      assert.deepEqual(pathsOf(find(paths, 'train')), paths);
    }
    const all = Array.from({ length: 4 }, (_, i) => `data/train-0000${i}-of-00004.parquet`);
    const readme = '---\nconfigs:\n- config_name: default\n  data_files: data/train-0000[02]-of-*\n---\n';
    assert.deepEqual(pathsOf(find(all, 'train', undefined, readme)), [all[0], all[2]]);
  });

  test('that README.md lists, and the repository does not have, are refused, not looked for by name', () => {
    const card = (files: string) => `---\nconfigs:\n- config_name: default\n  data_files: ${files}\n---\n`;
    const paths = ['train.parquet'];
    assert.match(
      reasonOf(find(paths, 'train', undefined, card('old/*.parquet'))),
      /no file matches what README\.md lists for split train: old\/\*\.parquet; name its files/,
    );
    assert.match(
      reasonOf(find(paths, 'train', undefined, card('[train.parquet, b.parquet]'))),
      /names the file b\.parquet for split train, which the repository does not have/,
    );
    assert.match(
      reasonOf(find(paths, 'test', undefined, card('train.parquet'))),
      /no split test of configuration default; it has: train; or name its files/,
    );
    assert.match(reasonOf(find(paths, 'train', 'x', card('train.parquet'))), /no configuration x/);
  });

  test('of two configurations without a default are refused until one is named', () => {
    const entry = (name: string, more = '') => `- config_name: ${name}\n  data_files: ${name}.parquet\n${more}`;
    const readme = `---\nconfigs:\n${entry('a')}${entry('b')}---\n`;
    assert.match(
      reasonOf(find(['a.parquet', 'b.parquet'], 'train', undefined, readme)),
      /several configurations, name one: a, b/,
    );
    const both = `---\nconfigs:\n${entry('a', '  default: true\n')}${entry('b', '  default: true\n')}---\n`;
    assert.match(reasonOf(find(['a.parquet', 'b.parquet'], 'train', undefined, both)), /of which 2 are the default/);
    assert.deepEqual(pathsOf(find(['a.parquet', 'b.parquet'], 'train', 'b', both)), ['b.parquet']);
  });

  test('of the conversion are in config/split, whatever words the names have', () => {
    const paths = ['dev-set/train/0000.parquet', 'dev-set/partial-test/0000.parquet', 'other/train/0000.parquet'];
    assert.deepEqual(pathsOf(findConverted(paths, { config: 'dev-set', split: 'train' })), [paths[0]]);
    assert.match(reasonOf(findConverted(paths, { config: 'dev-set', split: 'test' })), /converted only a part/);
    assert.match(reasonOf(findConverted(paths, { config: undefined, split: 'train' })), /several configurations/);
  });
});

describe('README.md of a data set', () => {
  for (const [what, readme, problem] of [
    [
      'a list of an unknown form',
      '---\nconfigs:\n- config_name: a\n  data_files: 7\n---\n',
      /configs has an unknown form/,
    ],
    ['a header that is no YAML', '---\nconfigs: [\n---\n', /header cannot be parsed/],
    ['a header without an end', '---\nconfigs:\n- config_name: a\n', /header has no end/],
    [
      'files elsewhere',
      '---\nconfigs:\n- config_name: a\n  data_files: hf://datasets/b/c/x.parquet\n---\n',
      /hf:.* is not in the repository/,
    ],
    ['files above', '---\nconfigs:\n- config_name: a\n  data_files: ../x.parquet\n---\n', /is not in the repository/],
    [
      'a configuration twice',
      '---\nconfigs:\n- config_name: a\n- config_name: a\n---\n',
      /lists configuration a twice/,
    ],
    [
      'a split twice',
      '---\nconfigs:\n- config_name: a\n  data_files:\n  - {split: x, path: a}\n  - {split: x, path: b}\n---\n',
      /lists a split of configuration a twice/,
    ],
  ] as const)
    test(`with ${what} is refused, not replaced by the names of files`, () => {
      assert.match(parseCard(readme).problem ?? '', problem);
      assert.match(
        reasonOf(find(['train.parquet'], 'train', undefined, readme)),
        /README\.md does not say which files.*; name its files with files/,
      );
    });

  test('without a list changes nothing, whatever its form', () => {
    for (const readme of [
      '',
      '# text',
      '---\n---\n',
      '---\ntags: [a\n---\n',
      '---\nno end',
      '\uFEFF---\r\ntags: a\r\n---\r\n',
    ])
      assert.deepEqual(parseCard(readme), NO_CARD, readme);
  });

  test('may list patterns in all of its forms, below a folder', () => {
    const readme = [
      '\uFEFF---',
      'configs:',
      '- config_name: one',
      '  data_dir: ./sub/',
      '  data_files: { train: "./a*", test: [b.parquet] }',
      '- config_name: two',
      '  data_files: [/x/*.parquet, y.parquet]',
      '---',
      'text',
    ].join('\r\n');
    const splits = parseCard(readme).configs.map(({ folder, splits: of }) => [folder, of]);
    assert.deepEqual(splits, [
      [
        'sub',
        [
          { split: 'train', patterns: ['a*'] },
          { split: 'test', patterns: ['b.parquet'] },
        ],
      ],
      ['', [{ split: 'train', patterns: ['x/*.parquet', 'y.parquet'] }]],
    ]);
  });

  test('tells the rows of splits, of one configuration or several', () => {
    const one = parseCard('---\ndataset_info:\n  splits:\n  - {name: train, num_examples: 7}\n  - {name: test}\n---\n');
    assert.deepEqual([expectedRows(one, 'plain', 'train'), expectedRows(one, 'plain', 'test')], [7, undefined]);
    const entry = (config: string, rows: number) =>
      `- config_name: ${config}\n  splits: [{name: train, num_examples: ${rows}}]\n`;
    const two = parseCard(`---\ndataset_info:\n${entry('a', 1)}${entry('b', 2)}---\n`);
    assert.deepEqual([expectedRows(two, 'b', 'train'), expectedRows(two, 'c', 'train')], [2, undefined]);
    assert.deepEqual(parseCard('---\ndataset_info: 7\n---\n').numExamples, []);
  });
});

describe('globs with classes', () => {
  const matches = (pattern: string, path: string) => createGlob(pattern, { classes: true })(path);

  for (const [pattern, yes, no] of [
    ['a[0-2].x', ['a0.x', 'a2.x'], ['a3.x', 'a.x', 'a01.x']],
    ['a[!0-2]', ['a3', 'ab'], ['a1', 'a/']],
    ['[]a]', [']', 'a'], ['b', '[']],
    ['[!]a]', ['b'], [']', 'a', '/']],
    ['[^a]', ['^', 'a'], ['b']],
    ['[a-]', ['a', '-'], ['b']],
    ['[b-a]x', [], ['ax', 'bx', 'x']],
    ['a[', ['a['], ['a']],
    ['a[b', ['a[b'], ['ab']],
    ['[a/b]', ['a', 'b'], ['/']],
    [String.raw`[\d]`, ['d', '\\'], ['1']],
    ['{a,b[0-1]}.x', ['a.x', 'b0.x'], ['b2.x']],
    ['d/**/[xy]*.parquet', ['d/x.parquet', 'd/a/b/y1.parquet'], ['d/z.parquet']],
  ] as const)
    test(`${pattern} matches ${yes.join(' ') || 'nothing'}`, () => {
      for (const path of yes) assert.ok(matches(pattern, path), path);
      for (const path of no) assert.ok(!matches(pattern, path), path);
    });

  test('never throw, and any name in a class of its own characters matches', () => {
    const character = fc.constantFrom(...'ab1-]![^\\&~|.*?{},'.split(''));
    fc.assert(
      fc.property(fc.array(character, { maxLength: 12 }), (parts) => {
        createGlob(parts.join(''), { classes: true })('a');
      }),
    );
    fc.assert(
      fc.property(fc.constantFrom(...'ab1^\\&~|.*?{},'.split('')), (one) => {
        assert.ok(matches(`[${one}]`, one));
        assert.ok(!matches(`[!${one}]`, one));
      }),
    );
  });
});
