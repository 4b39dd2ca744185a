/**
 * Records the optimizer's update of all parameters as nodes of the session's graph. The update of one parameter depends on its shape and
 * on whether weight decay acts on it, so it is recorded once for each such pair, and its nodes are written once for each parameter.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { assertInvariant } from '../../../shared/errors.ts';
import type { Optimizer } from '../../model/optimizer.ts';
import type { OptimizerUpdate } from '../../model/optimizer-rule.ts';
import type { ParameterSpec } from '../../model/parameters.ts';
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

const PREFIX = 'update/';

/** The update's own numbers as arrays to feed. */
export function updateFeeds(optimizer: Optimizer, update: OptimizerUpdate): Float32Array[] {
  return optimizer.numbers(update).map((value) => Float32Array.of(value));
}

/**
 * @param variables the slots in the order of optimizerSlots
 * @throws GRAPH_UNRECORDABLE
 */
export function recordUpdate(
  backend: RecordableBackend,
  optimizer: Optimizer,
  specs: readonly ParameterSpec[],
  { parameters, slots }: { readonly parameters: readonly Variable[]; readonly slots: readonly Variable[] },
): RecordedUpdate {
  const scalarFeeds = optimizer.names.map((name) => ({
    name: `${PREFIX}${name}:0`,
    dtype: DATA_TYPE.float32,
    shape: [],
  }));
  const templates = new Map<string, Template>();
  const nodes: GraphNode[] = scalarFeeds.map(({ name, dtype }) => placeholderNode(name.slice(0, -2), dtype, []));
  const gradientFeeds: FeedSpec[] = [];
  const targets: string[] = [];
  let firstSlot = 0;
  for (const [i, spec] of specs.entries()) {
    const { shape } = spec;
    const decays = optimizer.decays(spec);
    const parameter = parameters[i]!;
    const own = slots.slice(firstSlot, firstSlot + optimizer.slotSpecs(shape).length);
    firstSlot += own.length;
    const prefix = `${PREFIX}${parameter.name}/`;
    const gradient = { name: `${prefix}gradient:0`, dtype: DATA_TYPE.float32, shape };
    gradientFeeds.push(gradient);
    nodes.push(placeholderNode(gradient.name.slice(0, -2), gradient.dtype, shape));

    const key = `${shape.join()}${decays ? ' with decay' : ''}`;
    const template = templates.get(key) ?? recordTemplate(backend, optimizer, shape, decays);
    templates.set(key, template);
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

function recordTemplate(
  backend: RecordableBackend,
  optimizer: Optimizer,
  shape: readonly number[],
  decays: boolean,
): Template {
  const inputs = [shape, shape, ...optimizer.slotSpecs(shape).map((slot) => slot.shape)].map((size) =>
    tf.zeros([...size]),
  );
  const [gradientSum, parameter, ...slots] = inputs;
  assertInvariant(gradientSum !== undefined && parameter !== undefined, 'an update has a gradient and a parameter');
  const scalars = optimizer.names.map(() => tf.scalar(1, 'float32'));
  const names = new Map<Tensor, string>([
    ...inputs.map((tensor, i) => [tensor, `input/${i}:0`] as const),
    ...optimizer.names.map((name, i) => [scalars[i]!, `${PREFIX}${name}:0`] as const),
  ]);
  const { result, nodes, nameOf } = record(backend, names, 'template/', () =>
    tf.tidy(() => {
      const updated = optimizer.update({ parameter, gradientSum, slots }, scalars, decays);
      return [updated.parameter, ...updated.slots];
    }),
  );
  const outputs = result.map(nameOf);
  tf.dispose([...result, ...inputs, ...scalars]);
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
