/**
 * A Hugging Face hub for tests: a real HTTP server with the part of the hub's API that reading data sets needs.
 *
 * | request | answer |
 * |---|---|
 * | `GET /api/datasets/ID[/revision/REV]` | `sha` of the commit, `gated`, … |
 * | `GET /api/datasets/ID/tree/REV?recursive=true` | files with sizes, `oid` and, for parquet files, `lfs.oid`; in pages, `Link: rel="next"` |
 * | `POST /api/datasets/ID/paths-info/REV` | the same for given paths |
 * | `GET\|HEAD /datasets/ID/resolve/REV/PATH` | LFS files: 302 to `/cdn/SHA256`; others: the bytes; ranges in both |
 *
 * REV is a commit, `main`, `refs/convert/parquet` or a tag. As on the real hub, a missing repository answers 401
 * without a token. A gated one answers 401 without a token, and 403 with a token that may not read it. `X-Error-Code`
 * says which.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type MockFiles = Readonly<Record<string, Uint8Array | string>>;

export interface MockDataset {
  /** Path in the repository → content, on `main`. */
  readonly files: MockFiles;
  /** The same on `refs/convert/parquet`, e.g. `mnli/train/0000.parquet`. */
  readonly converted?: MockFiles;
  /** Tags and branches: name → files. */
  readonly revisions?: Readonly<Record<string, MockFiles>>;
  /** Only this token may read it. Other tokens get 403, no token gets 401. */
  readonly gatedTo?: string;
}

/** A fault of the hub, for requests whose method and URL contain `match`. */
export interface MockFault {
  /** Part of `GET /datasets/…`. Default: every request. */
  readonly match?: string;
  /** Number of requests that it affects. Default: 1. */
  readonly times?: number;
  /** Answers this status. */
  readonly status?: number;
  /** Seconds, for the header Retry-After. */
  readonly retryAfter?: number;
  /** Breaks the connection after this many bytes of the body. */
  readonly cutAfter?: number;
  /** Never answers. */
  readonly hang?: boolean;
  /** Sends other bytes than the file has. */
  readonly corrupt?: boolean;
  /** Answers this page of HTML with status 200. */
  readonly page?: string;
  /** X-Error-Code of `status`; none if empty. Default: `Mock`. */
  readonly code?: string;
}

export interface MockHub {
  /** For `--hub-url`, HF_ENDPOINT, createSourceAccess({ hubUrl }). */
  readonly url: string;
  /** `GET /path?query` of all requests so far. */
  readonly requests: readonly string[];
  /** Bytes of bodies sent so far. */
  readonly bytesSent: () => number;
  /** Adds a fault. Faults are used in the order in which they were added. */
  fault(fault: MockFault): void;
  /** Adds a commit with other files on a revision, default `main`. Earlier commits stay. @returns the commit */
  commit(dataset: string, files: MockFiles, revision?: string): string;
  /** The current commit of a revision. */
  commitOf(dataset: string, revision?: string): string;
  close(): Promise<void>;
}

export interface MockHubInit {
  readonly datasets: Readonly<Record<string, MockDataset>>;
  /** Files on a page of a listing. Default: 1,000. */
  readonly pageSize?: number;
  /** Default: any free port. */
  readonly port?: number;
  /** The Link header of a page of a listing, from the URL of the next page. Default: that URL, on this hub. */
  readonly linkTo?: (next: URL) => string;
  /** Servers of files: their ETags differ. Each request is led to the next one. Default: this hub, with the hash as ETag. */
  readonly numEdges?: number;
}

const CONVERTED = 'refs/convert/parquet';

interface Repository {
  readonly gatedTo: string | undefined;
  readonly commits: Map<string, MockFiles>;
  readonly refs: Map<string, string>;
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const gitOid = (bytes: Uint8Array) => createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
const toBytes = (content: Uint8Array | string) => (typeof content === 'string' ? Buffer.from(content) : content);

export async function startMockHub({
  datasets,
  pageSize = 1_000,
  port = 0,
  linkTo = (next) => `<${next.href}>; rel="next"`,
  numEdges = 0,
}: MockHubInit): Promise<MockHub> {
  const repositories = new Map<string, Repository>();
  const blobs = new Map<string, Uint8Array>();
  const faults: { fault: MockFault; left: number }[] = [];
  const requests: string[] = [];
  let bytesSent = 0;
  let numLed = 0;

  const commit = (dataset: string, files: MockFiles, revision = 'main'): string => {
    const repository = repositories.get(dataset)!;
    const hash = createHash('sha1').update(`${dataset} ${revision} ${repository.commits.size}`);
    for (const [path, content] of Object.entries(files)) {
      const bytes = toBytes(content);
      hash.update(path).update(bytes);
      blobs.set(sha256(bytes), bytes);
    }
    const sha = hash.digest('hex');
    repository.commits.set(sha, files);
    repository.refs.set(revision, sha);
    return sha;
  };
  for (const [id, dataset] of Object.entries(datasets)) {
    repositories.set(id, { gatedTo: dataset.gatedTo, commits: new Map(), refs: new Map() });
    commit(id, dataset.files);
    if (dataset.converted !== undefined) commit(id, dataset.converted, CONVERTED);
    for (const [revision, files] of Object.entries(dataset.revisions ?? {})) commit(id, files, revision);
  }

  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = 'GET', url: target = '/' } = request;
    const url = new URL(target, 'http://hub');
    requests.push(`${method} ${target}`);
    const entry = faults.find(({ fault, left }) => left > 0 && `${method} ${target}`.includes(fault.match ?? ''));
    if (entry !== undefined) entry.left -= 1;
    const fault = entry?.fault;
    if (fault?.hang === true) return;
    if (fault?.status !== undefined) {
      if (fault.retryAfter !== undefined) response.setHeader('retry-after', fault.retryAfter);
      fail(response, fault.status, fault.code ?? 'Mock', `fault ${fault.status}`);
      return;
    }
    if (fault?.page !== undefined) {
      response.writeHead(200, { 'content-type': 'text/html' }).end(fault.page);
      return;
    }
    const [, edge, cdn] = /^\/cdn\/(?:edge-(\d+)\/)?([0-9a-f]{64})$/u.exec(url.pathname) ?? [];
    if (cdn !== undefined) {
      const etag = edge === undefined ? `"${cdn}"` : `"${edge}-${cdn.slice(0, 8)}"`;
      if ((request.headers['if-match'] ?? etag) === etag) sendBytes(request, response, blobs.get(cdn)!, etag, fault);
      else response.writeHead(412).end();
      return;
    }
    const route =
      /^\/api\/datasets\/(?<id>.+?)(?:\/(?<action>revision|tree|paths-info)\/(?<rest>.+))?$/u.exec(url.pathname) ??
      /^\/datasets\/(?<id>.+?)\/(?<action>resolve)\/(?<rest>.+)$/u.exec(url.pathname);
    const { id = '', action = 'revision', rest = 'main' } = route?.groups ?? {};
    const token = /^Bearer (.+)$/u.exec(request.headers.authorization ?? '')?.[1];
    const repository = repositories.get(decodeURIComponent(id));
    if (repository === undefined) {
      fail(response, token === undefined ? 401 : 404, 'RepoNotFound', 'Repository not found');
      return;
    }
    if (repository.gatedTo !== undefined && token !== repository.gatedTo && action !== 'revision') {
      fail(response, token === undefined ? 401 : 403, 'GatedRepo', `Access to dataset ${id} is restricted`);
      return;
    }
    const found = findCommit(repository, action, rest);
    if (found === undefined) {
      fail(response, 404, 'RevisionNotFound', `Invalid rev id: ${rest}`);
      return;
    }
    const { sha, path } = found;
    const files = repository.commits.get(sha)!;
    const toEntry = (name: string) => {
      const bytes = toBytes(files[name]!);
      const lfs = isLfs(name) ? { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 132 } } : {};
      return { type: 'file', path: name, size: bytes.length, oid: gitOid(bytes), ...lfs };
    };
    switch (action) {
      case 'tree': {
        const names = Object.keys(files)
          .filter((name) => path === '' || name.startsWith(`${path}/`))
          .sort();
        const start = Number(url.searchParams.get('cursor') ?? 0);
        if (start + pageSize < names.length) {
          url.searchParams.set('cursor', String(start + pageSize));
          response.setHeader(
            'link',
            linkTo(new URL(url.pathname + url.search, `http://${request.headers.host ?? ''}`)),
          );
        }
        sendJson(response, names.slice(start, start + pageSize).map(toEntry), fault);
        return;
      }
      case 'paths-info': {
        let body = '';
        for await (const chunk of request) body += String(chunk);
        const { paths } = JSON.parse(body) as { paths: string[] };
        sendJson(response, paths.filter((name) => name in files).map(toEntry), fault);
        return;
      }
      case 'resolve': {
        const content = files[path];
        if (content === undefined) {
          fail(response, 404, 'EntryNotFound', 'Entry not found');
          return;
        }
        const bytes = toBytes(content);
        response.setHeader('x-repo-commit', sha);
        if (!isLfs(path)) {
          sendBytes(request, response, bytes, `"${gitOid(bytes)}"`, fault);
          return;
        }
        response.setHeader('x-linked-size', bytes.length);
        response.setHeader('x-linked-etag', `"${sha256(bytes)}"`);
        const edge = numEdges === 0 ? '' : `edge-${numLed++ % numEdges}/`;
        response.writeHead(302, { location: `/cdn/${edge}${sha256(bytes)}` }).end();
        return;
      }
      default:
        sendJson(
          response,
          {
            _id: createHash('sha1').update(id).digest('hex').slice(0, 24),
            id,
            sha,
            private: false,
            gated: repository.gatedTo === undefined ? false : 'manual',
            downloads: 0,
            likes: 0,
            lastModified: '2024-01-01T00:00:00.000Z',
          },
          fault,
        );
    }
  };

  function sendJson(response: ServerResponse, value: unknown, fault: MockFault | undefined): void {
    response.setHeader('content-type', 'application/json');
    send(response, 200, Buffer.from(JSON.stringify(value)), fault);
  }

  function sendBytes(
    request: IncomingMessage,
    response: ServerResponse,
    bytes: Uint8Array,
    etag: string,
    fault: MockFault | undefined,
  ): void {
    response.setHeader('etag', etag);
    response.setHeader('accept-ranges', 'bytes');
    const range = /^bytes=(\d+)-(\d*)$/u.exec(request.headers.range ?? '');
    const from = Number(range?.[1] ?? 0);
    const to =
      range?.[2] === undefined || range[2] === '' ? bytes.length : Math.min(bytes.length, Number(range[2]) + 1);
    if (range !== null && from >= bytes.length) {
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
      return;
    }
    if (range !== null) response.setHeader('content-range', `bytes ${from}-${to - 1}/${bytes.length}`);
    const part = Uint8Array.from(bytes.subarray(from, to));
    if (fault?.corrupt === true && part.length > 0) part[part.length - 1]! ^= 1;
    if (request.method === 'HEAD') response.writeHead(200, { 'content-length': part.length }).end();
    else send(response, range === null ? 200 : 206, part, fault);
  }

  function send(response: ServerResponse, status: number, bytes: Uint8Array, fault: MockFault | undefined): void {
    response.writeHead(status, { 'content-length': bytes.length });
    if (fault?.cutAfter === undefined) {
      bytesSent += bytes.length;
      response.end(bytes);
      return;
    }
    const part = bytes.subarray(0, fault.cutAfter);
    bytesSent += part.length;
    response.write(part, () => response.destroy());
  }

  const server = createServer((request, response) => {
    respond(request, response).catch((error: unknown) => fail(response, 500, 'Mock', String(error)));
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    bytesSent: () => bytesSent,
    fault: (fault) => faults.push({ fault, left: fault.times ?? 1 }),
    commit,
    commitOf: (dataset, revision = 'main') => repositories.get(dataset)!.refs.get(revision)!,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Parquet and archives are LFS files, as on the hub. */
function isLfs(path: string): boolean {
  return /\.(parquet|gz|zip|arrow)$/u.test(path);
}

/** Parses `REV/path` or, for revision and paths-info, `REV`. The slashes of REV may be encoded. */
function findCommit(
  { commits, refs }: Repository,
  action: string,
  rest: string,
): { sha: string; path: string } | undefined {
  const decoded = rest.split('/').map(decodeURIComponent).join('/');
  for (const name of [...refs.keys(), ...commits.keys(), 'HEAD']) {
    const sha = name === 'HEAD' ? refs.get('main')! : (refs.get(name) ?? name);
    if (decoded === name) return { sha, path: '' };
    if ((action === 'tree' || action === 'resolve') && decoded.startsWith(`${name}/`))
      return { sha, path: decoded.slice(name.length + 1) };
  }
  return undefined;
}

function fail(response: ServerResponse, status: number, code: string, message: string): void {
  if (code !== '') response.setHeader('x-error-code', code);
  response.setHeader('content-type', 'application/json');
  response.writeHead(status).end(JSON.stringify({ error: message }));
}
