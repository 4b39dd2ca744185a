/**
 * The upper bound for bench/all-reduce.ts: sends the same pieces in the same order over plain TCP sockets, reads them in place and adds them
 * with the same kernels. It has no WebSocket frames, header checks, checksums, digest or norm. For 2 or 4 ranks with one lane each.
 *
 * A frame is a tag (u32: twice the index of the piece in its chunk, + 1 for a sum) and the payload. The receiver dials.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { LaneTree } from '../shared/lane-tree.ts';
import type { Arena } from '../worker/arena/arena.ts';
import { planPieces, type BucketPlan, type Piece } from '../worker/arena/bucket-plan.ts';
import { StepExchange, type ExchangeShape } from '../worker/collective/step-exchange.ts';

const TAG_BYTES = 4;

export interface RawInit {
  readonly arena: Arena;
  readonly plan: BucketPlan;
  readonly laneTree: LaneTree;
  readonly rank: number;
  readonly frameBytes: number;
  /** Addresses of the other ranks, by rank. */
  readonly addresses: readonly { readonly host: string; readonly port: number }[];
  readonly listener: RawListener;
}

/** Accepts the connections of receivers; the first byte of each is the receiver's rank. */
export class RawListener {
  readonly #server: Server;
  #sockets = new Map<number, Socket>();
  #onChange: () => void = () => undefined;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      socket.setNoDelay(true);
      socket.once('data', (hello: Buffer) => {
        this.#sockets.set(hello[0]!, socket);
        this.#onChange();
      });
    });
  }

  static async open(host: string): Promise<RawListener> {
    const server = createServer().listen(0, host);
    await once(server, 'listening');
    return new RawListener(server);
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' ? (address?.port ?? 0) : 0;
  }

  /** @returns the next connection of each of `count` receivers, by rank */
  async accept(count: number): Promise<Map<number, Socket>> {
    while (this.#sockets.size < count) await new Promise<void>((resolve) => (this.#onChange = resolve));
    const sockets = this.#sockets;
    this.#sockets = new Map();
    return sockets;
  }
}

export class RawAllReduce {
  readonly #init: RawInit;
  readonly #shape: ExchangeShape;
  readonly #outbound: Map<number, Socket>;
  readonly #inbound: Socket[] = [];
  #exchange: StepExchange;
  #framesInFlight = 0;
  #finish: (() => void) | null = null;

  private constructor(init: RawInit, outbound: Map<number, Socket>) {
    const { arena, plan, laneTree, rank, frameBytes } = init;
    const { worldSize } = laneTree;
    this.#init = init;
    this.#outbound = outbound;
    const pieces = planPieces(plan, worldSize, frameBytes);
    const numCoverNodes = new Array<number>(worldSize).fill(1);
    const numBuckets = plan.buckets.length;
    this.#shape = {
      rank,
      worldSize,
      epoch: 1,
      generation: 1,
      numBuckets,
      windows: arena.layout.windows,
      pieces,
      numCoverNodes,
    };
    this.#exchange = new StepExchange(this.#shape, 0);
  }

  static async connect(init: RawInit): Promise<RawAllReduce> {
    const dialled = init.addresses
      .map((address, peer) => ({ ...address, peer }))
      .filter(({ peer }) => peer !== init.rank);
    const outbound = init.listener.accept(dialled.length);
    let self = null as RawAllReduce | null;
    const inbound = dialled.map(({ host, port, peer }) => {
      const reader = createReader(
        (tag) => self!.#target(peer, tag),
        (tag) => self!.#received(peer, tag),
      );
      const socket = connect({ host, port, noDelay: true, onread: reader });
      socket.write(Uint8Array.of(init.rank));
      return socket;
    });
    self = new RawAllReduce(init, await outbound);
    self.#inbound.push(...inbound);
    return self;
  }

  /** Resolves when all sums are in slot 0 and all own frames are sent. */
  run(): Promise<void> {
    const finished = new Promise<void>((resolve) => (this.#finish = resolve));
    for (const { index } of this.#init.plan.buckets) this.#exchange.markReady(index);
    this.#advance();
    for (const peer of this.#outbound.keys()) this.#sendParts(peer);
    return finished;
  }

  close(): void {
    for (const socket of [...this.#outbound.values(), ...this.#inbound]) socket.destroy();
  }

  #target(peer: number, tag: number): Uint8Array {
    const { arena, rank } = this.#init;
    const ordinal = tag >> 1;
    const piece = this.#shape.pieces[isSum(tag) ? peer : rank]![ordinal]!;
    const address = isSum(tag) ? arena.slotAddress(0, piece.offsetBytes) : arena.receiveAddress(peer, ordinal, 0);
    return arena.bytes(address, piece.byteLength);
  }

  #received(peer: number, tag: number): void {
    if (isSum(tag)) {
      this.#exchange.sumReceived(peer);
      this.#sendParts(peer);
    } else {
      this.#exchange.partReceived(peer);
      this.#advance();
    }
    this.#finishIfDone();
  }

  #advance(): void {
    for (;;) {
      const ordinal = this.#exchange.numReduced;
      const piece = this.#exchange.nextPieceToReduce();
      if (piece === null) return;
      this.#add(piece, ordinal);
      const { rank, laneTree } = this.#init;
      for (let i = 1; i < laneTree.worldSize; i++) this.#send((rank + i) % laneTree.worldSize, 2 * ordinal + 1, piece);
    }
  }

  #add({ offsetBytes, byteLength }: Piece, ordinal: number): void {
    const { arena, rank, laneTree } = this.#init;
    const own = arena.slotAddress(0, offsetBytes);
    const [a, b, c, d] = Array.from({ length: laneTree.worldSize }, (_, peer) =>
      peer === rank ? own : arena.receiveAddress(peer, ordinal, 0),
    );
    if (c === undefined) arena.kernels.add2(own, a!, b!, byteLength);
    else arena.kernels.add4(own, a!, b!, c, d!, byteLength);
  }

  #sendParts(peer: number): void {
    for (;;) {
      const piece = this.#exchange.nextPieceToSend(peer, this.#shape.windows[peer]!);
      if (piece === null) return;
      this.#send(peer, 2 * this.#shape.pieces[peer]!.indexOf(piece), piece);
    }
  }

  #send(peer: number, tag: number, { offsetBytes, byteLength }: Piece): void {
    const { arena } = this.#init;
    const header = Buffer.alloc(TAG_BYTES);
    header.writeUInt32LE(tag);
    const socket = this.#outbound.get(peer)!;
    this.#framesInFlight++;
    socket.cork();
    socket.write(header);
    socket.write(arena.bytes(arena.slotAddress(0, offsetBytes), byteLength), () => {
      this.#framesInFlight--;
      this.#finishIfDone();
    });
    socket.uncork();
  }

  #finishIfDone(): void {
    if (this.#finish === null || this.#framesInFlight > 0 || !this.#exchange.done) return;
    this.#exchange = new StepExchange(this.#shape, this.#exchange.step + 1);
    this.#finish();
    this.#finish = null;
  }
}

const isSum = (tag: number): boolean => (tag & 1) === 1;

/** For Node's `onread`: each read fills the tag or the rest of the payload's target. */
function createReader(
  targetOf: (tag: number) => Uint8Array,
  received: (tag: number) => void,
): { buffer: () => Uint8Array; callback: (numBytes: number) => boolean } {
  const tag = Buffer.alloc(TAG_BYTES);
  let target: Uint8Array = tag;
  let done = 0;
  return {
    buffer: () => target.subarray(done),
    callback: (numBytes) => {
      done += numBytes;
      if (done < target.length) return true;
      done = 0;
      if (target === tag) target = targetOf(tag.readUInt32LE());
      else {
        target = tag;
        received(tag.readUInt32LE());
      }
      return true;
    },
  };
}
