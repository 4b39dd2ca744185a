/**
 * The order in which a coordinator speaks. On each connection one welcome first; then generations, one after the other: form, once the
 * members are formed deals and saves, perhaps one abort; finish and faults at any time. Epochs never go back, the run stays the same. Pure.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { CoordinatorMessage } from '../../shared/protocol/messages.ts';

/** What this worker has been told so far. */
export interface ToldSoFar {
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
export function checkOrder(message: CoordinatorMessage, told: ToldSoFar): void {
  if (message.kind === 'welcome') {
    checkWelcome(message, told);
    return;
  }
  const expected = expectedInstead(message, told);
  if (expected === undefined) return;
  const found = 'generation' in message ? `${message.kind} of generation ${message.generation}` : message.kind;
  const epoch = 'epoch' in message ? ` of epoch ${message.epoch}` : '';
  throw new TrainerError('MESSAGE_INVALID', `expected ${expected}, the coordinator sent ${found}${epoch}`);
}

function checkWelcome({ epoch, runId }: Extract<CoordinatorMessage, { kind: 'welcome' }>, told: ToldSoFar): void {
  if (told.isWelcomed) throw new TrainerError('MESSAGE_INVALID', 'expected one welcome, the coordinator sent a second');
  if (told.runId !== undefined && told.runId !== runId)
    throw new TrainerError('JOIN_REFUSED', `expected the coordinator of run ${told.runId}, found that of ${runId}`);
  if (epoch < told.epoch)
    throw new TrainerError(
      'JOIN_REFUSED',
      `expected a coordinator of epoch ${told.epoch} or later, found one of epoch ${epoch}: its run has gone on without it`,
    );
}

function expectedInstead(
  message: Exclude<CoordinatorMessage, { kind: 'welcome' }>,
  told: ToldSoFar,
): string | undefined {
  if (message.kind === 'finish' || message.kind === 'heartbeat') return undefined;
  if (!told.isWelcomed) return 'welcome first';
  if (message.kind === 'fault') return undefined;
  if (message.epoch !== told.epoch) return `epoch ${told.epoch}`;
  if (message.kind === 'form')
    return message.generation > told.generation ? undefined : `a generation after ${told.generation}`;
  if (told.generation === 0) return 'form first';
  if (message.generation !== told.generation) return `generation ${told.generation}`;
  // What the survivors hold may be saved before the run ends.
  if (told.isAborted) return message.kind === 'save' ? undefined : 'form or save after an abort';
  return told.isFormed || message.kind === 'abort' ? undefined : 'nothing before the links are up';
}
