/**
 * A Link over two connections, one a direction: the peer dialled ours to receive, we dialled its to receive.
 *
 * After `start` the receiver asks for frames with one READY message on the connection it dialled; nothing is sent to it before.
 * The link is one thing: if either connection ends, both are closed.
 */
import { TrainerError, type ErrorCode } from '../../shared/errors.ts';
import type { CloseInfo, Connection } from '../../shared/transport/transport.ts';
import { encodeFrameHeader, type FrameHeader } from './frame-header.ts';
import type { Inbound } from './inbound.ts';
import type { FrameSink, Link } from './link.ts';
import type { Outbox } from './outbox.ts';

const READY = Buffer.from('EXMIX-READY-1');
/** READY from a peer that has opened our outbox. */
const READY_WITH_OUTBOX = Buffer.from('EXMIX-READY-1 outbox');
export const MAX_READY_BYTES = READY_WITH_OUTBOX.length;

export class PeerLink implements Link {
  readonly peerRank: number;
  readonly closed: Promise<void>;
  readonly #outbound: Connection;
  readonly #inbound: Inbound;
  readonly #outbox: Outbox | null;
  #isStarted = false;
  #readsOutbox = false;

  /** @param outbound accepted from the peer @param inbound dialled to the peer @param outbox that the peer may read */
  constructor(peerRank: number, outbound: Connection, inbound: Inbound, outbox: Outbox | null) {
    this.peerRank = peerRank;
    this.#outbound = outbound;
    this.#inbound = inbound;
    this.#outbox = outbox;
    this.closed = Promise.all([outbound.closed, inbound.connection.closed]).then(() => outbox?.left(peerRank));
  }

  start(sink: FrameSink): void {
    if (this.#isStarted) throw new TrainerError('INTERNAL', `link to rank ${this.peerRank} was started twice`);
    this.#isStarted = true;
    void Promise.race([this.#outbound.closed, this.#inbound.connection.closed]).then((info) => {
      const error = this.#describeEnd(info);
      this.close(info.error?.code ?? 'NORMAL', info.reason);
      sink.closed(error);
    });
    this.#inbound.start(sink);
    this.#outbound.onMessage((message) => {
      this.#readsOutbox = this.#outbox !== null && READY_WITH_OUTBOX.equals(message);
      if (!this.#readsOutbox && !READY.equals(message)) this.close('MESSAGE_INVALID', 'expected READY');
      else {
        this.#outbox?.opened(this.peerRank);
        sink.ready();
      }
    });
    const ready = this.#inbound.readsOutbox ? READY_WITH_OUTBOX : READY;
    this.#inbound.connection.send([ready]).catch(() => undefined); // a connection that ends tells by `closed`
  }

  async send(header: FrameHeader, payload: Uint8Array): Promise<void> {
    try {
      await this.#outbound.send(this.#encode(header, payload));
    } catch (error) {
      // What ended the connection says more than that it has ended.
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

  /** The reason as this rank sees it: an own finding keeps its code, anything else is a lost connection. */
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
