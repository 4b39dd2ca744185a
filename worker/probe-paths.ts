/**
 * Reads and writes the paths that this worker will need, before it loads its engine: the run folder, the starting checkpoint, the prepared
 * mixture. The feed then opens the whole mixture, still before `ready`. A file server may answer late, so a failed probe is repeated for a
 * while.
 */
import { randomUUID } from 'node:crypto';
import { access, constants, readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { MIXTURE_FILE } from '../mixture/prepare/manifest.ts';
import { statIfThere, toStorageError, writeNewFile } from '../shared/atomic-file.ts';
import { CONFIG_FILE, MANIFEST_FILE } from '../shared/checkpoint/layout.ts';
import type { Clock } from '../shared/clock.ts';
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import type { MessageOf, ReadyMessage } from '../shared/protocol/messages.ts';
import { localPathOf } from '../shared/storage/location.ts';

/** A path that still fails after this time fails the worker, ms. */
const PROBE_WITHIN_MS = 5_000;
/** Pause between two probes, ms. */
const PROBE_PAUSE_MS = 250;

type Answer = NonNullable<ReadyMessage['probe']>;

export type ProbeInit = NonNullable<MessageOf<'welcome'>['probe']> & {
  /** Of the welcome; left out where the mixture is open already. */
  readonly preparedFolder?: string;
};

/** @throws PATH_UNUSABLE, DISK_FULL naming path, process, host and cure; ABORTED */
export async function probePaths(init: ProbeInit, clock: Clock, signal: AbortSignal): Promise<Answer> {
  const untilMs = clock.monotonicMs() + PROBE_WITHIN_MS;
  for (;;) {
    try {
      return await probeOnce(init);
    } catch (error) {
      if (clock.monotonicMs() >= untilMs) throw withCure(toTrainerError(error));
    }
    await clock.sleep(PROBE_PAUSE_MS, signal);
  }
}

async function probeOnce({ path, checkpoint, preparedFolder }: ProbeInit): Promise<Answer> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw toStorageError(error, 'read', path);
  });
  const file = `worker-${randomUUID()}`;
  await writeNewFile(join(dirname(path), file), text);
  if (checkpoint !== undefined) await checkReadable(join(checkpoint, await markOf(checkpoint)));
  const prepared = preparedFolder === undefined ? undefined : localPathOf(preparedFolder);
  if (prepared !== undefined) await checkReadable(join(prepared, MIXTURE_FILE));
  return { text, file };
}

/** A file that a folder of parameters has: a checkpoint a manifest, a T5 of Hugging Face its config. */
async function markOf(folder: string): Promise<string> {
  return (await statIfThere(join(folder, CONFIG_FILE))) === undefined ? MANIFEST_FILE : CONFIG_FILE;
}

async function checkReadable(path: string): Promise<void> {
  await access(path, constants.R_OK).catch((error: unknown) => {
    throw toStorageError(error, 'read', path);
  });
}

function withCure({ code, message, cause }: TrainerError): TrainerError {
  const host = hostname();
  return new TrainerError(
    code,
    `process ${process.pid} on ${host}: ${message}; it needs the files of its coordinator: mount their file system on ${host} ` +
      'under the same path, with the right to write there, or put run folder and EXMIX_HOME where all hosts have them (docs/assumptions.md#disk)',
    { cause },
  );
}
