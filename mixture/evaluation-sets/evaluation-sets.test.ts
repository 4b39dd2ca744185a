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
import { openPreparedMixture } from '../feed/prepared-mixture.ts';
import { prepareMixture } from '../prepare/prepare-mixture.ts';
import { sentence } from '../prepare/small-mixture.fixture.ts';
import { loadMixture } from '../tasks/load-mixture.ts';
import type { Mixture } from '../tasks/task.ts';
import { createHeldOutTest } from '../tasks/train-cut.ts';
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
  test('made by several processes at once stay readable from the first time on', async () => {
    const folder = newFolder();
    const outDir = join(folder, 'out');
    const mixture = writeMixture(folder);
    let numRead = 0;
    const makeAndRead = () =>
      prepare(mixture, outDir, {
        onSet: ({ info }) => {
          reads.push(readEvaluationSet(outDir, info).then((examples) => (numRead += examples.length)));
        },
      });
    const reads: Promise<number>[] = [];
    const made = await Promise.all(Array.from({ length: 6 }, makeAndRead));
    await Promise.all(reads);
    for (const infos of made) assert.deepEqual(infos, made[0]);
    assert.equal(numRead, 6 * made[0]!.reduce((sum, { numExamples }) => sum + numExamples, 0));
  });

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

  test('a cut of train and the train shards divide the records, by content alone', async () => {
    const folder = newFolder();
    const outDir = newFolder();
    const mixture = writeMixture(folder);
    const { tasks } = await prepareMixture({ mixture, featureLengths, outDir });
    const [info] = await prepare(mixture, outDir);
    const held = await readEvaluationSet(outDir, info!);
    const { manifest } = tasks.find(({ name }) => name === 'plain')!;
    assert.deepEqual([info!.cut, manifest.heldOutRows, manifest.numExamples], [20, held.length, 400 - held.length]);
    assert.ok(held.length > 5 && held.length < 40, `${held.length} of 400 are about one of 20`);
    assert.deepEqual(manifest.identity.preprocessor['heldOut'], { version: 1, set: 'validation', oneIn: 20 });
    assert.equal(tasks.find(({ name }) => name === 'qa')!.manifest.identity.preprocessor['heldOut'], undefined);
    const tokenizer = await loadTokenizer(mixture.tokenizerPath);
    const trained = await trainTexts(outDir, 'plain', (ids) => tokenizer.decode(ids));
    const all = [
      ...trained,
      ...held.map(({ inputIds, targetIds }) => [inputIds, targetIds].map((ids) => tokenizer.decode(ids)).join('|')),
    ];
    const expected = many(400).map(({ q, a }) =>
      [q, a].map((text) => tokenizer.decode(tokenizer.encode(text).slice(0, 11))).join('|'),
    );
    assert.deepEqual(all.sort(), expected.sort());
    // Another order of the rows and other columns beside: the same records.
    writeFileSync(
      join(folder, 'plain.jsonl'),
      rowsOf(
        many(400)
          .reverse()
          .map((row) => ({ other: 1, ...row })),
      ),
    );
    const [reversed] = await prepare(loadMixture(join(folder, 'mixture.yaml')), outDir);
    const texts = (await readEvaluationSet(outDir, reversed!)).map(({ inputs, targets }) => [inputs, targets]);
    assert.deepEqual(texts, held.map(({ inputs, targets }) => [inputs, targets]).reverse());
  });

  test('the size of a cut is a choice, none keeps all records, and a source instead keeps shards as they were', async () => {
    const folder = newFolder();
    const outDir = newFolder();
    const sizes = new Map<string, number>();
    for (const [what, validation] of [
      ['none', '{ cut: none }'],
      ['two', '{ cut: 2 }'],
      ['file', '{ path: qa-dev.jsonl, format: jsonl }'],
    ] as const) {
      const yaml = `${YAML.slice(0, -1)}\n    validation: ${validation}\n`;
      const mixture = writeMixture(folder, { yaml });
      const { tasks } = await prepareMixture({ mixture, featureLengths, outDir });
      const { manifest, outcome, reason } = tasks.find(({ name }) => name === 'plain')!;
      sizes.set(what, manifest.numExamples);
      const [first] = await prepare(mixture, outDir);
      assert.equal(first!.task === 'plain', what !== 'none');
      if (what === 'two')
        assert.match(`${outcome} ${reason ?? ''}`, /^prepared changed: the records held out for evaluation$/u);
    }
    assert.deepEqual([sizes.get('none'), sizes.get('file')], [400, 400]);
    assert.ok(sizes.get('two')! > 150 && sizes.get('two')! < 250);
  });

  test('a cut that leaves nothing is told: of a set that it is absent, of train as an error', async () => {
    const absent: AbsentSet[] = [];
    const yaml = (cut: number) =>
      `name: tiny\ntokenizer: spiece.model\ntasks:\n  - { name: tiny, family: A, source: { path: qa-dev.jsonl, format: jsonl }, validation: { cut: ${cut} }, inputs: '{q}', targets: '{a}' }\n`;
    const without = writeMixture(newFolder(), { yaml: yaml(1_000_000_007), dev: many(3) });
    assert.deepEqual(await prepare(without, newFolder(), { onAbsent: (set) => absent.push(set) }), []);
    assert.match(
      absent[0]?.reason ?? '',
      /none of its train records is in the cut of 1 in 1000000007; name a source in validation:/u,
    );
    // Find a record of which the cut of 1 in 2 is all.
    const seed = Array.from({ length: 50 }, (_, i) => i).find((i) =>
      createHeldOutTest({ set: 'validation', oneIn: 2 }, ['q', 'a'])({ ...rowAt(i) }),
    )!;
    const all = writeMixture(newFolder(), { yaml: yaml(2), dev: many(1, seed) });
    await assert.rejects(
      prepareMixture({ mixture: all, featureLengths, outDir: newFolder() }),
      codeIs(
        'SOURCE_MALFORMED',
        /all 1 rows with examples are held out for validation; name its source, or write validation: \{ cut: none \}/,
      ),
    );
  });

  test('text has a set of its own or a cut of its documents, with the same spans at each time', async () => {
    const lengths = { inputs: 24, targets: 12 };
    const documents = Array.from({ length: 200 }, (_, i) => `${sentence(i, 40)}\n`);
    const yaml = (validation: string) =>
      `name: text\ntokenizer: spiece.model\ndenoising: { name: text, source: { path: text.txt, format: text }${validation} }\n`;
    const make = async (validation: string) => {
      const folder = newFolder();
      const outDir = newFolder();
      mkdirSync(folder);
      writeFileSync(join(folder, 'text.txt'), documents.join(''));
      writeFileSync(join(folder, 'dev.txt'), documents.slice(0, 30).join(''));
      const mixture = writeMixture(folder, { yaml: yaml(validation) });
      const { tasks } = await prepareMixture({ mixture, featureLengths: lengths, outDir });
      const infos = await prepare(mixture, outDir, { featureLengths: lengths });
      return { outDir, infos, manifest: tasks[0]!.manifest };
    };
    const whole = await make('');
    assert.deepEqual(whole.infos, []);
    const cut = await make(', validation: { cut: 4 }');
    const own = await make(', validation: { path: dev.txt, format: text }, test: { path: dev.txt, format: text }');
    assert.deepEqual(own.manifest, whole.manifest, 'a set of its own changes no shard');
    assert.ok((cut.manifest.heldOutRows ?? 0) > 20 && cut.manifest.tokensIn < whole.manifest.tokensIn);
    assert.equal(cut.infos[0]!.numRows, cut.manifest.heldOutRows);
    const tokenizer = await loadTokenizer(TOKENIZER);
    const [validation] = await Promise.all(own.infos.map((info) => readEvaluationSet(own.outDir, info)));
    const raw = documents.slice(0, 30).flatMap((document) => tokenizer.encode(document.trim()));
    const restored = validation!.flatMap(({ inputIds, targetIds }) =>
      restoreSpans(inputIds, targetIds, tokenizer.sentinelId(99)),
    );
    assert.deepEqual(restored, raw.slice(0, restored.length));
    assert.ok(raw.length - restored.length < 26 && validation!.length > 5);
    for (const { inputIds, targetIds, targets, references } of validation!) {
      assert.deepEqual([inputIds.length <= 24, targetIds.length <= 12, references], [true, true, [targets]]);
    }
    const few = await prepare(
      writeMixtureAgain(own.outDir, yaml(', validation: { path: dev.txt, format: text }'), documents),
      own.outDir,
      {
        featureLengths: lengths,
        maxExamples: 3,
      },
    );
    assert.deepEqual([few[0]!.numExamples, few[0]!.numAvailable], [3, undefined]);
    const first = await readEvaluationSet(own.outDir, few[0]!);
    assert.deepEqual(first, validation!.slice(0, 3));
  });
});

/** The mixture of a folder of sources beside `outDir`. */
function writeMixtureAgain(outDir: string, yaml: string, documents: readonly string[]): Mixture {
  const folder = `${outDir}-sources`;
  mkdirSync(folder);
  writeFileSync(join(folder, 'text.txt'), documents.join(''));
  writeFileSync(join(folder, 'dev.txt'), documents.slice(0, 30).join(''));
  return writeMixture(folder, { yaml });
}

/** Segment of a corrupted example: each sentinel of the inputs becomes its span of the targets. */
function restoreSpans(inputs: readonly number[], targets: readonly number[], lowestSentinel: number): number[] {
  const spans = new Map<number, number[]>();
  let span: number[] = [];
  for (const id of targets.slice(0, -1))
    if (id >= lowestSentinel) spans.set(id, (span = []));
    else span.push(id);
  return inputs.slice(0, -1).flatMap((id) => (id >= lowestSentinel ? spans.get(id)! : [id]));
}

/** inputs|targets of the examples in the shards of a task. */
async function trainTexts(outDir: string, task: string, decode: (ids: Int32Array) => string): Promise<string[]> {
  const prepared = await openPreparedMixture(outDir);
  const shards = prepared.tasks.find(({ name }) => name === task)!;
  const texts: string[] = [];
  for (let i = 0; i < shards.numExamples; i++) {
    const ids = await shards.readTokens(i);
    const length = shards.inputsLength(i);
    texts.push([ids.subarray(0, length), ids.subarray(length)].map(decode).join('|'));
  }
  prepared.close();
  return texts;
}
