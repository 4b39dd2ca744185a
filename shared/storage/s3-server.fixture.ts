/** A real S3 server for tests (s3rver), in this process, on a port that stays its own over a restart. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import Server from 's3rver';
import type { S3Options } from './s3-options.ts';

export interface S3Server {
  /** For openStorage(…, { s3 }): its URL, path style, its fixed credentials. */
  readonly options: S3Options;
  /** The same as environment variables, for other processes. */
  readonly environment: Readonly<Record<string, string>>;
  /** Down; connections break. */
  stop(): Promise<void>;
  /** Up again on the same port, with the same objects. */
  start(): Promise<void>;
  close(): Promise<void>;
}

/** @param init.folder where its objects lie */
export async function startS3Server({
  folder,
  buckets,
}: {
  readonly folder: string;
  readonly buckets: readonly string[];
}): Promise<S3Server> {
  const port = await freePort();
  const create = () =>
    new Server({
      address: '127.0.0.1',
      port,
      silent: true,
      directory: folder,
      configureBuckets: buckets.map((name) => ({ name })),
    });
  let server = create();
  await server.run();
  const stop = async () => {
    const closing = server.close();
    server.httpServer.closeAllConnections();
    await closing;
  };
  const credentials = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
  const endpoint = `http://127.0.0.1:${port}`;
  return {
    options: { endpoint, region: 'us-east-1', pathStyle: true, credentials },
    environment: {
      AWS_ENDPOINT_URL: endpoint,
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    },
    stop,
    async start() {
      server = create();
      await server.run();
    },
    close: stop,
  };
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise<void>((resolve) => probe.close(() => resolve()));
  return port;
}
