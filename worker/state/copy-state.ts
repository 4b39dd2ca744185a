/**
 * The receiver's side: copies the state of a step from the ranks that hold it, straight into given tensors.
 *
 * Requests go to all holders at the same time, a few pieces each; a holder that fails is dropped and its pieces are requested from the others.
 * A piece is written only after its checksum held. Assumptions: the holders have the same state, which the coordinator knows from their
 * digests; nobody reads the tensors before the copy has resolved. After a failure they are part old, part new.
 */
import { nameLocation } from '../../shared/storage/location.ts';
import { crc32 } from 'node:zlib';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { assertInvariant, TrainerError, toTrainerError } from '../../shared/errors.ts';
import type { CloseInfo, Connection, Transport } from '../../shared/transport/transport.ts';
import type { SocketKind } from '../mesh/connect-mesh.ts';
import { formatStatePath } from '../mesh/data-port.ts';
import { dialPort } from '../mesh/dial-port.ts';
import { CopyProgress, MAX_REPEATS } from './copy-progress.ts';
import { decodePieceHeader, encodeStateRequest, PIECE_HEADER_BYTES } from './state-frames.ts';
import { describePiece, MAX_PIECE_BYTES, planPieces, type StatePlan, type StateTensors } from './state-pieces.ts';

/** Checks for silent holders in `timeoutMs`. */
const CHECKS = 8;

export interface CopyStateInit {
  /** Ranks that hold the state, with the announced addresses of their data ports. At least one. */
  readonly holders: readonly { readonly rank: number; readonly url: string }[];
  readonly epoch: number;
  readonly generation: number;
  /** The own rank. */
  readonly rank: number;
  /** Updates applied in the state to copy. */
  readonly step: number;
  readonly into: StateTensors;
  readonly transport: Transport;
  /** Of the generation, from `form`. */
  readonly secret: Uint8Array;
  /** `auto`: a holder of the same host is dialled through its local socket, by TCP where nobody answers there. */
  readonly socket: SocketKind;
  /**
   * The copy fails after so long without a message from any holder. A holder that was asked and is silent for half of it is dropped while
   * another one answers.
   */
  readonly timeoutMs: number;
  /** The copy continues: a holder was dropped, or a piece is requested again. */
  readonly onWarning?: (error: TrainerError) => void;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
}

export interface CopiedState {
  readonly numBytes: number;
  readonly ms: number;
}

/**
 * @throws CONNECT_FAILED when no holder could be reached before the deadline; COLLECTIVE_TIMEOUT when those reached fell
 *   silent; ABORTED; when every holder failed, the last one's failure: CONNECTION_LOST, FRAME_INVALID, FRAME_STALE,
 *   AUTH_FAILED. All connections are closed then.
 */
export async function copyState(init: CopyStateInit): Promise<CopiedState> {
  const clock = init.clock ?? systemClock;
  const startMs = clock.monotonicMs();
  const plan = planPieces(init.into);
  if (plan.pieces.length > 0) await new StateCopy(init, plan, clock).run();
  return { numBytes: plan.numBytes, ms: clock.monotonicMs() - startMs };
}

/** A rank that holds the state. */
interface Holder {
  readonly rank: number;
  readonly url: string;
  connection: Connection | null;
  /** Time of its last message, or of a request while nothing was under way with it. */
  lastSignMs: number;
  /** The last failure to reach it. */
  lastFailure: TrainerError | null;
}

class StateCopy {
  readonly #init: CopyStateInit;
  readonly #plan: StatePlan;
  readonly #clock: Clock;
  readonly #progress: CopyProgress;
  /** Holders that have not failed. */
  readonly #holders: Set<Holder>;
  readonly #over = new AbortController();
  /** Time of the last message of any holder. */
  #lastSignMs: number;
  #error: TrainerError | null = null;

  constructor(init: CopyStateInit, plan: StatePlan, clock: Clock) {
    assertInvariant(init.holders.length > 0, `nobody to copy the state of step ${init.step} from`);
    this.#init = init;
    this.#plan = plan;
    this.#clock = clock;
    this.#lastSignMs = clock.monotonicMs();
    this.#progress = new CopyProgress(plan.pieces.length);
    this.#holders = new Set(
      init.holders.map(({ rank, url }) => ({
        rank,
        url,
        connection: null,
        lastSignMs: this.#lastSignMs,
        lastFailure: null,
      })),
    );
  }

  async run(): Promise<void> {
    const { signal } = this.#init;
    const onAbort = (): void => this.#finish(this.#fault('ABORTED', 'copying was aborted', signal?.reason));
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
    await Promise.all([...this.#holders].map((holder) => this.#reach(holder)).concat(this.#watch()));
    signal?.removeEventListener('abort', onAbort);
    if (this.#error !== null) throw this.#error;
  }

  /** Resolves when the holder is reached or dropped. */
  async #reach(holder: Holder): Promise<void> {
    const { epoch, generation, rank, transport, secret, socket, timeoutMs } = this.#init;
    const { signal } = this.#over;
    try {
      const connection = await dialPort({
        url: holder.url,
        path: formatStatePath({ epoch, generation }, holder.rank, rank),
        ...{ transport, secret, socket, timeoutMs, signal },
        maxMessageBytes: PIECE_HEADER_BYTES + MAX_PIECE_BYTES,
        clock: this.#clock,
        onRetry: (failure) => (holder.lastFailure = failure),
      });
      holder.connection = connection;
      if (signal.aborted) {
        connection.close('NORMAL', 'the copy is over');
        return;
      }
      this.#recordSign(holder);
      void connection.closed.then((info) => this.#dropHolder(holder, describeEnd(info)));
      connection.onMessage((message) => this.#receive(holder, connection, message));
      this.#ask(holder, connection);
    } catch (error) {
      this.#dropHolder(holder, toTrainerError(error));
    }
  }

  /** Requests as many pieces as the window allows. */
  #ask(holder: Holder, connection: Connection): void {
    if (this.#progress.numUnderWay(holder.rank) === 0) holder.lastSignMs = this.#clock.monotonicMs();
    for (let piece = this.#progress.next(holder.rank); piece !== null; piece = this.#progress.next(holder.rank))
      this.#request(connection, piece);
  }

  #request(connection: Connection, piece: number): void {
    const request = encodeStateRequest({ step: this.#init.step, piece, layout: this.#plan.layout });
    connection.send([request]).catch(() => undefined); // `closed` reports a connection that ends
  }

  #receive(holder: Holder, connection: Connection, message: Uint8Array): void {
    if (!this.#holders.has(holder)) return;
    this.#recordSign(holder);
    try {
      this.#store(holder, connection, message);
    } catch (error) {
      this.#dropHolder(holder, toTrainerError(error));
    }
    if (this.#progress.isDone) this.#finish(null);
  }

  /** @throws FRAME_INVALID, FRAME_STALE */
  #store(holder: Holder, connection: Connection, message: Uint8Array): void {
    const header = decodePieceHeader(message.subarray(0, PIECE_HEADER_BYTES));
    const payload = message.subarray(PIECE_HEADER_BYTES);
    const piece = this.#plan.pieces[header.piece];
    if (piece === undefined || !this.#progress.isUnderWay(holder.rank, header.piece))
      throw new TrainerError('FRAME_INVALID', `piece ${header.piece} of the state came without being asked for`);
    const name = describePiece(piece);
    if (header.step !== this.#init.step)
      throw new TrainerError('FRAME_STALE', `${name}: expected step ${this.#init.step}, got step ${header.step}`);
    if (header.byteLength !== piece.bytes.byteLength || payload.byteLength !== piece.bytes.byteLength)
      throw new TrainerError(
        'FRAME_INVALID',
        `${name}: expected ${piece.bytes.byteLength} B, got ${header.byteLength} B announced, ${payload.byteLength} B sent`,
      );
    const checksum = crc32(payload);
    if (checksum === header.payloadChecksum) {
      piece.bytes.set(payload);
      this.#progress.arrived(holder.rank, header.piece);
      this.#ask(holder, connection);
      return;
    }
    const isWrong = `${name}: expected crc32 ${header.payloadChecksum}, got ${checksum}; bytes were changed on the way`;
    if (!this.#progress.failedChecksum(holder.rank, header.piece))
      throw new TrainerError('FRAME_INVALID', `${isWrong}, ${MAX_REPEATS + 1} times`);
    this.#warn(this.#fault('FRAME_INVALID', `rank ${holder.rank}: ${isWrong}; it is asked for again`));
    this.#request(connection, header.piece);
  }

  #recordSign(holder: Holder): void {
    this.#lastSignMs = holder.lastSignMs = this.#clock.monotonicMs();
  }

  /** The holder has failed: its pieces are requested from the others. */
  #dropHolder(holder: Holder, error: TrainerError): void {
    if (!this.#holders.delete(holder)) return;
    holder.connection?.close(error.code, error.message);
    this.#progress.drop(holder.rank);
    const fault = this.#fault(error.code, `rank ${holder.rank}: ${error.message}`, error);
    if (this.#holders.size === 0) {
      this.#finish(fault);
      return;
    }
    this.#warn(fault);
    for (const other of this.#holders) if (other.connection !== null) this.#ask(other, other.connection);
  }

  /** Resolves when the copy is over. */
  async #watch(): Promise<void> {
    const { timeoutMs } = this.#init;
    const { signal } = this.#over;
    while (!signal.aborted) {
      const nowMs = this.#clock.monotonicMs();
      if (nowMs - this.#lastSignMs >= timeoutMs) {
        this.#finish(this.#describeSilence());
        return;
      }
      const quiet = this.#asked.filter(({ lastSignMs }) => nowMs - lastSignMs >= timeoutMs / 2);
      const silence = new TrainerError('COLLECTIVE_TIMEOUT', `it was asked and sent nothing for ${timeoutMs / 2} ms`);
      const isHelp = (holder: Holder): boolean => holder.connection !== null && !quiet.includes(holder);
      if ([...this.#holders].some(isHelp)) for (const holder of quiet) this.#dropHolder(holder, silence);
      const waitMs = Math.min(this.#lastSignMs + timeoutMs - nowMs, timeoutMs / CHECKS);
      await this.#clock.sleep(waitMs, signal).catch(() => undefined);
    }
  }

  get #asked(): Holder[] {
    return [...this.#holders].filter(({ rank }) => this.#progress.numUnderWay(rank) > 0);
  }

  #describeSilence(): TrainerError {
    const holders = [...this.#holders];
    const silent = holders.map(({ rank, url, connection, lastFailure }) =>
      connection === null
        ? `rank ${rank} at ${nameLocation(url)} (not reached: ${lastFailure?.message ?? 'no answer'})`
        : `rank ${rank} (asked for ${this.#progress.numUnderWay(rank)} pieces)`,
    );
    const code = holders.every(({ connection }) => connection === null) ? 'CONNECT_FAILED' : 'COLLECTIVE_TIMEOUT';
    return this.#fault(code, `within ${this.#init.timeoutMs} ms nothing came from ${silent.join(', ')}`);
  }

  #finish(error: TrainerError | null): void {
    if (this.#over.signal.aborted) return;
    this.#error = error;
    const reason = error === null ? 'the state is copied' : 'the copy failed';
    for (const { connection } of this.#holders) connection?.close('NORMAL', reason);
    this.#holders.clear();
    this.#over.abort();
  }

  #warn(error: TrainerError): void {
    this.#init.onWarning?.(error);
  }

  #fault(code: TrainerError['code'], message: string, cause?: unknown): TrainerError {
    const { step, rank, epoch, generation } = this.#init;
    const where =
      `state of step ${step} for rank ${rank} (epoch ${epoch}, generation ${generation}, ` +
      `${this.#progress.numArrived} of ${this.#plan.pieces.length} pieces copied)`;
    return new TrainerError(code, `${where}: ${message}`, { cause });
  }
}

/** An error found by either side keeps its code; a close without one is a lost connection. */
function describeEnd({ code, reason, error }: CloseInfo): TrainerError {
  if (error !== undefined && error.code !== 'ABORTED') return error;
  return new TrainerError('CONNECTION_LOST', `the connection was closed (${code}): ${reason}`, { cause: error });
}
