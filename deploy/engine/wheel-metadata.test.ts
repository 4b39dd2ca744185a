import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMetadata, parsePlatform, parseRecord, parseTags, requirementName } from './wheel-metadata.ts';

// From tensorflow-2.21.0, shortened.
const METADATA = `Metadata-Version: 2.4
Name: tensorflow
Version: 2.21.0
Requires-Dist: absl-py>=1.0.0
Provides-Extra: and-cuda
Requires-Dist: nvidia-cublas-cu12<13.0,>=12.5.3.2; extra == "and-cuda"
Requires-Dist: nvidia-cudnn-cu12 (<10.0,>=9.3.0.75) ; extra == 'and-cuda'
Requires-Dist: tensorflow-io-gcs-filesystem>=0.23.1; (sys_platform != "win32") and extra == "gcs-filesystem"

Name: not a header any more
Requires-Dist: nvidia-nothing; extra == "and-cuda"
`;

test('METADATA has name, version and CUDA requirements in its headers; the description is ignored', () => {
  assert.deepEqual(parseMetadata(METADATA, 'a.whl'), {
    name: 'tensorflow',
    version: '2.21.0',
    cudaRequirements: ['nvidia-cublas-cu12<13.0,>=12.5.3.2', 'nvidia-cudnn-cu12<10.0,>=9.3.0.75'],
  });
});

test('METADATA without a name is rejected', () => {
  assert.throws(() => parseMetadata('Version: 1\n\n', 'a.whl'), {
    code: 'WHEEL_INVALID',
    message: /^a\.whl: expected METADATA/u,
  });
});

test('names are normalised as package indexes do', () => {
  assert.equal(requirementName('nvidia_cublas.cu12<13.0,>=12.5'), 'nvidia-cublas-cu12');
  assert.equal(parseMetadata('Name: Tensorflow_CPU\nVersion: 1\n', 'a').name, 'tensorflow-cpu');
});

test('RECORD has size and SHA-256 of each file, with any line end and quoted paths; rows without a hash are skipped', () => {
  const empty = '47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU';
  const rows = parseRecord(
    `a/b.so,sha256=${empty},0\r\n"a/b,""c"".so",sha256=${empty},12\nx.dist-info/RECORD,,\n`,
    'a.whl',
  );
  const sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
  assert.deepEqual(
    [...rows],
    [
      ['a/b.so', { sha256, bytes: 0 }],
      ['a/b,"c".so', { sha256, bytes: 12 }],
    ],
  );
  assert.throws(() => parseRecord('x.dist-info/RECORD,,', 'a.whl'), { code: 'WHEEL_INVALID' });
});

const PLATFORMS: readonly [string, string, string, number][] = [
  ['cp312-cp312-manylinux_2_27_x86_64', 'linux', 'x86_64', 27],
  ['py3-none-manylinux2014_aarch64', 'linux', 'aarch64', 17],
  ['py3-none-manylinux1_x86_64', 'linux', 'x86_64', 5],
  ['cp312-cp312-linux_x86_64', 'linux', 'x86_64', 0],
  ['cp312-cp312-macosx_12_0_arm64', 'macosx', 'arm64', 0],
  ['cp312-cp312-win_amd64', 'win', 'amd64', 0],
  ['py3-none-any', 'any', '', 0],
];
for (const [tag, system, machine, glibcMinor] of PLATFORMS)
  test(`the platform of ${tag}`, () => assert.deepEqual(parsePlatform(tag), { system, machine, glibcMinor }));

test('WHEEL may have several tags', () => {
  const text = 'Wheel-Version: 1.0\nTag: py3-none-manylinux2014_x86_64\nTag: py3-none-manylinux_2_17_x86_64\n';
  assert.deepEqual(parseTags(text), ['py3-none-manylinux2014_x86_64', 'py3-none-manylinux_2_17_x86_64']);
});
