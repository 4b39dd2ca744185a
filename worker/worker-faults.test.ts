/** What a worker with real threads tells when something is wrong around it. */
import assert from 'node:assert/strict';
import { cpSync, readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import { writeSmallMixture } from '../mixture/prepare/small-mixture.fixture.ts';
import { deal, featureLengths, formAlone, ids, preparedFolder, root, start } from './worker-threads.fixture.ts';

describe('worker among faults', { timeout: 240_000 }, () => {
  test('a shard damaged during the run is reported with its code, and the state before it can still be saved', async (t) => {
    const prepared = join(root, 'damaged');
    cpSync(preparedFolder, prepared, { recursive: true });
    const { peer } = await start(t, { prepared });
    await formAlone(peer);
    for (const name of readdirSync(prepared, { recursive: true, encoding: 'utf8' }))
      if (name.endsWith('.tokens')) truncateSync(join(prepared, name), 0);
    deal(peer, 1, [0, 1]);
    const { error } = await peer.receive('failed');
    assert.equal(error.code, 'SHARD_CORRUPT');
    assert.match(error.message, /step 1 lane 0 microbatch 0/u);
    peer.send({ ...ids, kind: 'abort', reason: error.message });
    assert.equal((await peer.receive('aborted')).step, 0);
  });

  test('a deal of other lanes than its own is reported as MESSAGE_INVALID', async (t) => {
    const { peer } = await start(t);
    await formAlone(peer);
    deal(peer, 1, [1, 0]);
    assert.equal((await peer.receive('failed')).error.code, 'MESSAGE_INVALID');
  });

  test('an unknown engine ends the worker with NAME_UNKNOWN, and the coordinator gets the reason', async (t) => {
    const { peer, ended } = await start(t, { engine: 'wasn' });
    assert.equal((await peer.receive('failed')).error.code, 'NAME_UNKNOWN');
    assert.equal(await ended, 'NAME_UNKNOWN');
  });

  test('another mixture than the run’s ends the worker with MIXTURE_MISMATCH', async (t) => {
    const prepared = join(root, 'other');
    const sources = writeSmallMixture(join(root, 'other-sources'), 21);
    await prepareMixture({ mixture: sources, outDir: prepared, featureLengths });
    const { peer, ended } = await start(t, { prepared });
    assert.equal((await peer.receive('failed')).error.code, 'MIXTURE_MISMATCH');
    assert.equal(await ended, 'MIXTURE_MISMATCH');
  });
});
