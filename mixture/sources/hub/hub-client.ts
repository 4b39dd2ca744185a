/**
 * The hub's API through @huggingface/hub, with our retry policy and our errors.
 *
 * We pass our own `fetch`. It adds the token (also for mirrors, whose tokens look different) and retries. It reads each
 * answer completely, so that a truncated answer is retried too. It asks every page of a listing of the hub that was
 * given: a mirror may pass on links to the hub that it mirrors, or relative ones. It turns the hub's error codes into
 * messages that say what to do.
 */
import { nameLocation } from '../../../shared/storage/location.ts';
import { datasetInfo, listFiles } from '@huggingface/hub';
import { toTrainerError, TrainerError } from '../../../shared/errors.ts';
import { checkStatus, exchange, readBody, send, type Attempt } from '../../../shared/storage/http-exchange.ts';
import { Retries } from '../../../shared/storage/retries.ts';
import { compareKeys } from '../../../shared/storage/storage.ts';
import type { SourceAccess } from '../source-access.ts';

/** Largest answer, bytes. A listing page of 1,000 files has about 0.3 MB. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
/** Characters of the hub's message that are shown. */
const MAX_SAID = 200;

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

  /** @throws CONFIG_INVALID if the hub's address is no URL */
  constructor(dataset: string, access: SourceAccess, signal?: AbortSignal) {
    checkHubUrl(access.hubUrl);
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
      return exchange(retries, signal, async (attempt) => {
        const request = new Request(input, init);
        if (hubToken !== undefined && new URL(request.url).origin === new URL(hubUrl).origin)
          request.headers.set('authorization', `Bearer ${hubToken}`);
        const response = await send(request, storage, attempt);
        const refusal = response.ok ? undefined : hubRefusal(this.#dataset, this.#access, response, attempt);
        if (refusal !== undefined) {
          await response.body?.cancel();
          throw refusal;
        }
        await checkStatus(response, place, attempt);
        const body = await readBody(response, MAX_ANSWER_BYTES, `${place}: an answer`, attempt);
        if (!isJson(body))
          throw new TrainerError(
            'STORAGE_UNAVAILABLE',
            `${place}: expected JSON${attempt.answeredBy}, found ${/^\s*</u.test(String(body.subarray(0, 64))) ? 'a page of HTML, perhaps a login page' : 'something else'}; ` +
              'check the address of the hub or mirror, and the proxy',
          );
        const headers = new Headers();
        const next = nextPage(response.headers.get('link'), request.url, hubUrl);
        if (next !== undefined) headers.set('link', `<${next}>; rel="next"`);
        return new Response(body, { status: response.status, headers });
      });
    };
  }
}

function isJson(body: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder().decode(body));
    return true;
  } catch {
    return false;
  }
}

/**
 * The next page of a listing, on the hub that was given: of the link only what follows `/api/` counts. Undefined on the
 * last page.
 */
function nextPage(link: string | null, page: string, hubUrl: string): string | undefined {
  const target = [...(link ?? '').matchAll(/<([^>]*)>([^,<]*)/gu)].find(([, , parameters]) =>
    /;\s*rel\s*=\s*"?next"?/iu.test(parameters!),
  )?.[1];
  if (target === undefined || !URL.canParse(target, page)) return undefined;
  const { pathname, search } = new URL(target, page);
  const api = pathname.indexOf('/api/');
  return `${hubUrl}${api < 0 ? pathname : pathname.slice(api)}${search}`;
}

function checkHubUrl(hubUrl: string): void {
  if (URL.canParse(hubUrl) && ['http:', 'https:'].includes(new URL(hubUrl).protocol)) return;
  const isBare = /^[\w.-]+(:\d+)?(\/.*)?$/u.test(hubUrl);
  throw new TrainerError(
    'CONFIG_INVALID',
    `address of the hub (--hub-url, HF_ENDPOINT): expected a URL that starts with http:// or https://${isBare ? `, found ${hubUrl}; write https://${hubUrl}` : ''}`,
  );
}

class RevisionMissing extends TrainerError {}
class EntryMissing extends TrainerError {}

/**
 * The error of an answer 401, 403 or 404, by the header X-Error-Code, which the hub sends and other servers do not. Only the hub's
 * word makes a set a gated one. Undefined for other statuses, and for answers of servers that are no hub.
 */
export function hubRefusal(
  dataset: string,
  { hubUrl, hubToken }: SourceAccess,
  { status, headers }: Response,
  { answeredBy }: Attempt,
): TrainerError | undefined {
  if (status !== 401 && status !== 403 && status !== 404) return undefined;
  const hasToken = hubToken !== undefined;
  const said = (headers.get('x-error-message') ?? '').slice(0, MAX_SAID);
  const saying = `(${status}${said === '' ? '' : `: ${said}`})${answeredBy}`;
  switch (headers.get('x-error-code') ?? '') {
    case 'RevisionNotFound':
      return new RevisionMissing('NAME_UNKNOWN', `${dataset}: no such revision on ${hubUrl}`);
    case 'EntryNotFound':
      return new EntryMissing('STORAGE_NOT_FOUND', `${dataset}: no such file on ${hubUrl}`);
    case 'GatedRepo':
      return new TrainerError(
        'STORAGE_DENIED',
        `data set ${dataset} is gated (${status}): accept its terms on ${hubUrl}/datasets/${dataset}, then ` +
          (hasToken
            ? 'use a token of that account that may read gated repositories'
            : 'set HF_TOKEN to a token of that account'),
      );
    case 'RepoNotFound':
      if (status === 404 || hasToken) return unknownSet(dataset, hubUrl, saying);
      return new TrainerError(
        'STORAGE_DENIED',
        `data set ${dataset}: ${hubUrl} refused access ${saying}: there is no such data set, or it is private; ` +
          'check the name, or set HF_TOKEN',
      );
    default:
  }
  if (status === 404) return unknownSet(dataset, hubUrl, saying);
  const cure = hasToken
    ? 'check that HF_TOKEN is a token of that server that may read the set'
    : 'if the set is not public, set HF_TOKEN';
  return new TrainerError(
    'STORAGE_DENIED',
    `data set ${dataset}: ${hubUrl} refused access ${saying} without the hub's word why: ${cure}; ` +
      'if a proxy or firewall answered, allow the host there',
  );
}

function unknownSet(dataset: string, hubUrl: string, saying: string): TrainerError {
  return new TrainerError(
    'NAME_UNKNOWN',
    `no data set ${dataset} on ${hubUrl} ${saying}; check its name and its owner's`,
  );
}
