/** Location → the storage that serves it. */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TrainerError } from '../errors.ts';
import type { HttpInit } from './http-objects.ts';
import { HttpStorage } from './http-storage.ts';
import { LocalStorage } from './local-storage.ts';
import { s3OptionsOf, type S3Options } from './s3-options.ts';
import { S3Storage } from './s3-storage.ts';
import type { Storage } from './storage.ts';

export interface StorageOptions extends HttpInit {
  /** Default: by the AWS_* variables. */
  readonly s3?: S3Options | undefined;
}

/** `https:`, `s3:`, …: two letters or more, so that a drive letter is a path. */
const SCHEME = /^([a-z][a-z0-9+.-]+):\/\//iu;

/** Whether a location is on this machine: a path or a file: URL. */
export function isLocalLocation(location: string): boolean {
  const scheme = SCHEME.exec(location)?.[1]?.toLowerCase();
  return scheme === undefined || scheme === 'file';
}

/**
 * @param location a path, or a file:, http:, https: or s3: URL, of a folder (a prefix) or of one object
 * @throws CONFIG_INVALID for another scheme, or a URL that is none
 */
export function openStorage(location: string, options: StorageOptions = {}): Storage {
  switch (SCHEME.exec(location)?.[1]?.toLowerCase()) {
    case undefined:
      return new LocalStorage(resolve(location));
    case 'file':
      return new LocalStorage(fileURLToPath(location));
    case 'http':
    case 'https':
      return new HttpStorage(location, options);
    case 's3':
      return new S3Storage(location, options.s3 ?? s3OptionsOf(process.env), options);
    default:
      throw new TrainerError(
        'CONFIG_INVALID',
        `${location}: expected a path or a URL that starts with file:, http:, https: or s3:`,
      );
  }
}
