/** Failures between write and fsync, and of the cut, which a real full disk does not produce. Real ones: testing/full-disk.test.ts. */
import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, mock, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import { RecordFile, type KeepTrying } from './record-file.ts';

let folder = '';
let numFiles = 0;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'exmix-record-file-'));
});
after(() => rm(folder, { recursive: true, force: true }));
afterEach(() => mock.restoreAll());

const systemError = (code: string) => Object.assign(new Error(code), { code });

/** Repeats while the disk is full. */
const repeatWhileFull: KeepTrying = async (attempt) => {
  for (;;)
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof TrainerError) || error.code !== 'DISK_FULL') throw error;
    }
};

async function createFile(keepTrying = repeatWhileFull): Promise<{ file: RecordFile; handle: FileHandle }> {
  const path = join(folder, String(numFiles++));
  const handle = await open(path, 'a');
  const file = new RecordFile({ path, handle, bytes: 0, keepTrying });
  await file.append(Buffer.from('first\n'));
  return { file, handle };
}

/** The next calls of a method fail with these codes, one after the other; later ones succeed. */
function failNext(handle: FileHandle, method: 'datasync' | 'truncate', codes: string[]): () => number {
  const original = handle[method].bind(handle);
  const mocked = mock.method(handle, method, async (length?: number) => {
    const code = codes.shift();
    if (code !== undefined) throw systemError(code);
    await original(length);
  });
  return () => mocked.mock.callCount();
}

/** The disk has space for half of the record. */
function writeHalf(handle: FileHandle, times: number): void {
  const original = handle.appendFile.bind(handle);
  mock.method(handle, 'appendFile', async (bytes: Buffer) => {
    await original(times > 0 ? bytes.subarray(0, bytes.length / 2) : bytes);
    if (times-- > 0) throw systemError('ENOSPC');
  });
}

describe('a file of whole records', () => {
  for (const code of ['ENOSPC', 'EDQUOT'])
    test(`a record that was written and not synced (${code}) is written again, once`, async () => {
      const { file, handle } = await createFile();
      const numSyncs = failNext(handle, 'datasync', [code, code]);
      await file.append(Buffer.from('second\n'));
      assert.equal(numSyncs(), 3);
      assert.equal(file.bytes, 13);
      assert.equal(await readFile(file.path, 'utf8'), 'first\nsecond\n');
      await file.close();
    });

  test('half a record that cannot be cut off at once is cut off before the next attempt', async () => {
    const { file, handle } = await createFile();
    writeHalf(handle, 2);
    const numCuts = failNext(handle, 'truncate', ['ENOSPC', 'ENOSPC']);
    await file.append(Buffer.from('second\n'));
    assert.ok(numCuts() > 2);
    assert.equal(await readFile(file.path, 'utf8'), 'first\nsecond\n');
    await file.close();
  });

  test('nothing is added behind half a record that cannot be cut off', async () => {
    const { file, handle } = await createFile();
    writeHalf(handle, 1);
    failNext(handle, 'truncate', ['ENOSPC', 'EIO']);
    await assert.rejects(file.append(Buffer.from('second\n')), { code: 'PATH_UNUSABLE', message: /EIO/u });
    const left = await readFile(file.path, 'utf8');
    assert.ok('first\nsecond\n'.startsWith(left), left);
    await file.close();
  });

  test('every other failure is final, and the file ends with the record before it', async () => {
    const { file, handle } = await createFile();
    failNext(handle, 'datasync', ['EIO']);
    await assert.rejects(file.append(Buffer.from('second\n')), { code: 'PATH_UNUSABLE', message: /append to .*EIO/u });
    assert.equal(await readFile(file.path, 'utf8'), 'first\n');
    await file.close();
  });
});
