import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { readSource as readProductSource } from '../../mixture/sources/read-unit.ts';
import { resolveSource } from '../../mixture/sources/resolve-source.ts';
import { createSourceAccess } from '../../mixture/sources/source-access.ts';
import { loadMixture } from '../../mixture/tasks/load-mixture.ts';
import { loadTokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { stem } from '../../evaluation/metrics/porter-stemmer.ts';
import { GRAM_WORDS, GramIndex } from '../../mixture/overlap/gram-index.ts';
import { textWords } from '../../mixture/overlap/text-words.ts';
import { CREDITS } from './build/credits.ts';
import { describeDemo, filesOf, inSplit, putTable, readSource } from './build/describe.ts';
import { SPLIT_FOLDERS, SPLITS, type Split } from './build/held-out.ts';
import { countWords } from './build/plain-text.ts';
import type { DataRow } from './build/read-rows.ts';

const demoFolder = import.meta.dirname;
const mixture = loadMixture(path.join(demoFolder, 'mixture.yaml'));
const dataFiles = readdirSync(path.join(demoFolder, 'data')).sort();
const tasks = mixture.tasks.map((task) => ({ ...task, rows: readSource(task.source) }));
const denoising = mixture.denoising!;
const documents = readSource(denoising.source).map((row) => String(row['text']));

const EVALUATION_SPLITS = ['validation', 'test'] as const;

/** The rows of a source in a split, with all tasks that read it. */
function rowsIn(split: Split, task: string): readonly DataRow[] {
  const { source } = mixture.tasks.find(({ name }) => name === task) ?? denoising;
  return readSource(inSplit(source, split));
}

function textOf(row: DataRow, field: string): string {
  const value = row[field];
  return typeof value === 'string' ? value : assert.fail(`field ${field} of ${JSON.stringify(row)}`);
}

const EMAIL_ADDRESS = /[\w.+-]+@[\w-]+\.[a-z]{2,}/i;
const MARKUP = /<\/?[a-z!][^>]*>|&(?:[a-z]+|#\d+);|strong:[GH]\d|\$\$\$|¶/i;
const BROKEN_ENCODING = /\uFFFD|Ã[\u0080-\u00BF]|â€/;

function fraction<T>(items: readonly T[], holds: (item: T) => boolean): number {
  return items.filter(holds).length / items.length;
}

function countBy(values: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

describe('demo mixture', () => {
  test('the mixture has at least 16 tasks in at least 6 families, and denoising text', () => {
    assert.ok(tasks.length >= 16, `${tasks.length} tasks`);
    assert.ok(new Set(tasks.map(({ family }) => family)).size >= 6);
    assert.ok(documents.length > 5_000);
    const sizes = tasks.map(({ rows }) => rows.length);
    assert.ok(
      Math.max(...sizes) > 20 * Math.min(...sizes),
      'task sizes differ by more than a factor of 20, so rates matter',
    );
  });

  test('the mixture uses every file in data/ and no other', () => {
    const named = [...mixture.tasks, denoising].flatMap(({ source }) =>
      filesOf(source).map((file) => path.basename(file)),
    );
    assert.deepEqual([...new Set(named)].sort(), dataFiles);
  });

  test('the mixture uses every text format, compressed and plain', () => {
    const kinds = [...mixture.tasks, denoising].flatMap(({ source }) =>
      filesOf(source).map((file) => `${source.format} ${file.endsWith('.gz') ? 'gz' : 'plain'}`),
    );
    assert.deepEqual([...new Set(kinds)].sort(), [
      'csv gz',
      'csv plain',
      'jsonl gz',
      'jsonl plain',
      'text gz',
      'tsv gz',
      'tsv plain',
    ]);
    assert.match(readFileSync(path.join(demoFolder, 'data/satire.csv'), 'utf8'), /""/, 'a quote inside a quoted field');
  });

  for (const { name, preprocessor, rows } of tasks) {
    test(`${name}: every row makes one short, clean example`, () => {
      const pairs = rows.map((row, i) => {
        const made = preprocessor.apply(row);
        assert.ok(made.ok, `row ${i}: ${made.ok ? '' : made.reason}`);
        assert.equal(made.examples.length, 1);
        return made.examples[0]!;
      });
      assert.ok(pairs.length >= 1_000, `${pairs.length} rows`);
      assert.ok(fraction(pairs, ({ inputs }) => countWords(inputs) <= 90) > 0.999);
      assert.ok(fraction(pairs, ({ targets }) => countWords(targets) <= 30) > 0.999);
      for (const { inputs, targets } of pairs)
        for (const wrong of [EMAIL_ADDRESS, MARKUP, BROKEN_ENCODING])
          assert.doesNotMatch(`${inputs} ${targets}`, wrong);
      const distinct = new Set(pairs.map(({ inputs, targets }) => `${inputs}\t${targets}`));
      assert.ok(distinct.size > 0.99 * pairs.length, `${pairs.length - distinct.size} examples are duplicates`);
    });
  }

  test('the reader of exmix prepare reads the same rows', async () => {
    const sets = mixture.tasks.flatMap(({ name, splits }) =>
      EVALUATION_SPLITS.flatMap((split) =>
        splits[split].map((set) => ({ name: `${name} ${set.name}`, source: set.source })),
      ),
    );
    for (const { name, source } of [...mixture.tasks, denoising, ...sets]) {
      assert.ok(source.kind === 'files', name);
      const found: unknown[] = [];
      const access = createSourceAccess();
      for await (const batch of readProductSource(await resolveSource(source, access), { access }))
        for (const record of batch) found.push(record.ok ? { ...record.fields } : record.reason);
      // deepEqual takes seconds on 180,000 rows
      assert.ok(JSON.stringify(found) === JSON.stringify(readSource(source)), name);
    }
  });

  test('documents are clean and have 20 to 90 words', () => {
    for (const document of documents) {
      const words = countWords(document);
      assert.ok(words >= 20 && words <= 90, document);
      for (const wrong of [EMAIL_ADDRESS, MARKUP, BROKEN_ENCODING]) assert.doesNotMatch(document, wrong);
    }
    assert.equal(new Set(documents).size, documents.length);
  });

  test('every listed label occurs, and pairs of labels are balanced', () => {
    const text = readFileSync(path.join(demoFolder, 'mixture.yaml'), 'utf8');
    const checked: string[] = [];
    for (const { name, preprocessor, rows } of tasks) {
      const entry = text.split(`- name: ${name}\n`)[1]!.split('- name: ')[0]!;
      const list = /labels:(?: \[(.*)\]|((?:\n {6}- .*)+))/.exec(entry);
      if (list === null) continue;
      checked.push(name);
      const labels = (list[1]?.split(', ') ?? list[2]!.trim().split('\n')).map((label) => label.replace(/^\s*- /, ''));
      const counts = countBy(
        rows.map((row) => {
          const made = preprocessor.apply(row);
          return made.ok ? made.examples[0]!.targets : 'malformed';
        }),
      );
      assert.deepEqual([...counts.keys()].sort(), labels.sort(), name);
      if (labels.length === 2)
        for (const [label, count] of counts)
          assert.ok(Math.abs(count / rows.length - 0.5) < 0.001, `${name} ${label}: ${count}`);
    }
    assert.deepEqual(checked, ['wn_entails', 'wn_supersense', 'satire', 'kjv_web_match', 'emoji_group']);
  });

  test('the hypernym alone does not reveal the label of wn_entails', () => {
    const rows = tasks.find(({ name }) => name === 'wn_entails')!.rows;
    const countVotes = (from: number, to: number): Map<string, number> => {
      const votes = new Map<string, number>();
      for (const { hypernym, label } of rows.slice(from, to))
        votes.set(String(hypernym), (votes.get(String(hypernym)) ?? 0) + (label === 1 ? 1 : -1));
      return votes;
    };
    const votes = countVotes(0, 8_000);
    const guessed = fraction(
      rows.slice(8_000),
      ({ hypernym, label }) => (votes.get(String(hypernym)) ?? 0) >= 0 === (label === 1),
    );
    assert.ok(guessed > 0.4 && guessed < 0.6, `guesses from the hypernym alone are right in ${guessed} of the rows`);
  });

  test('sotu_president shares no passage with the denoising text, and kjv_to_web no verse with kjv_web_match', () => {
    const fieldOf = (task: string, field: string): string[] =>
      tasks.find(({ name }) => name === task)!.rows.map((row) => String(row[field]));
    const known = new Set(documents);
    assert.equal(fieldOf('sotu_president', 'passage').filter((passage) => known.has(passage)).length, 0);
    const modernized = new Set(fieldOf('kjv_to_web', 'kjv'));
    assert.equal(fieldOf('kjv_web_match', 'kjv').filter((verse) => modernized.has(verse)).length, 0);
  });
});

describe('demo evaluation sets', () => {
  test('each split has a folder with a file for each file of data/', () => {
    for (const split of SPLITS)
      assert.deepEqual(readdirSync(path.join(demoFolder, SPLIT_FOLDERS[split])).sort(), dataFiles, split);
  });

  for (const { name, preprocessor, splits, evaluation, source: train } of tasks)
    test(`${name}: validation and test are its files of the two folders, and every row makes one short, clean example`, () => {
      for (const split of EVALUATION_SPLITS) {
        const [set, ...others] = splits[split];
        assert.deepEqual(others, []);
        assert.ok(set?.source.kind === 'files');
        assert.deepEqual(filesOf(set.source), filesOf(inSplit(train, split)));
        const rows = readSource(set.source);
        assert.ok(rows.length >= 70 && rows.length <= 400, `${rows.length} rows`);
        const seen = new Set<string>();
        for (const row of rows) {
          const made = preprocessor.apply(row);
          const [pair, ...more] = made.ok ? made.examples : assert.fail(made.reason);
          assert.ok(pair !== undefined && more.length === 0);
          const { inputs, targets } = pair;
          assert.ok(countWords(inputs) <= 100 && countWords(targets) <= 40, inputs);
          for (const wrong of [EMAIL_ADDRESS, MARKUP, BROKEN_ENCODING])
            assert.doesNotMatch(`${inputs} ${targets}`, wrong);
          seen.add(`${inputs}\t${targets}`);
          if (evaluation.references === undefined) continue;
          const accepted = row[evaluation.references.path];
          assert.ok(Array.isArray(accepted) && accepted[0] === targets, 'the target is the first right answer');
          assert.equal(new Set(accepted).size, accepted.length);
        }
        assert.equal(seen.size, rows.length, 'no example twice');
      }
    });

  test('the held-out documents are clean and have 20 to 90 words', () => {
    for (const split of EVALUATION_SPLITS) {
      const held = rowsIn(split, denoising.name).map((row) => textOf(row, 'text'));
      assert.equal(new Set(held).size, 300);
      for (const document of held) {
        const words = countWords(document);
        assert.ok(words >= 20 && words <= 90, document);
        for (const wrong of [EMAIL_ADDRESS, MARKUP, BROKEN_ENCODING]) assert.doesNotMatch(document, wrong);
      }
    }
  });

  /** Names the things that the rows of tasks are about. No thing may be in two splits. */
  function assertCut(kind: string, thingsIn: (split: Split) => Iterable<string>): void {
    const [train, validation, held] = SPLITS.map((split) => new Set(thingsIn(split)));
    assert.ok(train!.size > 8 * validation!.size && validation!.size > 0 && held!.size > 0, kind);
    for (const thing of [...validation!, ...held!]) assert.ok(!train!.has(thing), `${kind} ${thing} is in train`);
    for (const thing of held!) assert.ok(!validation!.has(thing), `${kind} ${thing} is in validation and test`);
  }

  const spellings = new Map(
    SPLITS.flatMap((split) => rowsIn(split, 'british_to_american')).map((row) => [
      textOf(row, 'british'),
      textOf(row, 'american'),
    ]),
  );
  const WORDNET_TASKS = ['wn_define', 'wn_reverse', 'wn_synonym', 'wn_cloze', 'wn_entails', 'wn_supersense'];

  test('a word, in all its forms and spellings, is in one split of all word tasks', () => {
    const rootOf = (word: string): string => stem(spellings.get(word) ?? word);
    assert.equal(rootOf('colouring'), rootOf('colors'));
    assertCut('word', (split) => [
      ...[...WORDNET_TASKS, 'satire', 'cmudict_g2p'].flatMap((task) =>
        rowsIn(split, task).map((row) => rootOf(textOf(row, 'word'))),
      ),
      ...rowsIn(split, 'british_to_american').flatMap((row) => [
        rootOf(textOf(row, 'british')),
        rootOf(textOf(row, 'american')),
      ]),
    ]);
  });

  test('a definition of WordNet is in one split of all its tasks', () => {
    assertCut('definition', (split) =>
      [...WORDNET_TASKS, 'satire'].flatMap((task) =>
        rowsIn(split, task).map((row) => textWords(textOf(row, 'gloss' in row ? 'gloss' : 'definition')).join(' ')),
      ),
    );
  });

  test('a chapter of the Bible is in one split of all its tasks, and no train text has a held-out verse', () => {
    const VERSES = { bible_en_es: ['verse'], kjv_to_web: ['verse'], kjv_web_match: ['kjv_verse', 'web_verse'] };
    assertCut('chapter', (split) =>
      Object.entries(VERSES).flatMap(([task, fields]) =>
        rowsIn(split, task).flatMap((row) => fields.map((field) => textOf(row, field).replace(/:\d+$/, ''))),
      ),
    );
    const textsIn = (split: Split): string[] =>
      Object.keys(VERSES).flatMap((task) =>
        rowsIn(split, task).flatMap((row) =>
          ['en', 'es', 'kjv', 'web'].filter((field) => field in row).map((field) => textOf(row, field)),
        ),
      );
    const held = [...new Set(EVALUATION_SPLITS.flatMap((split) => textsIn(split)))];
    const index = new GramIndex({ longest: GRAM_WORDS, shortest: 4 });
    for (const [i, verse] of held.entries()) index.add(i, textWords(verse));
    for (const text of [...textsIn('train'), ...documents])
      index.search(textWords(text), (i) => assert.fail(`a train text has the words of "${held[i]!}": ${text}`));
  });

  test('an address, a country and an emoji, whatever the gender of its person, are in one split', () => {
    assertCut('address', (split) => rowsIn(split, 'sotu_president').map((row) => textOf(row, 'address')));
    assertCut('country', (split) => rowsIn(split, 'country_qa').map((row) => textOf(row, 'country')));
    const GENDER = /\b(200D|2640|2642|1F46[6-9]|1F9D1)\b/g;
    assertCut('emoji', (split) =>
      rowsIn(split, 'emoji_name').map((row) =>
        textOf(row, 'code_points').replace(GENDER, '').trim().replace(/ +/g, ' '),
      ),
    );
  });

  test('each president of an evaluation set speaks in train', () => {
    const known = new Set(rowsIn('train', 'sotu_president').map((row) => textOf(row, 'president')));
    for (const split of EVALUATION_SPLITS)
      for (const row of rowsIn(split, 'sotu_president')) assert.ok(known.has(textOf(row, 'president')));
  });

  test('no text of an evaluation set has 13 words in a row in common with a text of train, of any task', () => {
    const textsIn = (split: Split): { task: string; text: string }[] =>
      [...tasks, denoising].flatMap(({ name }) =>
        rowsIn(split, name).flatMap((row) =>
          Object.entries(row)
            .filter(([field]) => field !== 'accepted')
            .map(([, value]) => ({ task: name, text: String(value) })),
        ),
      );
    const held = EVALUATION_SPLITS.flatMap((split) => textsIn(split));
    const index = new GramIndex();
    for (const [i, { text }] of held.entries()) index.add(i, textWords(text));
    assert.ok(index.numGrams > 50_000);
    for (const { task, text } of textsIn('train'))
      index.search(textWords(text), (i) => assert.fail(`${held[i]!.task}: ${held[i]!.text} / ${task}: ${text}`));
    assert.equal(GRAM_WORDS, 13);
  });
});

describe('demo folder', () => {
  test('the folder has at most 12 MB', () => {
    const files = readdirSync(demoFolder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const bytes = files.reduce((sum, file) => sum + statSync(path.join(file.parentPath, file.name)).size, 0);
    assert.ok(bytes <= 12e6, `${bytes} B`);
  });

  test('NOTICES.md names every data file and every licence text', () => {
    const notices = readFileSync(path.join(demoFolder, 'NOTICES.md'), 'utf8');
    assert.deepEqual(Object.keys(CREDITS).sort(), dataFiles);
    const licences = [...new Set(Object.values(CREDITS).flatMap((credit) => credit.notices))].sort();
    assert.deepEqual(readdirSync(path.join(demoFolder, 'licences')).sort(), licences);
    for (const name of [...dataFiles, ...licences]) assert.ok(notices.includes(`\`${name}\``), name);
  });

  test('the table in README.md equals the table computed from the data', () => {
    const readme = readFileSync(path.join(demoFolder, 'README.md'), 'utf8');
    assert.equal(putTable(readme, describeDemo(demoFolder)), readme, 'run npx tsx deploy/demo/build/describe.ts');
  });
});

describe('demo vocabulary', () => {
  test('3,996 pieces and 100 extra ids make 4,096 embedding rows', async () => {
    const tokenizer = await loadTokenizer(mixture.tokenizerPath);
    assert.equal(tokenizer.numPieces, 3_996);
    assert.equal(tokenizer.vocabSize, 4_096);
  });

  test('over 98 % of examples fit in 128 input and 48 target tokens, and fewer than 1 of 10,000 pieces is unknown', async () => {
    const tokenizer = await loadTokenizer(mixture.tokenizerPath);
    let numTokens = 0;
    let numUnknown = 0;
    const encode = (text: string): number => {
      const ids = tokenizer.encode(text);
      numTokens += ids.length;
      numUnknown += ids.filter((id) => id === tokenizer.unkId).length;
      return ids.length + 1; // EOS
    };
    for (const { name, rows, preprocessor } of tasks) {
      const every = rows.filter((_, i) => i % 10 === 0).map((row) => preprocessor.apply(row));
      const fits = fraction(every, (made) => {
        const pair = made.ok ? made.examples[0]! : assert.fail(made.reason);
        const lengths = [encode(pair.inputs), encode(pair.targets)] as const;
        return lengths[0] <= 128 && lengths[1] <= 48;
      });
      assert.ok(fits > (name === 'sotu_president' ? 0.96 : 0.98), `${name}: ${fits}`);
    }
    assert.ok(numUnknown < numTokens / 10_000, `${numUnknown} of ${numTokens} pieces are unknown`);
  });

  test('decoding the encoded text returns the text', async () => {
    const tokenizer = await loadTokenizer(mixture.tokenizerPath);
    for (const text of [
      'Y dijo Dios: Sea la luz: y fué la luz.',
      'AH0 N N AE1 CH ER0 AH0 L',
      'a “quoted” word, 1F1F5 1F1EA',
    ])
      assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  });
});
