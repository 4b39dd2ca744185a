/**
 * The workers of bench/control-plane.ts, in a separate process: many workers without tensors, each with a WebSocket to the coordinator.
 *
 * They send the messages of real workers, byte for byte: join, ready, formed, a report of every lane of every step, heartbeats, and failed
 * and aborted when one of them dies. Instead of an all-reduce, they report a step when all of them have received its deal. Simplification:
 * only one `form` message of a generation is decoded, so that this process needs less CPU time than the measured one.
 */
import { decodeRows } from '../mixture/plan/planned-rows.ts';
import { decodeMessage, encodeMessage } from '../shared/protocol/codec.ts';
import {
  coordinatorMessageSchema,
  PROTOCOL_VERSION,
  type LaneSums,
  type MessageOf,
  type WorkerMessage,
} from '../shared/protocol/messages.ts';
import type { Connection } from '../shared/transport/transport.ts';
import { webSocketTransport } from '../shared/transport/websocket-transport.ts';
import { VERSION } from '../shared/version.ts';
import { makeSyntheticMixture } from './planner-mixture.ts';

export type CrowdCommand =
  | { readonly kind: 'join'; readonly url: string; readonly token: string; readonly ids: readonly string[] }
  /** While held, reports are not sent. */
  | { readonly kind: 'hold'; readonly isHeld: boolean }
  | { readonly kind: 'die'; readonly id: string }
  | { readonly kind: 'count' };

/** Messages of each kind, received and sent. */
export type Traffic = Readonly<Record<string, { readonly messages: number; readonly bytes: number }>>;

export type CrowdReply =
  | { readonly kind: 'loaded' }
  | { readonly kind: 'joined'; readonly numRefused: number }
  | { readonly kind: 'traffic'; readonly traffic: Traffic };

const HEARTBEAT_MS = 1_000;
const DIAL_TIMEOUT_MS = 30_000;
const REDIAL_MS = 50;
/** Concurrent dials. */
const MAX_DIALS = 128;
const DIGEST = 'ab'.repeat(32);
const MS = { feed: 1, compute: 2, communicate: 1, update: 1, total: 5 };
/** `{"kind": "form"…`: a map, its first key, and its value. */
const FORM_PREFIX = Buffer.from('\xa4kind\xa4form', 'latin1');

const { tasks } = makeSyntheticMixture();

class Crowd {
  readonly #workers = new Map<string, Connection>();
  readonly #traffic: Record<string, { messages: number; bytes: number }> = {};
  #isHeld = false;
  /** Last step that all of them have applied. */
  #step = 0;
  /** The `form` message of the last generation, as one member received it. */
  #form: MessageOf<'form'> | undefined;
  /** Members that have not received it yet. */
  #withoutForm = new Set<string>();
  readonly #deals = new Map<number, Map<string, MessageOf<'deal'>>>();

  /** @returns number of dials that failed and were repeated */
  async join({ url, token, ids }: Extract<CrowdCommand, { kind: 'join' }>): Promise<number> {
    let numRefused = 0;
    const left = ids.entries();
    const dialNext = async (): Promise<void> => {
      for (const [index, id] of left)
        while (!(await this.#dial(url, token, id, index))) {
          numRefused += 1;
          await new Promise((resolve) => setTimeout(resolve, REDIAL_MS));
        }
    };
    await Promise.all(Array.from({ length: MAX_DIALS }, dialNext));
    return numRefused;
  }

  /** Stops or resumes sending reports. */
  hold(isHeld: boolean): void {
    this.#isHeld = isHeld;
    this.#report();
  }

  /** Closes the socket of one worker; the other members report broken links. */
  die(id: string): void {
    const { members, epoch, generation } = this.#form!;
    const rank = members.find(({ workerId }) => workerId === id)!.rank;
    this.#workers.get(id)!.close('CONNECTION_LOST', 'killed');
    this.#workers.delete(id);
    this.#deals.clear();
    const error = { code: 'CONNECTION_LOST', message: `connection to rank ${rank} is closed` };
    for (const { workerId } of members)
      if (workerId !== id) this.#send(workerId, { kind: 'failed', epoch, generation, error, peers: [rank] });
  }

  get traffic(): Traffic {
    return this.#traffic;
  }

  async #dial(url: string, token: string, id: string, index: number): Promise<boolean> {
    try {
      const connection = await webSocketTransport.dial(url, { token, timeoutMs: DIAL_TIMEOUT_MS });
      this.#workers.set(id, connection);
      connection.onMessage((data) => this.#receive(id, data));
      const address = {
        host: 'host',
        pid: process.pid,
        processId: id,
        dataUrl: `ws://10.0.${index >> 8}.${index & 255}:40000`,
      };
      this.#send(id, { kind: 'join', protocolVersion: PROTOCOL_VERSION, version: VERSION, workerId: id, ...address });
      this.#beat(id, connection, index);
      return true;
    } catch {
      return false;
    }
  }

  #beat(id: string, connection: Connection, index: number): void {
    let timer: NodeJS.Timeout | undefined;
    const first = setTimeout(() => {
      const beat = (): void =>
        this.#send(id, {
          kind: 'heartbeat',
          progress: this.#step,
          phase: 'compute',
          step: this.#step,
          residentBytes: 1,
        });
      beat();
      timer = setInterval(beat, HEARTBEAT_MS);
    }, index % HEARTBEAT_MS);
    void connection.closed.then(() => {
      clearTimeout(first);
      clearInterval(timer);
    });
  }

  #send(id: string, message: WorkerMessage): void {
    const connection = this.#workers.get(id);
    if (connection?.isOpen !== true) return;
    const bytes = encodeMessage(message);
    this.#count(message.kind, bytes);
    connection.send([bytes]).catch(() => undefined); // `closed` handles the end of the connection
  }

  #count(kind: string, { byteLength }: Uint8Array): void {
    const { messages, bytes } = this.#traffic[kind] ?? { messages: 0, bytes: 0 };
    this.#traffic[kind] = { messages: messages + 1, bytes: bytes + byteLength };
  }

  #receive(id: string, data: Uint8Array): void {
    if (this.#withoutForm.has(id) && FORM_PREFIX.equals(data.subarray(1, 1 + FORM_PREFIX.length))) {
      this.#count('form', data);
      this.#answerForm(id);
      return;
    }
    const message = decodeMessage(coordinatorMessageSchema, data);
    this.#count(message.kind === 'heartbeat' ? 'heartbeat answer' : message.kind, data);
    switch (message.kind) {
      case 'welcome':
        this.#answerWelcome(id, message);
        break;
      case 'form':
        this.#form = message;
        this.#withoutForm = new Set(message.members.map(({ workerId }) => workerId));
        this.#deals.clear();
        this.#answerForm(id);
        break;
      case 'deal': {
        const deals = this.#deals.get(message.step) ?? new Map<string, MessageOf<'deal'>>();
        this.#deals.set(message.step, deals.set(id, message));
        this.#report();
        break;
      }
      case 'save': {
        const { epoch, generation, step, writer } = message;
        const files = [{ file: `shard-${writer}`, bytes: 1, sha256: DIGEST }];
        this.#send(id, { kind: 'saved', epoch, generation, step, files, paramDigest: DIGEST });
        break;
      }
      case 'abort':
        this.#send(id, { kind: 'aborted', epoch: message.epoch, generation: message.generation, step: this.#step });
        break;
      case 'probe-links':
        this.#send(id, { kind: 'links-probed', epoch: message.epoch, trial: message.trial });
        break;
      case 'finish':
        this.#workers.get(id)?.close('NORMAL', 'done');
        break;
      case 'heartbeat':
        break;
      case 'evaluate':
      case 'welcome-evaluation':
        throw new Error(`${message.kind} in a run without validation`);
    }
  }

  #answerWelcome(id: string, { epoch, mixtureHash }: MessageOf<'welcome'>): void {
    const engine = { engine: 'none', engineFingerprint: 'none 1' };
    this.#send(id, { kind: 'ready', epoch, held: null, ...engine, mixtureHash, numParameters: 1 });
  }

  #answerForm(id: string): void {
    this.#withoutForm.delete(id);
    const { epoch, generation, proveState } = this.#form!;
    this.#send(id, { kind: 'formed', epoch, generation, ...(proveState ? { paramDigest: DIGEST } : {}) });
  }

  /** Reports every step whose deal all members have received, oldest first. */
  #report(): void {
    for (;;) {
      const deals = this.#deals.get(this.#step + 1);
      if (this.#isHeld || deals === undefined || deals.size < this.#form!.members.length) return;
      this.#step += 1;
      this.#deals.delete(this.#step);
      for (const [id, deal] of deals) this.#send(id, reportOf(deal));
    }
  }
}

function reportOf({ epoch, generation, step, lanes, proveState }: MessageOf<'deal'>): WorkerMessage {
  const sums = lanes.map(({ lane, rows }): LaneSums => {
    const tokens = new Map<number, number>();
    for (const { task, index } of decodeRows(rows).flat())
      tokens.set(task, (tokens.get(task) ?? 0) + tasks[task]!.targetsLength(index));
    const ofTasks = [...tokens].map(([task, targetTokens]) => ({ task, loss: 2.5 * targetTokens, targetTokens }));
    return { lane, tasks: ofTasks, zLoss: 0.1, inputTokens: 512 };
  });
  const proof = proveState ? { paramDigest: DIGEST } : {};
  const ids = { epoch, generation, step };
  return { kind: 'report', ...ids, gradDigest: step, gradSumOfSquares: 1.5, lanes: sums, ms: MS, ...proof };
}

const crowd = new Crowd();
const reply = (message: CrowdReply): void => void process.send!(message);

process.on('message', (command: CrowdCommand) => {
  if (command.kind === 'join') void crowd.join(command).then((numRefused) => reply({ kind: 'joined', numRefused }));
  else if (command.kind === 'hold') crowd.hold(command.isHeld);
  else if (command.kind === 'die') crowd.die(command.id);
  else reply({ kind: 'traffic', traffic: crowd.traffic });
});
process.on('disconnect', () => process.exit());
reply({ kind: 'loaded' });
