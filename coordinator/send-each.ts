/** One message to many workers, without encoding for each what is the same for all. */
import { encodeEach } from '../shared/protocol/codec.ts';
import type { CoordinatorMessage } from '../shared/protocol/messages.ts';
import type { WorkerHandle } from './worker-handle.ts';

type MessageOf<K extends CoordinatorMessage['kind']> = Extract<CoordinatorMessage, { kind: K }>;

/** @param own the fields in which the messages differ, one set for each worker */
export function sendEach<K extends CoordinatorMessage['kind'], Own extends keyof MessageOf<K>>(
  workers: readonly Pick<WorkerHandle, 'sendParts'>[],
  shared: Omit<MessageOf<K>, Own>,
  own: readonly Pick<MessageOf<K>, Own>[],
): void {
  for (const [i, parts] of encodeEach(shared, own).entries()) workers[i]!.sendParts(parts);
}
