import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { readLocality, toSocketPath } from '../../shared/transport/local-socket.ts';
import { FRAME_PART, FRAME_SUM, type FrameHeader } from './frame-header.ts';
import { Outbox, outboxPath, OutboxReader, sweepOutboxes } from './outbox.ts';

const folder = mkdtempSync(join(tmpdir(), 'outbox-'));
after(() => rmSync(folder, { recursive: true }));
let numOutboxes = 0;
const FRAME_BYTES = 256;

function makeOutbox(window: number, numCoverNodes: number, readers = [0, 2]): { outbox: Outbox; path: string } {
  const path = join(folder, `box-${numOutboxes++}`);
  return { outbox: Outbox.create({ path, readers, frameBytes: FRAME_BYTES, window, numCoverNodes }), path };
}

function makeHeader(type: FrameHeader['type'], step: number, offsetBytes: number, byteLength: number): FrameHeader {
  const rest = { node: 0, chunk: 0, epoch: 1, generation: 1, bucket: 0, part: 0, payloadChecksum: 0 };
  return { ...rest, type, step, offsetBytes, byteLength };
}

describe('an outbox', () => {
  test('holds all parts of each reader and all sums under way, each until its slot is used again', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 3 }),
        fc.array(
          fc.record({
            to: fc.constantFrom(0 as const, 2 as const, 'all' as const),
            length: fc.integer({ min: 0, max: 4 }),
          }),
          {
            maxLength: 40,
          },
        ),
        (window, numCoverNodes, frames) => {
          const { outbox, path } = makeOutbox(window, numCoverNodes);
          const readers = { 0: OutboxReader.open(path, 'rank 0')!, 2: OutboxReader.open(path, 'rank 2')! };
          const waiting: { to: 0 | 2 | 'all'; at: number; payload: Buffer }[] = [];
          for (const [i, { to, length }] of frames.entries()) {
            const payload = Buffer.alloc(length * 64, i + 1);
            const type = to === 'all' ? FRAME_SUM : FRAME_PART;
            const header = makeHeader(type, 0, i * FRAME_BYTES, payload.length);
            const places = (to === 'all' ? [0, 2] : [to]).map((reader) => outbox.store(reader, header, payload));
            assert.equal(new Set(places).size, 1, 'a sum is there once');
            waiting.push({ to, at: places[0]!, payload });
            const same = waiting.filter((frame) => frame.to === to);
            if (same.length > (to === 'all' ? window : window * numCoverNodes))
              waiting.splice(waiting.indexOf(same[0]!), 1);
            for (const frame of waiting) {
              const target = Buffer.alloc(frame.payload.length);
              readers[frame.to === 'all' ? 0 : frame.to].read(frame.at, target);
              assert.deepEqual(target, frame.payload);
            }
          }
          outbox.close();
          readers[0].close();
          readers[2].close();
        },
      ),
      { numRuns: 40 },
    );
  });

  test('loses its name when every reader has opened it or does without', () => {
    const { outbox, path } = makeOutbox(2, 1);
    outbox.opened(0);
    assert.ok(existsSync(path));
    outbox.opened(2);
    assert.ok(!existsSync(path));
    outbox.left(0);
    outbox.left(0);
    outbox.store(2, makeHeader(FRAME_PART, 0, 0, 64), Buffer.alloc(64));
    outbox.left(2);
    assert.throws(() => outbox.store(2, makeHeader(FRAME_PART, 0, 0, 64), Buffer.alloc(64)), { code: 'INTERNAL' });
    outbox.close();
  });

  test('a position behind its end is FRAME_INVALID', () => {
    const { outbox, path } = makeOutbox(1, 1, [0]);
    const reader = OutboxReader.open(path, 'rank 7')!;
    reader.read(FRAME_BYTES, Buffer.alloc(FRAME_BYTES));
    assert.throws(() => reader.read(FRAME_BYTES + 64, Buffer.alloc(FRAME_BYTES)), {
      code: 'FRAME_INVALID',
      message: /outbox of rank 7: expected 256 B at 320, it ends after 192/,
    });
    reader.close();
    outbox.close();
  });

  test('a folder that is not there is PATH_UNUSABLE, and nothing is left', () => {
    const init = { readers: [0], frameBytes: FRAME_BYTES, window: 1, numCoverNodes: 1 };
    assert.throws(() => Outbox.create({ ...init, path: join(folder, 'nowhere', 'box') }), { code: 'PATH_UNUSABLE' });
    writeFileSync(join(folder, 'taken'), '');
    assert.throws(() => Outbox.create({ ...init, path: join(folder, 'taken') }), { code: 'PATH_UNUSABLE' });
    assert.ok(existsSync(join(folder, 'taken')), 'what was there stays');
    assert.equal(OutboxReader.open(join(folder, 'nowhere'), 'rank 0'), null);
  });

  test(
    'what a killed worker left behind is removed, a living one’s stays',
    { skip: readLocality() === null },
    async () => {
      const own = mkdtempSync(join(folder, 'sweep-'));
      const [living, dead] = ['a', 'b'].map((letter) => `exmix-${letter.repeat(32)}`);
      const server = createServer().listen({ path: toSocketPath(living!) });
      await once(server, 'listening');
      for (const path of [outboxPath(own, living!, 1, 2), outboxPath(own, dead!, 1, 2), join(own, 'another')])
        writeFileSync(path, '');
      sweepOutboxes(own);
      assert.deepEqual(readdirSync(own).sort(), [`${living}.1.2`, 'another'].sort());
      server.close();
    },
  );
});
