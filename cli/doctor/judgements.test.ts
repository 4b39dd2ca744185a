import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { EngineFolder } from '../../shared/installed-engine.ts';
import type { CpuInfo } from '../../worker/machine/cpu-info.ts';
import { judgeClock, parseTimedatectl } from './clock-probe.ts';
import { judgeDiskSpeed, judgeFreeDisk } from './disk-probes.ts';
import { judgeEngine, judgeGpuGain } from './engine-probe.ts';
import type { EngineReport } from './engine-report.ts';
import { formatFindings, type Finding, type Status } from './finding.ts';
import { judgeGpus } from './gpu-probe.ts';
import { judgeCopy, judgeCpu, judgeMemory, judgeNode, judgeOpenFiles } from './host-probes.ts';
import { judgeInstalled, judgeNoneInstalled } from './installed-engine-probe.ts';
import { judgeLoopback } from './loopback-probe.ts';

const GIB = 2 ** 30;
const CPU: CpuInfo = { model: 'EPYC', numProcessors: 8, vectorFlags: ['avx', 'avx2'], hasAvx: true };
const NO_GPU = { count: 0, driverVersion: undefined, models: [], evidence: 'no /dev/nvidia* here' };
const H200 = { index: 0, name: 'NVIDIA H200', driverVersion: '570.86', totalBytes: 140 * GIB, usedBytes: 0 };
const ONE_GPU = { count: 1, driverVersion: '570.86', models: ['NVIDIA H200'], evidence: '/dev/nvidia*' };
const REPORT: EngineReport = {
  engine: 'native',
  device: 'CPU with 1 thread',
  fingerprint: 'f',
  reason: 'engine native: it is installed',
  notes: [],
  numChecks: 18,
  failedChecks: [],
  squareFlopsPerSecond: 1e11,
  copyBytesPerSecond: 2e9,
  engineLimitBytes: null,
  rates: { flopsPerSecond: 1e11, elementsPerSecond: 1e9, operationSeconds: 1e-5 },
};

function folder(problems: string[]): EngineFolder {
  const manifest = {
    wheels: [{ file: 'a.whl' }, { file: 'b.whl' }],
    compiler: 'g++ 12',
    installedAt: '2026-11-23T08:00:00Z',
  };
  const engine = { id: 'x', folder: '/h/engines/x', flavour: 'cpu', tensorflowVersion: '2.21.0', manifest };
  return { id: 'x', folder: '/h/engines/x', engine, problems, isOutdated: false } as unknown as EngineFolder;
}

/** Subject, finding, expected status, and text that the finding or its advice must contain. */
const TABLE: readonly (readonly [string, Finding, Status, RegExp])[] = [
  ['a good Node', judgeNode('22.1.0'), 'ok', /22\.1\.0/u],
  ['the oldest good Node', judgeNode('20.19.0'), 'ok', /20/u],
  ['an old Node', judgeNode('20.18.9'), 'fail', /install Node 20\.19/u],
  ['a CPU', judgeCpu(CPU, { cpus: undefined, memoryBytes: undefined }, 8), 'ok', /EPYC, 8 of 8 .*avx avx2/u],
  ['a CPU limited by a cgroup', judgeCpu(CPU, { cpus: 2.5, memoryBytes: undefined }, 8), 'warn', /beyond 2 only wait/u],
  [
    'a CPU without AVX',
    judgeCpu({ ...CPU, hasAvx: false }, { cpus: undefined, memoryBytes: undefined }, 8),
    'warn',
    /SIGILL/u,
  ],
  ['memory', judgeMemory({ totalBytes: 8 * GIB, availableBytes: 4 * GIB, limitBytes: undefined }), 'ok', /4\.0 GiB/u],
  [
    'memory limited by a cgroup',
    judgeMemory({ totalBytes: 8 * GIB, availableBytes: GIB / 2, limitBytes: GIB / 2 }),
    'warn',
    /allows 512 MiB/u,
  ],
  ['a copy', judgeCopy(9e9), 'ok', /9\.0 GB\/s/u],
  ['a slow copy', judgeCopy(1e8), 'warn', /busy or swaps/u],
  ['open files', judgeOpenFiles(20_000), 'ok', /20000/u],
  ['unlimited files', judgeOpenFiles(Infinity), 'ok', /no limit/u],
  ['few open files', judgeOpenFiles(256), 'warn', /ulimit -n 1024/u],
  ['a disk', judgeFreeDisk('/runs', 50 * GIB), 'ok', /50\.0 GiB free in \/runs/u],
  ['a nearly full disk', judgeFreeDisk('/runs', GIB / 2), 'warn', /--run-dir/u],
  ['a full disk', judgeFreeDisk('/runs', 2 ** 20), 'fail', /1 MiB free.*--run-dir/su],
  ['a fast disk', judgeDiskSpeed('/runs', { syncSeconds: 0.001, bytesPerSecond: 5e8 }), 'ok', /1\.0 ms, 500 MB\/s/u],
  ['a slow fsync', judgeDiskSpeed('/runs', { syncSeconds: 0.3, bytesPerSecond: 5e8 }), 'warn', /local disk/u],
  ['a loopback', judgeLoopback(1e9), 'ok', /1\.00 GB\/s/u],
  ['a slow loopback', judgeLoopback(1e8), 'warn', /gradients will wait/u],
  ['a clock', judgeClock({ driftMs: 0.1, isSynchronized: true, source: 'tsc' }), 'ok', /synchronized, source tsc/u],
  [
    'a clock of unknown synchronization',
    judgeClock({ driftMs: 0, isSynchronized: undefined, source: '' }),
    'ok',
    /not known/u,
  ],
  ['a clock that is set', judgeClock({ driftMs: -40, isSynchronized: true, source: 'tsc' }), 'warn', /sets the clock/u],
  ['a slow clock', judgeClock({ driftMs: 0, isSynchronized: true, source: 'hpet' }), 'warn', /clocksource=tsc/u],
  ['an unsynchronized clock', judgeClock({ driftMs: 0, isSynchronized: false, source: 'tsc' }), 'warn', /set-ntp/u],
  ['no GPU', judgeGpus(NO_GPU, [])[0]!, 'ok', /none \(no \/dev\/nvidia/u],
  ['a GPU without its device files', judgeGpus({ ...NO_GPU, models: ['H200'] }, [])[0]!, 'warn', /--gpus/u],
  ['a GPU', judgeGpus(ONE_GPU, [H200])[0]!, 'ok', /NVIDIA H200, driver 570\.86, 0 MiB of 140\.0 GiB/u],
  [
    'a GPU with an old driver',
    judgeGpus({ ...ONE_GPU, driverVersion: '470.82' }, [H200])[0]!,
    'warn',
    /update the driver/u,
  ],
  ['a busy GPU', judgeGpus(ONE_GPU, [{ ...H200, usedBytes: 70 * GIB }])[0]!, 'warn', /another process/u],
  ['a GPU that nvidia-smi does not list', judgeGpus(ONE_GPU, [])[0]!, 'warn', /dmesg/u],
  [
    'an engine',
    judgeInstalled(folder([])),
    'ok',
    /2\.21\.0, cpu, of 2026-11-23, from a\.whl and 1 more, built by g\+\+ 12/u,
  ],
  [
    'a damaged engine',
    judgeInstalled(folder(['a.so is missing'])),
    'fail',
    /a\.so is missing.*exmix engine remove x/su,
  ],
  [
    'an engine for another version of exmix',
    judgeInstalled({ ...folder(['of format 1']), engine: undefined, isOutdated: true }),
    'warn',
    /outdated: x: of format 1.*exmix engine install/su,
  ],
  ['no engine', judgeNoneInstalled('/h', ''), 'warn', /exmix engine install: several times/u],
  ['no engine and no pip', judgeNoneInstalled('/h', 'apt-get install python3-pip'), 'warn', /first needs: apt-get/u],
  ['a self-test', judgeEngine(REPORT)[1]!, 'ok', /18 reference checks passed by native/u],
  [
    'a failed self-test',
    judgeEngine({ ...REPORT, failedChecks: ['loss'] })[1]!,
    'fail',
    /beyond tolerance in loss.*do not train/su,
  ],
  [
    "an engine's warning",
    judgeEngine({ ...REPORT, notes: ['THE GPU IS NOT USED: x'] })[1]!,
    'warn',
    /GPU IS NOT USED/u,
  ],
  ['the speed', judgeEngine(REPORT)[2]!, 'ok', /100\.0 GFLOP\/s .* 12\.0 GB\/s in additions, 2\.0 GB\/s copied/u],
  ['an engine that copies nothing', judgeEngine({ ...REPORT, copyBytesPerSecond: 6e12 })[2]!, 'ok', /nothing copied/u],
  [
    'a GPU that computes',
    judgeGpuGain({ ...REPORT, squareFlopsPerSecond: 5e12 }, REPORT),
    'ok',
    /50\.0 times as fast/u,
  ],
  [
    'a GPU that does not compute',
    judgeGpuGain({ ...REPORT, squareFlopsPerSecond: 1.1e11 }, REPORT),
    'fail',
    /does not use it/u,
  ],
];

describe('judgements', () => {
  for (const [what, finding, status, words] of TABLE)
    test(`${what}: ${status}`, () => {
      assert.equal(finding.status, status, JSON.stringify(finding));
      assert.match(`${finding.detail}\n${finding.advice ?? ''}`, words);
      if (status === 'ok') assert.equal(finding.advice, undefined, 'a finding with status ok has no advice');
    });

  test('the output of timedatectl is parsed; other output gives undefined', () => {
    assert.equal(parseTimedatectl('NTPSynchronized=yes\n'), true);
    assert.equal(parseTimedatectl('NTPSynchronized=no\n'), false);
    assert.equal(parseTimedatectl('Failed to connect to bus\n'), undefined);
  });

  test('one line per finding, with its advice below it', () => {
    const findings = [judgeNode('22.0.0'), judgeNode('18.0.0')];
    assert.equal(
      formatFindings(findings),
      'ok    node        22.0.0\nfail  node        18.0.0\n                  → install Node 20.19 or later\n',
    );
  });
});
