import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { checkConfig, numericsHash } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { parseSentencePieceModel, writeSentencePieceModel } from '../../mixture/tokenizer/sentencepiece-file.ts';
import { loadTokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { TINY_T5, writeModelCheckpoint, writeModelFolder } from '../../worker/model/model-folder.fixture.ts';
import { fillModel } from './fill-model.ts';
import { resolveInit } from './resolve-init.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-resolve-init-'));
after(() => rmSync(root, { recursive: true }));
const { signal } = new AbortController();
const TOKENIZER = fileURLToPath(new URL('../../golden/sentencepiece/spiece.model', import.meta.url));
const OTHER_TOKENIZER = fileURLToPath(new URL('../../golden/sentencepiece-bytes/spiece.model', import.meta.url));

const mixture = join(root, 'mixture.yaml');
writeFileSync(join(root, 'pairs.tsv'), 'a\tb\n');
writeFileSync(
  mixture,
  stringify({
    name: 'pairs',
    tokenizer: TOKENIZER,
    tasks: [
      { name: 'pairs', family: 'other', source: { path: 'pairs.tsv', format: 'tsv' }, inputs: '{a}', targets: '{b}' },
    ],
  }),
);

function configOf(init: Partial<NonNullable<RunConfig['init']>>, more: object = {}): RunConfig {
  return checkConfig(
    {
      name: 'test',
      model: TINY_T5,
      mixture: { path: mixture },
      training: { steps: 2 },
      schedule: { kind: 'constant', value: 0.1 },
      init,
      ...more,
    },
    'the test',
  );
}

async function resolve(config: RunConfig, place: { runDir?: string; resume?: string } = {}) {
  const lines: string[] = [];
  const onLine = (line: string): void => void lines.push(line);
  const resolved = await resolveInit({ config, mixtureNamedBy: undefined, place, onLine, signal });
  return { config: resolved, init: resolved.init, lines };
}

interface ModelFacts {
  readonly seed?: number;
  /** null: none. */
  readonly tokenizer?: string | null;
}

async function makeModel(name: string, { seed = 1, tokenizer = TOKENIZER }: ModelFacts = {}) {
  const folder = join(root, name);
  const parameters = await writeModelFolder(folder, seed);
  if (tokenizer !== null) cpSync(tokenizer, join(folder, 'spiece.model'));
  return { folder, digest: parameterDigest(parameters) };
}

describe('resolving init before a run', () => {
  test('a config without init stays as it is, and its hash too', async () => {
    const { init, ...config } = configOf({ from: '/a' });
    assert.equal(init?.optimizer, 'fresh');
    assert.equal((await resolve(config)).config, config);
    assert.notEqual(numericsHash(config), numericsHash({ ...config, init: { from: '/a', optimizer: 'fresh' } }));
  });

  test('a T5 of Hugging Face fills in folder and digest, and decides the hash', async () => {
    const { folder, digest } = await makeModel('hf');
    const { config, init, lines } = await resolve(configOf({ from: folder }));
    assert.deepEqual(init, { from: folder, optimizer: 'fresh', folder, paramDigest: digest });
    assert.deepEqual(lines, [`begins with ${folder}: parameters ${digest.slice(0, 12)}, fresh optimizer`]);
    const copy = await makeModel('hf-copy');
    assert.equal(numericsHash((await resolve(configOf({ from: copy.folder }))).config), numericsHash(config));
    const other = await makeModel('hf-other', { seed: 2 });
    assert.notEqual(numericsHash((await resolve(configOf({ from: other.folder }))).config), numericsHash(config));
  });

  test('a run folder means its newest checkpoint; keep has the digest and the updates of the optimizer', async () => {
    const run = join(root, 'run-source');
    const tokenizerHash = (await loadTokenizer(TOKENIZER)).hash;
    mkdirSync(run);
    writeFileSync(join(run, 'config.yaml'), 'name: source\n');
    await writeModelCheckpoint(join(run, 'checkpoints'), 3, { tokenizerHash });
    const { path, parameters, optimizer } = await writeModelCheckpoint(join(run, 'checkpoints'), 6, { tokenizerHash });
    const { init, lines } = await resolve(configOf({ from: run, optimizer: 'keep' }));
    assert.deepEqual(init, {
      from: run,
      optimizer: 'keep',
      folder: path,
      paramDigest: parameterDigest(parameters),
      optimizerDigest: parameterDigest(optimizer),
      optimizerStep: 6,
    });
    assert.match(lines.join('\n'), /optimizer kept after 6 updates/u);
  });

  test('a digest that the config gives must be that of the folder', async () => {
    const { folder, digest } = await makeModel('hf-digest');
    assert.equal((await resolve(configOf({ from: folder, paramDigest: digest }))).init?.paramDigest, digest);
    await assert.rejects(resolve(configOf({ from: folder, paramDigest: 'e'.repeat(64) })), {
      code: 'CHECKPOINT_MISMATCH',
      message: /expected paramDigest eeee/u,
    });
  });

  test('another model is refused with each field that differs', async () => {
    const { folder } = await makeModel('hf-shape');
    const config = configOf({ from: folder }, { model: { ...TINY_T5, dFf: 16, layerNormEpsilon: 1e-5 } });
    await assert.rejects(resolve(config), {
      code: 'CONFIG_INVALID',
      message:
        /model\.dFf: expected 16, found 12; model\.layerNormEpsilon: expected 0\.00001, found 0\.000001; .*from init/u,
    });
  });

  test('another tokenizer than that of the mixture is refused, and the same pieces in another file are not', async () => {
    const { folder } = await makeModel('hf-tokenizer', { tokenizer: OTHER_TOKENIZER });
    await assert.rejects(resolve(configOf({ from: folder })), {
      code: 'MIXTURE_MISMATCH',
      message: /hf-tokenizer\/spiece\.model has another tokenizer than the mixture, .*add --set mixture\.tokenizer=/u,
    });
    const rewritten = join(root, 'rewritten.model');
    await writeSentencePieceModel(rewritten, parseSentencePieceModel(readFileSync(TOKENIZER), TOKENIZER));
    assert.notEqual((await loadTokenizer(rewritten)).hash, (await loadTokenizer(TOKENIZER)).hash);
    const same = await makeModel('hf-rewritten', { tokenizer: rewritten });
    assert.equal((await resolve(configOf({ from: same.folder }))).init?.paramDigest, same.digest);
    const { path } = await writeModelCheckpoint(root, 21, { tokenizerHash: 'ab'.repeat(32) });
    await assert.rejects(resolve(configOf({ from: path })), { code: 'MIXTURE_MISMATCH', message: /another hash/u });
  });

  test('a folder without a tokenizer is taken, and said to be unchecked', async () => {
    const { folder } = await makeModel('hf-no-tokenizer', { tokenizer: null });
    const { lines } = await resolve(configOf({ from: folder }));
    assert.match(lines[0]!, /has no tokenizer/u);
  });

  test('a vocabulary that is smaller than the tokenizer is refused', async () => {
    const folder = join(root, 'hf-small');
    const model = { ...TINY_T5, vocabSize: 4000 };
    await writeModelFolder(folder, 1, model);
    await assert.rejects(resolve(configOf({ from: folder }, { model })), {
      code: 'CONFIG_INVALID',
      message: /model\.vocabSize: expected at least the 4100 ids/u,
    });
  });

  test('a run that has begun keeps its beginning, and reads the folder until it has a checkpoint', async () => {
    const { folder, digest } = await makeModel('hf-begun');
    const begun = (await resolve(configOf({ from: folder }))).config;
    const runDir = join(root, 'run-begun');
    mkdirSync(join(runDir, 'checkpoints'), { recursive: true });
    writeFileSync(join(runDir, 'config.yaml'), stringify(begun));
    assert.equal((await resolve(configOf({ from: folder }), { runDir })).init?.paramDigest, digest);
    await makeModel('hf-begun', { seed: 9 });
    for (const place of [{ runDir }, { resume: runDir }])
      await assert.rejects(resolve(configOf({ from: folder }), place), {
        code: 'CHECKPOINT_MISMATCH',
        message: /the folder has changed since the run began/u,
      });
    await writeModelCheckpoint(join(runDir, 'checkpoints'), 1);
    rmSync(folder, { recursive: true });
    const { init, lines } = await resolve(configOf({ from: folder }), { runDir });
    assert.deepEqual([init, lines], [begun.init, []]);
    await assert.rejects(resolve(configOf({ from: folder, optimizer: 'keep' }), { runDir }), { code: 'PATH_UNUSABLE' });
  });
});

describe('the model of a config with init', () => {
  const tree = { name: 'test', mixture: { path: mixture } };

  test('is that of the folder where the config leaves it out or says from init', async () => {
    const { folder } = await makeModel('hf-fill');
    for (const model of [undefined, 'from init'])
      assert.deepEqual(await fillModel({ ...tree, model, init: { from: folder } }), {
        ...tree,
        model: TINY_T5,
        init: { from: folder },
      });
  });

  test('stays as the config gives it', async () => {
    const given = { ...tree, model: { dModel: 4 }, init: { from: '/nowhere' } };
    assert.equal(await fillModel(given), given);
    assert.equal(await fillModel(tree), tree);
  });

  test('is an error without a folder, or with one that is no T5', async () => {
    await assert.rejects(fillModel({ ...tree, model: 'from init' }), { code: 'CONFIG_INVALID', message: /--init/u });
    await assert.rejects(fillModel({ ...tree, init: { from: join(root, 'nothing') } }), { code: 'PATH_UNUSABLE' });
  });
});
