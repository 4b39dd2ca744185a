/**
 * Finds the workers that a killed `exmix train` of this run folder left. They keep the parameters in memory and redial its URL for some
 * minutes. Workers that dial this coordinator can be adopted. A worker that dials another URL occupies a device and memory for nothing, so
 * it is killed. Assumes that the caller owns the run folder, so the process that wrote the files is gone.
 */
import { waitAtMost } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/logger.ts';
import { isProvenAlive, whyGone, type ProcessIdentity } from '../../shared/process-identity.ts';
import { nameLocation } from '../../shared/storage/location.ts';
import { localWorkerId, readWorkerFiles, removeWorkerFile, type WorkerFile } from './worker-files.ts';
import { adoptProcess } from './worker-process.ts';

export interface OrphanSearch {
  /** Folder of the workers' logs and files. */
  readonly folder: string;
  /** URL of this coordinator. */
  readonly url: string;
  readonly log: Logger;
  readonly clock: Clock;
  /** A killed worker is waited for so long, ms. */
  readonly endWithinMs: number;
}

/** @returns the processes to adopt, by index of the worker; the files of all others are removed @throws PATH_UNUSABLE */
export async function findOrphans(search: OrphanSearch): Promise<ReadonlyMap<number, ProcessIdentity>> {
  const { folder, url, log } = search;
  const orphans = new Map<number, ProcessIdentity>();
  const examine = async (index: number, file: WorkerFile | null): Promise<void> => {
    const verdict = judge(file, url);
    if (verdict.kind === 'adopt') {
      orphans.set(index, verdict.process);
      return;
    }
    const level = verdict.kind === 'gone' ? 'info' : 'warn';
    const pid = file?.process.pid;
    log[level]({ workerId: localWorkerId(index), pid, reason: verdict.reason }, 'worker not adopted');
    if (verdict.kind === 'end') await end(verdict.process, search);
    await removeWorkerFile(folder, index);
  };
  await Promise.all([...(await readWorkerFiles(folder))].map(([index, file]) => examine(index, file)));
  return orphans;
}

type Verdict =
  | { readonly kind: 'adopt'; readonly process: ProcessIdentity }
  | { readonly kind: 'end'; readonly process: ProcessIdentity; readonly reason: string }
  | { readonly kind: 'gone' | 'unknown'; readonly reason: string };

function judge(file: WorkerFile | null, url: string): Verdict {
  if (file === null) return { kind: 'unknown', reason: "its file has no seal of this user's exmix" };
  const { process } = file;
  const gone = whyGone(process);
  if (gone !== undefined) return { kind: 'gone', reason: gone };
  if (!isProvenAlive(process))
    return { kind: 'unknown', reason: `process ${process.pid} on ${process.host} cannot be checked from here` };
  if (file.url !== url)
    return { kind: 'end', process, reason: `it dials ${nameLocation(file.url)}, not ${url}: killed` };
  return { kind: 'adopt', process };
}

async function end(process: ProcessIdentity, { clock, endWithinMs }: OrphanSearch): Promise<void> {
  const abandoned = new AbortController();
  const orphan = adoptProcess(process, clock, abandoned.signal);
  const ended = orphan.ended.catch(() => undefined);
  orphan.signal('SIGKILL');
  await waitAtMost(ended, endWithinMs, clock);
  abandoned.abort();
}
