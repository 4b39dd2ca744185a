/**
 * Reads the WebSocket frames of a server (RFC 6455 section 5.2) whose messages have two fragments: a header of fixed length and the
 * payload. The kernel reads the payload straight into the memory that the header names. Control frames (close, ping, pong) are passed to
 * `onControl`.
 *
 * Use: read from the socket into `next()`, then call `consume(n)`; a view may be filled partly. Pass bytes that came in another buffer to
 * `feed`. Before a header, `next()` is short, so that few payload bytes land in the scratch buffer: at most 8, which are copied. (Payloads
 * below 64 KiB have shorter frame headers.)
 *
 * Pure: no sockets.
 */
import { TrainerError } from '../errors.ts';

/** Receives the messages. Its errors pass through `consume` and `feed`. */
export interface PlacedMessages {
  /** Length of the first fragment. */
  readonly headerBytes: number;
  /** The first fragment is complete. Returns the memory of the second one, of exactly its length. The header buffer is reused. */
  place(header: Uint8Array): Uint8Array;
  /** The second fragment is complete. */
  received(): void;
}

const MAX_CONTROL_BYTES = 125;
const LONGEST_HEAD_BYTES = 10;
const OPCODE_CONTINUATION = 0;
const OPCODE_BINARY = 2;
const DISCARD_BYTES = 65536;

type State = 'head' | 'header' | 'payload' | 'control';

export class PlacedFrameReader {
  readonly #messages: PlacedMessages;
  readonly #onControl: (frame: Buffer) => void;
  readonly #scratch: Buffer;
  /** Frame head; of a control frame, its payload too. */
  readonly #frame = Buffer.alloc(LONGEST_HEAD_BYTES + MAX_CONTROL_BYTES);
  readonly #header: Buffer;
  #state: State = 'head';
  #frameLength = 0;
  #headerLength = 0;
  /** True between the two fragments of a message. */
  #isInMessage = false;
  #target: Uint8Array = Buffer.alloc(0);
  #payloadLength = 0;
  #payloadDone = 0;
  #discard: Buffer | null = null;
  /** The view that `next` returned last. */
  #given: Uint8Array;

  constructor(messages: PlacedMessages, onControl: (frame: Buffer) => void) {
    this.#messages = messages;
    this.#onControl = onControl;
    this.#scratch = Buffer.alloc(2 + messages.headerBytes + LONGEST_HEAD_BYTES);
    this.#header = Buffer.alloc(messages.headerBytes);
    this.#given = this.#scratch;
  }

  /** Skips all messages from now on. Control frames still pass. */
  discardMessages(): void {
    this.#discard ??= Buffer.alloc(DISCARD_BYTES);
  }

  /** The memory for the next bytes of the stream. */
  next(): Uint8Array {
    if (this.#state === 'payload') {
      const rest = this.#payloadLength - this.#payloadDone;
      if (this.#discard !== null) this.#given = this.#discard.subarray(0, Math.min(rest, DISCARD_BYTES));
      else this.#given = this.#target.subarray(this.#payloadDone, this.#payloadLength);
    } else {
      // At most up to the latest possible start of the payload.
      const known = this.#isInMessage
        ? 2 + this.#header.length + this.#frameLength
        : this.#frameLength + this.#headerLength;
      this.#given = this.#scratch.subarray(0, Math.max(this.#scratch.length - known, 2));
    }
    return this.#given;
  }

  /** The first `numBytes` of the view that `next` returned have been written. @throws FRAME_INVALID */
  consume(numBytes: number): void {
    if (this.#state !== 'payload' || this.#given.buffer === this.#scratch.buffer) {
      this.feed(this.#given.subarray(0, numBytes));
      return;
    }
    this.#payloadDone += numBytes;
    if (this.#payloadDone === this.#payloadLength) this.#endPayload();
  }

  /** Reads bytes of the stream from any buffer. @throws FRAME_INVALID */
  feed(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === 'payload') {
        const count = Math.min(bytes.length - at, this.#payloadLength - this.#payloadDone);
        if (this.#discard === null) this.#target.set(bytes.subarray(at, at + count), this.#payloadDone);
        this.#payloadDone += count;
        at += count;
        if (this.#payloadDone === this.#payloadLength) this.#endPayload();
      } else if (this.#state === 'header') {
        const count = Math.min(bytes.length - at, this.#header.length - this.#headerLength);
        this.#header.set(bytes.subarray(at, at + count), this.#headerLength);
        this.#headerLength += count;
        at += count;
        if (this.#headerLength === this.#header.length) this.#endHeader();
      } else {
        this.#frame[this.#frameLength++] = bytes[at++]!;
        if (this.#state === 'head') this.#parseHead();
        else if (this.#frameLength === 2 + this.#frame[1]!) this.#endControl();
      }
    }
  }

  #parseHead(): void {
    if (this.#frameLength < 2) return;
    const first = this.#frame[0]!;
    const second = this.#frame[1]!;
    const opcode = first & 0x0f;
    const isLast = (first & 0x80) !== 0;
    if ((first & 0x70) !== 0) throw invalid(`reserved bits 0, got 0x${first.toString(16)}`);
    if ((second & 0x80) !== 0) throw invalid('unmasked frames from a server, got a masked one');
    if (opcode >= 8) {
      if (!isLast || second > MAX_CONTROL_BYTES)
        throw invalid(`a whole control frame of at most 125 B, got ${second} B`);
      this.#state = 'control';
      if (second === 0) this.#endControl();
      return;
    }
    const expectedOpcode = this.#isInMessage ? OPCODE_CONTINUATION : OPCODE_BINARY;
    if (opcode !== expectedOpcode || isLast !== this.#isInMessage)
      throw invalid(
        `opcode ${expectedOpcode}, ${this.#isInMessage ? 'last' : 'not last'}, got opcode ${opcode}${isLast ? ', last' : ''}`,
      );
    const extended = second === 127 ? 8 : second === 126 ? 2 : 0;
    if (this.#frameLength < 2 + extended) return;
    let length = second;
    if (extended === 2) length = this.#frame.readUInt16BE(2);
    else if (extended === 8) length = this.#frame.readUInt32BE(2) * 2 ** 32 + this.#frame.readUInt32BE(6);
    this.#frameLength = 0;
    if (this.#isInMessage) this.#beginPayload(length);
    else {
      if (length !== this.#header.length)
        throw invalid(`a first fragment of ${this.#header.length} B, got ${length} B`);
      this.#headerLength = 0;
      this.#state = 'header';
    }
  }

  #endHeader(): void {
    this.#isInMessage = true;
    this.#state = 'head';
    if (this.#discard === null) this.#target = this.#messages.place(this.#header);
  }

  #beginPayload(length: number): void {
    if (this.#discard === null && length !== this.#target.length)
      throw invalid(`a second fragment of ${this.#target.length} B, got ${length} B`);
    this.#payloadLength = length;
    this.#payloadDone = 0;
    this.#state = 'payload';
    if (length === 0) this.#endPayload();
  }

  #endPayload(): void {
    this.#isInMessage = false;
    this.#headerLength = 0;
    this.#state = 'head';
    if (this.#discard === null) this.#messages.received();
  }

  #endControl(): void {
    const frame = Buffer.from(this.#frame.subarray(0, this.#frameLength));
    this.#frameLength = 0;
    this.#state = 'head';
    this.#onControl(frame);
  }
}

function invalid(expected: string): TrainerError {
  return new TrainerError(
    'FRAME_INVALID',
    `data connection: expected ${expected}; the peer is no worker of this version`,
  );
}
