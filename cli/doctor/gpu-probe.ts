/** Probes the GPUs that the system and its driver report. engine-probe.ts checks whether an engine uses one. */
import { runProgram } from '../../deploy/engine/run-program.ts';
import {
  findGpus,
  NVIDIA_SMI,
  NVIDIA_SMI_QUERY,
  parseNvidiaSmi,
  type ListedGpu,
  type SystemGpus,
} from '../../worker/machine/gpus.ts';
import { formatBytes, type Finding } from './finding.ts';
import type { Probe } from './probe.ts';

const CHECK = 'gpu';
const NVIDIA_SMI_DEADLINE_MS = 20_000;
/** CUDA 12 by minor version compatibility (CUDA release notes, table of drivers). */
const OLDEST_DRIVER_MAJOR = 525;
/** If more of a GPU's memory is in use, another process uses it. */
const BUSY_SHARE = 0.05;

export function judgeGpus(system: SystemGpus, listed: readonly ListedGpu[]): Finding[] {
  const driver = system.driverVersion ?? listed[0]?.driverVersion;
  if (system.count === 0 && listed.length === 0) {
    const detail = `none (${system.evidence})`;
    if (system.models.length === 0) return [{ check: CHECK, status: 'ok', detail }];
    const advice = 'give the container its devices (--gpus, nvidia-container-toolkit)';
    return [{ check: CHECK, status: 'warn', detail, advice }];
  }
  const tooOld = driver !== undefined && Number(driver.split('.')[0]) < OLDEST_DRIVER_MAJOR;
  const oldAdvice = `update the driver to ${OLDEST_DRIVER_MAJOR} or later: the native engine's CUDA 12 needs it`;
  if (listed.length === 0) {
    const detail = `${system.count} by ${system.evidence}, driver ${driver ?? 'unknown'}, ${system.models.join(', ')}; nvidia-smi gave no list`;
    const advice = tooOld ? oldAdvice : 'nvidia-smi should list it: check the driver (dmesg)';
    return [{ check: CHECK, status: 'warn', detail, advice, figures: { count: system.count } }];
  }
  return listed.map(({ index, name, totalBytes, usedBytes }) => {
    const memory =
      totalBytes === 0 ? 'memory unknown' : `${formatBytes(usedBytes)} of ${formatBytes(totalBytes)} in use`;
    const finding = {
      check: CHECK,
      detail: `${index}: ${name}, driver ${driver!}, ${memory}`,
      figures: { totalBytes, usedBytes },
    };
    if (tooOld) return { ...finding, status: 'warn' as const, advice: oldAdvice };
    if (usedBytes > BUSY_SHARE * totalBytes)
      return {
        ...finding,
        status: 'warn' as const,
        advice: 'another process uses its memory: nvidia-smi shows which',
      };
    return { ...finding, status: 'ok' as const };
  });
}

export const gpuProbe: Probe = {
  check: CHECK,
  deadlineMs: 30_000,
  run: async ({ root, environment }, signal) => {
    const command = [NVIDIA_SMI, ...NVIDIA_SMI_QUERY];
    const run = { command, environment: { ...environment }, deadlineMs: NVIDIA_SMI_DEADLINE_MS, signal };
    const { status, stdout } = await runProgram(run);
    return judgeGpus(await findGpus(root), status === 0 ? parseNvidiaSmi(stdout) : []);
  },
};
