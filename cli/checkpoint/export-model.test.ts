import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { modelConfigSchema } from '../../shared/model-config.ts';
import { readSafetensors } from '../../shared/safetensors.ts';
import { loadTokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { TINY_T5, writeModelCheckpoint, writeModelFolder } from '../../worker/model/model-folder.fixture.ts';
import { parameterSpecs } from '../../worker/model/parameters.ts';
import { readModel } from '../../worker/model/read-model.ts';
import { exportModel, parseByteSize, type ExportInit } from './export-model.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-export-'));
after(() => rmSync(root, { recursive: true }));
const TOKENIZER = fileURLToPath(new URL('../../golden/sentencepiece/spiece.model', import.meta.url));

let numOut = 0;
async function exportOf(folder: string, init: Partial<ExportInit> = {}) {
  const out = join(root, `out-${++numOut}`);
  const { signal } = new AbortController();
  return exportModel({ folder, out, dtype: 'float32', maxShardBytes: 1e9, signal, ...init });
}

const readJson = (...path: string[]): Record<string, unknown> =>
  JSON.parse(readFileSync(join(...path), 'utf8')) as Record<string, unknown>;

describe('exporting a model', () => {
  test('a checkpoint in float32 has the same parameters, and nothing that only training needs', async () => {
    const { path, parameters } = await writeModelCheckpoint(root, 3);
    const { out, exportedDigest, paramDigest, hasTokenizer } = await exportOf(path);
    assert.deepEqual(readdirSync(out).sort(), ['config.json', 'generation_config.json', 'model.safetensors']);
    assert.deepEqual([exportedDigest, paramDigest], Array(2).fill(parameterDigest(parameters)));
    assert.equal(hasTokenizer, false);
    const read = await readModel(out);
    assert.deepEqual([read.config, read.parameters], [TINY_T5, parameters]);
    assert.deepEqual(readJson(out, 'generation_config.json'), {
      decoder_start_token_id: 0,
      eos_token_id: 1,
      pad_token_id: 0,
    });
  });

  for (const [dtype, safeDtype, largestError] of [
    ['bfloat16', 'BF16', 2 ** -8],
    ['float16', 'F16', 2 ** -11],
  ] as const)
    test(`${dtype} rounds each value, and says the digest of what it wrote`, async () => {
      const folder = join(root, `hf-${dtype}`);
      const parameters = await writeModelFolder(folder, 4);
      const { out, bytes, exportedDigest } = await exportOf(folder, { dtype });
      assert.equal(readJson(out, 'config.json')['torch_dtype'], dtype);
      const { tensors } = await readSafetensors(join(out, 'model.safetensors'));
      assert.ok([...tensors.values()].every((tensor) => tensor.dtype === safeDtype));
      const read = (await readModel(out)).parameters;
      assert.equal(parameterDigest(read), exportedDigest);
      assert.notEqual(parameterDigest(parameters), exportedDigest);
      const numValues = [...parameters.values()].reduce((sum, { length }) => sum + length, 0);
      assert.equal(bytes, 2 * numValues);
      for (const [name, values] of parameters)
        for (const [i, value] of values.entries())
          assert.ok(Math.abs(read.get(name)![i]! - value) <= largestError * Math.max(Math.abs(value), 2 ** -14), name);
      assert.equal(
        (await exportOf(out, { dtype })).exportedDigest,
        exportedDigest,
        'a second rounding changes nothing',
      );
    });

  test('large models have several files with an index, by the bytes of the precision', async () => {
    const folder = join(root, 'hf-sharded');
    const parameters = await writeModelFolder(folder, 5);
    const tableBytes = parameters.get('shared.weight')!.length * 2;
    const { out, files, bytes } = await exportOf(folder, { dtype: 'float16', maxShardBytes: tableBytes });
    const shards = files.filter((name) => name.endsWith('.safetensors'));
    assert.ok(shards.length > 1);
    for (const shard of shards) {
      const { tensors } = await readSafetensors(join(out, shard));
      assert.ok([...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0) <= tableBytes, shard);
    }
    const index = readJson(out, 'model.safetensors.index.json');
    assert.deepEqual(index['metadata'], { total_size: bytes });
    assert.deepEqual(
      Object.keys(index['weight_map'] as object).sort(),
      parameterSpecs(TINY_T5)
        .map(({ name }) => name)
        .sort(),
    );
    assert.deepEqual((await readModel(out)).config, TINY_T5);
  });

  test('a tied model stays tied; tokenizer and generation_config come along', async () => {
    const folder = join(root, 'hf-tied');
    const config = modelConfigSchema.parse({ ...TINY_T5, feedForward: 'relu', tieEmbeddings: true });
    await writeModelFolder(folder, 6, config);
    cpSync(TOKENIZER, join(folder, 'spiece.model'));
    writeFileSync(join(folder, 'generation_config.json'), '{"num_beams": 4}');
    const { out, hasTokenizer } = await exportOf(folder, { dtype: 'bfloat16' });
    assert.deepEqual((await readModel(out)).config, config);
    assert.ok(hasTokenizer);
    assert.equal((await loadTokenizer(join(out, 'spiece.model'))).hash, (await loadTokenizer(TOKENIZER)).hash);
    assert.ok(existsSync(join(out, 'tokenizer.json')));
    assert.deepEqual(readJson(out, 'generation_config.json'), { num_beams: 4 });
  });

  test('a folder that is not empty is refused and left alone, an empty one is used, and a failure leaves nothing', async () => {
    const folder = join(root, 'hf-place');
    await writeModelFolder(folder, 7);
    const full = join(root, 'full');
    mkdirSync(full);
    await exportOf(folder, { out: full });
    const before = readdirSync(full);
    await assert.rejects(exportOf(folder, { out: full }), { code: 'PATH_UNUSABLE', message: /new or empty folder/u });
    assert.deepEqual(readdirSync(full), before);
    const names = readdirSync(root);
    await assert.rejects(exportOf(folder, { signal: AbortSignal.abort() }), { code: 'ABORTED' });
    await assert.rejects(exportOf(join(root, 'nothing')), { code: 'PATH_UNUSABLE' });
    assert.deepEqual(readdirSync(root), names);
  });

  test('sizes have units', () => {
    for (const [text, bytes] of [
      ['5GB', 5e9],
      ['200MiB', 200 * 2 ** 20],
      ['1.5 kb', 1500],
      ['12', 12],
    ] as const)
      assert.equal(parseByteSize('--max-shard-size', text), bytes, text);
    for (const text of ['', 'GB', '-1', '0', '5TBs'])
      assert.throws(() => parseByteSize('--max-shard-size', text), {
        code: 'CONFIG_INVALID',
        message: /5GB or 200MiB/u,
      });
  });
});
