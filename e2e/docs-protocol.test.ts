/** docs/protocol.md is the wire contract: every kind, field, type, byte offset, route, path and code of it is that of the code. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { exitCodeOf } from '../cli/exit-codes.ts';
import { ERROR_CODES, TrainerError, type ErrorCode } from '../shared/errors.ts';
import {
  coordinatorMessageSchema,
  PROTOCOL_VERSION,
  workerMessageSchema,
  workerPhaseSchema,
} from '../shared/protocol/messages.ts';
import { CLOSE_CODES, toCloseCode, toCloseInfo } from '../shared/transport/close-codes.ts';
import { formatDataPath, formatProbePath, formatStatePath, STATE_REQUEST_BYTES } from '../worker/mesh/data-port.ts';
import {
  decodeFrameHeader,
  encodeFrameHeader,
  FRAME_HEADER_BYTES,
  FRAME_PART,
  FRAME_SUM,
  type FrameHeader,
} from '../worker/mesh/frame-header.ts';
import { PROBE_BYTES } from '../worker/mesh/probe-links.ts';
import { encodePieceHeader, encodeStateRequest, PIECE_HEADER_BYTES } from '../worker/state/state-frames.ts';
import { codeSpans, listFiles, readText, tableRows } from './markdown.ts';
import { layoutOf } from './message-layout.ts';

const PROTOCOL = 'docs/protocol.md';
const text = readText(PROTOCOL);
const layouts = [workerMessageSchema, coordinatorMessageSchema].map((schema) => layoutOf(schema));

/** Texts of all sources of a room, tests left out. */
function sourcesOf(room: string): string {
  const files = listFiles(room).filter((file) => file.endsWith('.ts') && !/\.(?:test|fixture)\.ts$/u.test(file));
  return files.map(readText).join('\n');
}

test('the version is PROTOCOL_VERSION', () => {
  assert.equal(/^Version (\d+) \(`PROTOCOL_VERSION`\)/mu.exec(text)?.[1], String(PROTOCOL_VERSION));
});

describe('control messages', () => {
  for (const [i, heading] of ['Worker to coordinator', 'Coordinator to worker'].entries())
    test(`${heading.toLowerCase()}: every message with all its fields, optional ones marked`, () => {
      const messages = layouts[i]!.records.filter(({ path }) => !path.includes('.'));
      const found = tableRows(PROTOCOL, heading).map(([kind, fields]) => codeSpans(`${kind!} ${fields!}`));
      assert.deepEqual(
        found,
        messages.map(({ path, fields }) => [path, ...fields]),
      );
    });

  test('every record inside a message with all its fields', () => {
    const records = layouts.flatMap((layout) => layout.records).filter(({ path }) => path.includes('.'));
    const found = tableRows(PROTOCOL, 'Records').map(([path, fields]) => codeSpans(`${path!} ${fields!}`));
    assert.deepEqual(
      found,
      records.map(({ path, fields }) => [path, ...fields]),
    );
  });

  test('every field with its type, and no other field', () => {
    /** As the page names it: `step`, or `aborted.step` → type. */
    const documented = new Map(
      tableRows(PROTOCOL, 'Types').flatMap(([type, , fields]) =>
        codeSpans(fields!).map((name) => [name, codeSpans(type!)[0]!] as const),
      ),
    );
    const used = new Set<string>();
    for (const { path, type } of layouts.flatMap(({ fields }) => fields)) {
      const parts = path.split('.');
      const names = parts.map((_, i) => parts.slice(i).join('.')); // the longest name first
      const name = names.find((candidate) => documented.has(candidate));
      assert.ok(name !== undefined, `${path} is in no row`);
      assert.equal(documented.get(name), type, path);
      used.add(name);
    }
    assert.deepEqual([...used].sort(), [...documented.keys()].sort());
  });

  test('every phase is there', () => {
    for (const phase of workerPhaseSchema.options) assert.ok(text.includes(phase), phase);
  });

  test('the figure of their order has every kind', () => {
    const figure = /^```\n(worker +coordinator\n[^`]*)^```/mu.exec(text)![1]!;
    const kinds = layouts.flatMap(({ records }) => records.map(({ path }) => path)).filter((path) => !/\./u.test(path));
    const missing = kinds.filter((kind) => !new RegExp(`\\b${kind}\\b`, 'u').test(figure));
    assert.deepEqual(missing, []);
  });
});

describe('frames', () => {
  const frame: FrameHeader = {
    type: FRAME_PART,
    node: 3,
    chunk: 0x0405,
    epoch: 0x06070809,
    generation: 0x0a0b0c0d,
    step: 0x0e0f1011,
    bucket: 0x12131415,
    part: 0x16171819,
    byteLength: 0x1a1b1c1d,
    offsetBytes: 0x1e_1f20_2122,
    payloadChecksum: 0x23242526,
  };
  const request = { step: 0x06070809, piece: 0x0a0b0c0d, layout: 0x0e0f1011 };
  const piece = { step: 0x06070809, piece: 0x0a0b0c0d, byteLength: 0x0e0f1011, payloadChecksum: 0x12131415 };

  for (const [heading, bytes, numBytes, fields] of [
    ['Tensor frame', encodeFrameHeader(frame), FRAME_HEADER_BYTES, frame],
    ['State request', encodeStateRequest(request), STATE_REQUEST_BYTES, { type: 1, ...request }],
    ['Piece of the state', encodePieceHeader(piece), PIECE_HEADER_BYTES, { type: 2, ...piece }],
  ] as const)
    test(`${heading.toLowerCase()}: each field at its offset, in its width, without a gap`, () => {
      let end = 0;
      const found: Record<string, number> = {};
      for (const [offset, type, meaning] of tableRows(PROTOCOL, heading)) {
        assert.equal(Number(offset), end, meaning);
        const width = Number(/^u(8|16|32|64)$/u.exec(type!)![1]) / 8;
        const value =
          width === 8 ? Number(Buffer.from(bytes).readBigUInt64LE(end)) : Buffer.from(bytes).readUIntLE(end, width);
        const name = codeSpans(meaning!)[0]!;
        if (name === 'magic') assert.equal(value, Number(/0x[\da-f]{8}/u.exec(meaning!)![0]));
        else if (name === 'headerChecksum') {
          assert.match(meaning!, new RegExp(`bytes 0 to ${end - 1}$`, 'u'));
          assert.equal(value, crc32(bytes.subarray(0, end)));
        } else found[name] = value;
        end += width;
      }
      assert.equal(end, numBytes);
      assert.equal(bytes.length, numBytes);
      assert.deepEqual(found, { ...fields });
    });

  test('the frame types, stored ones too', () => {
    const typeOf = (type: typeof FRAME_PART | typeof FRAME_SUM, isStored: boolean): number => {
      const bytes = encodeFrameHeader({ ...frame, type }, isStored);
      assert.equal(decodeFrameHeader(bytes).type, type);
      return bytes.readUInt8(4);
    };
    const types = [false, true].flatMap((isStored) =>
      ([FRAME_PART, FRAME_SUM] as const).map((type) => typeOf(type, isStored)),
    );
    assert.deepEqual(
      tableRows(PROTOCOL, 'Frame types').map(([type, frameName]) => [Number(type), frameName!.split(/[ :]/u)[0]]),
      types.map((type, i) => [type, ['part', 'sum', 'stored', 'stored'][i]]),
    );
  });

  test('the words of READY are those that a worker accepts', () => {
    const source = /const READY = \/(.+)\/;/u.exec(sourcesOf('worker/mesh'))![1]!;
    const ready = new RegExp(source, 'u');
    const words = [...text.matchAll(/`(EXMIX-READY[^`]*)`/gu)].map(([, span]) => span!);
    assert.deepEqual(
      words.map((span) => span.split(' ').slice(1).join(' ')),
      ['WINDOW', 'WINDOW outbox'],
    );
    for (const span of words) {
      assert.match(span.replace('WINDOW', '1234567890'), ready);
      assert.doesNotMatch(span.replace('WINDOW', '12345678901'), ready);
      assert.doesNotMatch(span.replace('WINDOW', '0'), ready);
    }
  });

  test('the paths of data, state and probe connections', () => {
    const paths = [...text.matchAll(/^`ws:\/\/<data host>:<port>(\/.*)`$/gmu)].map(([, path]) => path!);
    const identity = { epoch: 1, generation: 2, rank: 0, worldSize: 5 };
    const fill = (path: string): string =>
      ['<epoch>', /<(?:generation|trial)>/u, /<(?:sender|holder|listener)>/u, /<(?:receiver|dialler)>/u].reduce<string>(
        (filled, name, i) => filled.replace(name, String(i + 1)),
        path,
      );
    assert.deepEqual(paths.map(fill), [
      formatDataPath(identity, 3, 4),
      formatStatePath(identity, 3, 4),
      formatProbePath({ epoch: 1, trial: 2 }, 3, 4),
    ]);
  });
});

test('the message over a link on trial has the length of the page', () => {
  const length = PROBE_BYTES.toLocaleString('en');
  assert.match(text, new RegExp(`listener sends one binary message of ${length} B after the handshake`, 'u'));
});

test('the HTTP routes are those of the coordinator', () => {
  const routes = [...sourcesOf('coordinator').matchAll(/'((?:GET|POST|PUT|DELETE) \/[^']*)': \(/gu)].map(
    ([, name]) => name!,
  );
  const documented = tableRows(PROTOCOL, 'HTTP').map(([route]) => codeSpans(route!)[0]!);
  assert.deepEqual(documented.sort(), routes.sort());
});

describe('errors', () => {
  test('the table of codes is that of shared/errors.ts, with close codes and exit statuses', () => {
    const expected = Object.entries(ERROR_CODES).map(([name, { reaction, meaning }]) => {
      const code = name as ErrorCode;
      const status = String(exitCodeOf(new TrainerError(code, '')));
      return [`\`${code}\``, reaction, status, String(CLOSE_CODES[code] ?? ''), meaning];
    });
    assert.deepEqual(tableRows(PROTOCOL, 'Errors'), expected);
  });

  test('the close codes that are not in the table mean what the page says', () => {
    assert.equal(toCloseCode('NORMAL'), 1000);
    assert.equal(toCloseCode('DISK_FULL'), 4000);
    assert.deepEqual(
      [1000, 1006, 1009].map((code) => toCloseInfo(code, '', 'peer').error?.code),
      [undefined, 'CONNECTION_LOST', 'MESSAGE_TOO_LARGE'],
    );
    assert.match(
      text,
      /closes with 4000\. A normal close is 1000\. .* 1006 .* `CONNECTION_LOST` and 1009 as `MESSAGE_TOO_LARGE`/u,
    );
  });

  test('every exit status is there', () => {
    const statuses = tableRows(PROTOCOL, 'Exit status of `exmix`').map(([status]) => Number(status));
    const codes = Object.keys(ERROR_CODES).map((code) => exitCodeOf(new TrainerError(code as ErrorCode, '')));
    assert.deepEqual(
      statuses,
      [...new Set([0, 1, ...codes])].sort((a, b) => a - b),
    );
  });
});
