/** The link thread's entry: one LinkSession between the sockets and the compute thread. It never loads tfjs. */
import { threadPort } from '../../shared/thread/thread.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';
import { systemClock } from '../../shared/clock.ts';
import type { LinkData, LinkEvent, LinkRequest } from './link-messages.ts';
import { LinkSession } from './link-session.ts';

const port = threadPort<LinkRequest, LinkEvent>();
const session = new LinkSession({
  data: port.data as LinkData,
  transport: webSocketTransport,
  clock: systemClock,
  emit: (event) => port.post(event),
  onEnd: () => port.close(),
});
port.onMessage((request) => session.take(request));
await session.start();
