/**
 * The engine on an eager tfjs backend: tensors live here, autodiff is tfjs's own.
 * Every method leaves exactly the tensors it found, besides parameters and optimizer state, and checks that.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { updateParameter, updateScalars } from '../model/adafactor.ts';
import { optimizerSlots, slotSpecs, type OptimizerSlot } from '../model/optimizer-slots.ts';
import { parameterSpecs, type ParameterSpec } from '../model/parameters.ts';
import { checkBatch, checkGenerationInputs } from './batch-check.ts';
import { batchParts, uploadBatch, type BatchTensors } from './batch-tensors.ts';
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
} from './engine.ts';
import { checkNames } from './named-arrays.ts';
import { leavingNoTensors } from './tensor-leak.ts';
import { enterBackend, openBackend, type PackagedBackend, type TfjsBackend } from './tfjs-backend.ts';
import { TfjsDecoding } from './tfjs-decoding.ts';
import {
  activations,
  byName,
  lossAndGradients,
  scoreOutput,
  scores,
  stepOutput,
  type PassInit,
} from './tfjs-passes.ts';

export interface TfjsEngineInit {
  readonly backend: TfjsBackend;
  readonly config: ModelConfig;
  /** Coefficient of the z-loss; 0 for none. */
  readonly zLoss: number;
}

/** Opens the backend; parameters come by `load`. @throws ENGINE_UNAVAILABLE */
export async function createTfjsEngine(init: TfjsEngineInit & { readonly backend: PackagedBackend }): Promise<Engine> {
  return new TfjsEngine(init, await openBackend(init.backend));
}

export class TfjsEngine implements Engine {
  readonly description: EngineDescription;
  readonly parameters: readonly ParameterSpec[];
  readonly optimizerSlots: readonly OptimizerSlot[];
  readonly #backend: TfjsBackend;
  readonly #config: ModelConfig;
  readonly #zLoss: number;
  /** By the parameter's number; empty before `load`. */
  #weights: Tensor[] = [];
  /** By the slot's number in optimizerSlots. */
  #slots: Tensor[] = [];

  /** @param init its backend is registered already */
  constructor(init: TfjsEngineInit, description: EngineDescription) {
    this.description = description;
    this.#backend = init.backend;
    this.#config = init.config;
    this.#zLoss = init.zLoss;
    this.parameters = parameterSpecs(init.config);
    this.optimizerSlots = optimizerSlots(this.parameters);
  }

  async load(
    parameters: ReadonlyMap<string, Float32Array>,
    optimizer: ReadonlyMap<string, Float32Array> | 'zero',
  ): Promise<void> {
    checkNames(parameters, this.parameters, 'parameter', 'all');
    if (optimizer !== 'zero') checkNames(optimizer, this.optimizerSlots, 'optimizer state', 'all');
    await enterBackend(this.#backend);
    tf.dispose([...this.#weights, ...this.#slots]);
    // Copies, because some backends keep using the caller's memory.
    this.#weights = this.parameters.map(({ name, shape }) => tf.tensor(parameters.get(name)!.slice(), [...shape]));
    this.#slots = this.optimizerSlots.map(({ name, shape }) =>
      optimizer === 'zero' ? tf.zeros([...shape]) : tf.tensor(optimizer.get(name)!.slice(), [...shape]),
    );
  }

  async step(batch: Batch, onGradient: (parameter: number, gradient: Float32Array) => void): Promise<StepOutput> {
    await this.#enter(batch);
    return leavingNoTensors(`step on ${this.#backend}`, () => {
      const uploaded = uploadBatch(batchParts(batch));
      const { terms_M2, gradients } = lossAndGradients(this.#pass(uploaded), this.#zLoss);
      const terms = terms_M2.dataSync<'float32'>();
      tf.dispose([terms_M2, ...uploaded.all]);
      for (let i = gradients.length - 1; i >= 0; i--) {
        const gradient = gradients[i]!;
        onGradient(i, gradient.dataSync<'float32'>());
        gradient.dispose();
      }
      return stepOutput(terms);
    });
  }

  async apply(gradients: readonly Float32Array[], update: AdafactorUpdate): Promise<void> {
    assertInvariant(gradients.length === this.parameters.length, `${gradients.length} gradients`);
    await this.#enter();
    leavingNoTensors(`apply on ${this.#backend}`, () => {
      const scalars = updateScalars(update);
      let firstSlot = 0;
      for (const [i, { name, shape }] of this.parameters.entries()) {
        const old = this.#weights[i]!;
        const values = gradients[i]!;
        assertInvariant(values.length === old.size, `gradient of ${name}: ${values.length} values for ${old.size}`);
        const oldSlots = this.#slots.slice(firstSlot, firstSlot + slotSpecs(shape).length);
        const updated = tf.tidy(() => {
          const { parameter, slots } = updateParameter(old, tf.tensor(values, [...shape]), oldSlots, scalars);
          return [parameter, ...slots];
        });
        tf.dispose([old, ...oldSlots]);
        const [parameter, ...slots] = updated;
        this.#weights[i] = parameter!;
        this.#slots.splice(firstSlot, slots.length, ...slots);
        firstSlot += slots.length;
      }
      tf.dispose(Object.values(scalars));
    });
  }

  async readBack(
    parameters: ReadonlyMap<string, Float32Array>,
    optimizer: ReadonlyMap<string, Float32Array>,
  ): Promise<void> {
    checkNames(parameters, this.parameters, 'parameter', 'some');
    checkNames(optimizer, this.optimizerSlots, 'optimizer state', 'some');
    await this.#enter();
    for (const [i, { name }] of this.parameters.entries())
      parameters.get(name)?.set(this.#weights[i]!.dataSync<'float32'>());
    for (const [i, { name }] of this.optimizerSlots.entries())
      optimizer.get(name)?.set(this.#slots[i]!.dataSync<'float32'>());
  }

  async forward(batch: Batch): Promise<ForwardOutput> {
    await this.#enter(batch);
    return leavingNoTensors(`forward on ${this.#backend}`, () => {
      const uploaded = uploadBatch(batchParts(batch));
      const outputs = activations(this.#pass(uploaded));
      const encoderOutput = outputs.encoderOutput_MD.dataSync<'float32'>();
      const logits = outputs.logits_MV.dataSync<'float32'>();
      tf.dispose([outputs.encoderOutput_MD, outputs.logits_MV, ...uploaded.all]);
      return { encoderOutput: encoderOutput.slice(), logits: logits.slice() };
    });
  }

  async score(batch: Batch): Promise<ScoreOutput> {
    await this.#enter(batch);
    return leavingNoTensors(`score on ${this.#backend}`, () => {
      const uploaded = uploadBatch(batchParts(batch));
      const { terms_M2, isRight_M } = scores(this.#pass(uploaded), this.#zLoss);
      const output = scoreOutput(terms_M2.dataSync<'float32'>(), isRight_M.dataSync<'int32'>());
      tf.dispose([terms_M2, isRight_M, ...uploaded.all]);
      return output;
    });
  }

  async startDecoding(inputs: GenerationInputs): Promise<Decoding> {
    await this.#enter();
    checkGenerationInputs(inputs, this.#config.vocabSize);
    return new TfjsDecoding(this.#config, byName(this.parameters, this.#weights), inputs);
  }

  memory(): { numTensors: number; numBytes: number } {
    const { numTensors, numBytes } = tf.memory();
    return { numTensors, numBytes };
  }

  async dispose(): Promise<void> {
    await enterBackend(this.#backend);
    tf.dispose([...this.#weights, ...this.#slots]);
    this.#weights = [];
    this.#slots = [];
  }

  async #enter(batch?: Batch): Promise<void> {
    assertInvariant(
      this.#weights.length === this.parameters.length,
      'the engine was used before load or after dispose',
    );
    if (batch !== undefined) checkBatch(batch, this.#config.vocabSize);
    await enterBackend(this.#backend);
  }

  #pass(batch: BatchTensors): PassInit {
    return { config: this.#config, specs: this.parameters, weights: this.#weights, batch };
  }
}
