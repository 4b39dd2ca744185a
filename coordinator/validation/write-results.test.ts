import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { compareSets } from '../../evaluation/compare-results.ts';
import { parseDecodingSettings } from '../../evaluation/decoding/settings.ts';
import { parsePredictions, parseResults, type SetResult } from '../../evaluation/results.ts';
import { createValidationSets, type BatchOutcome, type NamedSet } from './validation-sets.ts';
import { createValidationStore } from './write-results.ts';

let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-validation-'));
});
after(() => rm(root, { recursive: true, force: true }));

const examples = ['yes', 'no', 'yes'].map((targets, id) => ({
  ...{ id, inputs: `is it ${id}`, targets, fields: {}, cutInputTokens: 0 },
  inputIds: [5, 6, 1],
  targetIds: [targets === 'yes' ? 10 : 11, 1],
}));
const of = (task: string) => ({ task, name: 'validation', split: 'validation', kind: 'supervised', hash: task }) as const; // prettier-ignore
const named: readonly NamedSet[] = [
  {
    ...{ name: 'qa', info: of('qa'), examples, leaked: new Set([2]) },
    evaluation: { postprocess: { name: 'text' }, metrics: ['sequence_accuracy'] },
  },
  { name: 'text', info: { ...of('text'), kind: 'denoising' }, examples },
];
const sets = createValidationSets({
  ...{ split: 'validation', sets: named, maxExamples: 3 },
  decoding: parseDecodingSettings({ method: 'greedy', maxNewTokens: 4 }),
  tokenizer: {
    hash: 'words',
    decode: (ids) => ids.map((id) => ({ 10: 'yes', 11: 'no' })[id] ?? '').join(''),
  },
});
const { signal } = new AbortController();

/** A model that answers with this token, and whose loss of an example is `loss` times its id plus one. */
function outcomes(token: number, loss: number): BatchOutcome[] {
  return Array.from({ length: sets.numBatches }, (_, batch) => {
    const { kind } = sets.workOf(batch);
    const ids = examples.map(({ id }) => id);
    return kind === 'decode'
      ? { kind, outputs: ids.map(() => [{ ids: [token, 1], score: -1 }]) }
      : { kind, losses: ids.map((id) => loss * (id + 1)), numRight: ids.map(() => 1) };
  });
}

async function write(step: number, found: readonly BatchOutcome[]): Promise<string> {
  const scored = await sets.score(found, signal);
  const results = sets.resultsOf(scored, { step, paramDigest: `digest ${step}` }, 'engine 1');
  return createValidationStore(root).write(results, scored);
}

async function readSide(place: string, task: string) {
  const { sets: found } = parseResults(await readFile(join(place, 'results.json'), 'utf8'), place);
  const set: SetResult = found.find((one) => one.task === task)!;
  return { place, set, lines: parsePredictions(await readFile(join(place, set.predictions), 'utf8'), place) };
}

describe('results of a validation', () => {
  test('are in the format of exmix evaluate, so that two of them are compared', async () => {
    const [a, b] = [await write(4, outcomes(10, 1)), await write(8, outcomes(11, 0.5))];
    const results = parseResults(await readFile(join(b, 'results.json'), 'utf8'), b);
    const { step, paramDigest, engine, tokenizer, maxExamples, batchTokens } = results;
    assert.deepEqual(
      [step, paramDigest, engine, tokenizer, maxExamples, batchTokens],
      [8, 'digest 8', 'engine 1', 'words', 3, 8_192],
    );
    assert.equal((results.decoding as { maxNewTokens: number }).maxNewTokens, 4);
    const qa = compareSets(await readSide(a, 'qa'), await readSide(b, 'qa'));
    assert.equal(qa.changed.length, 3);
    const accuracy = qa.figures.find(({ figure }) => figure === 'sequence_accuracy')!;
    assert.deepEqual([accuracy.a, accuracy.b].map(Math.round), [67, 33]);
    const text = compareSets(await readSide(a, 'text'), await readSide(b, 'text'));
    assert.deepEqual(text.figures.find(({ figure }) => figure === 'loss')?.verdict, 'B is lower');
    assert.deepEqual((await readdir(join(root, 'validation'))).sort(), ['step-4', 'step-8']);
  });

  test('have the scores without leaked examples; another validation of the step replaces them', async () => {
    const place = await write(12, outcomes(11, 1));
    const { set } = await readSide(place, 'qa');
    assert.equal(set.withoutLeaked?.numLeaked, 1);
    assert.equal(set.withoutLeaked.metrics['sequence_accuracy']?.figures['sequence_accuracy']?.score, 50);
    assert.equal((await readSide(place, 'text')).set.withoutLeaked, undefined);
    await write(12, outcomes(10, 1));
    assert.deepEqual((await readSide(place, 'qa')).lines.map(({ prediction }) => prediction), ['yes', 'yes', 'yes']); // prettier-ignore
  });
});
