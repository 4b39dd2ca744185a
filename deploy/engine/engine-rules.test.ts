/** The pure rules of an installation: files and their paths, platform tags for pip, flavour, id of an engine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { platformTags } from './download-wheels.ts';
import { modeInEngine, pathInEngine } from './engine-layout.ts';
import { formatBytes } from './format-bytes.ts';
import type { Host } from './host.ts';
import { engineId } from './install-engine.ts';
import { ProgressLine } from './progress-line.ts';
import { resolveFlavour, tensorflowPackage } from './wheel-selection.ts';

const host: Host = { platform: 'linux', arch: 'x64', glibcMinor: 36, hasNvidiaDriver: false };
const gpuHost = { ...host, hasNvidiaDriver: true };
const armHost = { ...gpuHost, arch: 'arm64' };

const PATHS: readonly [string, string | undefined][] = [
  ['tensorflow/libtensorflow_cc.so.2', 'deps/lib/libtensorflow_cc.so.2'],
  ['tensorflow/libtensorflow_framework.so.2', 'deps/lib/libtensorflow_framework.so.2'],
  ['tensorflow/python/_pywrap_tensorflow_internal.so', undefined],
  ['tensorflow/include/tensorflow/c/eager/c_api.h', 'deps/include/tensorflow/c/eager/c_api.h'],
  [
    'tensorflow/include/tensorflow/core/platform/ctstring_internal.h',
    'deps/include/tensorflow/core/platform/ctstring_internal.h',
  ],
  ['tensorflow/include/tsl/platform/ctstring.h', 'deps/include/tsl/platform/ctstring.h'],
  ['tensorflow/include/xla/tsl/c/tsl_status.h', 'deps/include/xla/tsl/c/tsl_status.h'],
  ['tensorflow/include/tensorflow/core/framework/tensor.h', undefined],
  ['tensorflow/include/tensorflow/compiler/jit/flags.h', undefined],
  ['nvidia/cudnn/lib/libcudnn.so.9', 'deps/nvidia/cudnn/lib/libcudnn.so.9'],
  ['nvidia/cuda_nvcc/bin/ptxas', 'deps/nvidia/cuda_nvcc/bin/ptxas'],
  ['nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc', 'deps/nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc'],
  ['nvidia/cuda_runtime/include/cuda.h', undefined],
  ['nvidia/cuda_runtime/lib/libcudart_static.a', undefined],
  ['nvidia/cudnn/lib/__init__.py', undefined],
];
for (const [wheelPath, path] of PATHS)
  test(`${wheelPath} ${path === undefined ? 'is not needed' : `is unpacked to ${path}`}`, () =>
    assert.equal(pathInEngine(wheelPath), path));

test('ptxas is executable', () => {
  assert.equal(modeInEngine('deps/nvidia/cuda_nvcc/bin/ptxas'), 0o755);
  assert.equal(modeInEngine('deps/nvidia/cudnn/lib/libcudnn.so.9'), 0o644);
});

test('auto is cuda if a driver is loaded on x86-64, else cpu, with the reason', () => {
  assert.deepEqual(resolveFlavour('auto', host, []), { flavour: 'cpu', reason: 'no NVIDIA driver is loaded' });
  assert.deepEqual(resolveFlavour('auto', gpuHost, []), { flavour: 'cuda', reason: 'an NVIDIA driver is loaded' });
  assert.equal(resolveFlavour('auto', armHost, []).flavour, 'cpu');
  assert.equal(resolveFlavour('cpu', gpuHost, []).flavour, 'cpu');
  assert.throws(() => resolveFlavour('cuda', armHost, []), { code: 'ENGINE_UNAVAILABLE', message: /x86-64 only/u });
});

test('on arm64, the package for the CPU is tensorflow, because tensorflow-cpu has no wheel there', () => {
  assert.equal(tensorflowPackage('cpu', host), 'tensorflow-cpu');
  assert.equal(tensorflowPackage('cuda', host), 'tensorflow');
  assert.equal(tensorflowPackage('cpu', armHost), 'tensorflow');
});

test('the platform tags go down to the oldest, newest first, without those that need a newer C library', () => {
  const tags = platformTags({ ...host, glibcMinor: 17 });
  assert.deepEqual(tags.slice(0, 2), ['manylinux_2_17_x86_64', 'manylinux_2_16_x86_64']);
  assert.ok(tags.includes('manylinux2014_x86_64') && tags.includes('manylinux1_x86_64'));
  assert.ok(!tags.includes('manylinux_2_18_x86_64'));
  assert.ok(!platformTags({ ...host, glibcMinor: 12 }).includes('manylinux2014_x86_64'));
  assert.ok(platformTags(armHost).every((tag) => tag.endsWith('_aarch64')));
});

test('the id depends on each RECORD and the recipe, but not on names and order of the wheels', () => {
  const hash = fc.stringMatching(/^[0-9a-f]{64}$/u);
  fc.assert(
    fc.property(fc.uniqueArray(hash, { minLength: 2, maxLength: 5 }), hash, hash, (records, recipe, other) => {
      fc.pre(recipe !== other && !records.includes(other));
      const of = (names: readonly string[], hashes: readonly string[], by: string) =>
        engineId({
          flavour: 'cpu',
          version: '2.21.0',
          wheels: hashes.map((recordSha256, i) => ({ file: names[i] ?? 'a', recordSha256 })),
          recipe: by,
          host,
        });
      const id = of([], records, recipe);
      assert.match(id, /^cpu-2\.21\.0-[0-9a-f]{12}$/u);
      assert.equal(of(['x', 'y'], [...records].reverse(), recipe), id);
      assert.notEqual(of([], records, other), id);
      assert.notEqual(of([], [other, ...records.slice(1)], recipe), id);
    }),
    { numRuns: 50 },
  );
});

test('progress is rewritten in place on a terminal, and printed every ten seconds elsewhere', () => {
  const write = (isTTY: boolean): string => {
    let text = '';
    let nowMs = 0;
    const output = { isTTY, columns: 20, write: (more: string) => (text += more) };
    const line = new ProgressLine(output, () => nowMs);
    for (nowMs = 0; nowMs <= 12_000; nowMs += 4_000) line.progress('unpacking a long name');
    line.line('done');
    return text;
  };
  assert.equal(write(false), 'unpacking a long name · 12 s\ndone\n');
  assert.equal(write(true), `${'\r\u001b[2Kunpacking a long na'.repeat(4)}\r\u001b[2Kdone\n`);
});

test('sizes are printed in binary units', () => {
  assert.deepEqual([0, 1023, 1024, 274_400_000, 2 ** 33].map(formatBytes), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '261.7 MiB',
    '8.0 GiB',
  ]);
});
