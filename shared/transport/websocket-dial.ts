/** The dialling side of a WebSocket: one deadline over name look-up, TCP and upgrade; every way to fail is a code. */
import { connect, type OnReadOpts, type Socket } from 'node:net';
import { WebSocket } from 'ws';
import { TrainerError } from '../errors.ts';
import { formatBearer } from './bearer-token.ts';
import { DEFAULT_CONNECTION_LIMITS, type DialInit } from './transport.ts';
import { WebSocketConnection } from './websocket-connection.ts';
import { REFUSAL_HEADER } from './websocket-listener.ts';

/**
 * @param onread given to the TCP socket: the received bytes go there instead of to ws
 * @param onSocket gets the TCP socket as soon as there is one
 * @throws CONNECT_FAILED, AUTH_FAILED, ABORTED, CONFIG_INVALID
 */
export function dialWebSocket(
  url: string,
  init: DialInit,
  onread?: OnReadOpts,
  onSocket?: (socket: Socket) => void,
): Promise<WebSocketConnection> {
  const { token, timeoutMs, signal } = init;
  const limits = { ...DEFAULT_CONNECTION_LIMITS, ...init.limits };
  const address = parseAddress(url);
  if (address instanceof TrainerError) return Promise.reject(address);
  if (signal?.aborted === true) return Promise.reject(aborted(url));
  return new Promise((resolve, reject) => {
    let socket: Socket | null = null;
    const webSocket = new WebSocket(url, {
      perMessageDeflate: false,
      skipUTF8Validation: true,
      followRedirects: false,
      maxPayload: limits.maxMessageBytes,
      headers: { authorization: formatBearer(token) },
      createConnection: () => {
        socket = connect({ host: address.host, port: address.port, noDelay: true, ...(onread && { onread }) });
        onSocket?.(socket);
        return socket;
      },
    });
    const fail = (error: TrainerError): void => {
      stopWaiting();
      reject(error);
      webSocket.on('error', () => undefined); // terminate() of an unfinished handshake emits one
      webSocket.terminate();
      socket?.destroy();
    };
    const onAbort = (): void => fail(aborted(url));
    const timer = setTimeout(
      () =>
        fail(new TrainerError('CONNECT_FAILED', `${url} did not answer within ${timeoutMs} ms`, { retryable: true })),
      timeoutMs,
    );
    const onError = (error: Error): void =>
      fail(
        new TrainerError('CONNECT_FAILED', `cannot connect to ${url}: ${error.message}`, {
          cause: error,
          retryable: true,
        }),
      );
    const stopWaiting = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      webSocket.off('error', onError);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    webSocket.on('error', onError);
    webSocket.on('unexpected-response', (_request, response) => {
      const status = response.statusCode ?? 0;
      const refusal = String(response.headers[REFUSAL_HEADER] ?? `HTTP status ${status}`).slice(0, 300);
      if (status === 401)
        fail(new TrainerError('AUTH_FAILED', `${url} refused the token: ${refusal}; use the token of that run`));
      else fail(new TrainerError('CONNECT_FAILED', `${url} refused the connection: ${refusal}`, { retryable: true }));
    });
    webSocket.once('open', () => {
      stopWaiting();
      const peer = `${address.host}:${address.port}`;
      resolve(new WebSocketConnection({ webSocket, socket: socket!, peer, path: address.path, limits }));
    });
  });
}

function parseAddress(url: string): { host: string; port: number; path: string } | TrainerError {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed?.protocol !== 'ws:')
    return new TrainerError('CONFIG_INVALID', `address: expected ws://host:port/path, found ${url}`);
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1');
  return { host, port: parsed.port === '' ? 80 : Number(parsed.port), path: parsed.pathname + parsed.search };
}

function aborted(url: string): TrainerError {
  return new TrainerError('ABORTED', `connecting to ${url} was called off`);
}
