/** Engine, feed and checkpoint writer of a worker in tests: no threads, no tensor library; a test can hold them up or break them. */
import { createBatchArrays } from '../mixture/feed/batch.ts';
import type { WrittenShards } from './checkpoint/shard-writer.ts';
import { parameterDigest } from '../shared/checkpoint/parameter-digest.ts';
import { tensorBytes, type TensorSpec } from '../shared/checkpoint/shard-plan.ts';
import type { Engine } from './engine/engine.ts';
import type { BatchPlace } from './feed/feed-messages.ts';
import { optimizerSlots } from './model/optimizer-slots.ts';
import { parameterSpecs } from './model/parameters.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import { TrainerError } from '../shared/errors.ts';
import { RAW_CONFIG } from './network/network-session.fixture.ts';

const { model } = checkConfig(RAW_CONFIG, 'the test');

type Hook = () => Promise<void> | void;

/** Tensors and arithmetic in the simplest way; its hooks run before what they are named for. */
export class PlainEngine implements Engine {
  readonly description = { name: 'plain', version: '1', device: 'none', fingerprint: 'plain 1' };
  readonly parameters = parameterSpecs(model);
  readonly optimizerSlots = optimizerSlots(this.parameters, 'adafactor');
  onStep: Hook = () => undefined;
  onApply: Hook = () => undefined;
  onLoad: Hook = () => undefined;
  /** What gradients begin with. */
  gradientScale = 1;
  /** Steps that a gradient was computed for. */
  readonly computed: number[] = [];
  numLoads = 0;
  readonly #parameters = makeTensors(this.parameters);
  readonly #slots = makeTensors(this.optimizerSlots);

  async load(...[parameters, slots]: Parameters<Engine['load']>): Promise<void> {
    await this.onLoad();
    this.numLoads++;
    for (const [name, values] of this.#parameters) values.set(parameters.get(name)!);
    for (const [name, values] of this.#slots)
      if (slots === 'zero') values.fill(0);
      else values.set(slots.get(name)!);
  }

  async step(...[batch, onGradient]: Parameters<Engine['step']>): ReturnType<Engine['step']> {
    const [step, lane] = [batch.encoderInputIds[0]!, batch.encoderInputIds[1]!];
    this.computed.push(step);
    await this.onStep();
    for (let parameter = this.parameters.length - 1; parameter >= 0; parameter--) {
      const length = this.#parameters.get(this.parameters[parameter]!.name)!.length;
      const seed = step * 31 + lane * 7 + parameter;
      onGradient(
        parameter,
        Float32Array.from({ length }, (_, i) => this.gradientScale * Math.sin(seed + i) * 3 ** (lane * 5)),
      );
    }
    return {
      crossEntropy: new Float32Array(batch.labels.length).fill(1),
      zLoss: new Float32Array(batch.labels.length),
    };
  }

  async apply(...[gradients, { learningRate, gradientScale }]: Parameters<Engine['apply']>): Promise<void> {
    await this.onApply();
    for (const [i, { name }] of this.parameters.entries()) {
      const values = this.#parameters.get(name)!;
      for (const [at, gradient] of gradients[i]!.entries())
        values[at]! -= learningRate * gradientScale * Math.fround(gradient);
    }
    for (const values of this.#slots.values()) for (let at = 0; at < values.length; at++) values[at]! += 1;
  }

  readBack(...[parameters, slots]: Parameters<Engine['readBack']>): Promise<void> {
    for (const [name, values] of parameters) values.set(this.#parameters.get(name)!);
    for (const [name, values] of slots) values.set(this.#slots.get(name)!);
    return Promise.resolve();
  }

  /** Of the parameters and of the optimizer's state. */
  digests(): [string, string] {
    return [parameterDigest(this.#parameters), parameterDigest(this.#slots)];
  }

  forward(): never {
    throw new TrainerError('INTERNAL', 'nobody asks for it');
  }

  score(): never {
    throw new TrainerError('INTERNAL', 'nobody asks for it');
  }

  startDecoding(): never {
    throw new TrainerError('INTERNAL', 'nobody asks for it');
  }

  memory(): { numTensors: number; numBytes: number } {
    return { numTensors: 0, numBytes: 0 };
  }

  dispose(): Promise<void> {
    return Promise.resolve();
  }
}

function makeTensors(specs: readonly TensorSpec[]): ReadonlyMap<string, Float32Array> {
  return new Map(specs.map((spec) => [spec.name, new Float32Array(tensorBytes(spec) / 4)]));
}

/** Microbatches in the order they were dealt; a batch says for which step and lane it is. */
export class PlainFeed {
  readonly opened = Promise.resolve(['task']);
  readonly #places: BatchPlace[] = [];
  numDrops = 0;
  /** Thrown instead of the next microbatch. */
  failure: TrainerError | undefined;

  deal(step: number, lanes: readonly { readonly lane: number }[]): void {
    for (const { lane } of lanes) this.#places.push({ step, lane, microbatch: 0 });
  }

  drop(): Promise<void> {
    this.numDrops++;
    this.#places.length = 0;
    return Promise.resolve();
  }

  next(expected: BatchPlace, signal: AbortSignal) {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (signal.aborted) return Promise.reject(new TrainerError('ABORTED', 'the feed was aborted'));
    const place = this.#places.shift();
    if (place?.step !== expected.step || place.lane !== expected.lane)
      return Promise.reject(
        new TrainerError('INTERNAL', `expected ${JSON.stringify(expected)}, got ${JSON.stringify(place)}`),
      );
    const arrays = createBatchArrays(1, 8, 4);
    arrays.encoderInputIds.set([place.step, place.lane]);
    arrays.taskOfTarget[0] = 0;
    return Promise.resolve({ ...place, slot: 0, arrays, inputTokens: 2 });
  }

  release(): void {
    // it has no slots
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}

/** Writes nothing; the test says when it is written. */
export class PlainWriter {
  readonly folders: string[] = [];
  onSave: Hook = () => undefined;
  #end: ((error: TrainerError | null) => void) | undefined;
  readonly #engine: PlainEngine;

  constructor(engine: PlainEngine) {
    this.#engine = engine;
  }

  async save({ folder }: { readonly folder: string }): Promise<{ written: Promise<WrittenShards> }> {
    this.folders.push(folder);
    await this.onSave();
    const [paramDigest] = this.#engine.digests();
    const written = new Promise<WrittenShards>((resolve, reject) => {
      this.#end = (error) => (error === null ? resolve({ files: [], paramDigest }) : reject(error));
    });
    return { written };
  }

  /** Ends the write under way. */
  end(error: TrainerError | null = null): void {
    this.#end?.(error);
  }

  idle(): Promise<void> {
    return Promise.resolve();
  }

  callOff(): Promise<void> {
    this.end(new TrainerError('ABORTED', 'the write was aborted'));
    return Promise.resolve();
  }
}
