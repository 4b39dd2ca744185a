/** Entry of the network thread: one NetworkSession between the sockets and the compute thread. Never loads tfjs. */
import { waitAtMost } from '../../shared/abort.ts';
import { threadPort } from '../../shared/thread/thread.ts';
import { toErrorRecord } from '../../shared/errors.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';
import { systemClock } from '../../shared/clock.ts';
import { writePastMainThread } from '../../shared/standard-streams.ts';
import { ArenaPool } from '../arena/arena.ts';
import { DataPlane } from './data-plane.ts';
import { LeaveDeadline } from './leave-deadline.ts';
import type { NetworkData, NetworkEvent, NetworkRequest } from './network-messages.ts';
import { NetworkSession } from './network-session.ts';

/** The last line of a worker that is ended has so long to be written, ms: its reader may be stopped. */
const LAST_LINE_MS = 1_000;

const port = threadPort<NetworkRequest, NetworkEvent>();
const data = port.data as NetworkData;
const leaveDeadline = new LeaveDeadline({
  clock: systemClock,
  end: async (reason) => {
    const { createLogger } = await import('../../shared/logger.ts'); // nothing else here logs
    const { workerId } = data;
    let written = Promise.resolve();
    const log = createLogger({
      fields: { workerId, pid: process.pid },
      onRecord: (record) => void (written = writePastMainThread(`${JSON.stringify(record)}\n`)), // the main thread hangs
    });
    log.error({ reason }, 'worker hangs and is ended');
    await waitAtMost(written, LAST_LINE_MS, systemClock);
    process.kill(process.pid, 'SIGKILL'); // only an unhandled signal ends a process from one of its threads
  },
});
const emit = (event: NetworkEvent): void => {
  port.post(event);
  if (event.kind === 'lost') void leaveDeadline.lost(event.error);
};
const shared = { data, transport: webSocketTransport, clock: systemClock };
const dataPlane = new DataPlane({
  ...shared,
  arenas: new ArenaPool(1),
  onRefused: (refusal) => emit({ kind: 'refused', refusal }),
  onNoOutbox: (error) => emit({ kind: 'no-outbox', error: toErrorRecord(error) }),
});
const session = new NetworkSession({ ...shared, dataPlane, emit, onEnd: () => port.close() });
port.onMessage((request) => {
  if (request.kind === 'leave') leaveDeadline.left();
  session.handleRequest(request);
});
await session.start();
