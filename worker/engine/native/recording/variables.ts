/**
 * Values that stay in a session between its calls: for each, nodes that hold, read and assign it.
 * Calls with different computations share these nodes, and so the values.
 */
import { DATA_TYPE, placeholderNode, type Attribute, type GraphNode } from './graph-def.ts';

export interface Variable {
  readonly name: string;
  readonly shape: readonly number[];
}

const FLOAT: Attribute = { kind: 'type', value: DATA_TYPE.float32 };

/** The tensor with the variable's value. */
export function readName({ name }: Variable): string {
  return `${name}/read:0`;
}

/** The tensor to feed for `loadTarget`. */
export function loadFeed({ name }: Variable): string {
  return `${name}/loaded:0`;
}

/** The node that assigns the fed value. */
export function loadTarget({ name }: Variable): string {
  return `${name}/load`;
}

/** Nodes that hold and read it. A dimension of −1 is known when a value is assigned. */
export function heldNodes({ name, shape }: Variable): GraphNode[] {
  return [
    {
      name: `${name}/handle`,
      op: 'VarHandleOp',
      inputs: [],
      attributes: {
        dtype: FLOAT,
        shape: { kind: 'shape', value: shape },
        shared_name: { kind: 'string', value: name },
      },
    },
    { name: `${name}/read`, op: 'ReadVariableOp', inputs: [`${name}/handle:0`], attributes: { dtype: FLOAT } },
  ];
}

/** Nodes that hold it, read it, and assign a fed value. */
export function variableNodes(variable: Variable): GraphNode[] {
  const { name, shape } = variable;
  return [
    ...heldNodes(variable),
    placeholderNode(`${name}/loaded`, DATA_TYPE.float32, shape),
    assignNode(loadTarget(variable), variable, loadFeed(variable)),
  ];
}

/** A node that gives the variable a new value. */
export function assignNode(nodeName: string, { name }: Variable, value: string): GraphNode {
  return {
    name: nodeName,
    op: 'AssignVariableOp',
    inputs: [`${name}/handle:0`, value],
    attributes: { dtype: FLOAT },
  };
}
