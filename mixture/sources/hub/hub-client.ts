/**
 * The hub's API through @huggingface/hub, with our retry policy and our errors.
 *
 * We pass our own `fetch`. It adds the token (also for mirrors, whose tokens look different) and retries. It reads each
 * answer completely, so that a truncated answer is retried too. It turns the hub's error codes into messages that say
 * what to do.
 */
import { nameLocation } from '../../../shared/storage/location.ts';
import { datasetInfo, listFiles } from '@huggingface/hub';
import { toTrainerError, TrainerError } from '../../../shared/errors.ts';
import { checkStatus, exchange, readBody } from '../../../shared/storage/http-exchange.ts';
import { Retries } from '../../../shared/storage/retries.ts';
import { compareKeys } from '../../../shared/storage/storage.ts';
import type { SourceAccess } from '../source-access.ts';

/** Largest answer, bytes. A listing page of 1,000 files has about 0.3 MB. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

export interface HubFile {
  readonly path: string;
  readonly bytes: number;
  /** `sha256:…` for LFS files, `git:…` for others. */
  readonly version: string;
}

export class HubClient {
  readonly #dataset: string;
  readonly #access: SourceAccess;
  readonly #signal: AbortSignal | undefined;

  constructor(dataset: string, access: SourceAccess, signal?: AbortSignal) {
    this.#dataset = dataset;
    this.#access = access;
    this.#signal = signal;
  }

  /**
   * The current commit of a revision. Undefined if there is no such revision.
   * @throws STORAGE_DENIED, NAME_UNKNOWN if there is no such data set, STORAGE_UNAVAILABLE, ABORTED
   */
  async findCommit(revision: string): Promise<string | undefined> {
    try {
      const info = await datasetInfo({
        name: this.#dataset,
        revision,
        additionalFields: ['sha'],
        hubUrl: this.#access.hubUrl,
        fetch: this.#fetch(`the commit of ${revision}`),
      });
      return info.sha;
    } catch (error) {
      if (error instanceof RevisionMissing) return undefined;
      throw toTrainerError(error);
    }
  }

  /** All files below a folder. Empty if there is no such folder. @throws as findCommit */
  async listFiles(commit: string, folder = ''): Promise<HubFile[]> {
    const files: HubFile[] = [];
    try {
      for await (const { type, path, size, oid, lfs } of listFiles({
        repo: { type: 'dataset', name: this.#dataset },
        revision: commit,
        recursive: true,
        ...(folder === '' ? {} : { path: folder }),
        hubUrl: this.#access.hubUrl,
        fetch: this.#fetch('its files'),
      })) {
        if (type !== 'file') continue;
        const version = lfs === undefined ? `git:${oid ?? ''}` : `sha256:${lfs.oid}`;
        files.push({ path, bytes: lfs?.size ?? size, version });
      }
    } catch (error) {
      if (error instanceof EntryMissing) return [];
      throw toTrainerError(error);
    }
    return files.sort((a, b) => compareKeys(a.path, b.path));
  }

  #fetch(what: string): typeof fetch {
    const { hubUrl, hubToken, storage = {} } = this.#access;
    const signal = this.#signal;
    const place = `data set ${this.#dataset} on ${nameLocation(hubUrl)}`;
    return (input, init) => {
      const retries = new Retries(`asking ${place} for ${what}`, storage, signal);
      return exchange(retries, signal, async (watch) => {
        const request = new Request(input, init);
        if (hubToken !== undefined && new URL(request.url).origin === new URL(hubUrl).origin)
          request.headers.set('authorization', `Bearer ${hubToken}`);
        const response = await (storage.fetch ?? fetch)(request, { signal: watch.signal });
        if (response.status === 401 || response.status === 403 || response.status === 404) {
          const code = response.headers.get('x-error-code') ?? '';
          await response.body?.cancel();
          throw hubError(this.#dataset, nameLocation(hubUrl), response.status, code, hubToken !== undefined);
        }
        await checkStatus(response, place);
        const body = await readBody(response, MAX_ANSWER_BYTES, `${place}: an answer`, watch);
        return new Response(body, { status: response.status, headers: response.headers });
      });
    };
  }
}

class RevisionMissing extends TrainerError {}
class EntryMissing extends TrainerError {}

/** @param code the header X-Error-Code @param hasToken whether the request had a token */
function hubError(dataset: string, hubUrl: string, status: number, code: string, hasToken: boolean): TrainerError {
  const page = `${hubUrl}/datasets/${dataset}`;
  if (code === 'RevisionNotFound')
    return new RevisionMissing('NAME_UNKNOWN', `${dataset}: no such revision on ${hubUrl}`);
  if (code === 'EntryNotFound') return new EntryMissing('STORAGE_NOT_FOUND', `${dataset}: no such file on ${hubUrl}`);
  if (status === 403 || code === 'GatedRepo' || (status === 401 && hasToken && code !== 'RepoNotFound'))
    return new TrainerError(
      'STORAGE_DENIED',
      `data set ${dataset} is gated (${status}): accept its terms on ${page}, then ` +
        (hasToken
          ? 'use a token of that account that may read gated repositories'
          : 'set HF_TOKEN to a token of that account'),
    );
  if (status === 401)
    return new TrainerError(
      'STORAGE_DENIED',
      `data set ${dataset}: ${hubUrl} refused access (401): there is no such data set, or it is private or gated; ` +
        'check the name, or accept its terms and set HF_TOKEN',
    );
  return new TrainerError(
    'NAME_UNKNOWN',
    `no data set ${dataset} on ${hubUrl} (${status}); check its name and its owner's`,
  );
}
