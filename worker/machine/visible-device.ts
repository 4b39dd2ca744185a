/**
 * One GPU for each worker: the value of CUDA_VISIBLE_DEVICES that shows a worker its own GPU and no other. The local rank indexes the user's
 * list, as in torchrun. Pure.
 * Source: CUDA C programming guide, environment variables: ids end at the first that is not valid; an empty list hides all.
 */
import { TrainerError } from '../../shared/errors.ts';

export interface DeviceRequest {
  /** CUDA_VISIBLE_DEVICES of this process; undefined when not set. */
  readonly visible: string | undefined;
  /** GPUs that the system shows. */
  readonly numGpus: number;
  /** Index of this worker among those of its host, from 0. */
  readonly localRank: number;
}

/** GPUs that CUDA would show: ids (numbers, UUIDs, MIG names) as CUDA_VISIBLE_DEVICES takes them. */
export function visibleDevices({ visible, numGpus }: Omit<DeviceRequest, 'localRank'>): string[] {
  if (visible === undefined) return Array.from({ length: numGpus }, (_, i) => String(i));
  const ids = visible.split(',').map((id) => id.trim());
  const end = ids.findIndex((id) => id === '' || id.startsWith('-') || (/^\d+$/u.test(id) && Number(id) >= numGpus));
  return end < 0 ? ids : ids.slice(0, end);
}

/** @returns the one id for this worker @throws ENGINE_UNAVAILABLE where there are fewer GPUs than workers */
export function deviceOfWorker(request: DeviceRequest): string {
  const devices = visibleDevices(request);
  const device = devices[request.localRank];
  if (device !== undefined) return device;
  const list = request.visible === undefined ? '' : ` (CUDA_VISIBLE_DEVICES is ${JSON.stringify(request.visible)})`;
  throw new TrainerError(
    'ENGINE_UNAVAILABLE',
    `worker ${request.localRank} of this host expected a GPU of its own, found ${devices.length}${list}; ` +
      'start at most one worker a GPU, or take --device cpu',
  );
}

/**
 * The local rank of a worker that was not given one: torchrun's or Slurm's variable, else 0. A Slurm task that sees one GPU has had it
 * assigned by Slurm, whatever its rank.
 * @throws ENGINE_UNAVAILABLE where a variable is not a number
 */
export function localRankOf(environment: Readonly<Record<string, string | undefined>>): number {
  const name = ['LOCAL_RANK', 'SLURM_LOCALID'].find((key) => environment[key] !== undefined);
  if (name === undefined) return 0;
  const rank = Number(environment[name]);
  if (!Number.isInteger(rank) || rank < 0 || environment[name]!.trim() === '')
    throw new TrainerError(
      'ENGINE_UNAVAILABLE',
      `$${name}: expected a whole number from 0, got ${JSON.stringify(environment[name])}; give --local-rank instead`,
    );
  const isAssigned = name === 'SLURM_LOCALID' && /^[^,]+$/u.test(environment['CUDA_VISIBLE_DEVICES'] ?? '');
  return isAssigned ? 0 : rank;
}
