import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { TrainerError } from './errors.ts';
import {
  asFloat32,
  asInt32,
  float32Tensor,
  readSafetensors,
  writeSafetensors,
  type SafeTensor,
  narrowedTensor,
  type FloatDtype,
} from './safetensors.ts';

let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'exmix-safetensors-'));
});
after(() => rm(dir, { recursive: true }));

const isInvalid = (error: unknown) => error instanceof TrainerError && error.code === 'SAFETENSORS_INVALID';

/** A file from its header text and data, with the right length prefix. */
async function writeRaw(header: string, data: Uint8Array): Promise<string> {
  const path = join(dir, 'raw.safetensors');
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(Buffer.byteLength(header)));
  await writeFile(path, Buffer.concat([prefix, Buffer.from(header), data]));
  return path;
}

const sample: SafeTensor[] = [
  { name: 'ids', dtype: 'I8', shape: [3], data: Uint8Array.of(1, 2, 255) },
  float32Tensor('w', [2, 2], Float32Array.of(1, -2, 3.5, 4)),
  float32Tensor('b', [], Float32Array.of(7)),
  { name: 'empty', dtype: 'I32', shape: [0, 4], data: new Uint8Array(0) },
];

describe('safetensors', () => {
  test('writes the documented bytes: padded header, larger elements first, names sorted', async () => {
    const path = join(dir, 'bytes.safetensors');
    await writeSafetensors(path, sample);
    const bytes = await readFile(path);
    const headerBytes = Number(bytes.readBigUInt64LE());
    assert.equal(headerBytes % 8, 0);
    assert.equal(
      bytes.toString('utf8', 8, 8 + headerBytes).trimEnd(),
      '{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},' +
        '"empty":{"dtype":"I32","shape":[0,4],"data_offsets":[4,4]},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[4,20]},' +
        '"ids":{"dtype":"I8","shape":[3],"data_offsets":[20,23]}}',
    );
    assert.equal(bytes.subarray(8 + headerBytes).toString('hex'), '0000e0400000803f000000c000006040000080400102ff');
  });

  test('writes the same bytes for any order of the tensors, also from shared memory', async () => {
    const [one, two] = [join(dir, 'one.safetensors'), join(dir, 'two.safetensors')];
    await writeSafetensors(one, sample);
    const shared = sample.map((tensor) => {
      const data = new Uint8Array(new SharedArrayBuffer(tensor.data.byteLength));
      data.set(tensor.data);
      return { ...tensor, data };
    });
    await writeSafetensors(two, shared.reverse());
    assert.deepEqual(await readFile(two), await readFile(one));
  });

  test('reads back what it wrote, for any names, shapes and metadata', async () => {
    const tensor = fc
      .record({
        name: fc.string({ minLength: 1 }).filter((name) => name !== '__metadata__'),
        dtype: fc.constantFrom('F32', 'I32', 'I8', 'I64', 'BF16'),
        shape: fc.array(fc.nat(4), { maxLength: 3 }),
      })
      .map(({ name, dtype, shape }): SafeTensor => {
        const elementBytes = { F32: 4, I32: 4, I8: 1, I64: 8, BF16: 2 }[dtype];
        const numBytes = shape.reduce((a, b) => a * b, elementBytes);
        return {
          name,
          dtype,
          shape,
          data: Uint8Array.from({ length: numBytes }, (_, i) => (i * 37 + name.length) & 255),
        };
      });
    const path = join(dir, 'round.safetensors');
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 6 }),
        fc.dictionary(fc.string(), fc.string(), { maxKeys: 3, noNullPrototype: true }),
        async (tensors, metadata) => {
          await writeSafetensors(path, tensors, metadata);
          const read = await readSafetensors(path);
          assert.deepEqual({ ...read.metadata }, { ...metadata });
          assert.equal(read.tensors.size, tensors.length);
          for (const { name, dtype, shape, data } of tensors) {
            const got = read.tensors.get(name);
            assert.ok(got !== undefined);
            assert.deepEqual([got.dtype, got.shape, [...got.data]], [dtype, shape, [...data]]);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('reads a file that transformers wrote', async () => {
    const { metadata, tensors } = await readSafetensors('golden/t5-tiny-v1_1/model.safetensors');
    assert.deepEqual(metadata, { format: 'pt' });
    assert.equal(tensors.size, 52);
    const numParameters = [...tensors.values()].reduce((sum, tensor) => sum + asFloat32(tensor).length, 0);
    assert.equal(numParameters, 263_168);
  });

  test('rejects a file cut at any byte', async () => {
    const whole = join(dir, 'whole.safetensors');
    await writeSafetensors(whole, sample);
    const bytes = await readFile(whole);
    const cut = join(dir, 'cut.safetensors');
    for (let length = 0; length < bytes.length; length++) {
      await writeFile(cut, bytes.subarray(0, length));
      await assert.rejects(readSafetensors(cut), isInvalid, `cut to ${length} B`);
    }
  });

  test('a flipped bit in the length or header is rejected or read as another valid file, never another error', async () => {
    const whole = join(dir, 'whole2.safetensors');
    await writeSafetensors(whole, sample);
    const bytes = await readFile(whole);
    const flipped = join(dir, 'flipped.safetensors');
    let rejected = 0;
    const numBits = (8 + Number(bytes.readBigUInt64LE())) * 8;
    for (let bit = 0; bit < numBits; bit += 5) {
      const copy = Buffer.from(bytes);
      copy[bit >> 3]! ^= 1 << (bit & 7);
      await writeFile(flipped, copy);
      try {
        await readSafetensors(flipped);
      } catch (error) {
        assert.ok(isInvalid(error), String(error));
        rejected += 1;
      }
    }
    assert.ok(rejected > numBits / 5 / 2, `${rejected} of ${numBits / 5} rejected`);
  });

  const bad: [string, string][] = [
    ['a header that is not JSON', '{"a":'],
    ['a header that is not an object', '[]'],
    ['an unknown dtype', '{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}'],
    ['a dtype named like a property of objects', '{"a":{"dtype":"toString","shape":[1],"data_offsets":[0,4]}}'],
    ['a negative size', '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'],
    ['offsets that do not fit the shape', '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'],
    [
      'a gap',
      '{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"I8","shape":[2],"data_offsets":[2,4]}}',
    ],
    [
      'an overlap',
      '{"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"I8","shape":[2],"data_offsets":[2,4]}}',
    ],
    ['data that no tensor covers', '{"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]}}'],
    ['data beyond the file', '{"a":{"dtype":"I8","shape":[5],"data_offsets":[0,5]}}'],
    [
      'metadata that is not of strings',
      '{"__metadata__":{"a":1},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ],
    ['a tensor that is not an object', '{"a":null}'],
    [
      'two tensors of one name',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}',
    ],
    [
      'two tensors of one name, once with an escape',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ],
    ['a dtype given twice', '{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}'],
    [
      'metadata given twice',
      '{"__metadata__":{},"__metadata__":{},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ],
    ['a fraction as offset', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0.5,4.5]}}'],
    ['an offset beyond whole numbers', '{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,1e300]}}'],
    ['offsets that go backwards', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}'],
    [
      'sizes whose product is not exact',
      '{"a":{"dtype":"F32","shape":[9007199254740991,9007199254740991],"data_offsets":[0,4]}}',
    ],
    ['33 dimensions', `{"a":{"dtype":"F32","shape":[${Array(33).fill(1).join(',')}],"data_offsets":[0,4]}}`],
    ['a tensor above the bound', '{"a":{"dtype":"I8","shape":[4294967296],"data_offsets":[0,4294967296]}}'],
    ['lists inside each other', '['.repeat(100_000)],
  ];
  for (const [what, header] of bad)
    test(`rejects ${what}`, async () => {
      await assert.rejects(readSafetensors(await writeRaw(header, new Uint8Array(4))), isInvalid);
    });

  test('refuses by the header: a sparse file with a tensor above the bound takes no memory', async () => {
    const bytes = 2 ** 32;
    const path = await writeRaw(
      `{"a":{"dtype":"I8","shape":[${bytes}],"data_offsets":[0,${bytes}]}}`,
      new Uint8Array(0),
    );
    await truncate(path, (await readFile(path)).length + bytes);
    const expected = {
      code: 'SAFETENSORS_INVALID',
      message: /"a": expected at most 4294967295 B, found 4294967296 B/u,
    };
    await assert.rejects(readSafetensors(path), expected);
  });

  test('refuses a header above the bound without reading it', async () => {
    const path = join(dir, 'header.safetensors');
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(16 * 1024 * 1024 + 1));
    await writeFile(path, prefix);
    await truncate(path, 32 * 1024 * 1024);
    const expected = { code: 'SAFETENSORS_INVALID', message: /a header of at most 16777216 B, found 16777217 B/u };
    await assert.rejects(readSafetensors(path), expected);
    prefix.writeBigUInt64LE(0xffff_ffff_ffff_ffffn);
    await writeFile(path, prefix);
    await assert.rejects(readSafetensors(path), isInvalid);
  });

  test('a tensor that is not wanted is not read', async () => {
    const path = join(dir, 'wanted.safetensors');
    const bytes = 3 * 1024 ** 3;
    const header = `{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"I8","shape":[${bytes}],"data_offsets":[4,${bytes + 4}]}}`;
    await copyFile(await writeRaw(header, Uint8Array.of(1, 2, 3, 4)), path);
    await truncate(path, 8 + header.length + 4 + bytes);
    const before = process.memoryUsage().arrayBuffers;
    const { tensors } = await readSafetensors(path, ({ name, shape }) => name === 'a' && shape[0] === 4);
    assert.deepEqual([...tensors.keys()], ['a']);
    assert.ok(process.memoryUsage().arrayBuffers - before < 1024 ** 3);
  });

  test('names of a stranger are printed escaped and cut', async () => {
    const header = JSON.stringify({ [`\u001b[31m${'x'.repeat(5000)}`]: null });
    await assert.rejects(readSafetensors(await writeRaw(header, new Uint8Array(4))), (error: Error) => {
      assert.ok(!error.message.includes('\u001b'));
      return error.message.length < 1000;
    });
  });

  test('a missing file is PATH_UNUSABLE, and two tensors of one name cannot be written', async () => {
    await assert.rejects(readSafetensors(join(dir, 'absent')), { code: 'PATH_UNUSABLE' });
    await assert.rejects(writeSafetensors(join(dir, 'absent', 'x'), sample), { code: 'PATH_UNUSABLE' });
    await assert.rejects(writeSafetensors(join(dir, 'twice'), [sample[0]!, sample[0]!]), { code: 'INTERNAL' });
  });

  test('bfloat16 widens to float32 exactly, and other dtypes are not reinterpreted', () => {
    const bf16: SafeTensor = { name: 'x', dtype: 'BF16', shape: [2], data: Uint8Array.of(0x80, 0x3f, 0x49, 0xc0) };
    assert.deepEqual([...asFloat32(bf16)], [1, -3.140625]);
    assert.throws(() => asFloat32(sample[0]!), isInvalid);
    assert.throws(() => asInt32(bf16), isInvalid);
  });
});

describe('narrowing', () => {
  const widen = (tensor: SafeTensor): Float32Array => asFloat32(tensor);
  const narrow = (values: readonly number[], dtype: FloatDtype): SafeTensor =>
    narrowedTensor('w', [values.length], Float32Array.from(values), dtype);

  for (const [dtype, infinity] of [
    ['F16', 0x7c00],
    ['BF16', 0x7f80],
  ] as const)
    test(`${dtype} rounds to the nearest, ties to even, for every number and every gap between two`, () => {
      const all = Uint16Array.from({ length: infinity }, (_, i) => i);
      const exact = widen({ name: 'w', dtype, shape: [all.length], data: new Uint8Array(all.buffer) });
      const wordsOf = (values: Float32Array): Uint16Array => {
        const { data } = narrowedTensor('w', [values.length], values, dtype);
        return new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
      };
      assert.deepEqual(wordsOf(exact), all);
      assert.deepEqual(
        wordsOf(exact.map((value) => -value)),
        all.map((word) => word | 0x8000),
      );
      const below = exact.slice(0, -1);
      // The middle of two neighbours is exact in float32, and so are the float32 numbers beside it.
      const middles = below.map((value, i) => (value + exact[i + 1]!) / 2);
      const shifted = (by: number): Float32Array =>
        new Float32Array(new Uint32Array(middles.slice().buffer).map((bits) => bits + by).buffer);
      assert.deepEqual(
        wordsOf(middles),
        all.slice(0, -1).map((word) => word + (word & 1)),
      );
      assert.deepEqual(wordsOf(shifted(-1)), all.slice(0, -1));
      assert.deepEqual(
        wordsOf(shifted(1)),
        all.slice(0, -1).map((word) => word + 1),
      );
    });

  test('F32 is the same memory, and what a precision cannot hold is refused', () => {
    const values = Float32Array.of(1, 2);
    assert.equal(narrowedTensor('w', [2], values, 'F32').data.buffer, values.buffer);
    for (const [value, dtype] of [
      [65520, 'F16'],
      [-1e6, 'F16'],
      [3.4e38, 'BF16'],
      [NaN, 'BF16'],
      [NaN, 'F16'],
      [-Infinity, 'BF16'],
    ] as const)
      assert.throws(() => narrow([0, value], dtype), { code: 'CONFIG_INVALID', message: /w: value 1 is .*, beyond/u });
    assert.deepEqual(widen(narrow([65519, 3.38e38 / 1e38], 'F16'))[0], 65504);
  });
});
