import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { readLocality, toSocketPath } from '../../shared/transport/local-socket.ts';
import { FRAME_PART, FRAME_SUM, type FrameHeader } from './frame-header.ts';
import { Outbox, OutboxReader, sweepOutboxes } from './outbox.ts';

const folder = mkdtempSync(join(tmpdir(), 'outbox-'));
after(() => rmSync(folder, { recursive: true }));
const FRAME_BYTES = 256;

const SOCKET_NAME = `exmix-${'0'.repeat(32)}`;

function makeOutbox(window: number, numCoverNodes: number, readers = [0, 2]) {
  const shape = { readers, frameBytes: FRAME_BYTES, window, numCoverNodes };
  const outbox = Outbox.create({ folder, socketName: SOCKET_NAME, ...shape });
  const greeting = outbox.greetingFor(readers[0]!);
  const path = join(folder, greeting.split(' ')[1]!);
  return { outbox, greeting, path, open: (peer: string) => OutboxReader.open(folder, greeting, peer)! };
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
          const { outbox, open } = makeOutbox(window, numCoverNodes);
          const readers = { 0: open('rank 0'), 2: open('rank 2') };
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
    const { outbox, open } = makeOutbox(1, 1, [0]);
    const reader = open('rank 7');
    reader.read(FRAME_BYTES, Buffer.alloc(FRAME_BYTES));
    assert.throws(() => reader.read(FRAME_BYTES + 64, Buffer.alloc(FRAME_BYTES)), {
      code: 'FRAME_INVALID',
      message: /outbox of rank 7: expected 256 B at 320, it ends after 192/,
    });
    for (const position of [2 ** 53, 2 ** 64 - 1])
      assert.throws(() => reader.read(position, Buffer.alloc(64)), { code: 'FRAME_INVALID' });
    reader.close();
    outbox.close();
  });

  test('a folder that is not there is PATH_UNUSABLE, and nothing is left', () => {
    const init = { socketName: SOCKET_NAME, readers: [0], frameBytes: FRAME_BYTES, window: 1, numCoverNodes: 1 };
    assert.throws(() => Outbox.create({ ...init, folder: join(folder, 'nowhere') }), { code: 'PATH_UNUSABLE' });
    writeFileSync(join(folder, 'taken'), '');
    assert.throws(() => Outbox.create({ ...init, folder: join(folder, 'taken') }), { code: 'PATH_UNUSABLE' });
    assert.ok(existsSync(join(folder, 'taken')), 'what was there stays');
    const { outbox, greeting } = makeOutbox(1, 1, [0]);
    assert.throws(() => OutboxReader.open(join(folder, 'nowhere'), greeting, 'rank 0'), { code: 'PATH_UNUSABLE' });
    outbox.close();
  });

  test('has a name that nobody can know before, and only its user can open it', () => {
    const made = Array.from({ length: 20 }, () => makeOutbox(1, 1, [0, 3]));
    for (const { outbox, path, greeting } of made) {
      assert.match(greeting, /^outbox exmix-0{32}\.[0-9a-f]{32} 768$/);
      assert.equal(outbox.greetingFor(3), greeting);
      assert.equal(outbox.greetingFor(1), '', 'rank 1 is no reader');
      assert.equal(statSync(path).mode & 0o777, 0o600);
      outbox.close();
    }
    assert.equal(new Set(made.map(({ path }) => path)).size, made.length);
  });

  const others: readonly [string, (path: string) => void][] = [
    ['a FIFO', (path) => void execFileSync('mkfifo', [path])],
    ['an empty file', (path) => writeFileSync(path, '')],
    ['a shorter file', (path) => writeFileSync(path, Buffer.alloc(511))],
    ['a longer file', (path) => writeFileSync(path, Buffer.alloc(513))],
    ['a folder', (path) => mkdirSync(path)],
    [
      'a symbolic link to such a file',
      (path) => {
        writeFileSync(`${path}.real`, Buffer.alloc(512));
        symlinkSync(`${path}.real`, path);
      },
    ],
    [
      'a file with a second name',
      (path) => {
        writeFileSync(path, Buffer.alloc(512));
        linkSync(path, `${path}.second`);
      },
    ],
    ['nothing', () => undefined],
  ];
  for (const [what, make] of others)
    test(`${what} in its place is not opened, and the reader does not wait`, () => {
      const own = mkdtempSync(join(folder, 'other-'));
      const { outbox, greeting, path, open } = makeOutbox(1, 1, [0]);
      renameSync(path, `${path}.away`);
      make(join(own, greeting.split(' ')[1]!));
      assert.throws(() => OutboxReader.open(own, greeting, 'rank 5'), {
        code: 'PATH_UNUSABLE',
        message: /outbox of rank 5/,
      });
      renameSync(`${path}.away`, path);
      open('rank 5').close();
      outbox.close();
    });

  test('a greeting of another form names no file', () => {
    const name = `${SOCKET_NAME}.${'a'.repeat(32)}`;
    for (const greeting of [
      'outbox',
      `outbox ../${name} 512`,
      `outbox ${name}/.. 512`,
      `outbox ${name} -1`,
      `outbox ${name} 5 6`,
    ])
      assert.throws(() => OutboxReader.open(folder, greeting, 'rank 0'), { code: 'PATH_UNUSABLE' });
    assert.equal(OutboxReader.open(folder, '', 'rank 0'), null);
  });

  test('a file that its sender cuts off is FRAME_INVALID', () => {
    const { outbox, path, open } = makeOutbox(1, 1, [0]);
    const reader = open('rank 1');
    truncateSync(path, 100);
    assert.throws(() => reader.read(0, Buffer.alloc(256)), { code: 'FRAME_INVALID', message: /ends after 100/ });
    reader.close();
    outbox.close();
  });

  test(
    'what a killed worker left behind is removed, a living one’s stays',
    { skip: readLocality() === null },
    async () => {
      const own = mkdtempSync(join(folder, 'sweep-'));
      const [living, dead] = ['a', 'b'].map((letter) => `exmix-${letter.repeat(32)}`);
      const server = createServer().listen({ path: toSocketPath(living!) });
      await once(server, 'listening');
      const random = 'c'.repeat(32);
      for (const name of [`${living}.${random}`, `${dead}.${random}`, 'another']) writeFileSync(join(own, name), '');
      sweepOutboxes(own);
      assert.deepEqual(readdirSync(own).sort(), [`${living}.${random}`, 'another'].sort());
      server.close();
    },
  );
});
