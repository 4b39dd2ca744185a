/** How sources are reached: hub, token, cache, storage. The one place of this room that looks at environment variables. */
import { join } from 'node:path';
import { exmixHome } from '../../shared/exmix-home.ts';

export interface SourceAccess {
  /** Base URL of the hub, without a slash at its end. */
  readonly hubUrl: string;
  readonly hubToken?: string;
  /** Folder of downloads and of hashes of local files; made when needed. May be shared by any number of processes. */
  readonly cacheFolder: string;
}

export interface SourceAccessInit {
  readonly hubUrl?: string;
  readonly cacheFolder?: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
}

/** Access by the usual variables: HF_ENDPOINT, HF_TOKEN, EXMIX_HOME. */
export function createSourceAccess({
  hubUrl,
  cacheFolder,
  environment = process.env,
}: SourceAccessInit = {}): SourceAccess {
  const token = environment['HF_TOKEN'];
  return {
    hubUrl: (hubUrl ?? (environment['HF_ENDPOINT'] || 'https://huggingface.co')).replace(/\/+$/u, ''),
    ...(token === undefined || token === '' ? {} : { hubToken: token }),
    cacheFolder: cacheFolder ?? join(exmixHome(environment), 'sources'),
  };
}
