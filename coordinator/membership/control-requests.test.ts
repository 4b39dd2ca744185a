import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import type { CoordinatorMessage } from '../../shared/protocol/messages.ts';
import { faultRoutes } from './control-requests.ts';

function scene() {
  const sent: [string, CoordinatorMessage][] = [];
  const records: LogRecord[] = [];
  const workers = ['local-0', 'local-1'].map((workerId) => ({
    workerId,
    send: (message: CoordinatorMessage) => void sent.push([workerId, message]),
  }));
  const routes = faultRoutes({
    workers: () => workers,
    log: createLogger({ onRecord: (record) => records.push(record) }),
  });
  const post = (body: unknown): unknown => routes['POST /fault']!({ query: new URLSearchParams(), body });
  return { sent, records, post };
}

describe('POST /fault', () => {
  test('goes to the worker it names, and is told', () => {
    const { sent, records, post } = scene();
    const answer = post({ kind: 'partition', workerId: 'local-1', forMs: 1_500 });
    assert.deepEqual(answer, { kind: 'partition', workerId: 'local-1', forMs: 1_500 });
    assert.deepEqual(sent, [['local-1', { kind: 'fault', fault: 'partition', forMs: 1_500 }]]);
    assert.deepEqual(
      records.map(({ level, msg, workerId, fault, forMs }) => [level, msg, workerId, fault, forMs]),
      [['warn', 'fault injected', 'local-1', 'partition', 1_500]],
    );
  });

  const wrong: readonly [string, unknown, string, RegExp][] = [
    ['no body', undefined, 'CONFIG_INVALID', /fault:/u],
    ['another fault', { kind: 'kill', workerId: 'local-0', forMs: 0 }, 'CONFIG_INVALID', /corrupt.*partition/u],
    ['too long a time', { kind: 'partition', workerId: 'local-0', forMs: 120_001 }, 'CONFIG_INVALID', /120000/u],
    ['a worker that is not there', { kind: 'corrupt', workerId: 'local-2', forMs: 0 }, 'NAME_UNKNOWN', /local-0/u],
  ];
  for (const [name, body, code, message] of wrong)
    test(`refuses ${name}`, () => {
      const { sent, post } = scene();
      assert.throws(() => post(body), { code, message });
      assert.deepEqual(sent, []);
    });
});
