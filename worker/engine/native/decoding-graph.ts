/**
 * Decoding as calls of the session: encode inputs, then a position of all hypotheses a call. Keys and values lie in pools, variables that only
 * grow while a decoding is open; a hypothesis names the places of its own and of its inputs. So nothing moves when beams change order or
 * examples leave, one graph serves every number of rows and every length, and parameters are read where training has them.
 *
 * Both graphs use blocks whose rows are independent (kernels/product.cc): a row's bits do not depend on the other rows. The weights of a step
 * are packed when a decoding opens, and dropped when it closes: a step would else spend a quarter of its time packing them.
 * Assumes fused blocks: a CPU, float32, no XLA. X = heads × head width.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { EOS_TOKEN, START_TOKEN } from '../../../evaluation/decoding/settings.ts';
import { assertInvariant } from '../../../shared/errors.ts';
import type { ModelConfig } from '../../../shared/model-config.ts';
import { FUSED_BLOCKS, withIndependentRows } from '../../model/fused-kernels.ts';
import type { ParameterSpec } from '../../model/parameters.ts';
import { relativePositionBucket } from '../../model/relative-bias.ts';
import {
  decodeNext,
  decodeRows,
  encodeInputs,
  encodeToPools,
  type KeyValuePool,
  type Weights,
} from '../../model/t5.ts';
import type { GenerationInputs } from '../engine.ts';
import { byName } from '../tfjs-passes.ts';
import { differenceOf } from './compare-passes.ts';
import { constantNode, DATA_TYPE, placeholderNode, type GraphNode } from './recording/graph-def.ts';
import { record, type RecordableBackend } from './recording/recorder.ts';
import { assignNode, heldNodes, readName } from './recording/variables.ts';
import type { GraphSession } from './session/graph-session.ts';
import type { CallHandle } from './session/session-binding.ts';
import type { SessionState } from './session-state.ts';

/** Examples of one call of the encoder: any number of examples is a sum of these, so graphs stay few. */
const ENCODED_ROWS = [16, 4, 1];
const NUM_CHECKED_CANDIDATES = 8;
/** Outputs of a panel, kPanel of kernels/panel-product.h. */
const PANEL_OUTPUTS = 32;

export interface DecodingGraphInit {
  readonly session: GraphSession;
  readonly state: SessionState;
  readonly backend: RecordableBackend;
  readonly config: ModelConfig;
  readonly specs: readonly ParameterSpec[];
}

/** One position of A hypotheses, as DecodedRows. */
export interface StepInputs {
  readonly tokens: Int32Array;
  readonly selfPlaces: Int32Array;
  readonly crossPlaces: Int32Array;
  readonly buckets: Int32Array;
  readonly given: Int32Array;
  readonly numCandidates: number;
  /** Of the pool, where the A new keys and values go. */
  readonly firstPlace: number;
}

/** Views, valid during the call. Ids are float32. */
export interface StepResults {
  readonly ids: Float32Array;
  readonly logits: Float32Array;
  readonly givenLogits: Float32Array;
  readonly normalizers: Float32Array;
}

interface Encoder {
  readonly call: CallHandle;
  readonly check: CallHandle;
}

type PoolKind = 'self' | 'cross';

/** Operations of a step, by what they are with packed weights. Their weight is the second input. */
const PACKED: Readonly<Record<string, string>> = {
  [FUSED_BLOCKS.product]: 'ExmixPackedProduct',
  [FUSED_BLOCKS.likeliestTokens]: 'ExmixPackedLikeliestTokens',
};

const STEP = 'decoding/step/';
const STEP_FEEDS = ['tokens', 'selfPlaces', 'crossPlaces', 'buckets', 'given'] as const;
const INT: { kind: 'type'; value: number } = { kind: 'type', value: DATA_TYPE.int32 };
const FLOAT: { kind: 'type'; value: number } = { kind: 'type', value: DATA_TYPE.float32 };

/** Of a query at a position, the bucket of its distance to each of the first `length` positions; any for those to come. */
export function bucketsAt(config: ModelConfig, position: number, length: number): Int32Array {
  const scheme = {
    numBuckets: config.relativeAttentionNumBuckets,
    maxDistance: config.relativeAttentionMaxDistance,
    isBidirectional: false,
  };
  return Int32Array.from({ length }, (_, key) => relativePositionBucket(key - position, scheme));
}

/** A variable of the packed panels of a weight, with nodes that fill it and empty it. */
function packedNodes(name: string, weight: string): GraphNode[] {
  const variable = { name, shape: [-1, -1, PANEL_OUTPUTS] };
  return [
    ...heldNodes(variable),
    { name: `${name}/panels`, op: 'ExmixPack', inputs: [weight], attributes: {} },
    assignNode(`${name}/pack`, variable, `${name}/panels:0`),
    assignNode(`${name}/unpack`, variable, 'decoding/no-panels:0'),
  ];
}

export class DecodingGraph {
  readonly #init: DecodingGraphInit;
  readonly #width: number;
  readonly #encoders = new Map<string, Encoder>();
  readonly #allocating: Readonly<Record<PoolKind, CallHandle>>;
  readonly #growing: CallHandle;
  readonly #stepping: CallHandle;
  readonly #packing: Readonly<Record<'pack' | 'unpack', CallHandle>>;
  #numPackedBytes = 0;
  #isStepChecked = false;
  /** Places of each pool; undefined while no decoding is open. */
  #numPlaces: Record<PoolKind, number> | undefined;

  /** Records the step. @throws GRAPH_UNRECORDABLE */
  constructor(init: DecodingGraphInit) {
    this.#init = init;
    const { session, config } = init;
    this.#width = config.numHeads * config.dKv;
    session.extend(this.#poolNodes());
    const allocate = (kind: PoolKind): CallHandle =>
      session.prepare({
        feeds: [{ name: `decoding/${kind}/size:0`, dtype: DATA_TYPE.int32, shape: [2] }],
        groups: [[]],
        targets: this.#pools(kind).map((name) => `${name}/allocate`),
        copiesFeeds: true,
      });
    this.#allocating = { self: allocate('self'), cross: allocate('cross') };
    this.#growing = session.prepare({
      feeds: [{ name: 'decoding/self/paddings:0', dtype: DATA_TYPE.int32, shape: [2, 2] }],
      groups: [[]],
      targets: this.#pools('self').map((name) => `${name}/grow`),
      copiesFeeds: true,
    });
    const { stepping, packed } = this.#withWeights((weights) => this.#prepareStep(weights));
    this.#stepping = stepping;
    const prepare = (node: 'pack' | 'unpack'): CallHandle =>
      session.prepare({ feeds: [], groups: [[]], targets: packed.map((name) => `${name}/${node}`), copiesFeeds: true });
    this.#packing = { pack: prepare('pack'), unpack: prepare('unpack') };
  }

  /**
   * Allocates pools and runs the encoder. The place of position s of example e is e·S + s.
   * @param numPlaces of the decoder's positions at first
   * @returns a sentence where a graph that was recorded now differs from eager tfjs; then nothing is open
   */
  open(inputs: GenerationInputs, numPlaces: number): string | undefined {
    assertInvariant(this.#numPlaces === undefined, 'a decoding is open already: one at a time');
    this.#allocate({ self: numPlaces, cross: inputs.numRows * inputs.inputsLength });
    this.#init.session.run(this.#packing.pack, [], () => undefined);
    const problem = this.#encode(inputs) ?? (this.#isStepChecked ? undefined : this.#checkStep(inputs));
    if (problem !== undefined) this.close();
    return problem;
  }

  /** Appends a position and looks up the candidates of the next. */
  step<T>(inputs: StepInputs, use: (results: StepResults) => T): T {
    const { firstPlace, numCandidates } = inputs;
    this.#reserve(firstPlace + inputs.tokens.length);
    const feeds = [...STEP_FEEDS.map((name) => inputs[name]), Int32Array.of(numCandidates), Int32Array.of(firstPlace)];
    return this.#init.session.run(this.#stepping, feeds, ([ids, logits, givenLogits, normalizers]) =>
      use({ ids: ids!, logits: logits!, givenLogits: givenLogits!, normalizers: normalizers! }),
    );
  }

  /** Frees the pools and the packed weights. */
  close(): void {
    if (this.#numPlaces === undefined) return;
    this.#init.session.run(this.#packing.unpack, [], () => undefined);
    this.#allocate({ self: 0, cross: 0 });
    this.#numPlaces = undefined;
  }

  memory(): { readonly numTensors: number; readonly numBytes: number } {
    if (this.#numPlaces === undefined) return { numTensors: 0, numBytes: 0 };
    const numPools = this.#pools('self').length;
    const numPlaces = this.#numPlaces.self + this.#numPlaces.cross;
    const numBytes = numPools * numPlaces * this.#width * Float32Array.BYTES_PER_ELEMENT;
    return { numTensors: 2 * numPools, numBytes: numBytes + this.#numPackedBytes };
  }

  // ---- pools ----

  /** Keys, then values, by block. */
  #pools(kind: PoolKind): string[] {
    const blocks = Array.from({ length: this.#init.config.numDecoderLayers }, (_, block) => block);
    return blocks.flatMap((block) => [`decoding/${kind}/${block}/keys`, `decoding/${kind}/${block}/values`]);
  }

  #poolNodes(): GraphNode[] {
    const nodes = [
      placeholderNode('decoding/self/size', DATA_TYPE.int32, [2]),
      placeholderNode('decoding/cross/size', DATA_TYPE.int32, [2]),
      placeholderNode('decoding/self/paddings', DATA_TYPE.int32, [2, 2]),
      constantNode('decoding/no-panels', DATA_TYPE.float32, [0, 0, PANEL_OUTPUTS], new Float32Array(0)),
    ];
    for (const kind of ['self', 'cross'] as const)
      for (const name of this.#pools(kind)) {
        const variable = { name, shape: [-1, this.#width] };
        nodes.push(
          ...heldNodes(variable),
          { name: `${name}/memory`, op: 'ExmixPool', inputs: [`decoding/${kind}/size:0`], attributes: {} },
          assignNode(`${name}/allocate`, variable, `${name}/memory:0`),
        );
        if (kind === 'cross') continue;
        const inputs = [readName(variable), 'decoding/self/paddings:0'];
        nodes.push(
          { name: `${name}/longer`, op: 'Pad', inputs, attributes: { T: FLOAT, Tpaddings: INT } },
          assignNode(`${name}/grow`, variable, `${name}/longer:0`),
        );
      }
    return nodes;
  }

  #allocate(numPlaces: Record<PoolKind, number>): void {
    for (const kind of ['self', 'cross'] as const)
      this.#init.session.run(this.#allocating[kind], [Int32Array.of(numPlaces[kind], this.#width)], () => undefined);
    this.#numPlaces = numPlaces;
  }

  #reserve(numPlaces: number): void {
    const held = this.#numPlaces;
    assertInvariant(held !== undefined, 'a decoding was used after dispose');
    if (numPlaces <= held.self) return;
    const wanted = Math.max(numPlaces, 2 * held.self);
    this.#init.session.run(this.#growing, [Int32Array.of(0, wanted - held.self, 0, 0)], () => undefined);
    held.self = wanted;
  }

  /** Writes rows of a pool in place (kernels/cached-attention.cc). @param prefix of its placeholder `first` */
  #append(node: string, pool: string, prefix: string, rows: string): GraphNode {
    return { name: node, op: 'ExmixAppend', inputs: [`${pool}/read:0`, rows, `${prefix}first:0`], attributes: {} };
  }

  // ---- the encoder ----

  #encode({ numRows, inputsLength, encoderInputIds, encoderSegmentIds }: GenerationInputs): string | undefined {
    for (let row = 0; row < numRows;) {
      const count = ENCODED_ROWS.find((rows) => rows <= numRows - row)!;
      const [first, end] = [row * inputsLength, (row + count) * inputsLength];
      const inputs = [encoderInputIds.slice(first, end), encoderSegmentIds.slice(first, end)] as const;
      const feeds = [...inputs, Int32Array.of(first)];
      const key = `decoding/encode-${count}x${inputsLength}/`;
      let encoder = this.#encoders.get(key);
      if (encoder === undefined) {
        const recorded = this.#withWeights((weights) => this.#prepareEncoder(weights, key, inputs));
        const problem = this.#init.session.run(recorded.check, feeds, (found) =>
          differenceOf('forward', found, recorded.eager, 'float32'),
        );
        if (problem !== undefined) return `${key}: ${problem}`;
        encoder = recorded;
        this.#encoders.set(key, encoder);
      } else this.#init.session.run(encoder.call, feeds, () => undefined);
      row += count;
    }
    return undefined;
  }

  #prepareEncoder(
    weights: NamedWeights,
    prefix: string,
    [ids, segmentIds]: readonly [Int32Array, Int32Array],
  ): Encoder & { readonly eager: readonly Float32Array[] } {
    const { session, backend, config } = this.#init;
    const numRows = Number(/-(\d+)x/u.exec(prefix)![1]);
    const shapes = { ids: [ids.length], segmentIds: [numRows, ids.length / numRows], first: [] };
    const tokens = {
      ids_M: tf.tensor1d(ids, 'int32'),
      segmentIds: tf.tensor2d(segmentIds, shapes.segmentIds as [number, number], 'int32'),
    };
    const names = new Map<Tensor, string>([
      ...weights.names,
      [tokens.ids_M, `${prefix}ids:0`],
      [tokens.segmentIds, `${prefix}segmentIds:0`],
    ]);
    const encode = (): Tensor2D[] =>
      tf.tidy(() => encodeToPools(weights.byName, config, tokens).flatMap(({ keys, values }) => [keys, values]));
    const recording = record(backend, names, prefix, () => withIndependentRows(encode));
    const outputs = recording.result.map(recording.nameOf);
    const plain = encode();
    const eager = plain.map((tensor) => tensor.dataSync<'float32'>().slice());
    tf.dispose([...recording.result, ...plain, tokens.ids_M, tokens.segmentIds]);
    const pools = this.#pools('cross');
    const targets = pools.map((_, i) => `${prefix}append_${i}`);
    session.extend([
      ...Object.entries(shapes).map(([name, shape]) => placeholderNode(`${prefix}${name}`, DATA_TYPE.int32, shape)),
      ...recording.nodes,
      ...pools.map((pool, i) => this.#append(targets[i]!, pool, prefix, outputs[i]!)),
    ]);
    const feeds = Object.entries(shapes).map(([name, shape]) => ({
      name: `${prefix}${name}:0`,
      dtype: DATA_TYPE.int32,
      shape,
    }));
    const prepare = (fetched: readonly string[]): CallHandle =>
      session.prepare({ feeds, groups: [fetched], targets, copiesFeeds: true });
    return { call: prepare([]), check: prepare(outputs), eager };
  }

  // ---- the step ----

  #prepareStep(weights: NamedWeights): { readonly stepping: CallHandle; readonly packed: readonly string[] } {
    const { session, backend, config } = this.#init;
    // Two hypotheses at the first position; shapes of the recording are not part of the graph.
    const int = (...values: number[]): Tensor1D => tf.tensor1d(values, 'int32');
    const rows = {
      tokens: int(START_TOKEN, START_TOKEN),
      selfPlaces: int(0, 1),
      crossPlaces: int(0, 0),
      buckets: int(0),
      given: int(EOS_TOKEN, EOS_TOKEN),
      numCandidates: tf.scalar(1, 'int32'),
    };
    const poolTensors: Tensor[] = [];
    const names = new Map<Tensor, string>([
      ...weights.names,
      ...Object.entries(rows).map(([name, tensor]) => [tensor, `${STEP}${name}:0`] as const),
    ]);
    const named = (name: string): Tensor2D => {
      const tensor = tf.zeros<tf.Rank.R2>([2, this.#width]);
      poolTensors.push(tensor);
      names.set(tensor, name);
      return tensor;
    };
    const pools = (kind: PoolKind, part: string): KeyValuePool[] => {
      const all = this.#pools(kind).map((name) => named(`${name}/${part}:0`));
      return Array.from({ length: all.length / 2 }, (_, block) => ({
        keys: all[2 * block]!,
        values: all[2 * block + 1]!,
      }));
    };
    const cross = pools('cross', 'read');
    const self = pools('self', 'append');
    const appended: Tensor[] = [];
    const recording = record(backend, names, STEP, () =>
      withIndependentRows(() =>
        tf.tidy(() =>
          decodeRows(weights.byName, config, rows, cross, (block, { keys, values }) => {
            appended.push(tf.keep(keys), tf.keep(values));
            return self[block]!;
          }).slice(),
        ),
      ),
    );
    const outputs = recording.result.map(recording.nameOf);
    const selfPools = this.#pools('self');
    const nodes = selfPools.map((name, i) =>
      this.#append(`${name}/append`, name, STEP, recording.nameOf(appended[i]!)),
    );
    tf.dispose([...recording.result, ...appended, ...poolTensors, ...Object.values(rows)]);
    const feeds = [
      ...STEP_FEEDS.map((name) => ({ name: `${STEP}${name}:0`, dtype: DATA_TYPE.int32, shape: [-1] })),
      { name: `${STEP}numCandidates:0`, dtype: DATA_TYPE.int32, shape: [] },
      { name: `${STEP}first:0`, dtype: DATA_TYPE.int32, shape: [] },
    ];
    const shapeOf = new Map([...weights.names].map(([{ shape }, name]) => [name, shape]));
    const packed = new Map<string, string>();
    const steps = recording.nodes.map((node): GraphNode => {
      const [op, weight] = [PACKED[node.op], node.inputs[1]];
      if (op === undefined || weight === undefined || !shapeOf.has(weight)) return node;
      packed.set(weight, `decoding/packed/${weight.slice(0, -':0'.length)}`);
      return { ...node, op, inputs: [...node.inputs, `${packed.get(weight)!}/read:0`] };
    });
    session.extend([
      ...feeds.map(({ name, dtype, shape }) => placeholderNode(name.slice(0, -2), dtype, shape)),
      ...nodes,
      ...[...packed].flatMap(([weight, name]) => packedNodes(name, weight)),
      ...steps,
    ]);
    for (const weight of packed.keys()) {
      const [numOutputs, depth] = shapeOf.get(weight) as [number, number];
      this.#numPackedBytes +=
        Math.ceil(numOutputs / PANEL_OUTPUTS) * PANEL_OUTPUTS * depth * Float32Array.BYTES_PER_ELEMENT;
    }
    const stepping = session.prepare({ feeds, groups: [outputs], targets: [], copiesFeeds: true });
    return { stepping, packed: [...packed.values()] };
  }

  /** Two positions of the first example, beside eager tfjs's decoder with a cache of its own. */
  #checkStep({ inputsLength, encoderInputIds, encoderSegmentIds }: GenerationInputs): string | undefined {
    const { config } = this.#init;
    const numCandidates = Math.min(NUM_CHECKED_CANDIDATES, config.vocabSize);
    const tokens = [START_TOKEN, Math.min(2, config.vocabSize - 1)];
    const expected = this.#withWeights(({ byName: weights }) =>
      tf.tidy(() => {
        const encoded = encodeInputs(weights, config, {
          ids_M: tf.tensor1d(encoderInputIds.slice(0, inputsLength), 'int32'),
          segmentIds: tf.tensor2d(encoderSegmentIds.slice(0, inputsLength), [1, inputsLength], 'int32'),
        });
        let past: ReturnType<typeof decodeNext>['present'] = [];
        return tokens.map((token) => {
          const { logits_MV, present } = decodeNext(weights, config, encoded, tf.tensor1d([token], 'int32'), past);
          past = present;
          return {
            logits: logits_MV.dataSync<'float32'>().slice(),
            normalizer: tf.logSumExp(logits_MV).dataSync()[0]!,
          };
        });
      }),
    );
    const crossPlaces = Int32Array.from({ length: inputsLength }, (_, s) => s).filter(
      (s) => encoderSegmentIds[s] === 1,
    );
    for (const [position, token] of tokens.entries()) {
      const { logits, normalizer } = expected[position]!;
      const places = Int32Array.from({ length: position + 1 }, (_, place) => place);
      const inputs = {
        tokens: Int32Array.of(token),
        selfPlaces: places,
        crossPlaces,
        buckets: bucketsAt(config, position, places.length),
        given: Int32Array.of(EOS_TOKEN),
        numCandidates,
        firstPlace: position,
      };
      const largest = logits.slice().sort().reverse().slice(0, numCandidates);
      const wanted = [largest, Float32Array.of(logits[EOS_TOKEN]!), Float32Array.of(normalizer)];
      const problem = this.step(inputs, (found) =>
        differenceOf('forward', [found.logits, found.givenLogits, found.normalizers], wanted, 'float32'),
      );
      if (problem !== undefined) return `decoding, position ${position}: ${problem}`;
    }
    this.#isStepChecked = true;
    return undefined;
  }

  #withWeights<T>(use: (weights: NamedWeights) => T): T {
    const { variables, weights } = this.#init.state.weights();
    const tensors = weights.map((values, i) => tf.tensor(values, [...this.#init.specs[i]!.shape]));
    const names = new Map(tensors.map((tensor, i) => [tensor, readName(variables[i]!)]));
    try {
      return use({ byName: byName(this.#init.specs, tensors), names });
    } finally {
      tf.dispose(tensors);
    }
  }
}

interface NamedWeights {
  readonly byName: Weights;
  /** Of each tensor in the graph. */
  readonly names: ReadonlyMap<Tensor, string>;
}
