/** How sources are reached: hub, token, cache, storage. The one place of this room that looks at environment variables. */
import { join } from 'node:path';
import { exmixHome } from '../../shared/exmix-home.ts';
import type { StorageOptions } from '../../shared/storage/open-storage.ts';
import { formatRetry } from '../../shared/storage/retries.ts';
import { readHubToken } from './hub/hub-token.ts';

/** How sources are reached. */
export interface SourceAccess {
  /** Base URL of the hub, without a slash at its end. */
  readonly hubUrl: string;
  readonly hubToken?: string;
  /** Folder of downloads and of hashes of local files; made when needed. May be shared by any number of processes. */
  readonly cacheFolder: string;
  /** Retries, who is told of them, the S3 server; default: the policy of shared/storage, the AWS_* variables. */
  readonly storage?: StorageOptions;
}

export interface SourceAccessInit {
  readonly hubUrl?: string;
  readonly cacheFolder?: string;
  readonly storage?: StorageOptions;
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** Access by the usual variables: HF_ENDPOINT, HF_TOKEN (HF_TOKEN_PATH, HF_HOME), EXMIX_HOME. */
export function createSourceAccess({
  hubUrl,
  cacheFolder,
  storage,
  environment = process.env,
}: SourceAccessInit = {}): SourceAccess {
  const hubToken = readHubToken(environment);
  const endpoint = environment['HF_ENDPOINT'];
  const fallback = endpoint === undefined || endpoint === '' ? 'https://huggingface.co' : endpoint;
  return {
    hubUrl: (hubUrl ?? fallback).replace(/\/+$/u, ''),
    ...(hubToken === undefined ? {} : { hubToken }),
    cacheFolder: cacheFolder ?? join(exmixHome(environment), 'sources'),
    ...(storage === undefined ? {} : { storage }),
  };
}

/** The same access, whose reads tell each attempt that failed and is repeated; unless somebody else is told already. */
export function tellRetries(access: SourceAccess, onNote: ((line: string) => void) | undefined): SourceAccess {
  if (onNote === undefined || access.storage?.onRetry !== undefined) return access;
  return { ...access, storage: { ...access.storage, onRetry: (notice) => onNote(formatRetry(notice)) } };
}

/** What of it can be sent to another process: all but the functions of its storage. */
export function plainAccess({ storage, ...access }: SourceAccess): SourceAccess {
  return storage === undefined ? access : { ...access, storage: { retry: storage.retry, s3: storage.s3 } };
}
