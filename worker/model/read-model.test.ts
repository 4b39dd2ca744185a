import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { modelConfigSchema, toHuggingFace } from '../../shared/model-config.ts';
import { RandomStream } from '../../shared/random.ts';
import { float32Tensor, writeSafetensors, type SafeTensor } from '../../shared/safetensors.ts';
import { numElements, parameterSpecs } from './parameters.ts';
import { readModel } from './read-model.ts';

const root = await mkdtemp(join(tmpdir(), 'exmix-read-model-'));
after(async () => rm(root, { recursive: true }));

const CONFIG = modelConfigSchema.parse({
  vocabSize: 20,
  dModel: 8,
  dKv: 4,
  dFf: 12,
  numLayers: 1,
  numDecoderLayers: 2,
  numHeads: 2,
});

function makeTensors(): Map<string, SafeTensor> {
  const random = new RandomStream([1]);
  return new Map(
    parameterSpecs(CONFIG).map(({ name, shape }) => [
      name,
      float32Tensor(
        name,
        shape,
        Float32Array.from({ length: numElements(shape) }, () => random.nextNormal()),
      ),
    ]),
  );
}

interface Folder {
  readonly tensors?: ReadonlyMap<string, SafeTensor>;
  readonly config?: Record<string, unknown>;
  readonly files?: Readonly<Record<string, string>>;
}

async function makeFolder({ tensors, config = {}, files = {} }: Folder): Promise<string> {
  const folder = await mkdtemp(join(root, 'model-'));
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...toHuggingFace(CONFIG), ...config }));
  if (tensors !== undefined) await writeSafetensors(join(folder, 'model.safetensors'), [...tensors.values()]);
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return folder;
}

test('a folder that Transformers would load gives config and parameters', async () => {
  const tensors = makeTensors();
  const { config, parameters } = await readModel(await makeFolder({ tensors }));
  assert.deepEqual(config, CONFIG);
  assert.deepEqual([...parameters.keys()], parameterSpecs(CONFIG).map(({ name }) => name)); // prettier-ignore
});

test('half precision is widened exactly, with subnormal numbers', async () => {
  const halves: [bits: number, value: number][] = [
    [0x3c00, 1],
    [0xc000, -2],
    [0x0001, 2 ** -24],
    [0x03ff, (1023 / 1024) * 2 ** -14],
    [0x7bff, 65504],
    [0x8000, -0],
    [0x3555, (1 + 0x155 / 1024) * 2 ** -2],
    [0x0400, 2 ** -14],
  ];
  const name = 'encoder.final_layer_norm.weight';
  const data = new Uint8Array(Uint16Array.from(halves, ([bits]) => bits).buffer);
  const tensors = makeTensors().set(name, { name, dtype: 'F16', shape: [8], data });
  const { parameters } = await readModel(await makeFolder({ tensors }));
  assert.deepEqual([...parameters.get(name)!], halves.map(([, value]) => value)); // prettier-ignore
});

test('all problems of the weights are told at once, with what was expected and found', async () => {
  const tensors = makeTensors();
  tensors.delete('encoder.final_layer_norm.weight');
  const q = 'decoder.block.0.layer.0.SelfAttention.q.weight';
  tensors.set(q, float32Tensor(q, [7, 8], new Float32Array(56)));
  tensors.set('classifier.weight', float32Tensor('classifier.weight', [1], new Float32Array(1)));
  const wo = tensors.get('encoder.block.0.layer.1.DenseReluDense.wo.weight')!;
  new Float32Array(wo.data.buffer, wo.data.byteOffset, 3)[2] = NaN;
  await assert.rejects(
    readModel(await makeFolder({ tensors })),
    ({ code, message }: { code: string; message: string }) => {
      assert.equal(code, 'CHECKPOINT_MISMATCH');
      assert.match(message, /encoder\.final_layer_norm\.weight: expected \[8\], found nothing/u);
      assert.match(message, /SelfAttention\.q\.weight: expected \[8, 8\], found \[7, 8\]/u);
      assert.match(message, /the model has no classifier\.weight/u);
      assert.match(message, /wo\.weight: value 2 is NaN/u);
      return true;
    },
  );
});

test('weights that would run code, or are not there, are refused with what to do', async () => {
  await assert.rejects(readModel(await makeFolder({ files: { 'pytorch_model.bin': '' } })), {
    code: 'PATH_UNUSABLE',
    message: /found pytorch_model\.bin; exmix does not read these formats.*safe_serialization=True/u,
  });
  await assert.rejects(readModel(await makeFolder({})), {
    code: 'PATH_UNUSABLE',
    message: /the folder has no weights/u,
  });
  await assert.rejects(readModel(join(root, 'nowhere')), { code: 'PATH_UNUSABLE', message: /nowhere/u });
});

test('an index that names a file outside of its folder, or a tensor that its file lacks, is refused', async () => {
  const outside = { 'model.safetensors.index.json': '{"weight_map":{"shared.weight":"../model.safetensors"}}' };
  await assert.rejects(readModel(await makeFolder({ files: outside })), {
    code: 'PATH_UNUSABLE',
    message: /names \.\.\/model/u,
  });
  const folder = await makeFolder({
    files: { 'model.safetensors.index.json': '{"weight_map":{"a":"part.safetensors"}}' },
  });
  await writeSafetensors(join(folder, 'part.safetensors'), [float32Tensor('b', [1], new Float32Array(1))]);
  await assert.rejects(readModel(folder), {
    code: 'CHECKPOINT_MISMATCH',
    message: /a: .* says that part\.safetensors has it/u,
  });
});

test('a model of another kind, another activation and quantized weights are refused by name', async () => {
  const tensors = makeTensors();
  for (const [config, message] of [
    [{ model_type: 'bart' }, /model_type/u],
    [{ feed_forward_proj: 'gated-silu' }, /"gated-silu"; expected "relu" .* or "gated-gelu"/u],
    [{ feed_forward_proj: 'gelu' }, /"gelu"/u],
  ] as const) {
    await assert.rejects(readModel(await makeFolder({ tensors, config })), { code: 'CONFIG_INVALID', message });
  }
  const name = 'encoder.final_layer_norm.weight';
  const quantized = makeTensors().set(name, { name, dtype: 'I8', shape: [8], data: new Uint8Array(8) });
  await assert.rejects(readModel(await makeFolder({ tensors: quantized })), {
    code: 'CHECKPOINT_MISMATCH',
    message: /found I8; quantized/u,
  });
});

test('a FIFO in place of the config is refused at once', async () => {
  const folder = await makeFolder({ tensors: makeTensors() });
  await rm(join(folder, 'config.json'));
  execFileSync('mkfifo', [join(folder, 'config.json')]);
  await assert.rejects(readModel(folder), { code: 'PATH_UNUSABLE', message: /config\.json/u });
});

test('two embedding tables that differ are refused', async () => {
  const name = 'encoder.embed_tokens.weight';
  const tensors = makeTensors().set(name, float32Tensor(name, [20, 8], new Float32Array(160)));
  await assert.rejects(readModel(await makeFolder({ tensors })), {
    code: 'CHECKPOINT_MISMATCH',
    message: /a T5 has one embedding table/u,
  });
});
