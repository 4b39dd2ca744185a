/** The processor by /proc/cpuinfo: model, and the vector instructions that decide the speed of matrix products. Pure. */

export interface CpuInfo {
  /** Empty when the file has none (some ARM machines). */
  readonly model: string;
  /** Logical processors of the machine; a cgroup may allow fewer. */
  readonly numProcessors: number;
  /** Of VECTOR_FLAGS those that the processor has, in their order. */
  readonly vectorFlags: readonly string[];
  /** Built for AVX: the TensorFlow of the wheels stops with SIGILL without it. Always true where the processor is not x86. */
  readonly hasAvx: boolean;
}

/** Kernel names of instruction sets that matrix products use, the widest last. */
const VECTOR_FLAGS = ['avx', 'fma', 'avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_tile', 'amx_bf16'] as const;
/** ARM's names for the same. */
const ARM_FLAGS = ['asimd', 'sve', 'sve2', 'bf16', 'i8mm'] as const;

/** @param text of /proc/cpuinfo */
export function parseCpuInfo(text: string): CpuInfo {
  const valuesOf = (key: string): string[] =>
    text
      .split('\n')
      .filter((line) => line.slice(0, line.indexOf(':')).trim() === key)
      .map((line) => line.slice(line.indexOf(':') + 1).trim());
  const x86Flags = valuesOf('flags')[0];
  const flags = new Set((x86Flags ?? valuesOf('Features')[0] ?? '').split(/\s+/u));
  const known: readonly string[] = x86Flags === undefined ? ARM_FLAGS : VECTOR_FLAGS;
  return {
    model: valuesOf('model name')[0] ?? '',
    numProcessors: valuesOf('processor').length,
    vectorFlags: known.filter((flag) => flags.has(flag)),
    hasAvx: x86Flags === undefined || flags.has('avx'),
  };
}
