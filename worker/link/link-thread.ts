/** The link thread's entry: one LinkSession between the sockets and the compute thread. It never loads tfjs. */
import { threadPort } from '../../shared/thread/thread.ts';
import { toErrorRecord } from '../../shared/errors.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';
import { systemClock } from '../../shared/clock.ts';
import { DataPlane } from './data-plane.ts';
import { FaultInjector } from './injected-fault.ts';
import type { LinkData, LinkEvent, LinkRequest } from './link-messages.ts';
import { LinkSession } from './link-session.ts';

const port = threadPort<LinkRequest, LinkEvent>();
const data = port.data as LinkData;
const emit = (event: LinkEvent): void => port.post(event);
const over = new AbortController();
const faults = new FaultInjector({ clock: systemClock, signal: over.signal });
const shared = { data, transport: webSocketTransport, clock: systemClock, faults };
const dataPlane = new DataPlane({
  ...shared,
  onRefused: (refusal) => emit({ kind: 'refused', refusal }),
  onNoOutbox: (error) => emit({ kind: 'no-outbox', error: toErrorRecord(error) }),
});
const onEnd = (): void => {
  over.abort();
  port.close();
};
const session = new LinkSession({ ...shared, dataPlane, emit, onEnd });
port.onMessage((request) => session.take(request));
await session.start();
