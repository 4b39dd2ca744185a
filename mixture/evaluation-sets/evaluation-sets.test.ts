import assert from 'node:assert/strict';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TrainerError } from '../../shared/errors.ts';
import { prepareMixture } from '../prepare/prepare-mixture.ts';
import { sentence } from '../prepare/small-mixture.fixture.ts';
import { loadMixture } from '../tasks/load-mixture.ts';
import type { Mixture } from '../tasks/task.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import type { AbsentSet } from './declared-sets.ts';
import { prepareEvaluationSets, type EvaluationSetsInit, type PreparedSet } from './prepare-evaluation-sets.ts';
import { listEvaluationSets, readEvaluationSet } from './read-evaluation-sets.ts';

const TOKENIZER = fileURLToPath(new URL('../../golden/sentencepiece/spiece.model', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'exmix-sets-'));
after(() => rmSync(root, { recursive: true }));
let numFolders = 0;
const newFolder = () => join(root, String(numFolders++));
const featureLengths = { inputs: 12, targets: 12 };

const YAML = `name: judged
tokenizer: spiece.model
tasks:
  - name: qa
    family: A
    metrics: [squad]
    references: answers
    source: { path: qa.jsonl, format: jsonl }
    validation: { path: qa-dev.jsonl, format: jsonl }
    test: { path: qa-test.jsonl, format: jsonl }
    inputs: 'question: {q}'
    targets: '{a}'
  - name: plain
    family: A
    metrics: [accuracy]
    source: { path: plain.jsonl, format: jsonl }
    inputs: '{q}'
    targets: '{a}'
`;

interface Row {
  readonly q: string;
  readonly a: string;
  readonly answers?: readonly unknown[];
}

const rowsOf = (rows: readonly unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const rowAt = (i: number): Row => ({
  q: sentence(i),
  a: sentence(3 * i, 4),
  answers: [sentence(7 * i, 3), sentence(3 * i, 4), null, ' '],
});
const many = (count: number, from = 0) => Array.from({ length: count }, (_, i) => rowAt(from + i));

function writeMixture(
  folder: string,
  { yaml = YAML, dev = many(30, 500) }: { yaml?: string; dev?: readonly unknown[] } = {},
): Mixture {
  mkdirSync(folder, { recursive: true });
  copyFileSync(TOKENIZER, join(folder, 'spiece.model'));
  writeFileSync(join(folder, 'qa.jsonl'), rowsOf(many(40)));
  writeFileSync(join(folder, 'qa-dev.jsonl'), rowsOf(dev));
  writeFileSync(join(folder, 'qa-test.jsonl'), rowsOf(many(5, 900)));
  writeFileSync(join(folder, 'plain.jsonl'), rowsOf(many(400)));
  writeFileSync(join(folder, 'mixture.yaml'), yaml);
  return loadMixture(join(folder, 'mixture.yaml'));
}

const prepare = (mixture: Mixture, outDir: string, options: Partial<EvaluationSetsInit> = {}) =>
  prepareEvaluationSets({ mixture, featureLengths, outDir, ...options });

function contentOf(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map(({ parentPath, name }) => join(parentPath, name)).sort();
  return new Map(paths.map((path) => [path.slice(folder.length + 1), readFileSync(path, 'latin1')]));
}

const codeIs = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof TrainerError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

describe('evaluation sets', () => {
  test('hold texts, ids, all right answers and counts of what was cut', async () => {
    const mixture = writeMixture(newFolder());
    const outDir = newFolder();
    const infos = await prepare(mixture, outDir);
    assert.deepEqual(
      infos.map(({ task, split, name, kind }) => [task, split, name, kind]),
      [
        ['plain', 'validation', 'validation', 'supervised'],
        ['qa', 'validation', 'validation', 'supervised'],
        ['qa', 'test', 'test', 'supervised'],
      ],
    );
    assert.deepEqual(await listEvaluationSets(outDir), infos);
    const info = infos[1]!;
    const examples = await readEvaluationSet(outDir, info);
    assert.equal(examples.length, 30);
    const tokenizer = await loadTokenizer(mixture.tokenizerPath);
    for (const [i, example] of examples.entries()) {
      const inputs = `question: ${sentence(500 + i)}`;
      const targets = sentence(3 * (500 + i), 4);
      const ids = tokenizer.encode(inputs);
      assert.equal(example.id, i);
      assert.deepEqual([example.inputs, example.targets], [inputs, targets]);
      assert.deepEqual(example.inputIds, [...ids.slice(0, 11), 1]);
      assert.equal(example.cutInputTokens, Math.max(0, ids.length - 11));
      assert.deepEqual(example.targetIds, [...tokenizer.encode(targets).slice(0, 11), 1]);
      // The targets first; blanks and nulls are no answers.
      assert.deepEqual(example.references, [...new Set([targets, sentence(7 * (500 + i), 3)])]);
    }
    assert.equal(info.numCutInputs, examples.filter(({ cutInputTokens }) => cutInputTokens > 0).length);
    assert.ok(info.numCutInputs > 0);
  });

  test('have the same bytes from copies of the sources, and shards do not depend on them', async () => {
    const [a, b, alone] = [newFolder(), newFolder(), newFolder()];
    const mixture = writeMixture(newFolder());
    const { hash } = await prepareMixture({ mixture, featureLengths, outDir: a });
    const first = await prepare(mixture, a);
    await prepare(writeMixture(newFolder()), b);
    assert.deepEqual(contentOf(join(a, 'evaluation')), contentOf(join(b, 'evaluation')));
    assert.doesNotMatch([...contentOf(join(a, 'evaluation')).values()].join(''), new RegExp(root));
    assert.equal((await prepareMixture({ mixture, featureLengths, outDir: a })).hash, hash);
    assert.equal((await prepareMixture({ mixture, featureLengths, outDir: alone })).hash, hash);
    assert.deepEqual(await listEvaluationSets(a), first, 'preparing shards again keeps the sets');
    assert.deepEqual(await listEvaluationSets(alone), []);
  });

  test('are kept if nothing changed, and only those that changed are made again', async () => {
    const folder = newFolder();
    const outDir = newFolder();
    const first = await prepare(writeMixture(folder), outDir);
    const outcomes: string[] = [];
    const onSet = ({ info, outcome }: PreparedSet) => outcomes.push(`${info.task}/${info.name} ${outcome}`);
    const places = [...contentOf(outDir).keys()];
    const inodes = () => places.map((name) => name.endsWith('sets.json') || statSync(join(outDir, name)).ino);
    const before = inodes();
    await prepare(writeMixture(folder), outDir, { onSet });
    assert.deepEqual(outcomes.sort(), ['plain/validation kept', 'qa/test kept', 'qa/validation kept']);
    assert.deepEqual(inodes(), before);
    outcomes.length = 0;
    const changed = await prepare(writeMixture(folder, { dev: many(10, 500) }), outDir, { onSet });
    assert.deepEqual(outcomes.sort(), ['plain/validation kept', 'qa/test kept', 'qa/validation prepared']);
    assert.deepEqual(
      changed.map(({ hash }, i) => hash === first[i]!.hash),
      [true, false, true],
    );
    const fresh = newFolder();
    await prepare(writeMixture(newFolder(), { dev: many(10, 500) }), fresh);
    assert.deepEqual(contentOf(outDir), contentOf(fresh));
  });

  test('a damaged set is refused when it is read, and made again when it is prepared', async () => {
    const mixture = writeMixture(newFolder());
    const outDir = newFolder();
    const [info] = await prepare(mixture, outDir);
    const whole = contentOf(outDir);
    const folder = join(outDir, 'evaluation', info!.task, info!.name);
    for (const file of ['examples.jsonl', 'set.json']) {
      appendFileSync(join(folder, file), ' ');
      await assert.rejects(
        listEvaluationSets(outDir).then(([found]) => readEvaluationSet(outDir, found!)),
        codeIs('SHARD_CORRUPT', new RegExp(file)),
      );
      await prepare(mixture, outDir);
      assert.deepEqual(contentOf(outDir), whole);
    }
    const content = readFileSync(join(folder, 'examples.jsonl'));
    content[content.length - 4]! ^= 1;
    writeFileSync(join(folder, 'examples.jsonl'), content);
    await assert.rejects(readEvaluationSet(outDir, info!), codeIs('SHARD_CORRUPT', /SHA-256/));
    rmSync(join(folder, 'set.json'));
    await prepare(mixture, outDir);
    assert.deepEqual(contentOf(outDir), whole);
  });

  test('a set that is declared no more is removed, and one of another split stays', async () => {
    const folder = newFolder();
    const outDir = newFolder();
    await prepare(writeMixture(folder), outDir);
    const without = YAML.replace(/ {4}test: .*\n/u, '');
    await prepare(writeMixture(folder, { yaml: without }), outDir, { splits: ['validation'] });
    const left = async () => (await listEvaluationSets(outDir)).map(({ task, name }) => `${task}/${name}`);
    assert.deepEqual(await left(), ['plain/validation', 'qa/validation']);
    await prepare(writeMixture(folder), outDir, { splits: ['test'] });
    assert.deepEqual(await left(), ['plain/validation', 'qa/validation', 'qa/test']);
    assert.ok(!existsSync(join(outDir, 'evaluation', 'plain', 'test')));
  });

  test('a set larger than its bound is a uniform sample in the order of the source', async () => {
    const dev = many(300, 500);
    const mixture = writeMixture(newFolder(), { dev });
    const outDir = newFolder();
    const whole = await readEvaluationSet(outDir, (await prepare(mixture, outDir))[1]!);
    const places = new Map<string, number>(whole.map(({ inputs, targets, id }) => [`${inputs}\n${targets}`, id]));
    const chosen: number[][] = [];
    for (const maxExamples of [20, 40]) {
      const [, info] = await prepare(mixture, outDir, { maxExamples });
      assert.deepEqual([info!.numExamples, info!.numAvailable, info!.numRows], [maxExamples, 300, 300]);
      const examples = await readEvaluationSet(outDir, info!);
      assert.deepEqual(
        examples.map(({ id }) => id),
        Array.from({ length: maxExamples }, (_, i) => i),
      );
      chosen.push(examples.map(({ inputs, targets }) => places.get(`${inputs}\n${targets}`)!));
      assert.equal(info!.numCutInputs, examples.filter(({ cutInputTokens }) => cutInputTokens > 0).length);
    }
    for (const numbers of chosen)
      assert.deepEqual(
        numbers,
        [...numbers].sort((a, b) => a - b),
      );
    assert.deepEqual(
      chosen[0]!.filter((place) => !chosen[1]!.includes(place)),
      [],
      'a smaller sample is a part of a larger one',
    );
    assert.ok(chosen[1]!.some((place) => place < 100) && chosen[1]!.some((place) => place > 200));
    // Without a wish the existing size stays; another process chooses the same.
    const kept = await prepare(mixture, outDir);
    assert.equal(kept[1]!.numExamples, 40);
  });

  test('malformed rows are counted, and too many are an error that names set, file and row', async () => {
    const dev = [...many(4, 500), { q: 'x', a: ['y'] }, { q: 'x', a: 'y' }];
    const mixture = writeMixture(newFolder(), { dev });
    const outDir = newFolder();
    await assert.rejects(
      prepare(mixture, outDir),
      codeIs(
        'SOURCE_MALFORMED',
        /^task qa, set validation: 2 of 6 rows[^]*qa-dev\.jsonl:5[^]*qa-dev\.jsonl:6: field "answers" is missing/,
      ),
    );
    assert.deepEqual(
      (await listEvaluationSets(outDir)).map(({ task, name }) => `${task}/${name}`),
      ['plain/validation', 'qa/test'],
      'the other sets are made',
    );
    const [, info] = await prepare(mixture, outDir, { badRowThreshold: 0.5 });
    assert.deepEqual([info!.numExamples, info!.numRows, info!.numMalformedRows], [4, 6, 2]);
  });

  test('an empty split, a missing file and a file that the user must bring are told apart', async () => {
    const outDir = newFolder();
    await assert.rejects(
      prepare(writeMixture(newFolder(), { dev: [] }), outDir),
      codeIs('SOURCE_MALFORMED', /task qa, set validation: its source has no rows/),
    );
    const mixture = writeMixture(newFolder(), { yaml: YAML.replace('qa-dev', 'qa-deb') });
    await assert.rejects(prepare(mixture, outDir), codeIs('SOURCE_UNREADABLE', /task qa, set validation: .*qa-deb/s));
    const absent: AbsentSet[] = [];
    const yaml = `name: given\ntokenizer: spiece.model\ntasks:\n  - use: cogs\n    source: { path: cogs.tsv, format: tsv }\n`;
    const given = writeMixture(newFolder(), { yaml });
    assert.deepEqual(await prepare(given, newFolder(), { onAbsent: (set) => absent.push(set) }), []);
    assert.deepEqual(
      absent.map(({ task, split, reason }) => [task, split, /bring cogs\.\w+\.tsv/u.test(reason)]),
      [
        ['cogs', 'validation', true],
        ['cogs', 'test', true],
      ],
    );
  });
});
