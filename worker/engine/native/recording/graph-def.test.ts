import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { constantNode, DATA_TYPE, encodeGraph, isUniform, placeholderNode, type GraphNode } from './graph-def.ts';

const hex = (nodes: readonly GraphNode[]) => Buffer.from(encodeGraph(nodes)).toString('hex');
/** GraphDef.versions { producer: 2000 } */
const VERSIONS = '220308d00f';
const text = (value: string) => Buffer.from(value).toString('hex');

describe('GraphDef', () => {
  test('an empty graph is its version', () => {
    assert.equal(hex([]), VERSIONS);
  });

  test('a node has name, operation, inputs and attributes', () => {
    const node: GraphNode = {
      name: 'y',
      op: 'Neg',
      inputs: ['x:0', '^z'],
      attributes: { T: { kind: 'type', value: DATA_TYPE.float32 } },
    };
    const attribute = `2a090a01${text('T')}12023001`.replace('2a09', '2a07');
    const body = `0a01${text('y')}1203${text('Neg')}1a03${text('x:0')}1a02${text('^z')}${attribute}`;
    assert.equal(hex([node]), `0a${(body.length / 2).toString(16)}${body}${VERSIONS}`);
  });

  test('every kind of attribute has its own field', () => {
    const attributes: GraphNode['attributes'] = {
      s: { kind: 'string', value: 'a' },
      i: { kind: 'integer', value: 3 },
      f: { kind: 'float', value: 1 },
      b: { kind: 'boolean', value: true },
      shape: { kind: 'shape', value: [2, 3] },
      list: { kind: 'integers', value: [1, 2] },
    };
    const bytes = hex([{ name: 'n', op: 'O', inputs: [], attributes }]);
    for (const part of [
      '120161',
      '1803',
      '250000803f',
      '2801',
      '3a08120208021202080 3'.replace(' ', ''),
      '0a0418011802',
    ])
      assert.ok(bytes.includes(part), part);
  });

  test('a uniform constant is one value, whatever its size; another is all of its bytes', () => {
    const uniform = encodeGraph([constantNode('c', DATA_TYPE.float32, [1000], new Float32Array(1000).fill(2))]);
    assert.ok(uniform.length < 60);
    const varied = encodeGraph([constantNode('c', DATA_TYPE.int32, [3], Int32Array.of(1, 2, 3))]);
    assert.ok(Buffer.from(varied).includes(Buffer.from(Int32Array.of(1, 2, 3).buffer)));
    const zeros = encodeGraph([constantNode('c', DATA_TYPE.bool, [9], new Uint8Array(9))]);
    assert.ok(zeros.length < 60);
  });

  test('0 and -0 are not the same number, NaN is', () => {
    assert.ok(!isUniform(Float32Array.of(0, -0)));
    assert.ok(isUniform(Float32Array.of(Number.NaN, Number.NaN)));
  });

  test('a placeholder has its type and shape', () => {
    const { op, attributes } = placeholderNode('x', DATA_TYPE.int32, [4, 5]);
    assert.equal(op, 'Placeholder');
    assert.deepEqual(attributes, { dtype: { kind: 'type', value: 3 }, shape: { kind: 'shape', value: [4, 5] } });
  });
});
