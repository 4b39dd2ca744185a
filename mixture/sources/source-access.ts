/** How sources are reached: hub, token, cache, storage. No other file of this folder reads environment variables. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { TrainerError } from '../../shared/errors.ts';
import { exmixHome } from '../../shared/exmix-home.ts';
import { hasLogin, nameLocation } from '../../shared/storage/location.ts';
import type { StorageOptions } from '../../shared/storage/open-storage.ts';
import { readSmallFileSync } from '../../shared/small-file.ts';
import { formatRetry } from '../../shared/storage/retries.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** How sources are reached. */
export interface SourceAccess {
  /** Base URL of the hub, without a trailing slash. */
  readonly hubUrl: string;
  readonly hubToken?: string;
  /** Folder of downloads and of hashes of local files. Created when needed; any number of processes may share it. */
  readonly cacheFolder: string;
  /** Retries, their listener, the S3 server. Default: the policy of shared/storage and the AWS_* variables. */
  readonly storage?: StorageOptions;
}

export interface SourceAccessInit {
  readonly hubUrl?: string;
  readonly cacheFolder?: string;
  readonly storage?: StorageOptions;
  readonly environment?: Environment;
}

/** Access from the environment: HF_ENDPOINT, HF_TOKEN (HF_TOKEN_PATH, HF_HOME), EXMIX_HOME. */
export function createSourceAccess({
  hubUrl,
  cacheFolder,
  storage,
  environment = process.env,
}: SourceAccessInit = {}): SourceAccess {
  const hubToken = readHubToken(environment);
  const endpoint = environment['HF_ENDPOINT'];
  const fallback = endpoint === undefined || endpoint === '' ? 'https://huggingface.co' : endpoint;
  const hub = (hubUrl ?? fallback).replace(/\/+$/u, '');
  if (hasLogin(hub))
    throw new TrainerError(
      'CONFIG_INVALID',
      `hub ${nameLocation(hub)}: expected a URL without login; give HF_TOKEN instead`,
    );
  return {
    hubUrl: hub,
    ...(hubToken === undefined ? {} : { hubToken }),
    cacheFolder: cacheFolder ?? join(exmixHome(environment), 'sources'),
    ...(storage === undefined ? {} : { storage }),
  };
}

/**
 * `$HF_TOKEN`, else the file `$HF_TOKEN_PATH`, else `$HF_HOME/token`, else `~/.cache/huggingface/token`, as the tools
 * of Hugging Face do. Undefined if there is none.
 */
function readHubToken(environment: Environment): string | undefined {
  const given = environment['HF_TOKEN']?.trim();
  if (given !== undefined && given !== '') return given;
  const home = environment['HF_HOME'] ?? join(environment['HOME'] ?? homedir(), '.cache', 'huggingface');
  try {
    const token = readSmallFileSync(environment['HF_TOKEN_PATH'] ?? join(home, 'token'))
      .toString('utf8')
      .trim();
    return token === '' ? undefined : token;
  } catch {
    return undefined; // public sets do not need a token
  }
}

/** The same access that also reports each retry as a line. An existing listener stays. */
export function reportRetries(access: SourceAccess, onNote: ((line: string) => void) | undefined): SourceAccess {
  if (onNote === undefined || access.storage?.onRetry !== undefined) return access;
  return { ...access, storage: { ...access.storage, onRetry: (notice) => onNote(formatRetry(notice)) } };
}

/** The part of it that can be sent to another process: all except the functions of its storage. */
export function plainAccess({ storage, ...access }: SourceAccess): SourceAccess {
  return storage === undefined ? access : { ...access, storage: { retry: storage.retry, s3: storage.s3 } };
}
