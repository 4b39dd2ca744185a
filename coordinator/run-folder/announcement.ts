/** `coordinator.json` in the run folder: workers, `exmix status` and the next coordinator find address and token of the run there. */
import { lookup } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { isWildcard, ownAddresses, urlHost } from '../../shared/addresses.ts';
import { replaceFile, systemCode, toStorageError } from '../../shared/atomic-file.ts';

const ANNOUNCEMENT_FILE = 'coordinator.json';

const announcementSchema = z.object({ url: z.string(), token: z.string() });

export type CoordinatorAddress = z.output<typeof announcementSchema>;

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
  const text = JSON.stringify({ url, token, pid: process.pid, epoch }, undefined, 2);
  await replaceFile(join(runFolder, ANNOUNCEMENT_FILE), `${text}\n`, 0o600);
}

/** @returns undefined where no coordinator was ever announced @throws PATH_UNUSABLE */
export async function readAnnouncement(runFolder: string): Promise<CoordinatorAddress | undefined> {
  const path = join(runFolder, ANNOUNCEMENT_FILE);
  try {
    return announcementSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw toStorageError(error, 'read', path);
  }
}
