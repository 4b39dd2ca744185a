/** The Transport of the product. Only the files websocket-*.ts of this folder import `ws`. */
import type { Transport } from './transport.ts';
import { dialWebSocket } from './websocket-dial.ts';
import { listenWebSocket } from './websocket-listener.ts';

export const webSocketTransport: Transport = {
  scheme: 'ws',
  listen: listenWebSocket,
  dial: (url, init) => dialWebSocket(url, init),
};
