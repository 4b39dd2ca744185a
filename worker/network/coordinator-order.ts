/**
 * The order in which a coordinator speaks. On each connection one welcome first; then generations, one after the other: form, once the
 * members are formed deals and saves, perhaps one abort; finish at any time. Epochs never go back, the run stays the same. Pure.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { CoordinatorMessage, MessageOf } from '../../shared/protocol/messages.ts';

/** What this worker has been received so far. */
export interface ReceivedSoFar {
  /** On this connection. */
  readonly isWelcomed: boolean;
  /** Of the last welcome, on whatever connection. */
  readonly epoch: number;
  readonly runId: string | undefined;
  /** Of the last `form` of this epoch; 0: none yet. */
  readonly generation: number;
  /** Its links are up, and it was not called off. */
  readonly isFormed: boolean;
  /** It was called off. */
  readonly isAborted: boolean;
}

/** @throws MESSAGE_INVALID with what was expected; JOIN_REFUSED for a coordinator of another run or of an epoch that is over */
export function checkOrder(message: CoordinatorMessage, received: ReceivedSoFar): void {
  if (message.kind === 'welcome') {
    checkWelcome(message, received);
    return;
  }
  const expected = expectedInstead(message, received);
  if (expected === undefined) return;
  const found = 'generation' in message ? `${message.kind} of generation ${message.generation}` : message.kind;
  const epoch = 'epoch' in message ? ` of epoch ${message.epoch}` : '';
  throw new TrainerError('MESSAGE_INVALID', `expected ${expected}, the coordinator sent ${found}${epoch}`);
}

function checkWelcome({ epoch, runId }: MessageOf<'welcome'>, received: ReceivedSoFar): void {
  if (received.isWelcomed)
    throw new TrainerError('MESSAGE_INVALID', 'expected one welcome, the coordinator sent a second');
  if (received.runId !== undefined && received.runId !== runId)
    throw new TrainerError('JOIN_REFUSED', `expected the coordinator of run ${received.runId}, found that of ${runId}`);
  if (epoch < received.epoch)
    throw new TrainerError(
      'JOIN_REFUSED',
      `expected a coordinator of epoch ${received.epoch} or later, found one of epoch ${epoch}: its run has gone on without it`,
    );
}

function expectedInstead(
  message: Exclude<CoordinatorMessage, { kind: 'welcome' }>,
  received: ReceivedSoFar,
): string | undefined {
  if (message.kind === 'finish' || message.kind === 'heartbeat') return undefined;
  if (!received.isWelcomed) return 'welcome first';
  if (message.epoch !== received.epoch) return `epoch ${received.epoch}`;
  if (message.kind === 'form')
    return message.generation > received.generation ? undefined : `a generation after ${received.generation}`;
  if (received.generation === 0) return 'form first';
  if (message.generation !== received.generation) return `generation ${received.generation}`;
  // What the survivors hold may be saved before the run ends.
  if (received.isAborted) return message.kind === 'save' ? undefined : 'form or save after an abort';
  return received.isFormed || message.kind === 'abort' ? undefined : 'nothing before the links are up';
}
