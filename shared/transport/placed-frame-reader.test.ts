import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PlacedFrameReader } from './placed-frame-reader.ts';

const HEADER_BYTES = 8;

/** A WebSocket frame as an unmasked sender makes it. */
function frame(opcode: number, isLast: boolean, payload: Uint8Array): Buffer {
  const first = opcode | (isLast ? 0x80 : 0);
  const length = payload.length;
  let head = Buffer.from([first, length]);
  if (length > 65535) {
    head = Buffer.from([first, 127, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeUInt32BE(length, 6);
  } else if (length > 125) head = Buffer.from([first, 126, length >> 8, length & 255]);
  return Buffer.concat([head, payload]);
}

/** The header of a message says its payload's length. */
function message(payload: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(payload.length);
  return Buffer.concat([frame(2, false, header), frame(0, true, payload)]);
}

function makeReader(): { reader: PlacedFrameReader; received: Buffer[]; controls: Buffer[] } {
  const received: Buffer[] = [];
  const controls: Buffer[] = [];
  let target = Buffer.alloc(0);
  const reader = new PlacedFrameReader(
    {
      headerBytes: HEADER_BYTES,
      place: (header) => (target = Buffer.alloc(Buffer.from(header).readUInt32LE(0))),
      received: () => received.push(target),
    },
    (control) => controls.push(control),
  );
  return { reader, received, controls };
}

const items = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant('message' as const),
      bytes: fc.oneof(fc.nat(130), fc.nat(300), fc.integer({ min: 65530, max: 65540 })).map((n) => Buffer.alloc(n, n)),
    }),
    fc.record({ kind: fc.constant('control' as const), bytes: fc.uint8Array({ maxLength: 125 }) }),
  ),
  { maxLength: 8 },
);

describe('PlacedFrameReader', () => {
  test('stores every payload and passes on every control frame, for any cut of the stream and any buffer', () => {
    fc.assert(
      fc.property(
        items,
        fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1 }),
        fc.nat(5),
        (list, cuts, numFed) => {
          const stream = Buffer.concat(
            list.map(({ kind, bytes }) => (kind === 'message' ? message(bytes) : frame(9, true, bytes))),
          );
          const { reader, received, controls } = makeReader();
          let at = 0;
          for (let i = 0; at < stream.length; i++) {
            const cut = cuts[i % cuts.length]!;
            if (i < numFed) {
              reader.feed(stream.subarray(at, at + cut));
              at += Math.min(cut, stream.length - at);
            } else {
              const view = reader.next();
              assert.ok(view.length > 0);
              const count = Math.min(cut, view.length, stream.length - at);
              view.set(stream.subarray(at, at + count));
              at += count;
              reader.consume(count);
            }
          }
          const bytesOf = (kind: string): Uint8Array[] =>
            list.filter((item) => item.kind === kind).map(({ bytes }) => bytes);
          assert.deepEqual(received, bytesOf('message'));
          assert.deepEqual(
            controls,
            bytesOf('control').map((bytes) => frame(9, true, bytes)),
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a large payload is read straight into its memory, not through the scratch buffer', () => {
    const { reader } = makeReader();
    const stream = message(Buffer.alloc(100_000, 5));
    const headBytes = 2 + HEADER_BYTES + 10;
    assert.equal(reader.next().length, headBytes);
    reader.next().set(stream.subarray(0, headBytes));
    reader.consume(headBytes);
    assert.equal(reader.next().length, 100_000);
  });

  test('a control frame inside a message passes', () => {
    const { reader, received, controls } = makeReader();
    const whole = message(Buffer.from('payload'));
    reader.feed(whole.subarray(0, 2 + HEADER_BYTES));
    reader.feed(frame(10, true, Buffer.from('pong')));
    reader.feed(whole.subarray(2 + HEADER_BYTES));
    assert.deepEqual(received.map(String), ['payload']);
    assert.deepEqual(controls, [Buffer.from('8a04706f6e67', 'hex')]);
  });

  test('after discardMessages no payload is stored, and control frames still pass', () => {
    const { reader, received, controls } = makeReader();
    reader.feed(message(Buffer.alloc(70_000)).subarray(0, 30_000));
    reader.discardMessages();
    const rest = Buffer.concat([
      message(Buffer.alloc(70_000)).subarray(30_000),
      message(Buffer.alloc(200_000)),
      frame(8, true, Buffer.from('03e8', 'hex')),
    ]);
    for (let at = 0; at < rest.length;) {
      const view = reader.next();
      const count = Math.min(view.length, rest.length - at);
      view.set(rest.subarray(at, at + count));
      at += count;
      reader.consume(count);
    }
    assert.deepEqual(received, []);
    assert.deepEqual(controls, [Buffer.from('880203e8', 'hex')]);
  });

  const bad: [string, string][] = [
    ['a reserved bit', '4208'],
    ['a masked frame', '0288'],
    ['a text frame', '0108'],
    ['a continuation without a beginning', '0008'],
    ['a message of one fragment', '8208'],
    ['a first fragment of another length', '0207'],
    ['a first fragment with an extended length', '027e0009'],
    ['a control frame in fragments', '0900'],
    ['a control frame of 126 bytes', '897e'],
    ['a third fragment', '0208' + '0400000000000000' + '0004'],
    ['a second fragment that begins a message', '0208' + '0400000000000000' + '8204'],
    ['a second fragment of another length', '0208' + '0400000000000000' + '8005'],
    ['a second fragment of 2^63 bytes', '0208' + '0400000000000000' + '807f8000000000000000'],
  ];
  for (const [name, hex] of bad)
    test(`rejects ${name}`, () => {
      const { reader, received } = makeReader();
      assert.throws(() => reader.feed(Buffer.from(hex, 'hex')), { code: 'FRAME_INVALID' });
      assert.equal(received.length, 0);
    });
});
