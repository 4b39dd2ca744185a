/** A small made-up mixture in a folder and in a bucket of a real S3 server, for tests of remote reading. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStorage } from '../../shared/storage/open-storage.ts';
import { startS3Server, type S3Server } from '../../shared/storage/s3-server.fixture.ts';
import { writeSyntheticMixture } from './synthetic-mixture.fixture.ts';

export interface RemoteMixture {
  /** A folder for this test only. It contains `prepared`. */
  readonly root: string;
  readonly folder: string;
  readonly hash: string;
  readonly server: S3Server;
  /** The URL of the copy in the bucket. */
  readonly location: string;
  close(): Promise<void>;
}

/** Files of a folder by key, sorted. */
export function keysOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1))
    .sort();
}

/** Sets the AWS_* variables of this process, which its threads inherit. */
export async function startRemoteMixture(featureLengths: {
  readonly inputs: number;
  readonly targets: number;
}): Promise<RemoteMixture> {
  const root = mkdtempSync(join(tmpdir(), 'exmix-remote-'));
  const folder = join(root, 'prepared');
  const hash = await writeSyntheticMixture({
    folder,
    featureLengths,
    shardBytes: 200_000,
    tasks: [
      {
        name: 'short',
        kind: 'supervised',
        numExamples: 20_000,
        inputsLength: (index) => 3 + (index % 20),
        targetsLength: (index) => 2 + (index % 3),
      },
      {
        name: 'long',
        kind: 'supervised',
        numExamples: 3_000,
        inputsLength: (index) => featureLengths.inputs - (index % 9),
        targetsLength: () => featureLengths.targets,
      },
      { name: 'text', kind: 'denoising', numExamples: 12_000 },
    ],
  });
  const server = await startS3Server({ folder: join(root, 's3'), buckets: ['data'] });
  Object.assign(process.env, server.environment);
  const location = 's3://data/mixtures/one';
  const storage = openStorage(location);
  for (const key of keysOf(folder)) await storage.put(key, readFileSync(join(folder, key)));
  return {
    root,
    folder,
    hash,
    server,
    location,
    async close() {
      await server.close().catch(() => undefined); // a test may have stopped it
      rmSync(root, { recursive: true });
    },
  };
}
