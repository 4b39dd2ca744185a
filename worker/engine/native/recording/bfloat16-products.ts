/**
 * Rewrites recorded matrix products to take bfloat16 inputs: half the memory traffic, and the fast units of CPUs and GPUs that have them.
 * Sums inside a product, and everything else, stay float32 or wider; tensors that leave the graph are float32.
 */
import { DATA_TYPE, type Attribute, type GraphNode } from './graph-def.ts';

const PRODUCTS = new Set(['MatMul', 'BatchMatMulV2']);
const type = (value: number): Attribute => ({ kind: 'type', value });

interface Graph {
  readonly nodes: readonly GraphNode[];
  readonly outputs: readonly string[];
}

/** @returns the nodes with casts around every product, and the outputs by their new names */
export function withBfloat16Products({ nodes, outputs }: Graph): Graph {
  const rewritten: GraphNode[] = [];
  /** A tensor's name before and after. */
  const renamed = new Map<string, string>();
  const narrowed = new Map<string, string>();
  const current = (name: string) => renamed.get(name) ?? name;
  const cast = (name: string, input: string, from: number, to: number) => {
    rewritten.push({ name, op: 'Cast', inputs: [input], attributes: { SrcT: type(from), DstT: type(to) } });
    return `${name}:0`;
  };
  for (const node of nodes) {
    const inputs = node.inputs.map(current);
    if (!PRODUCTS.has(node.op)) {
      rewritten.push({ ...node, inputs });
      continue;
    }
    const narrow = inputs.map((input) => {
      const name =
        narrowed.get(input) ??
        cast(`${node.name}/narrow_${narrowed.size}`, input, DATA_TYPE.float32, DATA_TYPE.bfloat16);
      narrowed.set(input, name);
      return name;
    });
    rewritten.push({ ...node, inputs: narrow, attributes: { ...node.attributes, T: type(DATA_TYPE.bfloat16) } });
    const wide = cast(`${node.name}/wide`, `${node.name}:0`, DATA_TYPE.bfloat16, DATA_TYPE.float32);
    renamed.set(`${node.name}:0`, wide);
  }
  return { nodes: rewritten, outputs: outputs.map(current) };
}
