/** Control messages ⇄ bytes: a scan of the bytes and the bound of the kind, then msgpackr, then a zod schema. */
import { Packr } from 'msgpackr';
import type { z } from 'zod';
import { assertInvariant, TrainerError } from '../errors.ts';
import { MAX_DEPTH, MAX_ELEMENTS, SMALL, type MessageBounds } from './message-bounds.ts';
import { scanMsgpack } from './scan-msgpack.ts';

// Plain maps without msgpackr's records and shared structures: any msgpack reader can read each message alone.
// A field that is undefined is left out: msgpack has no such value, and msgpackr would write an extension of its own.
const packr = new Packr({ useRecords: false, variableMapSize: true, skipValues: [undefined] } as object);

export function encodeMessage(message: object): Uint8Array {
  return packr.pack(message);
}

/** msgpack fixmap: the first byte of a short map is this plus the number of its entries. */
const FIXMAP = 0x80;
const MAX_ENTRIES = 15;

/**
 * One message for each of `own`, with the fields of `shared` and its own ones. The shared fields are encoded once and are the same memory
 * in all messages, so a thousand long messages that differ in few fields cost about as much as one.
 * @returns the parts of each message, to be sent one after the other
 */
export function encodeEach(shared: object, own: readonly object[]): (readonly [Uint8Array, Uint8Array])[] {
  const count = (fields: object): number => Object.values(fields).filter((value) => value !== undefined).length;
  const numOwn = count(own[0] ?? {});
  const numEntries = count(shared) + numOwn;
  assertInvariant(
    numEntries <= MAX_ENTRIES,
    `a message of parts has at most ${MAX_ENTRIES} fields, found ${numEntries}`,
  );
  const head = Uint8Array.from(packr.pack(shared));
  head[0] = FIXMAP | numEntries;
  return own.map((fields) => {
    const tail = packr.pack(fields);
    assertInvariant(tail[0] === (FIXMAP | numOwn), `every message has ${numOwn} fields of its own`);
    return [head, tail.subarray(1)];
  });
}

/**
 * @param schema the union of what this side may receive @param bounds of its kinds; without them only the largest bound of all holds
 * @throws MESSAGE_INVALID naming the byte or the field that is wrong; MESSAGE_TOO_LARGE
 */
export function decodeMessage<Schema extends z.ZodType>(
  schema: Schema,
  data: Uint8Array,
  bounds?: MessageBounds,
): z.output<Schema> {
  if (bounds !== undefined) checkLargest(data, bounds);
  const { kind, numElements } = scanMsgpack(data, { maxDepth: MAX_DEPTH, maxElements: MAX_ELEMENTS });
  if (bounds !== undefined) {
    const { maxBytes, maxElements } = Object.hasOwn(bounds, kind) ? bounds[kind]! : SMALL;
    if (data.byteLength > maxBytes || numElements > maxElements)
      throw new TrainerError(
        'MESSAGE_TOO_LARGE',
        `control message ${JSON.stringify(kind)}: expected at most ${maxBytes} B and ${maxElements} values, ` +
          `got ${data.byteLength} B and ${numElements}`,
      );
  }
  let value: unknown;
  try {
    value = packr.unpack(data);
  } catch (error) {
    throw new TrainerError('MESSAGE_INVALID', `a control message of ${data.byteLength} B is not msgpack`, {
      cause: error,
    });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const place = issue.path.join('.') || '(top)';
  throw new TrainerError('MESSAGE_INVALID', `a control message breaks its schema at ${place}: ${issue.message}`);
}

/** Before the scan, which takes time for every byte. @throws MESSAGE_TOO_LARGE */
function checkLargest(data: Uint8Array, bounds: MessageBounds): void {
  const largest = Math.max(...Object.values(bounds).map(({ maxBytes }) => maxBytes));
  if (data.byteLength > largest)
    throw new TrainerError(
      'MESSAGE_TOO_LARGE',
      `control message: expected at most ${largest} B, got ${data.byteLength} B`,
    );
}
