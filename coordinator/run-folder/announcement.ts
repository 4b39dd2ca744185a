/**
 * `coordinator.json` in the run folder: workers, `exmix status` and the next coordinator find address and token of the run there.
 *
 * A run folder may be a stranger's, and then its token is one that the stranger knows. The next coordinator takes the token over only if the
 * file has a seal of this user's exmix for this folder (shared/home-secret.ts).
 */
import { lookup } from 'node:dns/promises';
import { realpath } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { isWildcard, ownAddresses, urlHost } from '../../shared/addresses.ts';
import { replaceFile } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { isSealOf, sealOf } from '../../shared/home-secret.ts';
import { readIfThere } from '../../shared/small-file.ts';

const ANNOUNCEMENT_FILE = 'coordinator.json';

const announcementSchema = z.object({
  url: z.string().refine((url) => URL.canParse(url), 'expected a URL'),
  token: z.string(),
  seal: z.string().optional(),
});

export interface CoordinatorAddress {
  readonly url: string;
  readonly token: string;
}

export interface AnnouncedInit {
  /** Address of cluster.advertiseHost; undefined: none was given. */
  readonly advertise: string | undefined;
  readonly hostName: string;
  /** Addresses of `hostName`. */
  readonly ofHostName: readonly string[];
  /** Addresses of this host that others may reach. */
  readonly own: readonly string[];
}

/**
 * The URL to announce. Pure. A coordinator that listens on all addresses is announced by the name of its host where that names an address of
 * its own; else by its first address that others may reach; else, on a host without a network, by loopback.
 * @param url where it listens
 */
export function planAnnouncedUrl(url: string, { advertise, hostName, ofHostName, own }: AnnouncedInit): string {
  const { protocol, port, hostname: listened } = new URL(url);
  const named = ofHostName.some((address) => own.includes(address)) ? hostName : undefined;
  const found = isWildcard(listened.replace(/^\[(.*)\]$/u, '$1')) ? (named ?? own[0] ?? '127.0.0.1') : undefined;
  const host = advertise ?? found;
  return host === undefined ? url : `${protocol}//${urlHost(host)}:${port}`;
}

/** @param url where the coordinator listens @returns where other hosts reach it */
export async function findAnnouncedUrl(url: string, advertise?: string): Promise<string> {
  const hostName = hostname();
  const found = await lookup(hostName, { all: true }).catch(() => []);
  const ofHostName = found.map(({ address }) => address);
  return planAnnouncedUrl(url, { advertise, hostName, ofHostName, own: ownAddresses() });
}

/** Only the owner of the file may read the token. @throws DISK_FULL, PATH_UNUSABLE */
export async function announceCoordinator(
  runFolder: string,
  { url, token, epoch }: CoordinatorAddress & { readonly epoch: number },
): Promise<void> {
  // Without a home that can be written there is no seal: the next coordinator then makes a new token.
  const seal = await sealOf(await sealed(runFolder, { url, token })).catch(() => undefined);
  const text = JSON.stringify({ url, token, pid: process.pid, epoch, seal }, undefined, 2);
  await replaceFile(join(runFolder, ANNOUNCEMENT_FILE), `${text}\n`, 0o600);
}

/** @returns undefined where no coordinator was ever announced @throws PATH_UNUSABLE, also for a file that exmix did not write */
export async function readAnnouncement(runFolder: string): Promise<CoordinatorAddress | undefined> {
  return readFile(runFolder);
}

/** The announcement, if exmix of this user made it for this folder. @throws PATH_UNUSABLE */
export async function readOwnAnnouncement(runFolder: string): Promise<CoordinatorAddress | undefined> {
  const found = await readFile(runFolder);
  if (found?.seal === undefined) return undefined;
  return (await isSealOf(found.seal, await sealed(runFolder, found))) ? found : undefined;
}

async function readFile(runFolder: string): Promise<z.output<typeof announcementSchema> | undefined> {
  const path = join(runFolder, ANNOUNCEMENT_FILE);
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    return announcementSchema.parse(JSON.parse(text));
  } catch (error) {
    const message = `${path}: expected the address and token of a coordinator; remove the file`;
    throw new TrainerError('PATH_UNUSABLE', message, { cause: error });
  }
}

async function sealed(runFolder: string, { url, token }: CoordinatorAddress): Promise<readonly string[]> {
  return [ANNOUNCEMENT_FILE, await realpath(runFolder), url, token];
}
