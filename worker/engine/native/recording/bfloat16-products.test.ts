import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { withBfloat16Products } from './bfloat16-products.ts';
import type { GraphNode } from './graph-def.ts';

const node = (name: string, op: string, inputs: string[]): GraphNode => ({
  name,
  op,
  inputs,
  attributes: { T: { kind: 'type', value: 1 } },
});

describe('products in bfloat16', () => {
  const graph = {
    nodes: [
      node('first', 'MatMul', ['x:0', 'w:0']),
      node('half', 'Neg', ['first:0']),
      node('second', 'BatchMatMulV2', ['half:0', 'w:0']),
    ],
    outputs: ['first:0', 'second:0', 'half:0'],
  };
  const { nodes, outputs } = withBfloat16Products(graph);
  const byName = new Map(nodes.map((one) => [one.name, one]));

  test('inputs are narrowed once each, results widened, and nothing else changes', () => {
    assert.deepEqual(
      nodes.map(({ op }) => op),
      ['Cast', 'Cast', 'MatMul', 'Cast', 'Neg', 'Cast', 'BatchMatMulV2', 'Cast'],
    );
    assert.deepEqual(byName.get('half')!.inputs, ['first/wide:0']);
    assert.deepEqual(byName.get('first')!.attributes['T'], { kind: 'type', value: 14 });
    assert.equal(byName.get('second')!.inputs[1], byName.get('first')!.inputs[1]);
  });

  test('outputs of the graph are float32', () => {
    assert.deepEqual(outputs, ['first/wide:0', 'second/wide:0', 'half:0']);
    for (const name of ['first/wide', 'second/wide'])
      assert.deepEqual(byName.get(name)!.attributes['DstT'], { kind: 'type', value: 1 });
  });
});
