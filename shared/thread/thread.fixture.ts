/** The thread of thread.test.ts: adds into shared memory, or throws. */
import { TrainerError } from '../errors.ts';
import { threadPort } from './thread.ts';

export type EchoIn = { readonly kind: 'add'; readonly value: number } | { readonly kind: 'throw' };
export interface EchoOut {
  readonly kind: 'sum';
  readonly value: number;
}

const port = threadPort<EchoIn, EchoOut>();
const shared = port.data as Int32Array;
port.onMessage((message) => {
  if (message.kind === 'throw') throw new TrainerError('INTERNAL', 'thrown as asked');
  shared[0] = shared[0]! + message.value;
  port.post({ kind: 'sum', value: shared[0] });
  port.close();
});
