/** A web server with scripted answers: each request gets the next one, and the last one repeats. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export interface FaultyServer {
  readonly url: string;
  /** Requests so far: method, and the header Range. */
  readonly requests: readonly string[];
  /** Answers of the next requests. */
  script(...answers: Answer[]): void;
  close(): Promise<void>;
}

export async function startFaultyServer(...answers: Answer[]): Promise<FaultyServer> {
  let script = answers;
  const requests: string[] = [];
  const server: Server = createServer((request, response) => {
    requests.push([request.method, request.headers.range].filter((part) => part !== undefined).join(' '));
    const answer = script.length > 1 ? script.shift()! : script[0]!;
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    script: (...next) => (script = next),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The object as a good server sends it, with ranges, If-Match and an ETag. @param cutAfter breaks the connection after that many bytes */
export function serve(bytes: Uint8Array, { etag = '"v1"', cutAfter = Infinity, ranges = true } = {}): Answer {
  return (request, response) => {
    response.setHeader('etag', etag);
    const wanted = request.headers['if-match'];
    if (wanted !== undefined && wanted !== etag) {
      response.writeHead(412).end();
      return;
    }
    const range = ranges ? /^bytes=(\d+)-(\d*)$/u.exec(request.headers.range ?? '') : null;
    const from = Number(range?.[1] ?? 0);
    const to = Math.min(
      bytes.length,
      range?.[2] === undefined || range[2] === '' ? bytes.length : Number(range[2]) + 1,
    );
    if (range !== null && from >= bytes.length) {
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
      return;
    }
    if (range !== null) response.setHeader('content-range', `bytes ${from}-${to - 1}/${bytes.length}`);
    response.writeHead(range === null ? 200 : 206, { 'content-length': to - from });
    if (request.method === 'HEAD') response.end();
    else if (cutAfter >= to - from) response.end(bytes.subarray(from, to));
    else response.write(bytes.subarray(from, from + cutAfter), () => response.destroy());
  };
}

export function answer(status: number, headers: Readonly<Record<string, string>> = {}, body = ''): Answer {
  return (_request, response) => response.writeHead(status, headers).end(body);
}

/** Receives the request and never answers. */
export const hang: Answer = () => undefined;
