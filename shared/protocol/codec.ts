/** Control messages ⇄ bytes: msgpackr, then a zod schema. Size is bounded by the transport before anything is decoded. */
import { Packr } from 'msgpackr';
import type { z } from 'zod';
import { TrainerError } from '../errors.ts';

// Plain maps, no records and no shared structures: any msgpack reader can read a message by itself.
const packr = new Packr({ useRecords: false, variableMapSize: true });

export function encodeMessage(message: object): Uint8Array {
  return packr.pack(message);
}

/**
 * @param schema the union of what this side may receive
 * @throws MESSAGE_INVALID naming the field that is wrong
 */
export function decodeMessage<Schema extends z.ZodType>(schema: Schema, data: Uint8Array): z.output<Schema> {
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
