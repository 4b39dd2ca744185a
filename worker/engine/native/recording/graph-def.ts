/**
 * A TensorFlow graph as plain data, and its GraphDef message.
 * A tensor is named by its node and output, `node:0`; a node that must merely run before is named `^node`.
 * Source: graph.proto, node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto of TensorFlow 2.21.
 */
import { assertInvariant } from '../../../../shared/errors.ts';
import { ProtobufWriter } from './protobuf-writer.ts';

/** TensorFlow's numbers for types of elements. */
export const DATA_TYPE = { float32: 1, int32: 3, bool: 10, bfloat16: 14, resource: 20 } as const;

/** Version of the graph's meaning; any from TensorFlow's minimum to its own works. */
const PRODUCER = 2000;

export type Values = Float32Array | Int32Array | Uint8Array;

export type Attribute =
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'integer'; readonly value: number }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'type'; readonly value: number }
  | { readonly kind: 'shape'; readonly value: readonly number[] }
  | { readonly kind: 'integers'; readonly value: readonly number[] }
  | { readonly kind: 'tensor'; readonly dtype: number; readonly shape: readonly number[]; readonly values: Values };

export interface GraphNode {
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** The bytes of a GraphDef. */
export function encodeGraph(nodes: readonly GraphNode[]): Uint8Array {
  const graph = new ProtobufWriter();
  for (const node of nodes) graph.message(1, nodeMessage(node));
  return graph.message(4, new ProtobufWriter().integer(1, PRODUCER)).finish();
}

/** A node without inputs that holds values. */
export function constantNode(name: string, dtype: number, shape: readonly number[], values: Values): GraphNode {
  const attributes: GraphNode['attributes'] = {
    dtype: { kind: 'type', value: dtype },
    value: { kind: 'tensor', dtype, shape, values },
  };
  return { name, op: 'Const', inputs: [], attributes };
}

/** A node whose value is fed. */
export function placeholderNode(name: string, dtype: number, shape: readonly number[]): GraphNode {
  const attributes: GraphNode['attributes'] = {
    dtype: { kind: 'type', value: dtype },
    shape: { kind: 'shape', value: shape },
  };
  return { name, op: 'Placeholder', inputs: [], attributes };
}

/** Whether all values are the same number, to the bit: such a constant is written as one value. */
export function isUniform(values: Values): boolean {
  const [first] = values;
  return values.every((value) => Object.is(value, first));
}

function nodeMessage(node: GraphNode): ProtobufWriter {
  const message = new ProtobufWriter().bytes(1, node.name).bytes(2, node.op);
  for (const input of node.inputs) message.bytes(3, input);
  for (const [name, attribute] of Object.entries(node.attributes)) {
    const entry = new ProtobufWriter().bytes(1, name).message(2, attributeMessage(attribute));
    message.message(5, entry);
  }
  return message;
}

function attributeMessage(attribute: Attribute): ProtobufWriter {
  const message = new ProtobufWriter();
  switch (attribute.kind) {
    case 'string':
      return message.bytes(2, attribute.value);
    case 'integer':
      return message.integer(3, attribute.value);
    case 'float':
      return message.float(4, attribute.value);
    case 'boolean':
      return message.integer(5, attribute.value);
    case 'type':
      return message.integer(6, attribute.value);
    case 'shape':
      return message.message(7, shapeMessage(attribute.value));
    case 'tensor':
      return message.message(8, tensorMessage(attribute.dtype, attribute.shape, attribute.values));
    case 'integers': {
      const list = new ProtobufWriter();
      for (const value of attribute.value) list.integer(3, value);
      return message.message(1, list);
    }
  }
}

function shapeMessage(shape: readonly number[]): ProtobufWriter {
  const message = new ProtobufWriter();
  for (const size of shape) message.message(2, new ProtobufWriter().integer(1, size));
  return message;
}

/** TensorFlow repeats a single value over the shape. */
function tensorMessage(dtype: number, shape: readonly number[], values: Values): ProtobufWriter {
  const message = new ProtobufWriter().integer(1, dtype).message(2, shapeMessage(shape));
  if (values.length < 2 || !isUniform(values))
    return message.bytes(4, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const [value] = values;
  assertInvariant(value !== undefined, 'a uniform tensor has a value');
  switch (dtype) {
    case DATA_TYPE.float32:
      return message.float(5, value);
    case DATA_TYPE.int32:
      return message.integer(7, value);
    default:
      assertInvariant(dtype === DATA_TYPE.bool, `a constant of type ${dtype}`);
      return message.integer(11, value);
  }
}
