/** Memory of one GPU by nvidia-smi, for messages: how much it has in all. */
import { execFile } from 'node:child_process';
import { NVIDIA_SMI, NVIDIA_SMI_QUERY, parseNvidiaSmi } from './gpus.ts';

const DEADLINE_MS = 20_000;

/** @param id as CUDA_VISIBLE_DEVICES names it @returns undefined where nvidia-smi does not tell */
export async function gpuMemoryBytes(id: string): Promise<number | undefined> {
  const text = await new Promise<string>((resolve) => {
    const options = { timeout: DEADLINE_MS, killSignal: 'SIGKILL' } as const;
    execFile(NVIDIA_SMI, [`--id=${id}`, ...NVIDIA_SMI_QUERY], options, (_error, stdout) => resolve(stdout));
  });
  const bytes = parseNvidiaSmi(text)[0]?.totalBytes ?? 0;
  return bytes > 0 ? bytes : undefined;
}
