import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseCgroupMemberships, parseCpuMax, parseMemoryLimit, readCgroupLimits } from './cgroup-limits.ts';
import { layOut } from './machine-folder.fixture.ts';

/** Of a container on a host with both versions. */
const MIXED = `9:name=systemd:/
5:devices:/
4:memory:/process_api/37030be2
3:cpuset:/
1:cpu,cpuacct:/box
0::/
`;

describe('limits by cgroups', () => {
  test('memberships of both versions', () => {
    assert.deepEqual(parseCgroupMemberships(MIXED).slice(-3), [
      { controllers: ['cpuset'], path: '/' },
      { controllers: ['cpu', 'cpuacct'], path: '/box' },
      { controllers: [], path: '/' },
    ]);
  });

  test('cpu.max and memory limits, and how each version writes that there is none', () => {
    assert.equal(parseCpuMax('150000 100000\n'), 1.5);
    for (const text of ['max 100000\n', '-1 100000', '', ' ']) assert.equal(parseCpuMax(text), undefined, text);
    assert.equal(parseMemoryLimit('2147483648\n'), 2 ** 31);
    for (const text of ['max\n', '9223372036854771712\n', '']) assert.equal(parseMemoryLimit(text), undefined, text);
  });

  test('version 2: the tightest of a folder and those above it', async (t) => {
    const root = layOut(t, {
      'proc/self/cgroup': '0::/user.slice/app\n',
      'sys/fs/cgroup/user.slice/app/cpu.max': '400000 100000\n',
      'sys/fs/cgroup/user.slice/app/memory.max': 'max\n',
      'sys/fs/cgroup/user.slice/cpu.max': '250000 100000\n',
      'sys/fs/cgroup/user.slice/memory.max': '1073741824\n',
    });
    assert.deepEqual(await readCgroupLimits(root), { cpus: 2.5, memoryBytes: 2 ** 30 });
  });

  test('version 1, also where a container sees its own folder at the top', async (t) => {
    const root = layOut(t, {
      'proc/self/cgroup': MIXED,
      'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '50000\n',
      'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      'sys/fs/cgroup/memory/process_api/37030be2/memory.limit_in_bytes': '4096\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
    });
    assert.deepEqual(await readCgroupLimits(root), { cpus: 0.5, memoryBytes: 4096 });
  });

  test('nothing to read limits nothing', async (t) => {
    assert.deepEqual(await readCgroupLimits(layOut(t, {})), { cpus: undefined, memoryBytes: undefined });
  });
});
