/**
 * A listening port for WebSocket and plain HTTP that strangers may reach.
 *
 * Checks of a new socket, in order: bound on sockets that have not authenticated, deadline, then with a token: token in the HTTP header,
 * admission by path, upgrade; with a secret: nonce in the HTTP header, admission by path, upgrade with the own proof, the peer's proof as
 * first message, admission once more. No other message is read before. A failed check ends that socket only and is reported to `onRefused`.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Socket, type AddressInfo, type ListenOptions } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';
import { systemClock } from '../clock.ts';
import { TrainerError, type ErrorCode } from '../errors.ts';
import { createBearerCheck } from './bearer-token.ts';
import { toCloseCode, toCloseReason } from './close-codes.ts';
import { formatLocalUrl, readLocality, toSocketPath } from './local-socket.ts';
import { ListenerHandshake, PROOF_BYTES, type Challenge } from './mutual-proof.ts';
import {
  CLOSE_TIMEOUT_MS,
  DEFAULT_CONNECTION_LIMITS,
  type ConnectionLimits,
  type ListenInit,
  type Listener,
} from './transport.ts';
import { boundFirstMessage, WebSocketConnection } from './websocket-connection.ts';

const MAX_HEADER_BYTES = 8192;
/** Carries the reason of a refusal to the dialling side. */
export const REFUSAL_HEADER = 'exmix-refusal';

/** @throws PORT_IN_USE */
export async function listenWebSocket(init: ListenInit): Promise<Listener> {
  const handshakeTimeoutMs = init.handshakeTimeoutMs ?? 5000;
  const admission = new Admission(init, handshakeTimeoutMs);
  const server = createAdmissionServer(admission, handshakeTimeoutMs);
  await listen(server, { host: init.host, port: init.port }, `${init.host}:${init.port}`);
  const servers = [server];
  const localServer = createAdmissionServer(admission, handshakeTimeoutMs);
  const localUrl = init.localSocket === true ? await listenLocally(localServer) : null;
  if (localUrl !== null) servers.push(localServer);
  const { port } = server.address() as AddressInfo;
  let closing: Promise<void> | null = null;
  return {
    port,
    url: `ws://${init.host.includes(':') ? `[${init.host}]` : init.host}:${port}`,
    localUrl,
    close: () => (closing ??= close(servers, admission)),
  };
}

/** A server that passes all its sockets to `admission`. */
function createAdmissionServer(admission: Admission, handshakeTimeoutMs: number): Server {
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: handshakeTimeoutMs,
    requestTimeout: handshakeTimeoutMs,
    keepAlive: false,
  });
  server.on('connection', (socket) => admission.accept(socket));
  server.on('request', (request, response) => admission.request(request, response));
  server.on('upgrade', (request, socket, head) => admission.upgrade(request, socket, head));
  server.on('clientError', (error, socket) =>
    admission.refuse(socket, 'MESSAGE_INVALID', `no HTTP request: ${error.message}`),
  );
  return server;
}

/** @returns the address, or null if the system has or allows no local sockets; the port works without */
async function listenLocally(server: Server): Promise<string | null> {
  if (readLocality() === null) return null;
  const name = `exmix-${randomBytes(16).toString('hex')}`;
  try {
    await listen(server, { path: toSocketPath(name) }, name);
    return formatLocalUrl(name);
  } catch {
    return null;
  }
}

async function listen(server: Server, address: ListenOptions, name: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: Error & { code?: string }) =>
      reject(
        new TrainerError(
          'PORT_IN_USE',
          `cannot listen on ${name} (${error.code ?? error.message}); ${error.code === 'EADDRNOTAVAIL' ? 'give an address of this host, or 0.0.0.0 for all' : 'choose another port, or 0 for any'}`,
          { cause: error },
        ),
      ),
    );
    server.listen(address, resolve);
  });
  server.removeAllListeners('error');
  server.on('error', () => undefined); // a failure of accept(2) concerns one socket
}

async function close(servers: readonly Server[], admission: Admission): Promise<void> {
  const closed = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
  await admission.close();
  for (const server of servers) server.closeAllConnections();
  await Promise.all(closed);
}

/** A peer that has authenticated. */
interface Accepted {
  readonly webSocket: WebSocket;
  readonly socket: Duplex;
  readonly path: string;
  readonly greeting: string;
  /** Its first message has not come yet. */
  readonly isFirstOpen: boolean;
}

class Admission {
  readonly #init: ListenInit;
  readonly #handshakeTimeoutMs: number;
  readonly #limits: ConnectionLimits;
  /** Plain requests always need a token. */
  readonly #isAuthorized: (header: string | undefined) => boolean;
  readonly #webSocketServer: WebSocketServer;
  /** Of upgrades that are being answered. */
  readonly #handshakes = new WeakMap<IncomingMessage, ListenerHandshake>();
  /** Sockets that have not authenticated yet, with their deadlines. */
  readonly #waiting = new Map<Duplex, NodeJS.Timeout>();
  readonly #connections = new Set<WebSocketConnection>();
  #isClosed = false;

  constructor(init: ListenInit, handshakeTimeoutMs: number) {
    this.#init = init;
    this.#handshakeTimeoutMs = handshakeTimeoutMs;
    this.#limits = { ...DEFAULT_CONNECTION_LIMITS, ...init.limits };
    this.#isAuthorized = createBearerCheck('token' in init ? init.token : '');
    this.#webSocketServer = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      skipUTF8Validation: true,
      maxPayload: this.#limits.maxMessageBytes,
    });
    this.#webSocketServer.on('headers', (headers, request) => {
      const own = this.#handshakes.get(request)?.headers ?? {};
      headers.push(...Object.entries(own).map(([name, value]) => `${name}: ${value}`));
    });
  }

  accept(socket: Socket): void {
    socket.on('error', () => undefined);
    const limit = this.#init.maxUnauthenticated ?? 64;
    if (this.#isClosed) {
      socket.destroy();
      return;
    }
    // Drop the oldest: a peer of the run authenticates at once, so silent strangers cannot keep it out.
    const [oldest] = this.#waiting.size >= limit ? this.#waiting.keys() : [];
    if (oldest !== undefined)
      this.refuse(oldest, 'AUTH_FAILED', `more than ${limit} sockets that have not authenticated`);
    socket.setNoDelay(true);
    const timer = setTimeout(
      () => this.refuse(socket, 'AUTH_FAILED', `not authenticated within ${this.#handshakeTimeoutMs} ms`),
      this.#handshakeTimeoutMs,
    );
    this.#waiting.set(socket, timer);
    socket.once('close', () => this.#endWaiting(socket));
  }

  request(request: IncomingMessage, response: ServerResponse): void {
    const { onRequest } = this.#init;
    response.setHeader('connection', 'close');
    if (!this.#isAuthorized(request.headers.authorization)) {
      this.#report(request.socket, 'AUTH_FAILED', `HTTP ${pathOf(request)} without the token of the run`);
      response.once('finish', () => request.socket.destroy());
      response.writeHead(401).end();
      return;
    }
    this.#endWaiting(request.socket);
    if (onRequest === undefined) response.writeHead(426).end('a WebSocket is expected here\n');
    else onRequest(request, response);
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const path = request.url ?? '/';
    if ('challenge' in this.#init) this.#upgradeWithProof(request, socket, head, path, this.#init.challenge);
    else if (!this.#isAuthorized(request.headers.authorization))
      this.refuse(socket, 'AUTH_FAILED', `WebSocket ${pathOf(request)} without the token of the run`, 401);
    else {
      const refused = this.#init.admit?.(path) ?? null;
      if (refused !== null) this.refuse(socket, 'JOIN_REFUSED', refused, 409);
      else
        this.#webSocketServer.handleUpgrade(request, socket, head, (webSocket) =>
          this.#connect({ webSocket, socket, path, greeting: '', isFirstOpen: true }),
        );
    }
  }

  #upgradeWithProof(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    path: string,
    challenge: (path: string) => Challenge | string,
  ): void {
    const challenged = challenge(path);
    if (typeof challenged === 'string') {
      this.refuse(socket, 'JOIN_REFUSED', challenged, 409);
      return;
    }
    const handshake = ListenerHandshake.begin(challenged, path, request.headers);
    if (handshake === null) {
      this.refuse(socket, 'AUTH_FAILED', `WebSocket ${pathOf(request)} without a nonce`, 401);
      return;
    }
    this.#handshakes.set(request, handshake);
    this.#webSocketServer.handleUpgrade(request, socket, head, (webSocket) => {
      let isOver = false;
      const refuse = (code: ErrorCode, reason: string): void => {
        if (isOver) return;
        isOver = true;
        this.#endWaiting(socket);
        this.#report(socket, code, reason);
        webSocket.close(toCloseCode(code), toCloseReason(reason));
        setTimeout(() => webSocket.terminate(), CLOSE_TIMEOUT_MS).unref();
      };
      webSocket.once('close', () => refuse('AUTH_FAILED', `WebSocket ${pathOf(request)} left without a proof`));
      webSocket.on('error', (error) => refuse('AUTH_FAILED', `expected a proof of ${PROOF_BYTES} B: ${error.message}`));
      boundFirstMessage(webSocket, socket, PROOF_BYTES, () =>
        refuse('AUTH_FAILED', `expected a proof of ${PROOF_BYTES} B, got more`),
      );
      webSocket.once('message', (message, isBinary) => {
        if (isOver) return;
        if (!isBinary || !(message instanceof Uint8Array) || !handshake.accepts(message)) {
          refuse('AUTH_FAILED', `WebSocket ${pathOf(request)} without a proof of the secret of its generation`);
          return;
        }
        const now = challenge(path);
        if (typeof now === 'string' || now.secret !== challenged.secret)
          refuse('JOIN_REFUSED', typeof now === 'string' ? now : 'another generation is being connected by now');
        else {
          isOver = true;
          this.#connect({ webSocket, socket, path, greeting: handshake.greeting, isFirstOpen: true });
        }
      });
    });
  }

  #connect({ webSocket, socket, path, greeting, isFirstOpen }: Accepted): void {
    const peer = describe(socket);
    this.#endWaiting(socket);
    const { clock = systemClock } = this.#init;
    const limits = this.#limits;
    const connection = new WebSocketConnection({ webSocket, socket, peer, path, greeting, limits, isFirstOpen, clock });
    this.#connections.add(connection);
    void connection.closed.then(() => this.#connections.delete(connection));
    this.#init.onConnection(connection);
  }

  /** Ends a socket; with a status, sends the HTTP answer first. */
  refuse(socket: Duplex, code: ErrorCode, reason: string, status?: number): void {
    this.#endWaiting(socket);
    this.#report(socket, code, reason);
    if (status === undefined || !socket.writable) {
      socket.destroy();
      return;
    }
    const sentence = reason.replace(/[^\x20-\x7e]/g, '?');
    socket.on('error', () => undefined);
    socket.once('finish', () => socket.destroy());
    socket.end(
      `HTTP/1.1 ${status} Refused\r\nconnection: close\r\ncontent-length: 0\r\n${REFUSAL_HEADER}: ${sentence}\r\n\r\n`,
    );
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const socket of this.#waiting.keys()) socket.destroy();
    const connections = [...this.#connections];
    for (const connection of connections) connection.close('NORMAL', 'the listener closes');
    await Promise.all(connections.map(({ closed }) => closed));
    this.#webSocketServer.close();
  }

  #endWaiting(socket: Duplex): void {
    clearTimeout(this.#waiting.get(socket));
    this.#waiting.delete(socket);
  }

  #report(socket: Duplex, code: ErrorCode, reason: string): void {
    this.#init.onRefused?.({ remote: describe(socket), code, reason });
  }
}

function describe(socket: Duplex): string {
  if (!(socket instanceof Socket)) return 'unknown';
  if (socket.remoteAddress === undefined && !socket.destroyed) return 'this host';
  return `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`;
}

/** Of a request without the token, for the log: without its query, and cut. */
function pathOf({ url = '' }: IncomingMessage): string {
  return url.replace(/[?#].*$/su, '').slice(0, 100);
}
