import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import type { Tensor, TensorInfo } from '@tensorflow/tfjs';
import { record, type RecordableBackend, type RecordableBinding } from './recorder.ts';

/** TensorFlow as far as the recorder sees it: it hands out numbers. */
function fakeBackend() {
  let nextId = 1;
  const ids = new WeakMap<object, number>();
  const binding: RecordableBinding = Object.freeze({
    TF_ATTR_STRING: 0,
    TF_ATTR_INT: 1,
    TF_ATTR_FLOAT: 2,
    TF_ATTR_BOOL: 3,
    TF_ATTR_TYPE: 4,
    TF_ATTR_SHAPE: 5,
    createTensor: () => nextId++,
    executeOp: (_op: string, _attributes: unknown, _inputs: unknown, numOutputs: number) =>
      Array.from({ length: numOutputs }, () => ({ id: nextId++, shape: [2], dtype: 1 })),
    tensorDataSync: () => Float32Array.of(0),
  });
  class Backend implements RecordableBackend {
    binding = binding;
    readonly values = new Map<object, Float32Array>();
    getInputTensorIds(tensors: TensorInfo[]): number[] {
      return tensors.map((tensor) => {
        const known = ids.get(tensor.dataId);
        if (known !== undefined) return known;
        const id = this.binding.createTensor(tensor.shape, 1, this.values.get(tensor.dataId) ?? Float32Array.of(1, 2));
        ids.set(tensor.dataId, id);
        return id;
      });
    }
    move(dataId: object): void {
      this.values.set(dataId, Float32Array.of(3, 4));
    }
    execute(op: string, inputs: Tensor[]): Tensor {
      const attributes = [{ name: 'T', type: binding.TF_ATTR_TYPE, value: 1 }];
      const [output] = this.binding.executeOp(op, attributes, this.getInputTensorIds(inputs), 1);
      const result = tf.tensor1d([0, 0]);
      ids.set(result.dataId, output!.id);
      return result;
    }
    upload(values = Float32Array.of(3, 4)): Tensor {
      const tensor = tf.tensor1d(values);
      this.move(tensor.dataId);
      this.values.set(tensor.dataId, values);
      return tensor;
    }
  }
  return new Backend();
}

before(() => tf.setBackend('cpu'));

describe('recorder', () => {
  test('writes down operations, constants and where each input comes from', () => {
    const backend = fakeBackend();
    const x = tf.tensor1d([1, 2]);
    const { nodes, result, nameOf } = record(backend, new Map([[x, 'x:0']]), 'p/', () => {
      const sum = backend.execute('Add', [x, backend.upload()]);
      return backend.execute('Neg', [sum]);
    });
    assert.deepEqual(
      nodes.map(({ name, op, inputs }) => ({ name, op, inputs })),
      [
        { name: 'p/Const_0', op: 'Const', inputs: [] },
        { name: 'p/Add_1', op: 'Add', inputs: ['x:0', 'p/Const_0:0'] },
        { name: 'p/Neg_2', op: 'Neg', inputs: ['p/Add_1:0'] },
      ],
    );
    assert.equal(nameOf(result), 'p/Neg_2:0');
    assert.deepEqual(nodes[1]!.attributes, { T: { kind: 'type', value: 1 } });
  });

  test('refuses a tensor from outside, used before or not, with the place in the code', () => {
    const backend = fakeBackend();
    const fresh = tf.tensor1d([1, 2]);
    const used = tf.tensor1d([1, 2]);
    backend.getInputTensorIds([used]);
    for (const outside of [fresh, used])
      assert.throws(() => record(backend, new Map(), '', () => backend.execute('Neg', [outside])), {
        code: 'GRAPH_UNRECORDABLE',
        message: /from outside.*declare it as an input \(at .*recorder\.test\.ts/,
      });
  });

  test('refuses to read values', () => {
    const backend = fakeBackend();
    assert.throws(() => record(backend, new Map(), '', () => backend.binding.tensorDataSync(1)), {
      code: 'GRAPH_UNRECORDABLE',
      message: /depend on data/,
    });
  });

  test('refuses a large constant of different values, and takes a uniform one', () => {
    const backend = fakeBackend();
    const values = new Float32Array(1_048_577);
    record(backend, new Map(), '', () => backend.execute('Neg', [backend.upload(values)]));
    values[7] = 1;
    assert.throws(() => record(backend, new Map(), '', () => backend.execute('Neg', [backend.upload(values)])), {
      code: 'GRAPH_UNRECORDABLE',
      message: /4194308 B .* at most 4194304 B/,
    });
  });

  test('refuses an attribute that it cannot write', () => {
    const backend = fakeBackend();
    const attributes = [{ name: 'odd', type: 9, value: 'x' }];
    assert.throws(() => record(backend, new Map(), '', () => backend.binding.executeOp('Neg', attributes, [], 1)), {
      code: 'GRAPH_UNRECORDABLE',
      message: /attribute odd of Neg/,
    });
  });

  test('leaves the backend as it was, also after an error', () => {
    const backend = fakeBackend();
    const { binding } = backend;
    record(backend, new Map(), '', () => backend.upload());
    assert.throws(() =>
      record(backend, new Map(), '', () => {
        throw new RangeError('of the model');
      }),
    );
    assert.equal(backend.binding, binding);
    assert.deepEqual(
      ['move', 'getInputTensorIds'].filter((name) => Object.hasOwn(backend, name)),
      [],
    );
  });
});
