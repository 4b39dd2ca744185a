/**
 * An Engine that learns nothing and costs microseconds. Gradients and updates are deterministic float32 functions of parameters and token
 * ids. Their magnitudes differ so much that another order of additions, another batch, or a step applied twice or never gives other bits.
 * Virtual time passes where a real engine computes, so a crash may happen in the middle.
 *
 * Update of element i of parameter p with its slot v, in float32:
 *   g = gradient · gradientScale;  v ← 0.75·v + 0.25·g²;  p ← p − learningRate · g / (sqrt(v) + 2^-10) / (1 + step / 8)
 */
import type { Clock } from '../../shared/clock.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import type { Batch, Engine, EngineDescription, StepOutput } from '../../worker/engine/engine.ts';
import type { OptimizerUpdate } from '../../worker/model/optimizer-rule.ts';
import { optimizerSlots } from '../../worker/model/optimizer-slots.ts';
import { numElements, parameterSpecs } from '../../worker/model/parameters.ts';

/** Exponents of gradient magnitudes are 0 … −15. */
const EXPONENTS = Float32Array.from({ length: 16 }, (_, i) => 2 ** -i);

/** Faults of one call. */
export type Mishap = 'throw' | 'hang' | 'nan' | 'flip-bit';

export interface ToyEngineInit {
  readonly config: ModelConfig;
  readonly clock: Clock;
  /** Durations of the next microbatch and of the next update, ms. */
  readonly stepMs: () => number;
  readonly applyMs: () => number;
  /**
   * Called before each call with the number of earlier calls of its kind. `nan` makes a gradient of a step NaN; `flip-bit` flips one bit of
   * the parameters before a step or after an update.
   */
  readonly mishap?: (call: 'step' | 'apply', numBefore: number) => Mishap | undefined;
}

type Arrays = readonly Float32Array<ArrayBuffer>[];

export class ToyEngine implements Engine {
  readonly description: EngineDescription = { name: 'toy', version: '1', device: 'none', fingerprint: 'toy 1' };
  readonly parameters;
  readonly optimizerSlots;
  readonly #init: ToyEngineInit;
  readonly #values: Arrays;
  readonly #slots: Arrays;
  readonly #gradients: Arrays;
  readonly #numCalls = { step: 0, apply: 0 };
  #isLoaded = false;

  constructor(init: ToyEngineInit) {
    this.#init = init;
    this.parameters = parameterSpecs(init.config);
    this.optimizerSlots = optimizerSlots(this.parameters, 'adafactor');
    const zeros = (): Arrays => this.parameters.map(({ shape }) => new Float32Array(numElements(shape)));
    this.#values = zeros();
    this.#slots = zeros();
    this.#gradients = zeros();
    assertInvariant(
      this.optimizerSlots.length === this.parameters.length,
      'the model of a toy engine is too small for factored slots',
    );
  }

  /** Whether a state is completely loaded. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  async load(
    parameters: ReadonlyMap<string, Float32Array>,
    optimizer: ReadonlyMap<string, Float32Array> | 'zero',
  ): Promise<void> {
    this.#isLoaded = false;
    await this.#init.clock.sleep(this.#init.applyMs());
    copyAll(this.parameters, this.#values, parameters, (own, given) => own.set(given), 'all');
    if (optimizer === 'zero') for (const slot of this.#slots) slot.fill(0);
    else copyAll(this.optimizerSlots, this.#slots, optimizer, (own, given) => own.set(given), 'all');
    this.#isLoaded = true;
  }

  async step(batch: Batch, onGradient: (parameter: number, gradient: Float32Array) => void): Promise<StepOutput> {
    const { clock, stepMs } = this.#init;
    const ms = stepMs();
    const mishap = await this.#begin('step');
    const words = hashBatch(batch);
    await clock.sleep(ms / 2);
    const middle = this.parameters.length >> 1;
    for (let parameter = this.parameters.length - 1; parameter >= 0; parameter--) {
      if (parameter === middle) await clock.sleep(ms / 2);
      const gradient = this.#gradients[parameter]!;
      fillGradient(gradient, this.#values[parameter]!, words + parameter * 0x632be5ab);
      if (mishap === 'nan' && parameter === 0) gradient[0] = NaN;
      onGradient(parameter, gradient);
    }
    return losses(batch, words);
  }

  async apply(gradients: readonly Float32Array[], update: OptimizerUpdate): Promise<void> {
    const { clock, applyMs } = this.#init;
    const ms = applyMs();
    const mishap = await this.#begin('apply');
    await clock.sleep(ms / 2);
    const middle = this.parameters.length >> 1;
    for (const [parameter, gradient] of gradients.entries()) {
      if (parameter === middle) await clock.sleep(ms / 2);
      applyUpdate(this.#values[parameter]!, this.#slots[parameter]!, gradient, update);
    }
    if (mishap === 'flip-bit') this.#flipBit();
  }

  async readBack(
    parameters: ReadonlyMap<string, Float32Array>,
    optimizer: ReadonlyMap<string, Float32Array>,
  ): Promise<void> {
    await Promise.resolve(); // takes no virtual time, but is asynchronous
    copyAll(this.parameters, this.#values, parameters, (own, given) => given.set(own), 'some');
    copyAll(this.optimizerSlots, this.#slots, optimizer, (own, given) => given.set(own), 'some');
  }

  forward(): Promise<never> {
    return Promise.reject(new TrainerError('INTERNAL', 'a toy engine has no separate forward pass'));
  }

  score(): Promise<never> {
    return Promise.reject(new TrainerError('INTERNAL', 'a toy engine has no separate forward pass'));
  }

  startDecoding(): Promise<never> {
    return Promise.reject(new TrainerError('INTERNAL', 'a toy engine generates no text'));
  }

  memory(): { readonly numTensors: number; readonly numBytes: number } {
    return { numTensors: 0, numBytes: 0 };
  }

  dispose(): Promise<void> {
    return Promise.resolve();
  }

  /** Counts the call and executes a mishap at its start. */
  async #begin(call: 'step' | 'apply'): Promise<Mishap | undefined> {
    const mishap = this.#init.mishap?.(call, this.#numCalls[call]++);
    if (mishap === 'throw') throw new TrainerError('INTERNAL', `the toy engine was told to fail in ${call}`);
    if (mishap === 'hang') await new Promise<never>(() => undefined);
    if (mishap === 'flip-bit' && call === 'step') this.#flipBit();
    return mishap;
  }

  /** Flips the lowest bit of one parameter. */
  #flipBit(): void {
    const bits = new Uint32Array(this.#values[0]!.buffer);
    bits[0] = bits[0]! ^ 1;
  }
}

/** Hash of all ids of a batch. uint32 */
function hashBatch({ encoderInputIds, encoderSegmentIds, decoderInputIds, decoderSegmentIds, labels }: Batch): number {
  let hash = 0x811c9dc5;
  for (const ids of [encoderInputIds, encoderSegmentIds, decoderInputIds, decoderSegmentIds, labels])
    for (const id of ids) hash = Math.imul(hash ^ (id & 0xffff), 0x01000193);
  return hash >>> 0;
}

/** Noise of many magnitudes, determined by the batch and every bit of the parameter, plus weight decay. */
function fillGradient(gradient: Float32Array, values: Float32Array<ArrayBuffer>, seed: number): void {
  const bits = new Int32Array(values.buffer);
  let state = seed | 0;
  for (let i = 0; i < gradient.length; i++) {
    state = (state ^ bits[i]!) + i + 1;
    state ^= state << 13; // xorshift32 (Marsaglia, 2003)
    state ^= state >>> 17;
    state ^= state << 5;
    const noise = (state >> 8) / 2 ** 23;
    gradient[i] = Math.fround(noise * EXPONENTS[state & 15]!) + 0.125 * values[i]!;
  }
}

function applyUpdate(
  values: Float32Array,
  slots: Float32Array,
  gradient: Float32Array,
  { step, learningRate, gradientScale }: OptimizerUpdate,
): void {
  const rate = Math.fround(learningRate / (1 + step / 8));
  for (let i = 0; i < values.length; i++) {
    const g = Math.fround(gradient[i]! * gradientScale);
    slots[i] = 0.75 * slots[i]! + 0.25 * g * g;
    values[i] = values[i]! - (rate * g) / (Math.sqrt(slots[i]!) + 2 ** -10);
  }
}

/** A loss for each target position, which depends on the batch. */
function losses({ labels, decoderSegmentIds }: Batch, words: number): StepOutput {
  const crossEntropy = new Float32Array(labels.length);
  const zLoss = new Float32Array(labels.length);
  for (let i = 0; i < labels.length; i++) {
    if (decoderSegmentIds[i]! <= 0 || labels[i]! < 0) continue;
    crossEntropy[i] = 1 + labels[i]! / 8 + (words & 0xff) / 512;
    zLoss[i] = crossEntropy[i]! / 1024;
  }
  return { crossEntropy, zLoss };
}

function copyAll(
  specs: readonly { readonly name: string }[],
  own: Arrays,
  given: ReadonlyMap<string, Float32Array>,
  copy: (own: Float32Array, given: Float32Array) => void,
  which: 'all' | 'some',
): void {
  let numKnown = 0;
  for (const [i, { name }] of specs.entries()) {
    const values = given.get(name);
    if (values === undefined && which === 'some') continue;
    if (values?.length !== own[i]!.length)
      throw new TrainerError(
        'CHECKPOINT_MISMATCH',
        `${name}: expected ${own[i]!.length} values, found ${values?.length ?? 'none'}`,
      );
    copy(own[i]!, values);
    numKnown += 1;
  }
  if (numKnown !== given.size)
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `expected tensors of the toy model, found ${[...given.keys()].join(', ')}`,
    );
}
