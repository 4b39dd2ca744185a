/**
 * A PeerChannel over two connections, one for each direction: each side receives on the connection that it dialled.
 *
 * After `start` the receiver sends one READY message on the connection it dialled, with the number of pieces that may be under way. The
 * sender sends no frame before. If either connection ends, both are closed.
 */
import { TrainerError, type ErrorCode } from '../../shared/errors.ts';
import type { CloseInfo, Connection } from '../../shared/transport/transport.ts';
import { encodeFrameHeader, type FrameHeader } from './frame-header.ts';
import type { Inbound } from './inbound.ts';
import type { FrameSink, PeerChannel } from './peer-channel.ts';
import type { Outbox } from './outbox.ts';

/** With the window; `outbox`: the peer has opened our outbox. */
const READY = /^EXMIX-READY-2 ([1-9]\d{0,9})( outbox)?$/;
export const MAX_READY_BYTES = 'EXMIX-READY-2 1234567890 outbox'.length;

export class DuplexChannel implements PeerChannel {
  readonly peerRank: number;
  readonly roundTripMs: number;
  readonly closed: Promise<void>;
  readonly #outbound: Connection;
  readonly #inbound: Inbound;
  readonly #outbox: Outbox | null;
  #isStarted = false;
  #readsOutbox = false;

  /** @param outbound accepted from the peer @param inbound dialled to the peer @param outbox that the peer may read */
  constructor(peerRank: number, outbound: Connection, inbound: Inbound, outbox: Outbox | null) {
    this.peerRank = peerRank;
    this.roundTripMs = inbound.roundTripMs;
    this.#outbound = outbound;
    this.#inbound = inbound;
    this.#outbox = outbox;
    this.closed = Promise.all([outbound.closed, inbound.connection.closed]).then(() => outbox?.left(peerRank));
  }

  start(sink: FrameSink, window: number): void {
    if (this.#isStarted) throw new TrainerError('INTERNAL', `channel to rank ${this.peerRank} was started twice`);
    this.#isStarted = true;
    void Promise.race([this.#outbound.closed, this.#inbound.connection.closed]).then((info) => {
      const error = this.#describeEnd(info);
      this.close(info.error?.code ?? 'NORMAL', info.reason);
      sink.closed(error);
    });
    this.#inbound.start(sink);
    this.#outbound.onMessage((message) => {
      const ready = READY.exec(Buffer.from(message).toString('latin1'));
      const readsOutbox = ready?.[2] !== undefined;
      if (ready === null || (readsOutbox && this.#outbox === null)) {
        this.close('MESSAGE_INVALID', 'expected READY');
        return;
      }
      this.#readsOutbox = readsOutbox;
      this.#outbox?.opened(this.peerRank);
      const asked = Number(ready[1]);
      sink.ready(readsOutbox ? Math.min(asked, this.#outbox!.window) : asked);
    });
    const ready = `EXMIX-READY-2 ${window}${this.#inbound.readsOutbox ? ' outbox' : ''}`;
    this.#inbound.connection.send([Buffer.from(ready)]).catch(() => undefined); // `closed` reports a connection that ends
  }

  async send(header: FrameHeader, payload: Uint8Array): Promise<void> {
    try {
      await this.#outbound.send(this.#encode(header, payload));
    } catch (error) {
      // Report the reason of the end, not only that it ended.
      if (error instanceof TrainerError && error.code === 'CONNECTION_LOST')
        throw this.#describeEnd(await this.#outbound.closed);
      throw error;
    }
  }

  #encode(header: FrameHeader, payload: Uint8Array): readonly Uint8Array[] {
    if (this.#outbox === null || !this.#readsOutbox || !this.#outbound.isOpen)
      return [encodeFrameHeader(header), payload];
    const position = Buffer.alloc(8);
    position.writeBigUInt64LE(BigInt(this.#outbox.store(this.peerRank, header, payload)));
    return [encodeFrameHeader(header, true), position];
  }

  close(code: ErrorCode | 'NORMAL', reason: string): void {
    this.#outbound.close(code, reason);
    this.#inbound.connection.close(code, reason);
  }

  /** The end as this rank sees it: a frame or message that it refused keeps its code; all else is a lost connection. */
  #describeEnd({ code, reason, error }: CloseInfo): TrainerError {
    const own = error?.code === 'FRAME_INVALID' || error?.code === 'FRAME_STALE' || error?.code === 'MESSAGE_INVALID';
    const peers = [this.peerRank];
    if (own) return new TrainerError(error.code, `rank ${this.peerRank}: ${error.message}`, { cause: error, peers });
    const why = error === undefined ? `closed by the peer (${code}) ${reason}` : error.message;
    return new TrainerError('CONNECTION_LOST', `connection to rank ${this.peerRank} is lost: ${why}`, {
      cause: error,
      retryable: true,
      peers,
    });
  }
}
