/**
 * A real HTTP proxy for tests: requests with absolute URLs, and tunnels (CONNECT). Names under `.test` lead to servers of the test.
 * And a key with a certificate for `files.test`, which no authority has signed.
 */
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';

export interface ProxyServer {
  readonly url: string;
  readonly host: string;
  /** `GET http://…`, `CONNECT host:port` of all requests so far. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

export interface ProxyInit {
  /** Host name → port on this machine. */
  readonly routes?: Readonly<Record<string, number>>;
  /** `user:password` that it wants. */
  readonly login?: string;
  /** Answers this status to everything. */
  readonly status?: number;
}

export async function startProxy({ routes = {}, login, status }: ProxyInit = {}): Promise<ProxyServer> {
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const refusal = (request: IncomingMessage): number | undefined => {
    requests.push(`${request.method ?? ''} ${request.url ?? ''}`);
    const given = request.headers['proxy-authorization'];
    if (login !== undefined && given !== `Basic ${Buffer.from(login).toString('base64')}`) return 407;
    return status;
  };
  const server = createServer((request, response) => {
    const refused = refusal(request);
    const target = new URL(request.url ?? '', 'http://not-absolute.test');
    const port = routes[target.hostname];
    if (refused !== undefined || port === undefined) {
      response.writeHead(refused ?? 502, { 'proxy-authenticate': 'Basic realm="proxy"' }).end('of the proxy');
      return;
    }
    const headers = { ...request.headers };
    delete headers['proxy-authorization'];
    const options = { host: '127.0.0.1', port, method: request.method, path: target.pathname + target.search, headers };
    request.pipe(
      httpRequest(options, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      }),
    );
  });
  server.on('connect', (request, socket: Socket) => {
    const refused = refusal(request);
    const port = routes[(request.url ?? '').replace(/:\d+$/u, '')];
    if (refused !== undefined || port === undefined) {
      socket.end(`HTTP/1.1 ${refused ?? 502} Refused\r\n\r\n`);
      return;
    }
    const tunnel = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      tunnel.pipe(socket).pipe(tunnel);
    });
    for (const end of [tunnel, socket]) {
      sockets.add(end);
      end.on('error', () => undefined); // the other end sees it
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `http://${host}`,
    host,
    requests,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export const TEST_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg54DgU+PVXZFvBh3e
UDZlRzd1HF1HHpLmRntNi132ncWhRANCAARGNE7aWP1eeq7+sG61dJVpyQ+4hH2Z
1ILComRGhev2+Mp+CK+yrflIzmUp5wiAlIjAUbE2nGyIEH+ZWEb4t670
-----END PRIVATE KEY-----`;

export const TEST_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmDCCAT6gAwIBAgIUDdSCLRrx4v24cnhi6DgMmwam3GcwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKZmlsZXMudGVzdDAgFw0yNjExMzAyMjI5MzlaGA8yMTI2MTEw
NjIyMjkzOVowFTETMBEGA1UEAwwKZmlsZXMudGVzdDBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABEY0TtpY/V56rv6wbrV0lWnJD7iEfZnUgsKiZEaF6/b4yn4Ir7Kt
+UjOZSnnCICUiMBRsTacbIgQf5lYRvi3rvSjajBoMB0GA1UdDgQWBBTnYSkdpMns
dyLOxr/M0zrf7ShxLzAfBgNVHSMEGDAWgBTnYSkdpMnsdyLOxr/M0zrf7ShxLzAP
BgNVHRMBAf8EBTADAQH/MBUGA1UdEQQOMAyCCmZpbGVzLnRlc3QwCgYIKoZIzj0E
AwIDSAAwRQIhANNtX0hF/Q5q5XmV9GXWf9DBfNYShCPLwGg6BwVhOGO2AiBrGW1I
1I6HuskkEzpTcsmiLI49PxF1cCjjjweVo4QHgQ==
-----END CERTIFICATE-----`;
