/**
 * The order of a coordinator's messages. On each connection one welcome comes first. Then come generations, one after the other: `form`; once
 * the members are formed, deals and saves; an abort. `finish` comes at any time. Epochs never decrease; the run stays the same. Pure.
 *
 * An evaluation without a run has `welcome-evaluation` in place of `welcome`, and then batches of generation 0.
 * A link trial is beside the generations and may come at any time. An abort of a generation that is over is allowed: there is nothing to abort. A worker outside a generation may be asked to save the state
 * that it holds, before the run ends.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { CoordinatorMessage, MessageOf } from '../../shared/protocol/messages.ts';

/** What this worker has received so far. */
export interface ReceivedSoFar {
  /** A welcome has come on this connection. */
  readonly isWelcomed: boolean;
  /** Of the last welcome, on any connection. */
  readonly epoch: number;
  readonly runId: string | undefined;
  /** Of the last `form` in this epoch; 0: none yet. */
  readonly generation: number;
  /** Its channels are connected. */
  readonly isFormed: boolean;
  /** It is over: an abort or another welcome has come. */
  readonly isAborted: boolean;
}

/** @throws MESSAGE_INVALID with the expected message; JOIN_REFUSED for a coordinator of another run or of an earlier epoch */
export function checkOrder(message: CoordinatorMessage, received: ReceivedSoFar): void {
  if (message.kind === 'welcome' || message.kind === 'welcome-evaluation') {
    checkWelcome(message, received);
    return;
  }
  const expected = expectedInstead(message, received);
  if (expected === undefined) return;
  const found = 'generation' in message ? `${message.kind} of generation ${message.generation}` : message.kind;
  const epoch = 'epoch' in message ? ` of epoch ${message.epoch}` : '';
  throw new TrainerError('MESSAGE_INVALID', `expected ${expected}, the coordinator sent ${found}${epoch}`);
}

function checkWelcome({ epoch, runId }: MessageOf<'welcome' | 'welcome-evaluation'>, received: ReceivedSoFar): void {
  if (received.isWelcomed)
    throw new TrainerError('MESSAGE_INVALID', 'expected one welcome, the coordinator sent a second');
  if (received.runId !== undefined && received.runId !== runId)
    throw new TrainerError('JOIN_REFUSED', `expected the coordinator of run ${received.runId}, found that of ${runId}`);
  if (epoch < received.epoch)
    throw new TrainerError(
      'JOIN_REFUSED',
      `expected a coordinator of epoch ${received.epoch} or later, found one of epoch ${epoch}: the run has continued without it`,
    );
}

function expectedInstead(
  message: Exclude<CoordinatorMessage, { kind: 'welcome' | 'welcome-evaluation' }>,
  received: ReceivedSoFar,
): string | undefined {
  if (message.kind === 'finish' || message.kind === 'heartbeat') return undefined;
  if (!received.isWelcomed) return 'welcome first';
  if (message.epoch !== received.epoch) return `epoch ${received.epoch}`;
  if (message.kind === 'probe-links') return undefined; // beside any generation
  if (message.kind === 'form')
    return message.generation > received.generation ? undefined : `a generation after ${received.generation}`;
  if (message.kind === 'evaluate' && message.generation === 0 && received.generation === 0) return undefined;
  if (message.kind === 'abort' && message.generation < received.generation) return undefined;
  const isIdle = received.generation === 0 || received.isAborted;
  if (isIdle && message.kind === 'save' && message.generation >= received.generation) return undefined;
  if (received.generation === 0) return 'form first';
  if (message.generation !== received.generation) return `generation ${received.generation}`;
  if (received.isAborted) return message.kind === 'abort' ? undefined : 'form or save after an abort';
  return received.isFormed || message.kind === 'abort' ? undefined : 'nothing before the channels are connected';
}
