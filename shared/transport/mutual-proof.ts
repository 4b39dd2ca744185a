/**
 * Both ends of a connection prove that they have the same secret, and neither sends it. The design is SKID3 (Handbook of Applied
 * Cryptography, 10.17), the three-pass mutual authentication of ISO/IEC 9798-4, with HMAC-SHA256 (RFC 2104):
 *
 *   dialler → listener   its nonce                                     header of the upgrade request
 *   listener → dialler   its nonce, its greeting, its proof            headers of the answer 101
 *   dialler → listener   its proof                                     first message, PROOF_BYTES
 *
 * A proof is the HMAC of role, path, greeting and both nonces. So it holds for one connection, one path and one direction: a proof that was
 * recorded or sent back is refused. Assumption: the secret is random and at least as long as a proof. The bytes after the proofs are not
 * protected (docs/security.md).
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

/** Length of a secret that one process makes for others. */
export const SECRET_BYTES = 32;
const NONCE_BYTES = 32;
export const PROOF_BYTES = 32;
/** Most characters of a greeting: printable ASCII. */
export const MAX_GREETING = 256;

const NONCE_HEADER = 'exmix-nonce';
const PROOF_HEADER = 'exmix-proof';
const GREETING_HEADER = 'exmix-greeting';
const HEX = /^[0-9a-f]{64}$/;
/** Proofs of another use of HMAC with the same secret are none of this one. */
const PURPOSE = 'exmix data connection 1';

export interface Handshake {
  readonly path: string;
  /** Text of the listener; '' for none. */
  readonly greeting: string;
  readonly diallerNonce: Uint8Array;
  readonly listenerNonce: Uint8Array;
}

/** The listener's part of the secret that a path needs. */
export interface Challenge {
  readonly secret: Uint8Array;
  /** Sent to the dialler, which knows after the proof that the listener has written it. */
  readonly greeting: string;
}

/** The proof of one end, PROOF_BYTES. */
export function computeProof(
  role: 'dialler' | 'listener',
  secret: Uint8Array,
  { path, greeting, diallerNonce, listenerNonce }: Handshake,
): Buffer {
  const hmac = createHmac('sha256', secret);
  for (const field of [PURPOSE, role, path, greeting, diallerNonce, listenerNonce]) {
    const bytes = typeof field === 'string' ? Buffer.from(field, 'utf8') : field;
    // With its length before it, no field can take bytes of the next one.
    hmac
      .update(Uint8Array.of(bytes.length >>> 24, bytes.length >>> 16, bytes.length >>> 8, bytes.length))
      .update(bytes);
  }
  return hmac.digest();
}

/** Compares in constant time. */
export function isProof(
  role: 'dialler' | 'listener',
  secret: Uint8Array,
  handshake: Handshake,
  found: Uint8Array,
): boolean {
  const expected = computeProof(role, secret, handshake);
  return found.length === expected.length && timingSafeEqual(found, expected);
}

/** The dialling end: its headers, and its proof once the listener has shown its own. */
export class DiallerHandshake {
  readonly #secret: Uint8Array;
  readonly #path: string;
  readonly #nonce = randomBytes(NONCE_BYTES);

  constructor(secret: Uint8Array, path: string) {
    this.#secret = secret;
    this.#path = path;
  }

  get headers(): Readonly<Record<string, string>> {
    return { [NONCE_HEADER]: this.#nonce.toString('hex') };
  }

  /** @returns the own proof and the listener's greeting; null where the listener has not proved the secret */
  answer(headers: IncomingHttpHeaders): { readonly proof: Buffer; readonly greeting: string } | null {
    const [nonce, proof] = [parseHex(headers[NONCE_HEADER]), parseHex(headers[PROOF_HEADER])];
    const greeting = headers[GREETING_HEADER] ?? '';
    if (nonce === null || proof === null || typeof greeting !== 'string' || greeting.length > MAX_GREETING) return null;
    const handshake = { path: this.#path, greeting, diallerNonce: this.#nonce, listenerNonce: nonce };
    if (!isProof('listener', this.#secret, handshake, proof)) return null;
    return { proof: computeProof('dialler', this.#secret, handshake), greeting };
  }
}

/** The listening end of one connection. */
export class ListenerHandshake {
  readonly #secret: Uint8Array;
  readonly #handshake: Handshake;

  private constructor(secret: Uint8Array, handshake: Handshake) {
    this.#secret = secret;
    this.#handshake = handshake;
  }

  /** @returns null where the request has no nonce */
  static begin({ secret, greeting }: Challenge, path: string, headers: IncomingHttpHeaders): ListenerHandshake | null {
    const diallerNonce = parseHex(headers[NONCE_HEADER]);
    if (diallerNonce === null) return null;
    return new ListenerHandshake(secret, { path, greeting, diallerNonce, listenerNonce: randomBytes(NONCE_BYTES) });
  }

  /** Headers of the answer. */
  get headers(): Readonly<Record<string, string>> {
    const { greeting, listenerNonce } = this.#handshake;
    return {
      [NONCE_HEADER]: Buffer.from(listenerNonce).toString('hex'),
      [PROOF_HEADER]: computeProof('listener', this.#secret, this.#handshake).toString('hex'),
      ...(greeting === '' ? {} : { [GREETING_HEADER]: greeting }),
    };
  }

  get greeting(): string {
    return this.#handshake.greeting;
  }

  /** Whether the first message proves that the dialler has the secret. */
  accepts(message: Uint8Array): boolean {
    return isProof('dialler', this.#secret, this.#handshake, message);
  }
}

function parseHex(header: string | string[] | undefined): Buffer | null {
  return typeof header === 'string' && HEX.test(header) ? Buffer.from(header, 'hex') : null;
}
