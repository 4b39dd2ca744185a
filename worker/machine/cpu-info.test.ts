import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseCpuInfo } from './cpu-info.ts';

/** Of a virtual machine with two processors, lines left out. */
const EPYC = `processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: FLAGS
bugs\t\t: sysret_ss_attrs null_seg spectre_v1 spectre_v2

processor\t: 1
vendor_id\t: AuthenticAMD
model\t\t: 17
model name\t: AMD EPYC
`.replace(
  'FLAGS',
  'fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush fma avx f16c avx2 avx512f avx512dq avx512_bf16 avx512_vnni fsrm',
);

/** Of an ARM server, as Linux prints it for Neoverse N1. */
const NEOVERSE = `processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
`;

describe('/proc/cpuinfo', () => {
  test('model, number of processors and vector instructions', () => {
    assert.deepEqual(parseCpuInfo(EPYC), {
      model: 'AMD EPYC',
      numProcessors: 2,
      vectorFlags: ['avx', 'fma', 'avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16'],
      hasAvx: true,
    });
  });

  test('an ARM processor has its own names, and needs no AVX', () => {
    assert.deepEqual(parseCpuInfo(NEOVERSE), { model: '', numProcessors: 1, vectorFlags: ['asimd'], hasAvx: true });
  });

  test('an old x86 without AVX is recognised; an empty file gives no facts', () => {
    assert.equal(parseCpuInfo('processor : 0\nflags : fpu sse sse2\n').hasAvx, false);
    assert.deepEqual(parseCpuInfo(''), { model: '', numProcessors: 0, vectorFlags: [], hasAvx: true });
  });
});
