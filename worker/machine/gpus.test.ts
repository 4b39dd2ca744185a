import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findGpus, parseDriverVersion, parseNvidiaSmi } from './gpus.ts';
import { layOut } from './machine-folder.fixture.ts';

const PROPRIETARY =
  'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:  gcc version 12.3.0\n';
const OPEN =
  'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U22-I3)  Thu Jan 23 22:50:36 UTC 2025\n';
const INFORMATION = 'Model: \t\t NVIDIA H200\nIRQ:   \t\t 137\nGPU UUID: \t GPU-0a1b\nBus Location: \t 0000:1b:00.0\n';

describe('GPUs of the system', () => {
  test('version of the proprietary and of the open kernel module', () => {
    assert.equal(parseDriverVersion(PROPRIETARY), '535.183.01');
    assert.equal(parseDriverVersion(OPEN), '570.86.15');
    assert.equal(parseDriverVersion(''), undefined);
  });

  test('counts the device files that this process sees, not the GPUs of the host', async (t) => {
    const root = layOut(t, {
      'dev/nvidia3': '',
      'dev/nvidiactl': '',
      'dev/nvidia-uvm': '',
      'proc/driver/nvidia/version': OPEN,
      'proc/driver/nvidia/gpus/0000:1b:00.0/information': INFORMATION,
      'proc/driver/nvidia/gpus/0000:2c:00.0/information': INFORMATION,
    });
    assert.deepEqual(await findGpus(root), {
      count: 1,
      driverVersion: '570.86.15',
      models: ['NVIDIA H200', 'NVIDIA H200'],
      evidence: '/dev/nvidia*',
    });
  });

  test('a driver without device files, Windows Subsystem for Linux, and nothing at all', async (t) => {
    const information = { 'proc/driver/nvidia/gpus/0000:1b:00.0/information': INFORMATION };
    const hidden = await findGpus(layOut(t, { 'dev/null': '', ...information }));
    assert.deepEqual([hidden.count, hidden.evidence], [0, 'no /dev/nvidia* here, though the driver lists 1']);
    assert.equal((await findGpus(layOut(t, { 'dev/dxg': '' }))).count, 1);
    const none = await findGpus(layOut(t, {}));
    assert.deepEqual(none, { count: 0, driverVersion: undefined, models: [], evidence: 'no /dev/nvidia* here' });
  });

  test('GPUs of nvidia-smi, in bytes; other lines are skipped', () => {
    const text =
      '0, NVIDIA H200, 570.86.15, 143771, 4\n1, NVIDIA H200 MIG 1g.18gb, 570.86.15, [N/A], [N/A]\nNo devices were found\n';
    const [first, second, ...rest] = parseNvidiaSmi(text);
    assert.deepEqual(first, {
      index: 0,
      name: 'NVIDIA H200',
      driverVersion: '570.86.15',
      totalBytes: 143_771 * 2 ** 20,
      usedBytes: 4 * 2 ** 20,
    });
    assert.equal(second?.totalBytes, 0);
    assert.deepEqual(rest, []);
  });
});
