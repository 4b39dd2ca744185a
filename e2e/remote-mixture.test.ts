/** Trains with the prepared mixture on an S3 server that goes down for a while: the run has the bits of a local run. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openStorage } from '../shared/storage/open-storage.ts';
import { startS3Server, type S3Server } from '../shared/storage/s3-server.fixture.ts';
import { exmix, finalDigest, readLog, startExmix, temporaryFolder, TINY, type RunningExmix } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const LOCATION = 's3://data/tiny';
const runFolder = (name: string): string => join(folder, name);
const train = (name: string, ...args: string[]) =>
  ['train', '--config', TINY, '--steps', '30', '--run-dir', runFolder(name), ...args] as const;
let server: S3Server;

before(async () => {
  server = await startS3Server({ folder: join(folder, 's3'), buckets: ['data'] });
  Object.assign(process.env, server.environment);
});
after(() => server.close().catch(() => undefined)); // a failed test may have stopped it

describe('a run from remote storage', { timeout: 240_000 }, () => {
  test('has the bits of the local run with another number of workers, though the server was down for a while', async () => {
    const local = await exmix(train('local', '--workers', '1'), home);
    assert.equal(local.code, 0, local.stdout + local.stderr);
    const prepared = join(home, 'prepared', readdirSync(join(home, 'prepared'))[0]!);
    const storage = openStorage(LOCATION);
    for (const entry of readdirSync(prepared, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      await storage.put(path.slice(prepared.length + 1), readFileSync(path));
    }
    const running = startExmix(train('remote', '--workers', '2', '--set', `mixture.prepared=${LOCATION}`), home);
    await logged(running, 'step committed');
    await server.stop();
    await logged(running, 'worker waits for its source');
    await server.start();
    const { code, stdout, stderr } = await running.ended;
    assert.equal(code, 0, stdout + stderr);
    assert.equal(finalDigest(runFolder('remote')), finalDigest(runFolder('local')));
    const messages = readMessages('remote');
    assert.ok(messages.includes('worker waits for its source'), 'a worker needed the server while it was down');
    assert.ok(messages.includes('worker has its source again'));
  });
});

/** Polls until the log of the remote run has the message or the run has ended. */
async function logged({ ended }: RunningExmix, msg: string): Promise<void> {
  const over = new AbortController();
  void ended.then(() => over.abort());
  const log = join(runFolder('remote'), 'coordinator.jsonl');
  while (!over.signal.aborted && !(existsSync(log) && readMessages('remote').includes(msg)))
    await new Promise((resolve) => setTimeout(resolve, 20));
}

function readMessages(name: string): string[] {
  return readLog(runFolder(name)).map((record) => record.msg);
}
