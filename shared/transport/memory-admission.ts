/** The authentication of transports without HTTP (in memory, simulated): the same rules and codes, the same proofs, at once. */
import { nameLocation } from '../storage/location.ts';
import { TrainerError } from '../errors.ts';
import { createBearerCheck, formatBearer } from './bearer-token.ts';
import { DiallerHandshake, ListenerHandshake } from './mutual-proof.ts';
import type { DialInit, ListenInit } from './transport.ts';

interface Attempt {
  readonly url: string;
  readonly path: string;
  /** Of the dialling side, for the listener's report. */
  readonly remote: string;
}

/** @returns the greeting @throws AUTH_FAILED, CONNECT_FAILED, after the listener's `onRefused` */
export function authenticate(listener: ListenInit, dialler: DialInit, { url, path, remote }: Attempt): string {
  const refuse = (code: 'AUTH_FAILED' | 'JOIN_REFUSED', reason: string, error: TrainerError): never => {
    listener.onRefused?.({ remote, code, reason });
    throw error;
  };
  const refusePath = (reason: string): never =>
    refuse(
      'JOIN_REFUSED',
      reason,
      new TrainerError('CONNECT_FAILED', `${nameLocation(url)} refused the connection: ${reason}`, { retryable: true }),
    );
  if ('token' in listener) {
    const header = 'token' in dialler ? formatBearer(dialler.token) : undefined;
    if (!createBearerCheck(listener.token)(header))
      refuse(
        'AUTH_FAILED',
        `${path} without the token of the run`,
        new TrainerError('AUTH_FAILED', `${nameLocation(url)} refused the token; use the token of that run`),
      );
    const refused = listener.admit?.(path) ?? null;
    if (refused !== null) refusePath(refused);
    return '';
  }
  const challenge = listener.challenge(path);
  if (typeof challenge === 'string') return refusePath(challenge);
  const near = 'secret' in dialler ? new DiallerHandshake(dialler.secret, path) : null;
  const far = near === null ? null : ListenerHandshake.begin(challenge, path, near.headers);
  const answer = far === null ? null : near!.answer(far.headers);
  if (answer === null || !far!.accepts(answer.proof))
    return refuse(
      'AUTH_FAILED',
      `${path} without a proof of the secret of its generation`,
      new TrainerError(
        'AUTH_FAILED',
        `${nameLocation(url)} has not proved the secret of the generation: it is another process`,
      ),
    );
  return answer.greeting;
}
