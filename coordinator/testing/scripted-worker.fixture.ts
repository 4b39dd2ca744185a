/**
 * A worker without an engine, for tests of the coordinator: it sends the messages of a worker, or those of its script. Its parameters are one
 * digest, a chain over the rows of every step it has applied: a step that is missing, repeated or of other rows changes it.
 */
import { createHash } from 'node:crypto';
import { decodeRows } from '../../mixture/plan/planned-rows.ts';
import type { TaskLengths } from '../../mixture/plan/planner.ts';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { decodeMessage, encodeMessage } from '../../shared/protocol/codec.ts';
import {
  coordinatorMessageSchema,
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type HeldState,
  type MessageOf,
  type WorkerMessage,
} from '../../shared/protocol/messages.ts';
import { decodeTokenRows, encodeTokenRows } from '../../shared/protocol/token-rows.ts';
import type { CloseInfo, Connection, Transport } from '../../shared/transport/transport.ts';
import { VERSION } from '../../shared/version.ts';
import { ScriptedLinks, type SummedStep } from './scripted-links.fixture.ts';

type Report = MessageOf<'report'>;

export interface Script {
  readonly workerId: string;
  readonly tasks: readonly TaskLengths[];
  readonly mixtureHash: string;
  readonly pid?: number;
  readonly clock?: Clock;
  /** Shared with the other workers; default: it is alone. */
  readonly links?: ScriptedLinks;
  /** Time for its lanes of a step. */
  readonly stepMs?: number;
  /** Time for a batch of a validation; default: none. */
  readonly batchMs?: number;
  /** Pause between two heartbeats, ms; default: 10. */
  readonly heartbeatMs?: number;
  /** Its losses in a step whose summed gradient is not finite; undefined where it is finite. */
  readonly notFinite?: (step: number) => MessageOf<'not-finite'>['losses'] | undefined;
  /** Changes a message before it is sent; undefined: it is not sent. */
  readonly edit?: (message: WorkerMessage, worker: ScriptedWorker) => object | undefined;
  /** Whether a message is ignored, as if it had never come. */
  readonly ignores?: (message: CoordinatorMessage, worker: ScriptedWorker) => boolean;
  /** Whether the sum of a step does not reach it, though it has added its lanes. */
  readonly loses?: (step: number) => boolean;
}

const HEARTBEAT_MS = 10;
const SHARD_DIGEST = 'ab'.repeat(32);
const MS = { feed: 1, compute: 2, communicate: 1, update: 1, total: 5 };
const SEED_DIGEST = digestOf('the seed');
/** Reports that it sends again after it has dialled again. */
const MOST_REPORTS = 8;

export class ScriptedWorker {
  readonly #script: Script;
  readonly #links: ScriptedLinks;
  readonly #clock: Clock;
  /** Messages of all its connections. */
  readonly seen: CoordinatorMessage[] = [];
  /** Commands other than batches. */
  numCommands = 0;
  #connection: Connection | undefined;
  #runId = '';
  #held: HeldState | null = null;
  #digest: string | undefined;
  #form: MessageOf<'form'> | undefined;
  #reports: Report[] = [];
  #drainReason: string | undefined;
  #lastSaved: WorkerMessage | undefined;
  /** Deals and saves, in their order. */
  #work: Promise<void> = Promise.resolve();

  private constructor(script: Script) {
    this.#script = script;
    this.#links = script.links ?? new ScriptedLinks();
    this.#clock = script.clock ?? systemClock;
  }

  /** Dials and joins. */
  static async join(transport: Transport, url: string, token: string, script: Script): Promise<ScriptedWorker> {
    const worker = new ScriptedWorker(script);
    await worker.dial(transport, url, token);
    return worker;
  }

  /** Joins with a new connection and the state it holds. */
  async dial(transport: Transport, url: string, token: string): Promise<void> {
    this.#connection?.close('CONNECTION_LOST', 'it dials again');
    const connection = await transport.dial(url, { token, timeoutMs: 5_000 });
    this.#connection = connection;
    connection.onMessage((bytes) => this.#receive(decodeMessage(coordinatorMessageSchema, bytes)));
    const { workerId, pid = 1 } = this.#script;
    const address = { host: 'h', pid, processId: `process ${pid}`, dataUrl: `${transport.scheme}://d:1` };
    this.say({ kind: 'join', protocolVersion: PROTOCOL_VERSION, version: VERSION, workerId, ...address });
    void this.#beat(connection);
  }

  get workerId(): string {
    return this.#script.workerId;
  }

  get closed(): Promise<CloseInfo> {
    return this.#connection!.closed;
  }

  /** The step whose state it holds; undefined: none. */
  get step(): number | undefined {
    return this.#held?.step;
  }

  /** Of its parameters. */
  get digest(): string | undefined {
    return this.#digest;
  }

  say(message: WorkerMessage): void {
    const { edit } = this.#script;
    const edited = edit === undefined ? message : edit(message, this);
    if (edited !== undefined) this.#connection!.send([encodeMessage(edited)]).catch(() => undefined); // a test may have closed it
  }

  /** Reports a failure: it cannot continue with its generation. */
  fail(code: string, message: string): undefined {
    const { epoch, generation } = this.#form!;
    this.#drop();
    this.say({ kind: 'failed', epoch, generation, error: { code, message } });
    return undefined;
  }

  /** Reports, in place of `saved`, that it could not write its shards; it trains on. */
  failToSave(saved: WorkerMessage, code: string, message: string): undefined {
    if (saved.kind !== 'saved') return;
    const { epoch, generation, step: unsavedStep } = saved;
    this.say({ kind: 'failed', epoch, generation, error: { code, message }, unsavedStep });
  }

  /** Asks for leave, now and on each later connection. */
  drain(reason: string): void {
    this.#drainReason = reason;
    this.say({ kind: 'drain', reason });
  }

  /** Sends its last `saved` again. */
  repeatSaved(): void {
    this.say(this.#lastSaved!);
  }

  /** Closes its connection, as if the process had died. */
  die(): void {
    this.#drop();
    this.#connection!.close('CONNECTION_LOST', 'killed');
  }

  /** Drops its generation and the work under way. */
  #drop(): void {
    this.#form = undefined;
    this.#work = Promise.resolve(); // work that waits for other ranks never continues
  }

  async #beat(connection: Connection): Promise<void> {
    const over = new AbortController();
    void connection.closed.then(() => over.abort());
    while (connection.isOpen) {
      this.say({ kind: 'heartbeat', progress: 0, phase: 'waiting', step: this.step ?? 0 });
      await this.#clock.sleep(this.#script.heartbeatMs ?? HEARTBEAT_MS, over.signal).catch(() => undefined);
    }
  }

  #receive(received: CoordinatorMessage): void {
    const message = received.kind === 'form' ? this.#links.sharedForm(received) : received;
    this.seen.push(message);
    if (message.kind !== 'evaluate' && message.kind !== 'heartbeat') this.numCommands += 1;
    if (this.#script.ignores?.(message, this) === true) return;
    switch (message.kind) {
      case 'welcome':
        this.#getReady(message);
        break;
      case 'form':
        this.#setState(message);
        break;
      case 'deal':
        this.#then(() => this.#train(message));
        break;
      case 'evaluate': {
        const { numCommands } = this;
        this.#then(() => this.#evaluate(message, () => this.numCommands === numCommands));
        break;
      }
      case 'save':
        this.#then(() => this.#save(message));
        break;
      case 'abort':
        this.#drop();
        this.say({
          kind: 'aborted',
          epoch: message.epoch,
          generation: message.generation,
          step: this.step ?? null,
        });
        break;
      case 'probe-links':
        this.say({ kind: 'links-probed', epoch: message.epoch, trial: message.trial });
        break;
      case 'finish':
        this.#connection!.close('NORMAL', 'done');
        break;
      case 'welcome-evaluation': // of no run
      case 'heartbeat':
        break;
    }
  }

  #getReady({ epoch, runId, committedStep }: MessageOf<'welcome'>): void {
    this.#drop();
    this.#runId = runId;
    for (const report of this.#reports) if (report.step > committedStep) this.say(report);
    if (this.#drainReason !== undefined) this.drain(this.#drainReason);
    const { mixtureHash } = this.#script;
    const engine = { engine: 'scripted', engineFingerprint: 'scripted 1' };
    this.say({ kind: 'ready', epoch, held: this.#held, ...engine, mixtureHash, numParameters: 1 });
  }

  #setState(form: MessageOf<'form'>): void {
    this.#drop();
    const { epoch, generation, firstStep, state, proveState } = form;
    if (state.kind === 'start')
      this.#digest = state.checkpoint === null ? SEED_DIGEST : this.#links.digestOfCheckpoint(state.checkpoint);
    if (state.kind === 'peers') this.#digest = this.#links.digestOfWorker(form.members[state.ranks[0]!]!.workerId);
    this.#held = { runId: this.#runId, epoch, step: firstStep - 1 };
    this.#links.setDigest(this.workerId, this.#digest!);
    this.#form = form;
    this.say({ kind: 'formed', epoch, generation, ...(proveState ? { paramDigest: this.#digest! } : {}) });
  }

  /** Acts when the work before is done. */
  #then(act: () => void | Promise<void>): void {
    const form = this.#form;
    this.#work = this.#work.then(() => (this.#form === form ? act() : undefined));
  }

  async #train(deal: MessageOf<'deal'>): Promise<void> {
    const form = this.#form;
    if (form === undefined) return;
    if (this.#script.stepMs !== undefined) await this.#clock.sleep(this.#script.stepMs);
    if (this.#form !== form) return;
    const summed = await this.#links.sum(deal, form.members.length, () => this.#form === form);
    if (summed === undefined) return;
    if (this.#script.loses?.(deal.step) === true) await new Promise(() => undefined);
    const losses = this.#script.notFinite?.(deal.step);
    if (losses !== undefined) {
      this.#drop();
      const { epoch, generation, step } = deal;
      this.say({ kind: 'not-finite', epoch, generation, step, reason: 'the gradient of w is not finite', losses });
      return;
    }
    this.#digest = digestOf(`${this.#digest} ${summed.gradDigest}`);
    this.#held = { ...this.#held!, step: deal.step };
    this.#links.setDigest(this.workerId, this.#digest);
    const report = this.#reportOf(deal, summed);
    this.#reports = [...this.#reports, report].slice(-MOST_REPORTS);
    this.say(report);
  }

  /** Its results depend on its parameters, the batch and nothing else. @param isWanted whether no other command has come since */
  async #evaluate({ epoch, generation, batch, work }: MessageOf<'evaluate'>, isWanted: () => boolean): Promise<void> {
    if (this.#script.batchMs !== undefined) await this.#clock.sleep(this.#script.batchMs);
    if (!isWanted()) return;
    const rows = decodeTokenRows(work.inputs);
    const scores = rows.map((row) => parseInt(digestOf(`${this.#digest} ${row.join(' ')}`).slice(0, 6), 16) / 2 ** 24);
    const result: MessageOf<'evaluated'>['result'] =
      work.kind === 'score'
        ? { kind: 'score', losses: scores, numRight: rows.map(() => 1) }
        : { kind: 'decode', ids: encodeTokenRows(rows), numOutputs: rows.map(() => 1), scores };
    this.say({ kind: 'evaluated', epoch, generation, batch, result });
  }

  #save({ epoch, generation, step, stateStep, writer }: MessageOf<'save'>): void {
    if (this.#held === null || this.#held.step < stateStep || this.#held.step > step) return; // it has not reached that state
    const files = [{ file: `shard-${writer}`, bytes: 1, sha256: SHARD_DIGEST }];
    this.#lastSaved = { kind: 'saved', epoch, generation, step, files, paramDigest: this.#digest! };
    this.say(this.#lastSaved);
  }

  #reportOf({ epoch, generation, step, lanes, proveState }: MessageOf<'deal'>, summed: SummedStep): Report {
    const sums = lanes.map(({ lane, rows }) => {
      const tokens = new Map<number, number>();
      for (const { task, index } of decodeRows(rows).flat())
        tokens.set(task, (tokens.get(task) ?? 0) + this.#script.tasks[task]!.targetsLength(index));
      const tasks = [...tokens].map(([task, targetTokens]) => ({ task, loss: targetTokens, targetTokens }));
      return { lane, tasks, zLoss: 0, inputTokens: 1 };
    });
    const { gradDigest } = summed;
    const proof = proveState ? { paramDigest: this.#digest! } : {};
    const ids = { epoch, generation, step };
    return { kind: 'report', ...ids, gradDigest, gradSumOfSquares: 1, lanes: sums, ms: MS, ...proof };
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
