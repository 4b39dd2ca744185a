/** Opens the storage of a location. */
import { resolve } from 'node:path';
import { TrainerError } from '../errors.ts';
import type { HttpInit } from './http-exchange.ts';
import { HttpStorage } from './http-storage.ts';
import { LocalStorage } from './local-storage.ts';
import { localPathOf, nameLocation, schemeOf } from './location.ts';
import { s3OptionsOf, type S3Options } from './s3-options.ts';
import { S3Storage } from './s3-storage.ts';
import type { Storage } from './storage.ts';

export interface StorageOptions extends HttpInit {
  /** Default: from the AWS_* variables. */
  readonly s3?: S3Options | undefined;
}

/**
 * @param location a path, or a file:, http:, https: or s3: URL, of a folder (a prefix) or of one object
 * @throws CONFIG_INVALID for another scheme, or an invalid URL
 */
export function openStorage(location: string, options: StorageOptions = {}): Storage {
  switch (schemeOf(location)) {
    case undefined:
    case 'file':
      return new LocalStorage(resolve(localPathOf(location)!));
    case 'http':
    case 'https':
      return new HttpStorage(location, options);
    case 's3':
      return new S3Storage(location, options.s3 ?? s3OptionsOf(process.env), options);
    default:
      throw new TrainerError(
        'CONFIG_INVALID',
        `${nameLocation(location)}: expected a path or a URL that starts with file:, http:, https: or s3:`,
      );
  }
}
