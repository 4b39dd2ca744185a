import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { layOut } from './machine-folder.fixture.ts';
import { parseMemoryInfo, readMemory } from './memory-info.ts';

const MEMINFO = `MemTotal:       24684084 kB
MemFree:        22870240 kB
MemAvailable:   23806476 kB
Buffers:            8688 kB
`;

describe('memory', () => {
  test('/proc/meminfo in bytes; undefined where it is not one', () => {
    assert.deepEqual(parseMemoryInfo(MEMINFO), { totalBytes: 25_276_502_016, availableBytes: 24_377_831_424 });
    assert.equal(parseMemoryInfo('MemTotal: 1 kB\n'), undefined);
  });

  test('a cgroup’s limit lowers the available memory', async (t) => {
    const cgroup = { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/memory.max': '1073741824\n' };
    const limited = await readMemory(layOut(t, { 'proc/meminfo': MEMINFO, ...cgroup }));
    assert.deepEqual(limited, { totalBytes: 25_276_502_016, availableBytes: 2 ** 30, limitBytes: 2 ** 30 });
    const free = await readMemory(layOut(t, { 'proc/meminfo': MEMINFO }));
    assert.deepEqual([free.availableBytes, free.limitBytes], [24_377_831_424, undefined]);
  });
});
