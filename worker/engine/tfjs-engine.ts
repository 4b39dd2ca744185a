/**
 * The engine on an eager tfjs backend (wasm or cpu): tensors live here, autodiff is tfjs's own.
 * Every method leaves exactly the tensors it found, besides parameters and optimizer state, and checks that it does.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor2D } from '@tensorflow/tfjs';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { updateParameter, updateScalars } from '../model/adafactor.ts';
import { crossEntropy, type Labels } from '../model/cross-entropy.ts';
import { greedyDecode } from '../model/greedy-decode.ts';
import { optimizerSlots, slotSpecs, type OptimizerSlot } from '../model/optimizer-slots.ts';
import { numElements, parameterSpecs, type ParameterSpec } from '../model/parameters.ts';
import { runT5, type Tokens } from '../model/t5.ts';
import { checkBatch } from './batch-check.ts';
import type {
  AdafactorUpdate,
  Batch,
  Engine,
  EngineDescription,
  ForwardOutput,
  GenerationInputs,
  StepOutput,
} from './engine.ts';
import { enterBackend, openBackend, type TfjsBackend } from './tfjs-backend.ts';

export interface TfjsEngineInit {
  readonly backend: TfjsBackend;
  readonly config: ModelConfig;
  /** Coefficient of the z-loss; 0 for none. */
  readonly zLoss: number;
}

/** Opens the backend; parameters come by `load`. @throws ENGINE_UNAVAILABLE */
export async function createTfjsEngine(init: TfjsEngineInit): Promise<Engine> {
  return new TfjsEngine(init, await openBackend(init.backend));
}

class TfjsEngine implements Engine {
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
    // Copies: some backends would go on using the caller's memory.
    this.#weights = this.parameters.map(({ name, shape }) => tf.tensor(parameters.get(name)!.slice(), [...shape]));
    this.#slots = this.optimizerSlots.map(({ name, shape }) =>
      optimizer === 'zero' ? tf.zeros([...shape]) : tf.tensor(optimizer.get(name)!.slice(), [...shape]),
    );
  }

  async step(batch: Batch, onGradient: (parameter: number, gradient: Float32Array) => void): Promise<StepOutput> {
    await this.#enter(batch);
    return this.#leavingNoTensors('step', () => {
      const uploaded = uploadBatch(batch);
      const { inputs, targets, labels } = uploaded;
      let terms_M2: Tensor2D | undefined;
      const { value, grads } = tf.valueAndGrads((...weights) => {
        const { logits_MV } = runT5(this.#named(weights), this.#config, inputs, targets);
        terms_M2 = tf.keep(crossEntropy(logits_MV, labels, this.#zLoss));
        return tf.sum(terms_M2);
      })(this.#weights);
      assertInvariant(terms_M2 !== undefined, 'tfjs did not run the loss');
      const terms = terms_M2.dataSync<'float32'>();
      tf.dispose([value, terms_M2, ...uploaded.all]);
      for (let i = grads.length - 1; i >= 0; i--) {
        const gradient = grads[i]!;
        onGradient(i, gradient.dataSync<'float32'>());
        gradient.dispose();
      }
      const column = (offset: number) =>
        Float32Array.from({ length: terms.length / 2 }, (_, i) => terms[2 * i + offset]!);
      return { crossEntropy: column(0), zLoss: column(1) };
    });
  }

  async apply(gradients: readonly Float32Array[], update: AdafactorUpdate): Promise<void> {
    assertInvariant(gradients.length === this.parameters.length, `${gradients.length} gradients`);
    await this.#enter();
    this.#leavingNoTensors('apply', () => {
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
    return this.#leavingNoTensors('forward', () => {
      const { inputs, targets, all } = uploadBatch(batch);
      const outputs = tf.tidy(() => ({ ...runT5(this.#named(this.#weights), this.#config, inputs, targets) }));
      const encoderOutput = outputs.encoderOutput_MD.dataSync<'float32'>();
      const logits = outputs.logits_MV.dataSync<'float32'>();
      tf.dispose([outputs.encoderOutput_MD, outputs.logits_MV, ...all]);
      return { encoderOutput: encoderOutput.slice(), logits: logits.slice() };
    });
  }

  async generate(inputs: GenerationInputs, maxNewTokens: number): Promise<Int32Array> {
    const { vocabSize } = this.#config;
    const ones = new Int32Array(inputs.numRows * maxNewTokens).fill(1);
    return greedyDecode(inputs.numRows, maxNewTokens, async (sequences, position) => {
      const rowOf = (i: number) => Math.floor(i / maxNewTokens);
      const decoderInputIds = ones.map((_, i) => sequences[rowOf(i) * (maxNewTokens + 1) + (i % maxNewTokens)]!);
      const targets = { targetsLength: maxNewTokens, decoderInputIds, decoderSegmentIds: ones, labels: ones };
      const { logits } = await this.forward({ ...inputs, ...targets });
      return Float32Array.from({ length: inputs.numRows * vocabSize }, (_, i) => {
        const row = Math.floor(i / vocabSize);
        return logits[(row * maxNewTokens + position) * vocabSize + (i % vocabSize)]!;
      });
    });
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

  /** The weights of one pass by name; on the tape they are other tensors than ours. */
  #named(weights: readonly Tensor[]): ReadonlyMap<string, Tensor> {
    return new Map(this.parameters.map(({ name }, i) => [name, weights[i]!]));
  }

  /** @throws TENSOR_LEAK */
  #leavingNoTensors<T>(what: string, run: () => T): T {
    const before = tf.memory();
    const result = run();
    const after = tf.memory();
    if (after.numTensors === before.numTensors && after.numBytes === before.numBytes) return result;
    throw new TrainerError(
      'TENSOR_LEAK',
      `${what} on ${this.#backend}: ${before.numTensors} tensors of ${before.numBytes} B before, ` +
        `${after.numTensors} of ${after.numBytes} B after; a bug of exmix: report it`,
    );
  }
}

interface UploadedBatch {
  readonly inputs: Tokens;
  readonly targets: Tokens;
  readonly labels: Labels;
  /** Every tensor of the above, for disposal. */
  readonly all: readonly Tensor[];
}

function uploadBatch(batch: Batch): UploadedBatch {
  const { numRows, inputsLength, targetsLength } = batch;
  const hasLoss = Float32Array.from(batch.labels, (label, i) =>
    label >= 0 && batch.decoderSegmentIds[i]! > 0 ? 1 : 0,
  );
  const inputs = {
    ids_M: tf.tensor1d(batch.encoderInputIds, 'int32'),
    segmentIds: tf.tensor2d(batch.encoderSegmentIds, [numRows, inputsLength], 'int32'),
  };
  const targets = {
    ids_M: tf.tensor1d(batch.decoderInputIds, 'int32'),
    segmentIds: tf.tensor2d(batch.decoderSegmentIds, [numRows, targetsLength], 'int32'),
  };
  const labels = {
    ids_M: tf.tensor1d(
      batch.labels.map((label, i) => (hasLoss[i] === 1 ? label : -1)),
      'int32',
    ),
    hasLoss_M: tf.tensor1d(hasLoss, 'float32'),
  };
  return { inputs, targets, labels, all: [inputs, targets, labels].flatMap((part): Tensor[] => Object.values(part)) };
}

function checkNames(
  arrays: ReadonlyMap<string, Float32Array>,
  specs: readonly { readonly name: string; readonly shape: readonly number[] }[],
  what: string,
  needed: 'all' | 'some',
): void {
  const sizes = new Map(specs.map(({ name, shape }) => [name, numElements(shape)]));
  for (const [name, values] of arrays) {
    const size = sizes.get(name);
    if (size === undefined) throw mismatch(`${what} ${name} is not in the model`);
    if (size !== values.length) throw mismatch(`${what} ${name}: expected ${size} values, found ${values.length}`);
  }
  if (needed === 'some') return;
  const missing = specs.filter(({ name }) => !arrays.has(name));
  if (missing.length > 0) throw mismatch(`${missing.length} × ${what} missing, the first is ${missing[0]!.name}`);
}

function mismatch(problem: string): TrainerError {
  return new TrainerError('CHECKPOINT_MISMATCH', `${problem}; the weights are of another model configuration`);
}
