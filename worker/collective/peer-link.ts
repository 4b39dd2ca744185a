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

export const READY = Buffer.from('EXMIX-READY-1');

export class PeerLink implements Link {
  readonly peerRank: number;
  readonly closed: Promise<void>;
  readonly #outbound: Connection;
  readonly #inbound: Inbound;
  #isStarted = false;

  /** @param outbound accepted from the peer @param inbound dialled to the peer */
  constructor(peerRank: number, outbound: Connection, inbound: Inbound) {
    this.peerRank = peerRank;
    this.#outbound = outbound;
    this.#inbound = inbound;
    this.closed = Promise.all([outbound.closed, inbound.connection.closed]).then(() => undefined);
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
      if (READY.equals(message)) sink.ready();
      else this.close('MESSAGE_INVALID', 'expected READY');
    });
    this.#inbound.connection.send([READY]).catch(() => undefined); // a connection that ends tells by `closed`
  }

  send(header: FrameHeader, payload: Uint8Array): Promise<void> {
    return this.#outbound.send([encodeFrameHeader(header), payload]).catch(async (error: unknown) => {
      // What ended the connection says more than that it has ended.
      if (error instanceof TrainerError && error.code === 'CONNECTION_LOST')
        throw this.#describeEnd(await this.#outbound.closed);
      throw error;
    });
  }

  close(code: ErrorCode | 'NORMAL', reason: string): void {
    this.#outbound.close(code, reason);
    this.#inbound.connection.close(code, reason);
  }

  /** The reason as this rank sees it: an own finding keeps its code, anything else is a lost connection. */
  #describeEnd({ code, reason, error }: CloseInfo): TrainerError {
    const own = error?.code === 'FRAME_INVALID' || error?.code === 'FRAME_STALE' || error?.code === 'MESSAGE_INVALID';
    if (own) return new TrainerError(error.code, `rank ${this.peerRank}: ${error.message}`, { cause: error });
    const why = error === undefined ? `closed by the peer (${code}) ${reason}` : error.message;
    return new TrainerError('CONNECTION_LOST', `connection to rank ${this.peerRank} is lost: ${why}`, {
      cause: error,
      retryable: true,
    });
  }
}
