/** A worker without an engine, for tests of the coordinator: says what a worker would say, or what the test makes it say. */
import { decodeRows } from '../mixture/plan/planned-rows.ts';
import type { TaskLengths } from '../mixture/plan/planner.ts';
import { decodeMessage, encodeMessage } from '../shared/protocol/codec.ts';
import {
  coordinatorMessageSchema,
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type WorkerMessage,
} from '../shared/protocol/messages.ts';
import type { CloseInfo, Connection, Transport } from '../shared/transport/transport.ts';

type Deal = Extract<CoordinatorMessage, { kind: 'deal' }>;
type Report = Extract<WorkerMessage, { kind: 'report' }>;

export interface Script {
  readonly workerId: string;
  readonly tasks: readonly TaskLengths[];
  readonly mixtureHash: string;
  /** Changes what is sent, or returns nothing to keep silent. */
  readonly edit?: (message: WorkerMessage) => object | undefined;
}

const HEARTBEAT_MS = 10;
const DIGEST = 'ab'.repeat(32);
const MS = { feed: 1, compute: 2, communicate: 1, update: 1, total: 5 };

export class ScriptedWorker {
  readonly #connection: Connection;
  readonly #script: Script;
  readonly seen: CoordinatorMessage[] = [];
  #step = 0;

  private constructor(connection: Connection, script: Script) {
    this.#connection = connection;
    this.#script = script;
  }

  /** Dials and joins. */
  static async join(transport: Transport, url: string, token: string, script: Script): Promise<ScriptedWorker> {
    const connection = await transport.dial(url, { token, timeoutMs: 5_000 });
    const worker = new ScriptedWorker(connection, script);
    connection.onMessage((bytes) => worker.#receive(decodeMessage(coordinatorMessageSchema, bytes)));
    const beat = setInterval(
      () => worker.say({ kind: 'heartbeat', progress: 0, phase: 'waiting', step: 0 }),
      HEARTBEAT_MS,
    );
    void connection.closed.then(() => clearInterval(beat));
    const { workerId } = script;
    worker.say({
      kind: 'join',
      protocolVersion: PROTOCOL_VERSION,
      version: '0',
      workerId,
      host: 'h',
      pid: 1,
      dataUrl: 'memory://d:1',
    });
    return worker;
  }

  get closed(): Promise<CloseInfo> {
    return this.#connection.closed;
  }

  say(message: WorkerMessage): void {
    const edited = this.#script.edit === undefined ? message : this.#script.edit(message);
    if (edited !== undefined) this.#connection.send([encodeMessage(edited)]).catch(() => undefined); // a test may have closed it
  }

  /** As if the process had died. */
  die(): void {
    this.#connection.close('CONNECTION_LOST', 'killed');
  }

  #receive(message: CoordinatorMessage): void {
    this.seen.push(message);
    const { mixtureHash } = this.#script;
    switch (message.kind) {
      case 'welcome': {
        const { epoch, step } = message;
        const engine = { engine: 'scripted', engineFingerprint: 'scripted 1' };
        this.say({ kind: 'ready', epoch, step, ...engine, mixtureHash, paramDigest: DIGEST, numParameters: 1 });
        break;
      }
      case 'form':
        this.say({ kind: 'formed', epoch: message.epoch, generation: message.generation });
        break;
      case 'deal':
        this.#step = message.step;
        this.say(this.#report(message));
        break;
      case 'save': {
        const { epoch, generation, writer } = message;
        const files = [{ file: `shard-${writer}`, bytes: 1, sha256: DIGEST }];
        this.say({ kind: 'saved', epoch, generation, step: this.#step, files, paramDigest: DIGEST });
        break;
      }
      case 'abort':
        this.say({ kind: 'aborted', epoch: message.epoch, generation: message.generation, step: this.#step });
        break;
      case 'finish':
        this.#connection.close('NORMAL', 'done');
        break;
      case 'heartbeat':
        break;
    }
  }

  #report({ epoch, generation, step, lanes }: Deal): Report {
    const sums = lanes.map(({ lane, rows }) => {
      const tokens = new Map<number, number>();
      for (const { task, index } of decodeRows(rows).flat())
        tokens.set(task, (tokens.get(task) ?? 0) + this.#script.tasks[task]!.targetsLength(index));
      const tasks = [...tokens].map(([task, targetTokens]) => ({ task, loss: targetTokens, targetTokens }));
      return { lane, tasks, zLoss: 0, inputTokens: 1 };
    });
    return { kind: 'report', epoch, generation, step, gradDigest: step, gradSumOfSquares: 1, lanes: sums, ms: MS };
  }
}
