import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  computeProof,
  DiallerHandshake,
  isProof,
  ListenerHandshake,
  MAX_GREETING,
  PROOF_BYTES,
  type Handshake,
} from './mutual-proof.ts';

const SECRET = Buffer.alloc(32, 0x11);
const HANDSHAKE: Handshake = {
  path: '/data/1/2/0/1',
  greeting: 'outbox x 512',
  diallerNonce: Buffer.alloc(32, 0x22),
  listenerNonce: Buffer.alloc(32, 0x33),
};

/** The example of docs/protocol.md, made from its text with Node's HMAC alone. */
function documentedProof(role: string): Buffer {
  const fields = [
    Buffer.from('exmix data connection 1'),
    Buffer.from(role),
    Buffer.from(HANDSHAKE.path),
    Buffer.from(HANDSHAKE.greeting),
    HANDSHAKE.diallerNonce,
    HANDSHAKE.listenerNonce,
  ];
  const withLengths = fields.flatMap((field) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(field.length);
    return [length, field];
  });
  return createHmac('sha256', SECRET).update(Buffer.concat(withLengths)).digest();
}

/** Both ends. */
function meet(dialSecret = SECRET, listenSecret = SECRET, path = HANDSHAKE.path) {
  const dialler = new DiallerHandshake(dialSecret, HANDSHAKE.path);
  const listener = ListenerHandshake.begin({ secret: listenSecret, greeting: 'hello' }, path, dialler.headers)!;
  return { dialler, listener };
}

describe('mutual proof', () => {
  test('both ends with the same secret accept each other, and the dialler gets the greeting', () => {
    const { dialler, listener } = meet();
    const { proof, greeting } = dialler.answer(listener.headers)!;
    assert.equal(greeting, 'hello');
    assert.equal(proof.length, PROOF_BYTES);
    assert.ok(listener.accepts(proof));
  });

  test('a proof is the HMAC that docs/protocol.md describes', () => {
    for (const role of ['dialler', 'listener'] as const)
      assert.deepEqual(computeProof(role, SECRET, HANDSHAKE), documentedProof(role));
  });

  test('a dialler answers no listener with another secret, or of another path', () => {
    for (const { dialler, listener } of [meet(SECRET, Buffer.alloc(32, 9)), meet(SECRET, SECRET, '/data/1/2/1/0')])
      assert.equal(dialler.answer(listener.headers), null);
  });

  test('a proof of another connection, of the own side or of another length is refused', () => {
    const { dialler, listener } = meet();
    const { proof } = dialler.answer(listener.headers)!;
    const second = meet();
    assert.ok(!second.listener.accepts(proof), 'recorded on another connection');
    const own = Buffer.from(second.listener.headers['exmix-proof']!, 'hex');
    assert.ok(!second.listener.accepts(own), 'sent back');
    for (const bytes of [proof.subarray(1), Buffer.concat([proof, Buffer.alloc(1)]), Buffer.alloc(0), Buffer.alloc(32)])
      assert.ok(!listener.accepts(bytes));
    assert.equal(second.dialler.answer(listener.headers), null);
  });

  test('any changed byte of a proof, a nonce, the path or the greeting makes the proof a wrong one', () => {
    const proof = computeProof('dialler', SECRET, HANDSHAKE);
    for (let bit = 0; bit < 8 * proof.length; bit++) {
      const flipped = Buffer.from(proof);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      assert.ok(!isProof('dialler', SECRET, HANDSHAKE, flipped));
    }
    const field = fc.constantFrom('path', 'greeting', 'diallerNonce', 'listenerNonce');
    fc.assert(
      fc.property(field, fc.nat(), fc.integer({ min: 1, max: 127 }), (name, at, by) => {
        const bytes = Buffer.from(HANDSHAKE[name as 'path']);
        bytes[at % bytes.length] = (bytes[at % bytes.length]! + by) % 128;
        const changed = {
          ...HANDSHAKE,
          [name]: typeof HANDSHAKE[name as 'path'] === 'string' ? bytes.toString() : bytes,
        };
        const isSame = bytes.equals(Buffer.from(HANDSHAKE[name as 'path']));
        assert.equal(isProof('dialler', SECRET, changed, proof), isSame);
      }),
    );
  });

  test('no field takes bytes of its neighbour', () => {
    const moved = {
      ...HANDSHAKE,
      path: HANDSHAKE.path + HANDSHAKE.greeting.slice(0, 1),
      greeting: HANDSHAKE.greeting.slice(1),
    };
    assert.ok(!isProof('listener', SECRET, moved, computeProof('listener', SECRET, HANDSHAKE)));
  });

  test('headers without a nonce, with a wrong one, or with a greeting that is too long are no handshake', () => {
    const challenge = { secret: SECRET, greeting: '' };
    for (const nonce of [undefined, '', 'xx', 'AB'.repeat(32), 'ab'.repeat(33), ['ab'.repeat(32)] as unknown as string])
      assert.equal(ListenerHandshake.begin(challenge, '/', { 'exmix-nonce': nonce }), null);
    const { dialler, listener } = meet();
    assert.equal(dialler.answer({}), null);
    assert.equal(dialler.answer({ ...listener.headers, 'exmix-proof': 'ab' }), null);
    assert.equal(dialler.answer({ ...listener.headers, 'exmix-greeting': 'x'.repeat(MAX_GREETING + 1) }), null);
    assert.equal(dialler.answer({ ...listener.headers, 'exmix-greeting': 'hellp' }), null);
  });
});
