/** States, data ports and holders for the tests of this room. */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import type { TensorSpec } from '../../shared/checkpoint/shard-plan.ts';
import type { Connection, Refusal, Transport } from '../../shared/transport/transport.ts';
import { TensorSnapshot } from '../checkpoint/snapshot.ts';
import { DataPort } from '../mesh/data-port.ts';
import { copyState, type CopyStateInit } from './copy-state.ts';
import { decodeStateRequest, encodePieceHeader, type StateRequest } from './state-frames.ts';
import { planPieces, type StateTensors } from './state-pieces.ts';

export const SECRET = Buffer.alloc(32, 5);
export const STEP = 412;
export const GENERATION = { epoch: 1, generation: 7 };
/** Rank of the receiver. */
const RECEIVER = 0;
/** Values in a whole piece. */
export const WHOLE = (1 << 20) / 4;

export interface StateSizes {
  readonly parameters: Readonly<Record<string, number>>;
  readonly optimizerSlots: Readonly<Record<string, number>>;
}

/** Many pieces: whole ones, rests of odd sizes, single values, an empty tensor, a name in both sets. 13 pieces. */
export const SIZES: StateSizes = {
  parameters: { 'shared.weight': 5 * WHOLE + 1, 'encoder.norm': 1, bias: 0, 'decoder.wo': WHOLE },
  optimizerSlots: { 'shared.weight': 2 * WHOLE - 1, 'encoder.norm': 3, 'decoder.wo': 17, 'decoder.wi': 1 },
};

/** All zeros. */
export function makeState({ parameters, optimizerSlots }: StateSizes): StateTensors {
  return { parameters: makeSet(parameters), optimizerSlots: makeSet(optimizerSlots) };
}

/** Values that differ from place to place and tensor to tensor. */
export function makeFilledState(sizes: StateSizes): StateTensors {
  const state = makeState(sizes);
  let word = 1;
  for (const values of [...state.parameters.values(), ...state.optimizerSlots.values()]) {
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (let i = 0; i < words.length; i++) words[i] = word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0;
  }
  return state;
}

function makeSet(sizes: Readonly<Record<string, number>>): ReadonlyMap<string, Float32Array> {
  const specs = Object.entries(sizes).map(([name, size]): TensorSpec => ({ name, shape: [size] }));
  return new TensorSnapshot(specs).tensors;
}

export function assertSameState(found: StateTensors, expected: StateTensors): void {
  for (const set of ['parameters', 'optimizerSlots'] as const)
    for (const [name, values] of expected[set]) {
      const other = found[set].get(name)!;
      const isSame = bytesOf(other).equals(bytesOf(values));
      assert.ok(isSame, `${set} ${name} differs`);
    }
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

export interface Host {
  readonly rank: number;
  /** As announced. */
  readonly url: string;
  readonly port: DataPort;
  readonly refusals: readonly Refusal[];
}

/** A data port; it serves no state yet. */
export async function openHost(transport: Transport, rank: number, onRefused?: () => void): Promise<Host> {
  const refusals: Refusal[] = [];
  const report = (refusal: Refusal): void => {
    refusals.push(refusal);
    onRefused?.();
  };
  const port = await DataPort.open({ transport, host: '127.0.0.1', port: 0, onRefused: report });
  return { rank, url: port.announce(port.url), port, refusals };
}

/** Lets the handler serve the peers of the generation. */
export function serveAt({ port, rank }: Host, handler: (connection: Connection, peer: number) => void): void {
  port.serve('state', { ...GENERATION, rank, worldSize: 5, secret: SECRET }, handler);
}

export function copyFrom(
  transport: Transport,
  holders: readonly { readonly rank: number; readonly url: string }[],
  into: StateTensors,
  more: Partial<CopyStateInit> = {},
): ReturnType<typeof copyState> {
  const init = { holders: holders.map(({ rank, url }) => ({ rank, url })), ...GENERATION, rank: RECEIVER, step: STEP };
  return copyState({ ...init, into, transport, secret: SECRET, socket: 'auto', timeoutMs: 10_000, ...more });
}

export type Reply = readonly Uint8Array[];

/** What an honest holder answers. */
export function replyTo(state: StateTensors, request: StateRequest): Reply {
  const { number, bytes } = planPieces(state).pieces[request.piece]!;
  const header = { step: request.step, piece: number, byteLength: bytes.byteLength, payloadChecksum: crc32(bytes) };
  return [encodePieceHeader(header), bytes];
}

/** A holder played by hand: gets every request; what it returns is sent. */
export function playHolder(
  host: Host,
  onRequest: (request: StateRequest, connection: Connection) => Reply | null,
): void {
  serveAt(host, (connection) =>
    connection.onMessage((message) => {
      const reply = onRequest(decodeStateRequest(message), connection);
      if (reply !== null) connection.send(reply).catch(() => undefined);
    }),
  );
}
