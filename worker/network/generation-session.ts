/**
 * One generation in the network thread: connects the mesh, sends or copies the state, reduces the gradients of its steps. Starts with
 * `form`; ends with an abort, the next generation, or a welcome. The coordinator gets its first failure only.
 */
import { abortable } from '../../shared/abort.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { assertInvariant, toErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { WorkerMessage } from '../../shared/protocol/messages.ts';
import type { Collective } from '../collective/all-reduce.ts';
import type { StepResult } from '../collective/step-tally.ts';
import type { DataPlane } from './data-plane.ts';
import type { NetworkEvent, NetworkRequest, FormMessage } from './network-messages.ts';

type RequestOf<Kind extends NetworkRequest['kind']> = Extract<NetworkRequest, { kind: Kind }>;

export interface GenerationSessionInit {
  readonly form: FormMessage;
  readonly config: RunConfig;
  readonly dataPlane: Pick<DataPlane, 'form' | 'offerState' | 'copyState' | 'withdrawState'>;
  readonly emit: (event: NetworkEvent) => void;
  readonly send: (message: WorkerMessage) => void;
}

export class GenerationSession {
  readonly #init: GenerationSessionInit;
  readonly #over = new AbortController();
  readonly #stateInPlace: Promise<RequestOf<'state-in-place'>>;
  #resolveStateInPlace!: (request: RequestOf<'state-in-place'>) => void;
  #collective: Collective | undefined;
  #isFormed = false;
  #hasFailed = false;
  #lastResult: { readonly step: number; readonly result: StepResult } | undefined;

  constructor(init: GenerationSessionInit) {
    this.#init = init;
    this.#stateInPlace = new Promise((resolve) => (this.#resolveStateInPlace = resolve));
  }

  get epoch(): number {
    return this.#init.form.epoch;
  }

  get number(): number {
    return this.#init.form.generation;
  }

  /** Channels and state of this member are ready. */
  get isFormed(): boolean {
    return this.#isFormed;
  }

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** Connects and waits for the state, then reports `formed` or the failure. */
  async form(): Promise<void> {
    const { form, config, dataPlane, emit, send } = this.#init;
    const { signal } = this.#over;
    try {
      const connecting = dataPlane.form({ form, config, signal }).then((formed) => {
        this.#collective = formed.collective;
        if (this.isOver) formed.collective.close();
        void formed.collective.failed.then((error) => this.#fail(error));
        return formed.arena;
      });
      const inPlace = abortable(this.#stateInPlace, signal, `forming generation ${form.generation}`);
      const [{ memory, layout }, { paramDigest }] = await Promise.all([connecting, inPlace]);
      if (this.isOver) return;
      this.#isFormed = true;
      const ids = { epoch: form.epoch, generation: form.generation };
      emit({ kind: 'formed', ...ids, memory, layout });
      send({ kind: 'formed', ...ids, ...(paramDigest === undefined ? {} : { paramDigest }) });
    } catch (error) {
      this.#fail(toTrainerError(error));
    }
  }

  stateInPlace(request: RequestOf<'state-in-place'>): void {
    this.#resolveStateInPlace(request);
  }

  offerState({ step, tensors }: RequestOf<'offer-state'>): void {
    this.#init.dataPlane.offerState(step, tensors);
  }

  async copyState({ step, tensors }: RequestOf<'copy-state'>): Promise<void> {
    const { form, config, dataPlane, emit } = this.#init;
    try {
      await dataPlane.copyState({ form, config, step, tensors, signal: this.#over.signal });
      if (!this.isOver) emit({ kind: 'state-copied', generation: form.generation });
    } catch (error) {
      this.#fail(toTrainerError(error));
    }
  }

  /** Every member is formed: no member copies the state any more. */
  startTraining(): void {
    this.#init.dataPlane.withdrawState();
  }

  beginStep(step: number): void {
    this.#formed()
      .startStep(step, this.#over.signal)
      .then(
        (result) => {
          this.#lastResult = { step, result };
          if (this.isOver) return;
          const { sumOfSquares, firstNonFiniteBytes } = result;
          this.#init.emit({ kind: 'reduced', step, sumOfSquares, firstNonFiniteBytes });
        },
        (error: unknown) => this.#fail(toTrainerError(error)),
      );
  }

  bucketReady(bucket: number): void {
    this.#formed().bucketReady(bucket);
  }

  /** Digest and norm of the step's summed gradient. */
  resultOf(step: number): Pick<StepResult, 'digest' | 'sumOfSquares'> {
    assertInvariant(this.#lastResult?.step === step, `step ${step} is reported after it was reduced`);
    return this.#lastResult.result;
  }

  /** Ends the generation: closes its channels, withdraws its state. Idempotent. */
  end(reason: string): void {
    if (this.isOver) return;
    this.#over.abort(new TrainerError('ABORTED', reason));
    this.#collective?.close();
    this.#init.dataPlane.withdrawState();
  }

  /** Resolves when its sockets are closed. */
  async closed(): Promise<void> {
    await this.#collective?.closed;
  }

  #formed(): Collective {
    assertInvariant(this.#collective !== undefined, 'steps begin after `formed`');
    return this.#collective;
  }

  #fail(error: TrainerError): void {
    if (this.isOver || this.#hasFailed) return;
    this.#hasFailed = true;
    const { epoch, generation } = this.#init.form;
    const record = toErrorRecord(error);
    this.#init.emit({ kind: 'generation-failed', generation, error: record });
    const peers = error.peers.length === 0 ? {} : { peers: [...error.peers] };
    this.#init.send({ kind: 'failed', epoch, generation, error: record, ...peers });
  }
}
