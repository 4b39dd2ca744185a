/**
 * Records the operations of one run of tfjs code on the native backend as graph nodes. tfjs's own kernels and autodiff run as always (eagerly,
 * on real values); the recorder writes down their calls of TensorFlow.
 *
 * Every tensor that the code uses is one of: an input declared here, a result of a recorded operation, or a tensor created while recording,
 * which becomes a constant. Any other tensor is refused, since it would become a constant unnoticed. Reading values is refused too, since
 * operations would then depend on data. Shapes are static.
 *
 * Depends on these parts of tfjs-node 4.22.0: `backend.binding` is a plain property; kernels call TensorFlow by its `createTensor`,
 * `executeOp` and `tensorDataSync` alone; `getInputTensorIds` uploads a tensor at its first use; `move` registers every upload.
 */
import type { Tensor, TensorInfo } from '@tensorflow/tfjs';
import { assertInvariant, TrainerError } from '../../../../shared/errors.ts';
import { constantNode, DATA_TYPE, isUniform, type Attribute, type GraphNode, type Values } from './graph-def.ts';

/** A larger constant whose values differ is data, not a part of a model; docs/limits.md. */
const MAX_CONSTANT_BYTES = 4_194_304;

/** The part of tfjs-node's backend that the recorder uses. */
export interface RecordableBackend {
  binding: RecordableBinding;
  getInputTensorIds(tensors: TensorInfo[]): number[];
  move(dataId: object, ...rest: unknown[]): void;
}

export interface OperationAttribute {
  readonly name: string;
  /** One of the TF_ATTR_ numbers. */
  readonly type: number;
  readonly value: unknown;
}

/** The addon's functions through which kernels reach TensorFlow, and its numbers for kinds of attributes. */
export interface RecordableBinding {
  createTensor(shape: number[], dtype: number, values: unknown): number;
  executeOp(
    op: string,
    attributes: readonly OperationAttribute[],
    inputs: readonly number[],
    numOutputs: number,
  ): { readonly id: number }[];
  tensorDataSync(id: number): Values;
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_SHAPE: number;
}

export interface Recording<T> {
  readonly result: T;
  readonly nodes: readonly GraphNode[];
  /** The graph's name of a tensor that the code returned. */
  readonly nameOf: (tensor: Tensor) => string;
}

/**
 * @param inputs the graph's name (`node:0`) of each tensor from outside
 * @param prefix of the names of all nodes, ending in `/`
 * @throws GRAPH_UNRECORDABLE with the place in the code
 */
export function record<T>(
  backend: RecordableBackend,
  inputs: ReadonlyMap<Tensor, string>,
  prefix: string,
  run: () => T,
): Recording<T> {
  const recorder = new Recorder(backend, prefix);
  for (const [tensor, name] of inputs) recorder.declare(tensor, name);
  const result = recorder.run(run);
  return { result, nodes: recorder.nodes, nameOf: (tensor) => recorder.nameOf(tensor) };
}

class Recorder {
  readonly nodes: GraphNode[] = [];
  readonly #backend: RecordableBackend;
  readonly #binding: RecordableBinding;
  readonly #prefix: string;
  /** By TensorFlow's number of the tensor. */
  readonly #names = new Map<number, string>();
  /** Data that was uploaded while recording. */
  readonly #made = new WeakSet();

  constructor(backend: RecordableBackend, prefix: string) {
    this.#backend = backend;
    this.#binding = backend.binding;
    this.#prefix = prefix;
  }

  declare(tensor: Tensor, name: string): void {
    this.#names.set(this.#idOf(tensor), name);
  }

  nameOf(tensor: Tensor): string {
    const name = this.#names.get(this.#idOf(tensor));
    assertInvariant(name !== undefined, 'a tensor was not part of the recording');
    return name;
  }

  run<T>(code: () => T): T {
    const backend = this.#backend;
    const hooked = Object.create(this.#binding) as RecordableBinding;
    const hook = <K extends keyof RecordableBinding>(key: K, value: RecordableBinding[K]) =>
      Object.defineProperty(hooked, key, { value }); // the addon's own properties are read-only
    hook('createTensor', (shape, dtype, values) => this.#createTensor(shape, dtype, values));
    hook('executeOp', (op, attributes, ids, numOutputs) => this.#execute(op, attributes, ids, numOutputs));
    hook('tensorDataSync', () => {
      throw unrecordable('the values of a tensor are read, so the operations after it would depend on data');
    });
    backend.binding = hooked;
    const move = backend.move.bind(backend);
    const getInputTensorIds = backend.getInputTensorIds.bind(backend);
    backend.move = (dataId, ...rest) => {
      this.#made.add(dataId);
      move(dataId, ...rest);
    };
    backend.getInputTensorIds = (tensors) => tensors.map((tensor) => this.#use(tensor, getInputTensorIds));
    try {
      return code();
    } finally {
      backend.binding = this.#binding;
      // The methods are the class's; the hooks were the object's own.
      Reflect.deleteProperty(backend, 'move');
      Reflect.deleteProperty(backend, 'getInputTensorIds');
    }
  }

  #idOf(tensor: Tensor): number {
    return this.#backend.getInputTensorIds([tensor])[0]!;
  }

  #use(tensor: TensorInfo, getInputTensorIds: RecordableBackend['getInputTensorIds']): number {
    const numKnown = this.#names.size;
    const [id] = getInputTensorIds([tensor]);
    const wasUploaded = this.#names.size > numKnown; // createTensor gave it a name just now
    if (wasUploaded && !this.#made.has(tensor.dataId)) throw captured(`of shape [${tensor.shape.join(', ')}]`);
    return id!;
  }

  #createTensor(shape: number[], dtype: number, values: unknown): number {
    const array = asValues(dtype, values);
    if (array.byteLength > MAX_CONSTANT_BYTES && !isUniform(array))
      throw unrecordable(
        `a constant of shape [${shape.join(', ')}] holds ${array.byteLength} B of values that differ; at most ${MAX_CONSTANT_BYTES} B ` +
          'can be part of a graph: make it an input of the step',
      );
    const id = this.#binding.createTensor(shape, dtype, array);
    const name = this.#nextName('Const');
    // tfjs may reuse the array once the tensor is gone.
    this.nodes.push(constantNode(name, dtype, [...shape], array.slice()));
    this.#names.set(id, `${name}:0`);
    return id;
  }

  #execute(op: string, attributes: readonly OperationAttribute[], ids: readonly number[], numOutputs: number) {
    const inputs = ids.map((id) => {
      const name = this.#names.get(id);
      if (name === undefined) throw captured(`in ${op}`);
      return name;
    });
    const outputs = this.#binding.executeOp(op, attributes, ids, numOutputs);
    const name = this.#nextName(op);
    const entries = attributes.map((attribute) => [attribute.name, this.#attribute(op, attribute)]);
    this.nodes.push({ name, op, inputs, attributes: Object.fromEntries(entries) as GraphNode['attributes'] });
    for (const [i, output] of outputs.entries()) this.#names.set(output.id, `${name}:${i}`);
    return outputs;
  }

  #attribute(op: string, { name, type, value }: OperationAttribute): Attribute {
    const b = this.#binding;
    if (type === b.TF_ATTR_BOOL && typeof value === 'boolean') return { kind: 'boolean', value };
    if (type === b.TF_ATTR_STRING && typeof value === 'string') return { kind: 'string', value };
    if (typeof value === 'number') {
      if (type === b.TF_ATTR_TYPE) return { kind: 'type', value };
      if (type === b.TF_ATTR_INT) return { kind: 'integer', value };
      if (type === b.TF_ATTR_FLOAT) return { kind: 'float', value };
    }
    if (Array.isArray(value) && value.every((item) => typeof item === 'number')) {
      if (type === b.TF_ATTR_SHAPE) return { kind: 'shape', value };
      if (type === b.TF_ATTR_INT) return { kind: 'integers', value };
    }
    throw unrecordable(`attribute ${name} of ${op} is of a kind that the recorder does not know`);
  }

  #nextName(op: string): string {
    return `${this.#prefix}${op}_${this.nodes.length}`;
  }
}

function asValues(dtype: number, values: unknown): Values {
  if (values instanceof Float32Array || values instanceof Int32Array || values instanceof Uint8Array) return values;
  const isNumbers = Array.isArray(values) && values.every((v) => typeof v === 'number' || typeof v === 'boolean');
  if (!isNumbers) throw unrecordable(`a constant of type ${dtype} that is no array of numbers`);
  const numbers = values.map(Number);
  if (dtype === DATA_TYPE.float32) return Float32Array.from(numbers);
  return dtype === DATA_TYPE.int32 ? Int32Array.from(numbers) : Uint8Array.from(numbers);
}

function captured(where: string): TrainerError {
  return unrecordable(`a tensor from outside is used ${where}; it would be frozen: declare it as an input`);
}

function unrecordable(problem: string): TrainerError {
  const error = new TrainerError('GRAPH_UNRECORDABLE', problem);
  const place = placeOf(error.stack ?? '');
  return new TrainerError('GRAPH_UNRECORDABLE', `${problem}${place === undefined ? '' : ` (${place})`}`);
}

/** The innermost line of our own code outside this folder: the operation in the model. */
function placeOf(stack: string): string | undefined {
  const lines = stack.split('\n').filter((line) => /^\s+at .*\.ts:\d+/.test(line) && !line.includes('node_modules'));
  const line = lines.find((one) => !one.includes('/native/recording/recorder.ts'));
  return line?.trim();
}
