import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { prepareEvaluationSets } from '../evaluation-sets/prepare-evaluation-sets.ts';
import { createSourceAccess } from '../sources/source-access.ts';
import { loadMixture } from '../tasks/load-mixture.ts';
import type { Mixture } from '../tasks/task.ts';
import { loadTokenizer } from '../tokenizer/tokenizer.ts';
import { corruptSpans } from '../plan/span-corruption.ts';
import { RandomStream } from '../../shared/random.ts';
import { findOverlap, type FindOverlapInit, type SetOverlap } from './find-overlap.ts';
import { leakedExamples, readOverlap } from './overlap-record.ts';
import { restoreText } from './restore-text.ts';

const TOKENIZER = fileURLToPath(new URL('../../golden/sentencepiece/spiece.model', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'exmix-overlap-'));
after(() => rmSync(root, { recursive: true }));
let numFolders = 0;

const YAML = `name: leaky
tokenizer: spiece.model
tasks:
  - name: qa
    family: A
    source: { path: qa.jsonl, format: jsonl }
    validation: { path: qa-dev.jsonl, format: jsonl }
    test: { path: qa-test.jsonl, format: jsonl }
    inputs: 'question: {q}'
    targets: '{a}'
  - name: reading
    family: A
    source: { path: reading.jsonl, format: jsonl }
    validation: { path: reading-dev.jsonl, format: jsonl }
    inputs: 'read: {q}'
    targets: '{a}'
denoising:
  name: books
  source: { path: books.txt, format: text }
`;

/** Fourteen words that no other number gives. */
const passage = (i: number): string =>
  Array.from({ length: 14 }, (_, at) => ['bake', 'calm', 'dune', 'echo', 'fern'][(i + at) % 5]! + String(i)).join(' ');
const rowsOf = (rows: readonly (readonly [string, string])[]): string =>
  rows.map(([q, a]) => `${JSON.stringify({ q, a })}\n`).join('');

function writeMixture(): { mixture: Mixture; outDir: string } {
  const folder = join(root, String(numFolders++));
  mkdirSync(folder);
  const files = {
    'mixture.yaml': YAML,
    'qa.jsonl': rowsOf([
      ['who is it', 'he'],
      [passage(1), 'no'],
      ['where is it', `here ${passage(6)}`],
    ]),
    'qa-dev.jsonl': rowsOf([
      ['when was it', 'then'],
      ['Who is it?', 'she'],
      [`so ${passage(2)}`, 'yes'],
    ]),
    'qa-test.jsonl': rowsOf([['what was it', 'that']]),
    'reading.jsonl': rowsOf([[passage(2).toUpperCase(), 'x']]),
    'reading-dev.jsonl': rowsOf([
      ['who is it', 'he'],
      [`and ${passage(1)}`, 'y'],
      [passage(3), 'z'],
    ]),
    'books.txt': `${passage(3)} ${passage(2)}\n`,
    // Longer than a segment of text.
    'books-dev.txt': [
      passage(4),
      `${passage(5)} ${passage(6)}`,
      ...Array.from({ length: 20 }, (_, i) => passage(7 + i)),
    ]
      .map((line) => `${line}\n`)
      .join(''),
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  copyFileSync(TOKENIZER, join(folder, 'spiece.model'));
  const mixture = loadMixture(join(folder, 'mixture.yaml'));
  const denoising = mixture.denoising!;
  assert.ok(denoising.source.kind === 'files');
  const files2 = [{ location: join(folder, 'books-dev.txt'), name: 'books-dev.txt' }];
  const splits = { validation: [{ name: 'validation', source: { ...denoising.source, files: files2 } }], test: [] };
  return { mixture: { ...mixture, denoising: { ...denoising, splits } }, outDir: join(folder, 'prepared') };
}

async function overlapsOf(
  { mixture, outDir }: ReturnType<typeof writeMixture>,
  options: Partial<FindOverlapInit> = {},
): Promise<SetOverlap[]> {
  const featureLengths = { inputs: 256, targets: 64 };
  await prepareEvaluationSets({ mixture, featureLengths, outDir });
  return findOverlap({
    ...{ mixture, folder: outDir, splits: ['validation', 'test'] as const, access: createSourceAccess() },
    ...options,
  });
}

function found(overlaps: readonly SetOverlap[]): Record<string, unknown> {
  return Object.fromEntries(
    overlaps.map(({ info, record }) => [
      `${info.task} ${info.name}`,
      Object.fromEntries(
        record.train
          .filter(({ sameInputs, sharedGrams }) => sameInputs.length + sharedGrams.length > 0)
          .map(({ task, sameInputs, sharedGrams }) => [task, { sameInputs, sharedGrams }]),
      ),
    ]),
  );
}

describe('overlap of evaluation sets with train', () => {
  test('the same inputs and 13 words in a row are found for each pair of tasks, and text counts', async () => {
    const compared: string[] = [];
    const overlaps = await overlapsOf(writeMixture(), {
      onTrain: ({ task, numExamples }) => compared.push(`${task} ${numExamples}`),
    });
    assert.deepEqual(compared, ['qa 3', 'reading 1', 'books 1']);
    const [books, qa, qaTest, reading] = overlaps.map(({ info }) => info.numExamples);
    assert.deepEqual({ qa, qaTest, reading }, { qa: 3, qaTest: 1, reading: 3 });
    assert.ok(books! >= 1);
    const { 'books validation': ofBooks, ...others } = found(overlaps);
    assert.deepEqual(others, {
      'qa validation': {
        qa: { sameInputs: [1], sharedGrams: [] },
        reading: { sameInputs: [], sharedGrams: [2] },
        books: { sameInputs: [], sharedGrams: [2] },
      },
      'qa test': {},
      'reading validation': {
        qa: { sameInputs: [], sharedGrams: [1] },
        books: { sameInputs: [], sharedGrams: [2] },
      },
    });
    assert.deepEqual(ofBooks, { qa: { sameInputs: [], sharedGrams: [0] } }, 'corrupted text is put together again');
  });

  test('an index in parts finds the same, and reads train several times', async () => {
    const made = writeMixture();
    const whole = await overlapsOf(made);
    let numCompared = 0;
    const inParts = await overlapsOf(made, { maxBytes: 1, onTrain: () => numCompared++ });
    assert.deepEqual(inParts, whole);
    const numExamples = whole.reduce((sum, { info }) => sum + info.numExamples, 0);
    assert.equal(numCompared, 3 * numExamples, 'each part holds one example');
  });

  test('overlap.json is read back, with the union of the examples', async () => {
    const made = writeMixture();
    for (const { info, record } of await overlapsOf(made))
      assert.deepEqual(await readOverlap(made.outDir, info), record);
    const [, qa] = await overlapsOf(made, { splits: ['validation'] });
    assert.deepEqual([...leakedExamples(qa!.record)].sort(), [1, 2]);
  });

  test('the overlap of another set of that name is not used, and a damaged file is an error', async () => {
    const made = writeMixture();
    const [, qa] = await overlapsOf(made);
    assert.equal(await readOverlap(made.outDir, { ...qa!.info, hash: '0'.repeat(64) }), undefined);
    const file = join(made.outDir, 'evaluation/qa/validation/overlap.json');
    writeFileSync(file, readFileSync(file, 'utf8').slice(0, -20));
    await assert.rejects(readOverlap(made.outDir, qa!.info), { code: 'SHARD_CORRUPT', message: /overlap\.json/u });
    rmSync(file);
    assert.equal(await readOverlap(made.outDir, qa!.info), undefined);
  });

  test('a set that is made again has no overlap', async () => {
    const made = writeMixture();
    await overlapsOf(made);
    writeFileSync(join(made.outDir, '../qa-dev.jsonl'), rowsOf([['another one', 'yes']]));
    const { mixture, outDir } = made;
    const infos = await prepareEvaluationSets({ mixture, featureLengths: { inputs: 256, targets: 64 }, outDir });
    const info = infos.find(({ task, name }) => task === 'qa' && name === 'validation')!;
    assert.equal(info.numExamples, 1);
    assert.equal(await readOverlap(outDir, info), undefined);
  });

  test('an aborted search ends with ABORTED', async () => {
    const made = writeMixture();
    await overlapsOf(made);
    await assert.rejects(overlapsOf(made, { signal: AbortSignal.abort() }), { code: 'ABORTED' });
  });
});

describe('text of a corrupted example', () => {
  test('inputs and targets give the segment back', async () => {
    const tokenizer = await loadTokenizer(TOKENIZER);
    const text = 'The quick brown fox jumps over the lazy dog and runs into the dark wood again and again.';
    const ids = Int32Array.from(tokenizer.encode(text));
    for (let seed = 0; seed < 20; seed++) {
      const { inputs, targets } = corruptSpans(ids, new RandomStream([seed]), {
        firstSentinel: tokenizer.vocabSize - 1,
        numSentinels: tokenizer.numExtraIds,
      });
      assert.notEqual(inputs.length, ids.length + 1);
      assert.equal(
        restoreText({ inputIds: [...inputs], targetIds: [...targets] }, tokenizer),
        tokenizer.decode([...ids]),
      );
    }
  });
});
