/** Location → the storage that serves it. */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TrainerError } from '../errors.ts';
import { LocalStorage } from './local-storage.ts';
import type { Storage } from './storage.ts';

/** `https:`, `s3:`, …: two letters or more, so that a drive letter is a path. */
const SCHEME = /^([a-z][a-z0-9+.-]+):\/\//iu;

/** Whether a location is on this machine: a path or a file: URL. */
export function isLocalLocation(location: string): boolean {
  const scheme = SCHEME.exec(location)?.[1]?.toLowerCase();
  return scheme === undefined || scheme === 'file';
}

/**
 * @param location a path, or a file:, http:, https: or s3: URL, of a folder (a prefix) or of one object
 * @throws CONFIG_INVALID for another scheme
 */
export function openStorage(location: string): Storage {
  if (isLocalLocation(location))
    return new LocalStorage(location.toLowerCase().startsWith('file:') ? fileURLToPath(location) : resolve(location));
  throw new TrainerError(
    'CONFIG_INVALID',
    `${location}: expected a path or a URL that starts with file:, http:, https: or s3:`,
  );
}
