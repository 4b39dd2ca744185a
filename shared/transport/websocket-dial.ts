/** The dialling side of a WebSocket: one deadline for name look-up, TCP and upgrade; every failure has a code. */
import { connect, type OnReadOpts, type Socket } from 'node:net';
import { WebSocket } from 'ws';
import { abortedError } from '../abort.ts';
import { systemClock } from '../clock.ts';
import { TrainerError } from '../errors.ts';
import { nameLocation } from '../storage/location.ts';
import { formatBearer } from './bearer-token.ts';
import { LOCAL_PROTOCOL, toSocketPath } from './local-socket.ts';
import { DiallerHandshake } from './mutual-proof.ts';
import { DEFAULT_CONNECTION_LIMITS, type DialInit } from './transport.ts';
import { WebSocketConnection } from './websocket-connection.ts';
import { REFUSAL_HEADER } from './websocket-listener.ts';

/**
 * @param onread option of the TCP socket: received bytes go there instead of to ws
 * @param onSocket called with the TCP socket as soon as it exists
 * @throws CONNECT_FAILED, AUTH_FAILED, ABORTED, CONFIG_INVALID
 */
export function dialWebSocket(
  url: string,
  init: DialInit,
  onread?: OnReadOpts,
  onSocket?: (socket: Socket) => void,
): Promise<WebSocketConnection> {
  const { timeoutMs, signal, clock = systemClock } = init;
  const limits = { ...DEFAULT_CONNECTION_LIMITS, ...init.limits };
  const address = parseAddress(url);
  const named = nameLocation(url);
  if (address instanceof TrainerError) return Promise.reject(address);
  if (signal?.aborted === true) return Promise.reject(abortedError(`connecting to ${named}`, signal));
  const handshake = 'secret' in init ? new DiallerHandshake(init.secret, address.path) : null;
  return new Promise((resolve, reject) => {
    let socket: Socket | null = null;
    let answer: { readonly proof: Uint8Array; readonly greeting: string } | null = null;
    const webSocket = new WebSocket(address.requestUrl, {
      perMessageDeflate: false,
      skipUTF8Validation: true,
      followRedirects: false,
      maxPayload: limits.maxMessageBytes,
      headers: 'secret' in init ? handshake!.headers : { authorization: formatBearer(init.token) },
      createConnection: () => {
        socket = connect({ ...address.target, noDelay: true, ...(onread && { onread }) });
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
    const onAbort = (): void => fail(abortedError(`connecting to ${named}`, signal));
    const timer = setTimeout(
      () =>
        fail(new TrainerError('CONNECT_FAILED', `${named} did not answer within ${timeoutMs} ms`, { retryable: true })),
      timeoutMs,
    );
    const onError = (error: Error): void =>
      fail(
        new TrainerError('CONNECT_FAILED', `cannot connect to ${named}: ${error.message}`, {
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
        fail(
          handshake === null
            ? new TrainerError('AUTH_FAILED', `${named} refused the token: ${refusal}; use the token of that run`)
            : new TrainerError('AUTH_FAILED', `${named} does not do the handshake of a data port: ${refusal}`),
        );
      else fail(new TrainerError('CONNECT_FAILED', `${named} refused the connection: ${refusal}`, { retryable: true }));
    });
    if (handshake !== null)
      webSocket.once('upgrade', ({ headers }) => {
        answer = handshake.answer(headers);
        if (answer === null)
          fail(
            new TrainerError(
              'AUTH_FAILED',
              `${named} has not proved the secret of the generation: it is another process`,
            ),
          );
      });
    webSocket.once('open', () => {
      stopWaiting();
      if (answer !== null) webSocket.send(answer.proof);
      const { peer, path } = address;
      const greeting = answer?.greeting ?? '';
      const isFirstOpen = true;
      resolve(
        new WebSocketConnection({ webSocket, socket: socket!, peer, path, greeting, limits, isFirstOpen, clock }),
      );
    });
  });
}

interface Address {
  /** Of the TCP or local socket. */
  readonly target: { readonly path: string } | { readonly host: string; readonly port: number };
  /** Of the HTTP request. */
  readonly requestUrl: string;
  readonly path: string;
  readonly peer: string;
}

function parseAddress(url: string): Address | TrainerError {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  const path = parsed === null ? '' : (parsed.pathname === '' ? '/' : parsed.pathname) + parsed.search;
  if (parsed?.protocol === LOCAL_PROTOCOL && parsed.hostname !== '')
    return {
      target: { path: toSocketPath(parsed.hostname) },
      requestUrl: `ws://localhost${path}`,
      path,
      peer: `local socket ${parsed.hostname}`,
    };
  if (parsed?.protocol !== 'ws:')
    return new TrainerError('CONFIG_INVALID', `address: expected ws://host:port/path, found ${nameLocation(url)}`);
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = parsed.port === '' ? 80 : Number(parsed.port);
  return { target: { host, port }, requestUrl: url, path, peer: `${host}:${port}` };
}
