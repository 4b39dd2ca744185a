/**
 * The order in which a coordinator speaks: welcome, then form, then deals and saves, then perhaps one abort; finish at any time.
 * All of one epoch and, from form on, of one generation. Pure.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { CoordinatorMessage } from '../../shared/protocol/messages.ts';

/** What this worker has been told so far. */
export interface ToldSoFar {
  readonly isWelcomed: boolean;
  readonly epoch: number;
  /** From `form` on. */
  readonly generation: number | undefined;
  /** The data links are up. */
  readonly isFormed: boolean;
}

/** @throws MESSAGE_INVALID with what was expected */
export function checkOrder(message: CoordinatorMessage, told: ToldSoFar): void {
  const expected = expectedInstead(message, told);
  if (expected === undefined) return;
  const found = 'generation' in message ? `${message.kind} of generation ${message.generation}` : message.kind;
  const epoch = 'epoch' in message ? ` of epoch ${message.epoch}` : '';
  throw new TrainerError('MESSAGE_INVALID', `expected ${expected}, the coordinator sent ${found}${epoch}`);
}

function expectedInstead(message: CoordinatorMessage, told: ToldSoFar): string | undefined {
  switch (message.kind) {
    case 'finish':
    case 'heartbeat':
      return undefined;
    case 'welcome':
      return told.isWelcomed ? 'one welcome' : undefined;
    case 'form':
    case 'deal':
    case 'save':
    case 'abort':
      break;
  }
  if (!told.isWelcomed) return 'welcome first';
  if (message.epoch !== told.epoch) return `epoch ${told.epoch}`;
  if (message.kind === 'form') return told.generation === undefined ? undefined : 'one form';
  if (told.generation === undefined) return 'form first';
  if (message.generation !== told.generation) return `generation ${told.generation}`;
  return told.isFormed || message.kind === 'abort' ? undefined : 'nothing before the links are up';
}
