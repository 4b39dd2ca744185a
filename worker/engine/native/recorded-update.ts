/**
 * Records the optimizer's update of all parameters as nodes of the session's graph. The update of one parameter depends on its shape alone, so
 * it is recorded once for each shape, and its nodes are written once for each parameter.
 */
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import { assertInvariant } from '../../../shared/errors.ts';
import { updateNumbers, updateParameter, type UpdateScalars } from '../../model/adafactor.ts';
import { slotSpecs } from '../../model/optimizer-slots.ts';
import type { ParameterSpec } from '../../model/parameters.ts';
import type { AdafactorUpdate } from '../engine.ts';
import { DATA_TYPE, placeholderNode, type GraphNode } from './recording/graph-def.ts';
import { record, type RecordableBackend } from './recording/recorder.ts';
import { assignNode, readName, type Variable } from './recording/variables.ts';
import type { FeedSpec } from './session/session-binding.ts';

export interface RecordedUpdate {
  readonly nodes: readonly GraphNode[];
  /** The gradients by the parameter's number, then the scalars in the order of updateFeeds. */
  readonly feeds: readonly FeedSpec[];
  /** The nodes that assign. */
  readonly targets: readonly string[];
}

const SCALARS = ['learningRate', 'decay', 'newShare', 'gradientScale'] as const satisfies (keyof UpdateScalars)[];
const PREFIX = 'update/';

/** The update's own numbers as arrays to feed. */
export function updateFeeds(update: AdafactorUpdate): Float32Array[] {
  const numbers = updateNumbers(update);
  return SCALARS.map((name) => Float32Array.of(numbers[name]));
}

/**
 * @param slots variables in the order of optimizerSlots
 * @throws GRAPH_UNRECORDABLE
 */
export function recordUpdate(
  backend: RecordableBackend,
  specs: readonly ParameterSpec[],
  parameters: readonly Variable[],
  slots: readonly Variable[],
): RecordedUpdate {
  const scalarFeeds = SCALARS.map((name) => ({ name: `${PREFIX}${name}:0`, dtype: DATA_TYPE.float32, shape: [] }));
  const templates = new Map<string, Template>();
  const nodes: GraphNode[] = scalarFeeds.map(({ name, dtype }) => placeholderNode(name.slice(0, -2), dtype, []));
  const gradientFeeds: FeedSpec[] = [];
  const targets: string[] = [];
  let firstSlot = 0;
  for (const [i, { shape }] of specs.entries()) {
    const parameter = parameters[i]!;
    const own = slots.slice(firstSlot, firstSlot + slotSpecs(shape).length);
    firstSlot += own.length;
    const prefix = `${PREFIX}${parameter.name}/`;
    const gradient = { name: `${prefix}gradient:0`, dtype: DATA_TYPE.float32, shape };
    gradientFeeds.push(gradient);
    nodes.push(placeholderNode(gradient.name.slice(0, -2), gradient.dtype, shape));

    const template = templates.get(shape.join()) ?? recordTemplate(backend, shape);
    templates.set(shape.join(), template);
    const rename = renaming(prefix, [gradient.name, readName(parameter), ...own.map(readName)]);
    nodes.push(
      ...template.nodes.map((node) => ({ ...node, name: rename(node.name), inputs: node.inputs.map(rename) })),
    );
    for (const [j, variable] of [parameter, ...own].entries()) {
      const target = `${prefix}assign_${j}`;
      targets.push(target);
      nodes.push(assignNode(target, variable, rename(template.outputs[j]!)));
    }
  }
  return { nodes, feeds: [...gradientFeeds, ...scalarFeeds], targets };
}

interface Template {
  /** Named `template/…`; they use `input/0:0` (the gradient), `input/1:0` (the parameter), `input/2:0`, … (its slots), and the scalars. */
  readonly nodes: readonly GraphNode[];
  /** New parameter, then new slots. */
  readonly outputs: readonly string[];
}

function recordTemplate(backend: RecordableBackend, shape: readonly number[]): Template {
  const inputs = [shape, shape, ...slotSpecs(shape).map((slot) => slot.shape)].map((size) => tf.zeros([...size]));
  const [gradient, parameter, ...slots] = inputs;
  assertInvariant(gradient !== undefined && parameter !== undefined, 'an update has a gradient and a parameter');
  const scalars = SCALARS.map((name) => [name, tf.scalar(1, 'float32')] as const);
  const names = new Map<Tensor, string>([
    ...inputs.map((tensor, i) => [tensor, `input/${i}:0`] as const),
    ...scalars.map(([name, tensor]) => [tensor, `${PREFIX}${name}:0`] as const),
  ]);
  const tensors = Object.fromEntries(scalars) as Record<keyof UpdateScalars, Scalar>;
  const { result, nodes, nameOf } = record(backend, names, 'template/', () =>
    tf.tidy(() => {
      const updated = updateParameter(parameter, gradient, slots, tensors);
      return [updated.parameter, ...updated.slots];
    }),
  );
  const outputs = result.map(nameOf);
  tf.dispose([...result, ...inputs, ...Object.values(tensors)]);
  return { nodes, outputs };
}

/** From a template's names to those of one parameter. */
function renaming(prefix: string, inputs: readonly string[]): (name: string) => string {
  return (name) => {
    const input = /^input\/(\d+):0$/.exec(name);
    if (input !== null) return inputs[Number(input[1])]!;
    return name.replace(/^template\//, prefix);
  };
}
