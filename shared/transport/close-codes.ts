/**
 * Error codes as WebSocket close codes (RFC 6455, 4000-4999 are an application's own), and back.
 * A number is never used again for another code, because processes of different versions may connect.
 */
import { TrainerError, type ErrorCode } from '../errors.ts';
import type { CloseInfo } from './transport.ts';

const NORMAL_CLOSE = 1000;
const NO_CLOSE_FRAME = 1006;
const MESSAGE_TOO_BIG = 1009;
const OTHER = 4000;

export const CLOSE_CODES: Partial<Record<ErrorCode, number>> = {
  AUTH_FAILED: 4001,
  MESSAGE_INVALID: 4002,
  MESSAGE_TOO_LARGE: 4003,
  FRAME_INVALID: 4004,
  FRAME_STALE: 4005,
  VERSION_MISMATCH: 4006,
  JOIN_REFUSED: 4007,
  CONNECT_FAILED: 4008,
  CONNECTION_LOST: 4009,
  SEND_OVERFLOW: 4010,
  RENDEZVOUS_TIMEOUT: 4011,
  WORKER_LOST: 4012,
  COLLECTIVE_TIMEOUT: 4013,
  GRADIENT_DIVERGED: 4014,
  STATE_DIVERGED: 4015,
  GRADIENT_NOT_FINITE: 4016,
  ABORTED: 4017,
  INTERNAL: 4018,
  CONFIG_INVALID: 4019,
};

const MAX_REASON_BYTES = 120;

export function toCloseCode(code: ErrorCode | 'NORMAL'): number {
  return code === 'NORMAL' ? NORMAL_CLOSE : (CLOSE_CODES[code] ?? OTHER);
}

/** The reason in printable ASCII, cut to the length that fits into a close frame (123 B). */
export function toCloseReason(reason: string): string {
  return reason.replace(/[^\x20-\x7e]/g, '?').slice(0, MAX_REASON_BYTES);
}

/** Interprets a received close frame, or its absence. @param peer for the message */
export function toCloseInfo(code: number, reason: string, peer: string): CloseInfo {
  if (code === NORMAL_CLOSE) return { code, reason };
  const name = Object.entries(CLOSE_CODES).find(([, number]) => number === code)?.[0] as ErrorCode | undefined;
  const errorCode = code === MESSAGE_TOO_BIG ? 'MESSAGE_TOO_LARGE' : (name ?? 'CONNECTION_LOST');
  const why =
    code === NO_CLOSE_FRAME ? 'broke off without a close frame' : `closed with ${code} ${name ?? ''}: ${reason}`;
  return { code, reason, error: new TrainerError(errorCode, `connection to ${peer} ${why}`) };
}
