/**
 * Workers that an `exmix train` of this run folder has left behind when it was killed: they keep the parameters in memory and redial
 * its URL for some minutes. Those that dial this coordinator may be adopted; one that dials another waits in vain and holds a device
 * and memory, so it is ended. Assumes that the caller owns the run folder: whoever wrote the files is gone.
 */
import { waitAtMost } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/logger.ts';
import { isProvenAlive, whyGone, type ProcessIdentity } from '../../shared/process-identity.ts';
import { localWorkerId, readWorkerFiles, removeWorkerFile, type WorkerFile } from './worker-files.ts';
import { adoptProcess } from './worker-process.ts';

export interface OrphanSearch {
  /** Of the workers' logs and files. */
  readonly folder: string;
  /** Of this coordinator. */
  readonly url: string;
  readonly log: Logger;
  readonly clock: Clock;
  /** Time for one that is not wanted to end, ms. */
  readonly endWithinMs: number;
}

/** Processes to adopt, by number of the worker; the files of all others are removed. @throws PATH_UNUSABLE */
export async function findOrphans(search: OrphanSearch): Promise<ReadonlyMap<number, ProcessIdentity>> {
  const { folder, url, log } = search;
  const orphans = new Map<number, ProcessIdentity>();
  const settle = async (index: number, file: WorkerFile | null): Promise<void> => {
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
  await Promise.all([...(await readWorkerFiles(folder))].map(([index, file]) => settle(index, file)));
  return orphans;
}

type Verdict =
  | { readonly kind: 'adopt'; readonly process: ProcessIdentity }
  | { readonly kind: 'end'; readonly process: ProcessIdentity; readonly reason: string }
  | { readonly kind: 'gone' | 'unknown'; readonly reason: string };

function judge(file: WorkerFile | null, url: string): Verdict {
  if (file === null) return { kind: 'unknown', reason: 'its file is none of exmix' };
  const { process } = file;
  const gone = whyGone(process);
  if (gone !== undefined) return { kind: 'gone', reason: gone };
  if (!isProvenAlive(process))
    return { kind: 'unknown', reason: `whether process ${process.pid} on ${process.host} is it cannot be seen here` };
  if (file.url !== url) return { kind: 'end', process, reason: `it dials ${file.url}, not ${url}: ended` };
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
