/**
 * The engine on TensorFlow's C library. Parameters and optimizer state are variables of one session. A pass over the model is recorded from
 * tfjs code at the first batch of its shape, checked against eager tfjs, and runs as a graph from then on. If the two differ by more than
 * the stated tolerance, the engine warns and continues eagerly.
 *
 * Assumptions: the addon is loaded; a run has few different shapes. Every process that runs the same batches on the same kind of machine
 * records the same graphs.
 */
import * as tf from '@tensorflow/tfjs';
import { assertInvariant } from '../../../shared/errors.ts';
import type { ModelConfig } from '../../../shared/model-config.ts';
import { withFusedBlocks } from '../../model/fused-kernels.ts';
import { optimizerSlots, type OptimizerSlot } from '../../model/optimizer-slots.ts';
import { parameterSpecs, type ParameterSpec } from '../../model/parameters.ts';
import { checkBatch } from '../batch-check.ts';
import { batchParts } from '../batch-tensors.ts';
import type {
  AdafactorUpdate,
  Batch,
  Decoding,
  Engine,
  EngineDescription,
  ForwardOutput,
  GenerationInputs,
  ScoreOutput,
  StepOutput,
} from '../engine.ts';
import { checkNames } from '../named-arrays.ts';
import { leavingNoTensors } from '../tensor-leak.ts';
import { enterBackend } from '../tfjs-backend.ts';
import { scoreOutput, stepOutput } from '../tfjs-passes.ts';
import { TfjsEngine } from '../tfjs-engine.ts';
import { NATIVE_BACKEND } from './addon/load-addon.ts';
import { differenceOf } from './compare-passes.ts';
import { gradientGroups } from './gradient-groups.ts';
import { recordForward, recordScore, recordStep, type RecordedPass, type RecordPassInit } from './recorded-pass.ts';
import { withBfloat16Products } from './recording/bfloat16-products.ts';
import type { RecordableBackend } from './recording/recorder.ts';
import { SessionState } from './session-state.ts';
import type { GraphSession } from './session/graph-session.ts';
import type { CallHandle } from './session/session-binding.ts';

/** Each group costs TensorFlow a walk over the graph: about 1 ms. */
const MAX_GRADIENT_GROUPS = 8;

export interface NativeEngineInit {
  readonly description: EngineDescription;
  readonly backend: RecordableBackend;
  readonly session: GraphSession;
  readonly config: ModelConfig;
  /** Coefficient of the z-loss; 0 for none. */
  readonly zLoss: number;
  readonly precision: 'float32' | 'bfloat16';
  /** Whether graphs use fused blocks; the session's addon must have registered their kernels. */
  readonly fusesBlocks: boolean;
  /** Receives a sentence when a recorded graph is refused. */
  readonly onWarning: (sentence: string) => void;
}

type PassKind = 'step' | 'score' | 'forward';

interface PreparedPass {
  readonly call: CallHandle;
  /** Of a step: the parameter numbers fetched together. The terms of the loss come before them, as group 0. */
  readonly gradientGroups: readonly (readonly number[])[];
}

export class NativeEngine implements Engine {
  readonly parameters: readonly ParameterSpec[];
  readonly optimizerSlots: readonly OptimizerSlot[];
  readonly #init: NativeEngineInit;
  readonly #state: SessionState;
  /** By kind and shape. */
  readonly #passes = new Map<string, PreparedPass>();
  /** Replaces the session for good once a graph was refused. */
  #eager: TfjsEngine | undefined;
  /** A copy of the parameters for decoding. */
  #decoder: TfjsEngine | undefined;
  #isDisposed = false;

  constructor(init: NativeEngineInit) {
    this.#init = init;
    this.parameters = parameterSpecs(init.config);
    this.optimizerSlots = optimizerSlots(this.parameters);
    this.#state = new SessionState(init.session, this.parameters, this.optimizerSlots);
  }

  get description(): EngineDescription {
    return this.#init.description;
  }

  async load(
    parameters: ReadonlyMap<string, Float32Array>,
    optimizer: ReadonlyMap<string, Float32Array> | 'zero',
  ): Promise<void> {
    checkNames(parameters, this.parameters, 'parameter', 'all');
    if (optimizer !== 'zero') checkNames(optimizer, this.optimizerSlots, 'optimizer state', 'all');
    assertInvariant(!this.#isDisposed, 'the engine was used after dispose');
    await this.#dropDecoder();
    if (this.#eager !== undefined) await this.#eager.load(parameters, optimizer);
    else this.#state.load(parameters, optimizer);
  }

  async step(batch: Batch, onGradient: (parameter: number, gradient: Float32Array) => void): Promise<StepOutput> {
    const pass = await this.#enter('step', batch);
    if (pass === undefined) return this.#fallback().step(batch, onGradient);
    const feeds = batchParts(batch).map(({ values }) => values);
    const numGroups = 1 + pass.gradientGroups.length;
    let output: StepOutput | undefined;
    this.#init.session.runInGroups(pass.call, numGroups, feeds, (group, fetched) => {
      if (group === 0) output = stepOutput(fetched[0]!);
      else for (const [i, parameter] of pass.gradientGroups[group - 1]!.entries()) onGradient(parameter, fetched[i]!);
    });
    assertInvariant(output !== undefined, 'a step gave no losses');
    return output;
  }

  async apply(gradients: readonly Float32Array[], update: AdafactorUpdate): Promise<void> {
    assertInvariant(gradients.length === this.parameters.length, `${gradients.length} gradients`);
    this.#checkLoaded();
    await this.#dropDecoder();
    if (this.#eager !== undefined) return this.#eager.apply(gradients, update);
    await enterBackend(NATIVE_BACKEND);
    leavingNoTensors('apply', () => {
      const apply = () => {
        this.#state.apply(this.#init.backend, gradients, update);
      };
      if (this.#init.fusesBlocks) withFusedBlocks(apply);
      else apply();
    });
  }

  async readBack(
    parameters: ReadonlyMap<string, Float32Array>,
    optimizer: ReadonlyMap<string, Float32Array>,
  ): Promise<void> {
    checkNames(parameters, this.parameters, 'parameter', 'some');
    checkNames(optimizer, this.optimizerSlots, 'optimizer state', 'some');
    this.#checkLoaded();
    if (this.#eager !== undefined) await this.#eager.readBack(parameters, optimizer);
    else this.#state.readBack(parameters, optimizer);
  }

  async forward(batch: Batch): Promise<ForwardOutput> {
    const pass = await this.#enter('forward', batch);
    if (pass === undefined) return this.#fallback().forward(batch);
    const feeds = batchParts(batch).map(({ values }) => values);
    return this.#init.session.run(pass.call, feeds, ([encoderOutput, logits]) => ({
      encoderOutput: encoderOutput!.slice(),
      logits: logits!.slice(),
    }));
  }

  async score(batch: Batch): Promise<ScoreOutput> {
    const pass = await this.#enter('score', batch);
    if (pass === undefined) return this.#fallback().score(batch);
    const feeds = batchParts(batch).map(({ values }) => values);
    return this.#init.session.run(pass.call, feeds, ([terms, isRight]) => scoreOutput(terms!, isRight!));
  }

  /** Decoding runs eagerly, on a copy of the parameters that lasts until they change. */
  async startDecoding(inputs: GenerationInputs): Promise<Decoding> {
    this.#checkLoaded();
    if (this.#eager !== undefined) return this.#eager.startDecoding(inputs);
    this.#decoder ??= await this.#eagerCopy();
    return this.#decoder.startDecoding(inputs);
  }

  /** The session's variables count as tensors. */
  memory(): { numTensors: number; numBytes: number } {
    const { numTensors, numBytes } = tf.memory();
    const held = this.#state.memory();
    return { numTensors: numTensors + held.numTensors, numBytes: numBytes + held.numBytes };
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    await this.#dropDecoder();
    this.#closeSession();
    await this.#eager?.dispose();
  }

  /** The graph for a batch, recorded at the first batch of its shape; undefined when the eager engine has replaced the session. */
  async #enter(kind: PassKind, batch: Batch): Promise<PreparedPass | undefined> {
    this.#checkLoaded();
    checkBatch(batch, this.#init.config.vocabSize);
    if (this.#eager !== undefined) return undefined;
    const key = `${kind}-${batch.numRows}x${batch.inputsLength}x${batch.targetsLength}`;
    const known = this.#passes.get(key);
    if (known !== undefined) return known;
    await enterBackend(NATIVE_BACKEND);
    const prepared = leavingNoTensors(key, () => this.#preparePass(kind, batch, key));
    if (prepared === undefined) await this.#switchToEager();
    return prepared;
  }

  #preparePass(kind: PassKind, batch: Batch, key: string): PreparedPass | undefined {
    const { backend, session, config, precision, zLoss, fusesBlocks } = this.#init;
    const parts = batchParts(batch);
    const { variables, weights } = this.#state.weights();
    const init = { backend, config, specs: this.parameters, variables, weights, parts, prefix: `${key}/`, fusesBlocks };
    const recorded = recordPass(kind, init, zLoss);
    const { nodes, outputs } = precision === 'bfloat16' ? withBfloat16Products(recorded) : recorded;
    session.extend(nodes);
    const groups = kind === 'step' ? gradientGroups(this.parameters, MAX_GRADIENT_GROUPS) : [];
    const fetches =
      kind === 'step'
        ? [outputs.slice(0, 1), ...groups.map((group) => group.map((parameter) => outputs[1 + parameter]!))]
        : [outputs];
    const call = session.prepare({ feeds: recorded.feeds, groups: fetches, targets: [], copiesFeeds: true });

    // Hits of a score are not compared: a rounding decides between two tokens that are equally likely.
    const checked = kind === 'score' ? outputs.slice(0, 1) : outputs;
    const check = session.prepare({ feeds: recorded.feeds, groups: [checked], targets: [], copiesFeeds: true });
    const feeds = parts.map(({ values }) => values);
    const problem = session.run(check, feeds, (found) => differenceOf(kind, found, recorded.eager, precision));
    if (problem !== undefined) {
      this.#init.onWarning(`the recorded graph ${key} is refused, the engine continues eagerly: ${problem}`);
      return undefined;
    }
    const pass = { call, gradientGroups: groups };
    this.#passes.set(key, pass);
    return pass;
  }

  /** Replaces the session by eager tfjs, for good. */
  async #switchToEager(): Promise<void> {
    const { config, zLoss, description } = this.#init;
    const eager = new TfjsEngine({ backend: NATIVE_BACKEND, config, zLoss }, description);
    const [parameters, optimizer] = this.#state.read();
    this.#closeSession();
    await eager.load(parameters, optimizer);
    this.#eager = eager;
  }

  async #eagerCopy(): Promise<TfjsEngine> {
    const { config, zLoss, description } = this.#init;
    const eager = new TfjsEngine({ backend: NATIVE_BACKEND, config, zLoss }, description);
    const [parameters] = this.#state.read();
    await eager.load(parameters, 'zero');
    return eager;
  }

  async #dropDecoder(): Promise<void> {
    await this.#decoder?.dispose();
    this.#decoder = undefined;
  }

  #closeSession(): void {
    if (this.#eager !== undefined) return;
    this.#state.close();
    this.#passes.clear();
  }

  #fallback(): TfjsEngine {
    assertInvariant(this.#eager !== undefined, 'no graph and no eager engine');
    return this.#eager;
  }

  #checkLoaded(): void {
    const isLoaded = this.#eager !== undefined || this.#state.isLoaded;
    assertInvariant(isLoaded && !this.#isDisposed, 'the engine was used before load or after dispose');
  }
}

function recordPass(kind: PassKind, init: RecordPassInit, zLoss: number): RecordedPass {
  switch (kind) {
    case 'step':
      return recordStep(init, zLoss);
    case 'score':
      return recordScore(init, zLoss);
    case 'forward':
      return recordForward(init);
  }
}
