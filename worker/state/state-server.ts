/**
 * The holder's side: answers the peers of one generation that request pieces of its state. One object for one generation.
 *
 * Peers may connect before the state is ready; their requests (at most `STATE_WINDOW` a peer) wait for `offer`. Payloads are views of the
 * offered tensors, one piece a peer at a time: nobody may write to the tensors until `withdraw` resolves.
 * Assumptions: DataPort.serve admits each peer once, so the world size bounds the peers. The deadline is the
 * peer's (copy-state.ts). Requests of a silent peer end with the generation, by `withdraw`.
 */
import { crc32 } from 'node:zlib';
import { assertInvariant, TrainerError, toTrainerError } from '../../shared/errors.ts';
import type { Connection } from '../../shared/transport/transport.ts';
import { decodeStateRequest, encodePieceHeader, STATE_WINDOW, type StateRequest } from './state-frames.ts';
import { planPieces, type StatePlan, type StateTensors } from './state-pieces.ts';

export interface HeldState {
  /** Updates applied in it. */
  readonly step: number;
  readonly tensors: StateTensors;
}

export interface StateServerInit {
  /** A peer broke the protocol; its connection is closed, the others continue. */
  readonly onWarning?: (error: TrainerError) => void;
  /** Withdraws the state when it fires. */
  readonly signal?: AbortSignal;
}

interface Offer {
  readonly step: number;
  readonly plan: StatePlan;
}

const WITHDRAWN = 'the state is not held here any more';

export class StateServer {
  readonly #onWarning: (error: TrainerError) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.withdraw();
  readonly #peers = new Set<ServedPeer>();
  #offered: Offer | null = null;
  #isWithdrawn = false;

  constructor({ onWarning, signal }: StateServerInit = {}) {
    this.#onWarning = onWarning ?? (() => undefined);
    this.#signal = signal;
    if (signal?.aborted === true) this.#isWithdrawn = true;
    else signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Answers on the connection until it closes; the handler for `DataPort.serve`. @param rank of the peer */
  readonly serve = (connection: Connection, rank: number): void => {
    if (this.#isWithdrawn) {
      connection.close('NORMAL', WITHDRAWN);
      return;
    }
    const peer = new ServedPeer(connection, rank, this.#onWarning);
    this.#peers.add(peer);
    void connection.closed.then(() => this.#peers.delete(peer));
    if (this.#offered !== null) peer.offer(this.#offered);
  };

  /** Answers requests from now on, waiting ones first. After `withdraw` it does nothing. @throws INTERNAL for a second offer */
  offer({ step, tensors }: HeldState): void {
    assertInvariant(this.#offered === null, `the state of step ${step} is offered after another one`);
    if (this.#isWithdrawn) return;
    const offer = { step, plan: planPieces(tensors) };
    this.#offered = offer;
    for (const peer of this.#peers) peer.offer(offer);
  }

  /** Ends all connections. When it resolves, no peer reads the tensors any more. Idempotent. */
  async withdraw(): Promise<void> {
    this.#isWithdrawn = true;
    this.#offered = null;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    const peers = [...this.#peers];
    for (const { connection } of peers) connection.close('NORMAL', WITHDRAWN);
    await Promise.all(peers.map(({ connection }) => connection.closed));
  }
}

/** One peer that copies the state. */
class ServedPeer {
  readonly connection: Connection;
  readonly #rank: number;
  readonly #onWarning: (error: TrainerError) => void;
  /** Requests without the one being answered: at most a window, also when an answer arrives before its sending has settled. */
  readonly #waiting: StateRequest[] = [];
  #offered: Offer | null = null;
  #isAnswering = false;

  constructor(connection: Connection, rank: number, onWarning: (error: TrainerError) => void) {
    this.connection = connection;
    this.#rank = rank;
    this.#onWarning = onWarning;
    connection.onMessage((message) => this.#receive(message));
  }

  offer(offered: Offer): void {
    this.#offered = offered;
    void this.#answerAll(offered);
  }

  #receive(message: Uint8Array): void {
    if (!this.connection.isOpen) return;
    try {
      const request = decodeStateRequest(message);
      if (this.#waiting.length >= STATE_WINDOW)
        throw new TrainerError(
          'SEND_OVERFLOW',
          `expected at most ${STATE_WINDOW} state requests at a time, got one more`,
        );
      this.#waiting.push(request);
    } catch (error) {
      this.#fail(toTrainerError(error));
      return;
    }
    if (this.#offered !== null) void this.#answerAll(this.#offered);
  }

  /** Never rejects. */
  async #answerAll(offered: Offer): Promise<void> {
    if (this.#isAnswering) return;
    this.#isAnswering = true;
    try {
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
        await this.connection.send(answer(offered, next));
    } catch (error) {
      this.#fail(toTrainerError(error));
    }
    this.#isAnswering = false;
  }

  #fail(error: TrainerError): void {
    this.#waiting.length = 0;
    if (!this.connection.isOpen) return; // the peer has left, which is no failure
    this.connection.close(error.code, error.message);
    this.#onWarning(
      new TrainerError(error.code, `rank ${this.#rank}, which copies the state: ${error.message}`, { cause: error }),
    );
  }
}

/** @throws FRAME_STALE for another step; FRAME_INVALID for another model or an unknown piece */
function answer({ step, plan }: Offer, request: StateRequest): Uint8Array[] {
  if (request.layout !== plan.layout)
    throw new TrainerError(
      'FRAME_INVALID',
      `state request: expected layout ${plan.layout}, got ${request.layout}; names or lengths of the tensors differ`,
    );
  if (request.step !== step)
    throw new TrainerError('FRAME_STALE', `state request: the state held is at step ${step}, got step ${request.step}`);
  const piece = plan.pieces[request.piece];
  if (piece === undefined)
    throw new TrainerError(
      'FRAME_INVALID',
      `state request: expected a piece below ${plan.pieces.length}, got ${request.piece}`,
    );
  const { number, bytes } = piece;
  const payloadChecksum = crc32(bytes);
  return [encodePieceHeader({ step, piece: number, byteLength: bytes.byteLength, payloadChecksum }), bytes];
}
