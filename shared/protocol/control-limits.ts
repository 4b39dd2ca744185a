/** Bounds of the control sockets once the token is shown: a step of a large run must fit (docs/limits.md). */
import type { ConnectionLimits } from '../transport/transport.ts';

export const CONTROL_LIMITS: ConnectionLimits = {
  // A deal or report costs some 5 B an example, 40 B a lane and task: 2,048 rows, 1,024 lanes and 108 tasks take 5 MB.
  maxMessageBytes: 16 * 1024 * 1024,
  maxQueuedBytes: 64 * 1024 * 1024,
  maxQueuedMessages: 1024,
};
