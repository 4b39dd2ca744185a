/**
 * The training state in the engine: of which run, epoch and step it is. `form` says where a member's state comes from (StateSource in
 * shared/protocol); steps say everything else.
 *
 * Assumption: one call at a time, at step boundaries.
 */
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import type { InitSettings } from '../../shared/config/schema.ts';
import { assertInvariant } from '../../shared/errors.ts';
import type { HeldState } from '../../shared/protocol/messages.ts';
import { TensorSnapshot } from '../checkpoint/snapshot.ts';
import type { Engine } from '../engine/engine.ts';
import type { Command, CoordinatorCommand, NetworkClient } from '../network/network-client.ts';
import type { StateTensors } from '../state/state-pieces.ts';
import type { loadState } from './load-state.ts';

type FormCommand = Extract<CoordinatorCommand, { kind: 'form' }>;

export interface TrainingStateInit {
  readonly engine: Engine;
  readonly seed: number;
  /** Of the config, resolved. */
  readonly init?: InitSettings | undefined;
  readonly network: Pick<NetworkClient, 'copyState' | 'post'>;
  readonly loadState: typeof loadState;
}

export class TrainingState {
  readonly #init: TrainingStateInit;
  #held: HeldState | null = null;

  constructor(init: TrainingStateInit) {
    this.#init = init;
  }

  /** null: no state, or an invalid one. */
  get held(): HeldState | null {
    return this.#held;
  }

  /** Updates applied; null without a state. */
  get step(): number | null {
    return this.#held?.step ?? null;
  }

  /**
   * Brings the engine to the state before the generation's first step, and offers it to the members that copy it.
   * @returns the digest of the parameters where the coordinator asks for it
   * @throws as loadState and copyState do; the state held before stays held unless it was overwritten
   */
  async prepareFor(form: FormCommand, runId: string, signal: Command['signal']): Promise<string | undefined> {
    const { epoch, firstStep, state, receivers, proveState } = form;
    const step = firstStep - 1;
    if (state.kind === 'held')
      assertInvariant(this.#held?.step === state.step, `step ${state.step} expected, step ${this.#held?.step} is held`);
    let tensors: StateTensors | undefined;
    if (state.kind === 'start') await this.#load(state.checkpoint, step, signal);
    if (state.kind === 'peers') tensors = await this.#copy(step, signal);
    if (receivers.length > 0 || (proveState && tensors === undefined)) tensors = await this.#snapshot();
    if (receivers.length > 0) this.#init.network.post({ kind: 'offer-state', step, tensors: tensors! });
    this.#held = { runId, epoch, step };
    return proveState ? parameterDigest(tensors!.parameters) : undefined;
  }

  /** A step has been applied. */
  advance(step: number): void {
    assertInvariant(this.#held?.step === step - 1, `step ${step} applied to the state of step ${this.#held?.step}`);
    this.#held = { ...this.#held, step };
  }

  /** An update has begun and not ended: the state is neither the one before the step nor the one after. */
  invalidate(): void {
    this.#held = null;
  }

  async parameterDigest(): Promise<string> {
    return parameterDigest((await this.#snapshot()).parameters);
  }

  async #load(checkpoint: string | null, step: number, signal: AbortSignal): Promise<void> {
    const { engine, seed, init } = this.#init;
    const state = await this.#init.loadState({ engine, seed, init, checkpoint, step, signal });
    this.#held = null;
    await engine.load(state.parameters, state.optimizer);
  }

  async #copy(step: number, signal: AbortSignal): Promise<StateTensors> {
    const { engine, network } = this.#init;
    const tensors = this.#makeTensors();
    await network.copyState(step, tensors, signal);
    this.#held = null;
    await engine.load(tensors.parameters, tensors.optimizerSlots);
    return tensors;
  }

  /** In memory of its own, freed when no peer copies from it any more. */
  async #snapshot(): Promise<StateTensors> {
    const tensors = this.#makeTensors();
    await this.#init.engine.readBack(tensors.parameters, tensors.optimizerSlots);
    return tensors;
  }

  #makeTensors(): StateTensors {
    const { parameters, optimizerSlots } = this.#init.engine;
    return {
      parameters: new TensorSnapshot(parameters).tensors,
      optimizerSlots: new TensorSnapshot(optimizerSlots).tensors,
    };
  }
}
