/**
 * Plain HTTP on the control port: JSON in, JSON out, one handler for each route. The listener has checked the token of the run.
 * A failure is answered with `{ code, message }` and status 400 (the request), 404 (no such route), 409 (not now) or 500.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { toErrorRecord, toTrainerError, TrainerError, type ErrorCode } from '../../shared/errors.ts';

/** Largest body of a request, B. */
const MAX_BODY_BYTES = 65_536;

export interface RouteRequest {
  readonly query: URLSearchParams;
  /** Parsed JSON; undefined where there was none. */
  readonly body: unknown;
}

/** `METHOD /path` → its handler. */
export type Routes = Readonly<Record<string, (request: RouteRequest) => unknown>>;

/** Answers a request with the handler of its route. Never rejects. */
export async function answerRequest(routes: Routes, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [path, query] = (request.url ?? '/').split('?', 2);
  const name = `${request.method ?? ''} ${path ?? ''}`;
  const reply = (status: number, body: unknown): void => {
    const text = JSON.stringify(body);
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(text);
  };
  try {
    const route = Object.hasOwn(routes, name) ? routes[name] : undefined;
    if (route === undefined)
      reply(404, { code: 'MESSAGE_INVALID', message: `expected ${Object.keys(routes).join(', ')}` });
    else reply(200, await route({ query: new URLSearchParams(query), body: await readBody(request) }));
  } catch (thrown) {
    reply(statusOf(toTrainerError(thrown).code), toErrorRecord(thrown));
  }
}

function statusOf(code: ErrorCode): number {
  if (code === 'RUN_NOT_TRAINING') return 409;
  return ['CONFIG_INVALID', 'NAME_UNKNOWN', 'MESSAGE_INVALID', 'MESSAGE_TOO_LARGE'].includes(code) ? 400 : 500;
}

/** @throws MESSAGE_TOO_LARGE, MESSAGE_INVALID */
async function readBody(request: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = [];
  let numBytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    numBytes += piece.length;
    if (numBytes > MAX_BODY_BYTES)
      throw new TrainerError('MESSAGE_TOO_LARGE', `expected a body of at most ${MAX_BODY_BYTES} B, got more`);
    pieces.push(piece);
  }
  if (numBytes === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'));
  } catch (error) {
    throw new TrainerError('MESSAGE_INVALID', `expected JSON: ${(error as Error).message}`, { cause: error });
  }
}
