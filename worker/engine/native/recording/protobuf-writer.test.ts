import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ProtobufWriter } from './protobuf-writer.ts';

const hex = (writer: ProtobufWriter) => Buffer.from(writer.finish()).toString('hex');

describe('protobuf writer', () => {
  test('writes the examples of the specification', () => {
    assert.equal(hex(new ProtobufWriter().integer(1, 150)), '089601');
    assert.equal(hex(new ProtobufWriter().bytes(2, 'testing')), '120774657374696e67');
    assert.equal(hex(new ProtobufWriter().message(3, new ProtobufWriter().integer(1, 150))), '1a03089601');
    assert.equal(hex(new ProtobufWriter().integer(2, -2)), '10feffffffffffffffff01');
    assert.equal(hex(new ProtobufWriter().float(5, 1)), '2d0000803f');
    assert.equal(hex(new ProtobufWriter().integer(16, true).integer(1, 0)), '8001010800');
  });

  test('an empty message has no bytes, and nested ones keep their order', () => {
    assert.equal(hex(new ProtobufWriter()), '');
    const inner = new ProtobufWriter().message(1, new ProtobufWriter()).bytes(2, '');
    assert.equal(hex(new ProtobufWriter().message(1, inner).integer(2, 7)), '0a040a0012001007');
  });

  test('any safe integer comes back from its varint', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), (value) => {
        const [, ...bytes] = new ProtobufWriter().integer(1, value).finish();
        const read = bytes.reduceRight((sum, byte) => (sum << 7n) | BigInt(byte & 127), 0n);
        assert.equal(BigInt.asIntN(64, read), BigInt(value));
        assert.ok(bytes.every((byte, i) => byte >= 128 === i < bytes.length - 1));
      }),
    );
  });
});
