/**
 * NVIDIA GPUs that the system shows this process, found without NVIDIA's libraries: by device files, which a container has only for the GPUs
 * assigned to it, and by the driver's files under /proc. Whether an engine can use them is not known here.
 */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface SystemGpus {
  readonly count: number;
  /** Of the kernel module; undefined where it is not loaded or not told. */
  readonly driverVersion: string | undefined;
  /** In order of their bus address; may be more than `count` in a container. */
  readonly models: readonly string[];
  /** Where the count comes from, for messages. */
  readonly evidence: string;
}

/** A GPU as nvidia-smi lists it. */
export interface ListedGpu {
  readonly index: number;
  readonly name: string;
  readonly driverVersion: string;
  readonly totalBytes: number;
  readonly usedBytes: number;
}

/** The driver's own program. */
export const NVIDIA_SMI = 'nvidia-smi';
/** Arguments of nvidia-smi whose answer parseNvidiaSmi reads. */
export const NVIDIA_SMI_QUERY = [
  '--query-gpu=index,name,driver_version,memory.total,memory.used',
  '--format=csv,noheader,nounits',
] as const;

const MIB = 2 ** 20;
const NVIDIA_SMI_DEADLINE_MS = 20_000;

/** @param text what nvidia-smi printed for NVIDIA_SMI_QUERY; lines of another form are left out */
export function parseNvidiaSmi(text: string): ListedGpu[] {
  return text.split('\n').flatMap((line) => {
    const [index, name, driverVersion, totalMib, usedMib] = line.split(',').map((cell) => cell.trim());
    if (usedMib === undefined || !/^\d+$/u.test(index!)) return [];
    // A MIG or unified-memory device has "[N/A]" for its memory.
    const bytes = (mib: string): number => (/^\d+$/u.test(mib) ? Number(mib) * MIB : 0);
    const memory = { totalBytes: bytes(totalMib!), usedBytes: bytes(usedMib) };
    return [{ index: Number(index), name: name!, driverVersion: driverVersion!, ...memory }];
  });
}

/** @param text of /proc/driver/nvidia/version */
export function parseDriverVersion(text: string): string | undefined {
  return /Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)/u.exec(text)?.[1];
}

/** Never fails: an unreadable file counts as missing. */
export async function findGpus(root = '/'): Promise<SystemGpus> {
  const devices: string[] = await readdir(join(root, 'dev')).catch(() => []);
  const numbered = devices.filter((name) => /^nvidia\d+$/u.test(name)).length;
  const folder = join(root, 'proc/driver/nvidia');
  const version = await readFile(join(folder, 'version'), 'utf8').catch(() => '');
  const addresses: string[] = await readdir(join(folder, 'gpus')).catch(() => []);
  const models: string[] = [];
  for (const address of addresses.sort()) {
    const information = await readFile(join(folder, 'gpus', address, 'information'), 'utf8').catch(() => '');
    const model = /^Model:\s+(.+)$/mu.exec(information)?.[1]?.trim();
    if (model !== undefined) models.push(model);
  }
  const driverVersion = parseDriverVersion(version);
  if (numbered > 0) return { count: numbered, driverVersion, models, evidence: '/dev/nvidia*' };
  // Windows Subsystem for Linux has one device file for all GPUs.
  if (devices.includes('dxg')) return { count: 1, driverVersion, models, evidence: '/dev/dxg' };
  const where = 'no /dev/nvidia* here';
  if (models.length === 0) return { count: 0, driverVersion, models, evidence: where };
  return { count: 0, driverVersion, models, evidence: `${where}, though the driver lists ${models.length}` };
}

/** Total memory of one GPU. @param id as in CUDA_VISIBLE_DEVICES @returns undefined where nvidia-smi does not report it */
export async function gpuMemoryBytes(id: string): Promise<number | undefined> {
  const text = await new Promise<string>((resolve) => {
    const options = { timeout: NVIDIA_SMI_DEADLINE_MS, killSignal: 'SIGKILL' } as const;
    execFile(NVIDIA_SMI, [`--id=${id}`, ...NVIDIA_SMI_QUERY], options, (_error, stdout) => resolve(stdout));
  });
  const bytes = parseNvidiaSmi(text)[0]?.totalBytes ?? 0;
  return bytes > 0 ? bytes : undefined;
}
