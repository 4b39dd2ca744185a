/**
 * Reads and writes the paths that this worker will need for checkpoints, before it says `ready`. It opens the prepared mixture and loads its
 * engine before `ready` anyway. A file server may answer late, so a failed probe is repeated for a while.
 */
import { randomUUID } from 'node:crypto';
import { access, constants, readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { toStorageError, writeNewFile } from '../shared/atomic-file.ts';
import { MANIFEST_FILE } from '../shared/checkpoint/layout.ts';
import type { Clock } from '../shared/clock.ts';
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import type { MessageOf, ReadyMessage } from '../shared/protocol/messages.ts';

/** A path that still fails after this time fails the worker, ms. */
const PROBE_WITHIN_MS = 5_000;
/** Pause between two probes, ms. */
const PROBE_PAUSE_MS = 250;

type Request = NonNullable<MessageOf<'welcome'>['probe']>;
type Answer = NonNullable<ReadyMessage['probe']>;

/** @throws PATH_UNUSABLE, DISK_FULL naming path, process, host and cure; ABORTED */
export async function probePaths(request: Request, clock: Clock, signal: AbortSignal): Promise<Answer> {
  const untilMs = clock.monotonicMs() + PROBE_WITHIN_MS;
  for (;;) {
    try {
      return await probeOnce(request);
    } catch (error) {
      if (clock.monotonicMs() >= untilMs) throw withCure(toTrainerError(error));
    }
    await clock.sleep(PROBE_PAUSE_MS, signal);
  }
}

async function probeOnce({ path, checkpoint }: Request): Promise<Answer> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw toStorageError(error, 'read', path);
  });
  const file = `worker-${randomUUID()}`;
  await writeNewFile(join(dirname(path), file), text);
  if (checkpoint !== undefined) {
    const manifest = join(checkpoint, MANIFEST_FILE);
    await access(manifest, constants.R_OK).catch((error: unknown) => {
      throw toStorageError(error, 'read', manifest);
    });
  }
  return { text, file };
}

function withCure({ code, message, cause }: TrainerError): TrainerError {
  const host = hostname();
  return new TrainerError(
    code,
    `process ${process.pid} on ${host}: ${message}; it needs the files of its coordinator: mount their file system on ${host} ` +
      'under the same path, with the right to write there, or put the run where all hosts have it (docs/assumptions.md#disk)',
    { cause },
  );
}
