import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../../shared/clock.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';
import { ControlServer } from '../membership/control-server.ts';
import { Journal, replayJournal } from '../journal/journal.ts';
import { createDealer, type Deal, type StepDealer } from '../deal/step-dealer.ts';
import { ratesRequestSchema, Steering } from './steering.ts';
import type { RateChange } from '../deal/rate-changes.ts';
import { steeringRoutes } from './steering-requests.ts';

const TOKEN = 'a token of the test';
const TASKS = (
  [
    ['mnli', 'supervised', 40],
    ['squad', 'supervised', 25],
    ['empty', 'supervised', 0],
    ['c4', 'denoising', 90],
  ] as const
).map(([name, kind, numExamples]) => ({
  name,
  kind,
  numExamples,
  inputsLength: (index: number) => 3 + (index % 5),
  targetsLength: (index: number) => 2 + (index % 3),
}));
const CONFIG = checkConfig(
  {
    name: 'test',
    model: {},
    featureLengths: { inputs: 16, targets: 8 },
    mixture: { path: '/x.yaml', denoisingRatio: 1, windowDraws: 64, rates: { squad: 30 } },
    training: { steps: 500, rowsPerStep: 4, numLanes: 2, microbatchRows: 1 },
    schedule: { kind: 'constant', value: 0.01 },
  },
  'the test',
);

function dealerWith(
  rateChanges: readonly RateChange[],
  at: { step: number; cursor?: Deal['cursor'] } = { step: 0 },
): StepDealer {
  return createDealer({ config: CONFIG, mixture: { sizes: TASKS, tasks: TASKS } }, { rateChanges, ...at });
}

async function start(context: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'exmix-steering-'));
  const { journal } = await Journal.open(join(folder, 'journal'));
  context.after(async () => {
    await journal.close();
    await rm(folder, { recursive: true });
  });
  await journal.append({ kind: 'run-opened', epoch: 1, configHash: 'c', seed: 1, mixtureHash: 'm', step: 0 });
  const records: LogRecord[] = [];
  const log = createLogger({ onRecord: (record) => records.push(record) });
  const dealer = dealerWith([]);
  const steering = new Steering({ config: CONFIG, sizes: TASKS, tasks: TASKS, dealer, journal, epoch: 1, log });
  const set = (request: object) => steering.change(ratesRequestSchema.parse({ rates: {}, ...request }));
  return { folder, journal, records, log, dealer, steering, set };
}

async function deal(dealer: StepDealer, numSteps: number): Promise<Deal[]> {
  const deals: Deal[] = [];
  while (deals.length < numSteps) deals.push(await dealer.deal());
  return deals;
}
const lanesOf = (deals: readonly Deal[]) => deals.map(({ lanes }) => lanes);

describe('steering', () => {
  test('a change is in the journal, takes effect at the stated step, and replayed gives the same deals', async (context) => {
    const { dealer, set, journal, records } = await start(context);
    const before = await deal(dealer, 5);
    const answer = await set({ rates: { mnli: 5 }, denoisingRatio: 0.5, reason: 'mnli overfits' });
    assert.equal(answer.dealtStep, 5);
    const after = await deal(dealer, 40);
    const [record] = await recordsOf(journal, 'rates-changed');
    const { window, firstStep } = answer;
    assert.deepEqual(record, {
      kind: 'rates-changed',
      epoch: 1,
      window,
      firstStep,
      rates: { squad: 30, mnli: 5 },
      denoisingRatio: 0.5,
      reason: 'mnli overfits',
    });
    assert.ok(records.some(({ msg, ...fields }) => msg === 'rates changed' && fields['firstStep'] === firstStep));

    const all = [...before, ...after];
    const unsteered = lanesOf(await deal(dealerWith([]), 45));
    const firstOther = lanesOf(all).findIndex((lanes, i) => JSON.stringify(lanes) !== JSON.stringify(unsteered[i]));
    assert.equal(firstOther, firstStep - 1);
    const replayed = dealerWith(journal.state.rateChanges);
    assert.deepEqual(lanesOf(await deal(replayed, 45)), lanesOf(all));
    for (const stop of [3, 5, firstStep - 1, firstStep, 44]) {
      const { cursor } = all[stop - 1]!;
      const resumed = dealerWith(journal.state.rateChanges, { step: stop, cursor });
      assert.deepEqual(lanesOf(await deal(resumed, 45 - stop)), lanesOf(all.slice(stop)), `from step ${stop}`);
      // The checkpoint alone knows what holds and what is to come, if it was saved after the change.
      if (stop > 5) assert.deepEqual(cursor.rateChanges, journal.state.rateChanges);
    }
  });

  test('a rate may be a multiple of the rate before, or a share of all draws', async (context) => {
    const { set } = await start(context);
    const first = await set({ rates: { squad: { times: 3 } } });
    assert.deepEqual(first.rates, { squad: 90 });
    const { tasks, rates } = await set({ rates: { mnli: { share: 0.1 } } });
    const shares = Object.fromEntries(tasks.map(({ name, after }) => [name, after]));
    // R = 1: half of the draws are supervised, and squad has the rest of them.
    for (const [name, share] of [
      ['mnli', 0.1],
      ['squad', 0.4],
      ['c4', 0.5],
    ] as const)
      // prettier-ignore
      assert.ok(Math.abs(shares[name]! - share) < 1e-12, `${name} ${shares[name]}`);
    assert.equal(rates['squad'], 90);
  });

  test('shares that leave nothing for other tasks, of denoising, and of a task without examples are refused', async (context) => {
    const { set } = await start(context);
    for (const [rates, message] of [
      [{ mnli: { share: 0.5 } }, /leave draws .* found 50 % of all draws; all supervised tasks have 50 %/u],
      [{ mnli: { share: 0.1 }, squad: { share: 0.1 } }, /leave draws for other supervised tasks with a rate/u],
      [{ c4: { share: 0.1 } }, /share of c4 follows from denoisingRatio/u],
      [{ empty: { share: 0.1 } }, /empty has no examples/u],
    ] as const)
      await assert.rejects(set({ rates }), { code: 'CONFIG_INVALID', message });
  });

  test('any changes at any steps replay to the same deals', async (context) => {
    const { folder } = await start(context);
    let numRuns = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(20), fc.constantFrom('mnli', 'squad'), fc.integer({ min: 0, max: 60 })), {
          maxLength: 5,
        }),
        async (actions) => {
          const { journal } = await Journal.open(join(folder, `journal-${numRuns++}`));
          await journal.append({ kind: 'run-opened', epoch: 1, configHash: 'c', seed: 1, mixtureHash: 'm', step: 0 });
          const dealer = dealerWith([]);
          const init = { config: CONFIG, sizes: TASKS, tasks: TASKS, dealer, journal, epoch: 1, log: createLogger({}) };
          const steering = new Steering(init);
          const deals: Deal[] = [];
          for (const [numSteps, task, rate] of actions) {
            // Asked for while steps are dealt, as over the network.
            const changed = steering.change({ rates: { [task]: rate }, reason: '' }).catch((error: unknown) => error);
            deals.push(...(await deal(dealer, numSteps)));
            await changed;
          }
          deals.push(...(await deal(dealer, 30)));
          assert.deepEqual(lanesOf(await deal(dealerWith(journal.state.rateChanges), deals.length)), lanesOf(deals));
          await journal.close();
        },
      ),
      { numRuns: 15 },
    );
  });

  test('no step is dealt while a change is being written', async (context) => {
    const { dealer } = await start(context);
    const order: string[] = [];
    let resolve!: () => void;
    const disk = new Promise<void>((done) => (resolve = done));
    const change = { ...dealer.nextChange, rates: {}, denoisingRatio: 0 };
    const changed = dealer.changeRates(change, [0.5, 0.5, 0, 0], disk).then(() => order.push('changed'));
    const dealt = dealer.deal().then(() => order.push('dealt'));
    resolve();
    await Promise.all([changed, dealt]);
    assert.deepEqual(order, ['changed', 'dealt']);
  });

  test('a change that cannot be journalled has no effect, and the run continues', async (context) => {
    const { dealer, journal, set } = await start(context);
    await journal.append({ kind: 'run-interrupted', epoch: 1, step: 0, reason: 'test' });
    await assert.rejects(set({ rates: { mnli: 1 } }), { code: 'INTERNAL' });
    assert.deepEqual(dealer.rateChanges, []);
    assert.deepEqual(lanesOf(await deal(dealer, 40)), lanesOf(await deal(dealerWith([]), 40)));
  });

  test('changes add up, `auto` gives the computed rate back, and the last one for a window holds', async (context) => {
    const { set, journal } = await start(context);
    await set({ rates: { mnli: 5 } });
    const second = await set({ rates: { squad: 'auto' }, denoisingRatio: 3 });
    assert.deepEqual(journal.state.rateChanges, [
      { window: second.window, firstStep: second.firstStep, rates: { mnli: 5 }, denoisingRatio: 3 },
    ]);
    const shares = Object.fromEntries(second.tasks.map(({ name, after }) => [name, after]));
    assert.ok(Math.abs(shares['c4']! - 0.75) < 1e-12 && Math.abs(shares['squad']! - 0.25 * (25 / 30)) < 1e-12);
    const third = await set({ rates: { mnli: 'auto' }, denoisingRatio: 'auto' });
    assert.equal(third.tasks.find(({ name }) => name === 'c4')?.after, 0.5);
  });

  for (const [what, request, code, message] of [
    ['an unknown task', { rates: { mnil: 3 } }, 'NAME_UNKNOWN', /"mnil"; nearest: mnli/u],
    ['an unknown task on auto', { rates: { sqad: 'auto' } }, 'NAME_UNKNOWN', /nearest: squad/u],
    ['nothing left to draw', { rates: { mnli: 0, squad: 0, c4: 0 } }, 'CONFIG_INVALID', /at least one task/u],
    ['a rate without examples', { rates: { empty: 4 } }, 'CONFIG_INVALID', /empty .* 0 examples/u],
    ['denoising without its task', { rates: { c4: 0 } }, 'CONFIG_INVALID', /no denoising task/u],
    ['the rates that hold already', { rates: { squad: 30 } }, 'CONFIG_INVALID', /change no share/u],
    ['a rate of the only denoising task', { rates: { c4: 7 } }, 'CONFIG_INVALID', /denoisingRatio/u],
  ] as const)
    test(`${what} is refused and not journalled`, async (context) => {
      const { set, journal } = await start(context);
      await assert.rejects(set(request), { code, message });
      assert.deepEqual(await recordsOf(journal, 'rates-changed'), []);
    });

  test('the report counts drawn examples and averages losses by target tokens', async (context) => {
    const { dealer, steering, set } = await start(context);
    const deals = await deal(dealer, 3);
    for (const [i, { cursor }] of deals.entries()) {
      const losses = { taskLoss: { mnli: i + 1 }, taskTokens: { mnli: 10 * (i + 1) } };
      steering.onCommit({ step: i + 1, ...losses }, { cursor });
    }
    await set({ rates: { mnli: 5 } });
    const report = steering.report(2);
    assert.deepEqual([report.step, report.losses], [3, { firstStep: 2, lastStep: 3, numSteps: 2 }]);
    assert.equal(report.rateChanges.length, 1);
    const [mnli, squad, empty] = report.tasks;
    assert.ok(Math.abs(mnli!.loss! - (2 * 20 + 3 * 30) / 50) < 1e-12 && mnli!.targetTokens === 50);
    assert.deepEqual([squad!.loss, empty!.draws, empty!.passes], [null, 0, 0]);
    assert.equal(
      report.draws,
      report.tasks.reduce((sum, { draws }) => sum + draws, 0),
    );
    assert.ok(Math.abs(mnli!.passes - mnli!.draws / 40) < 1e-12 && mnli!.draws > 0);
  });
});

describe('steering over HTTP', () => {
  async function listen(context: TestContext, isTraining = true) {
    const { steering, log, journal } = await start(context);
    const server = new ControlServer({
      transport: webSocketTransport,
      clock: systemClock,
      log,
      host: '127.0.0.1',
      token: TOKEN,
      maxWorkers: 4,
      epoch: 1,
      size: { numLanes: 8, numTasks: 8 },
      silenceMs: 5_000,
      routes: {
        'GET /status': () => ({ phase: 'test' }),
        ...steeringRoutes(() => (isTraining ? steering : undefined)),
      },
    });
    const url = (await server.listen(0)).replace('ws:', 'http:');
    context.after(() => server.close());
    const ask = async (path: string, body?: string, token = TOKEN) => {
      const init = body === undefined ? {} : { method: 'POST', body };
      const response = await fetch(url + path, { headers: { authorization: `Bearer ${token}` }, ...init });
      const text = await response.text();
      return { status: response.status, body: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown> };
    };
    return { ask, journal };
  }

  test('status, report and change are answered as JSON', async (context) => {
    const { ask, journal } = await listen(context);
    assert.deepEqual(await ask('/status'), { status: 200, body: { phase: 'test' } });
    const changed = await ask('/mixture/rates', JSON.stringify({ rates: { mnli: 3 } }));
    assert.deepEqual([changed.status, changed.body['window']], [200, 1]);
    assert.equal((await recordsOf(journal, 'rates-changed')).length, 1);
    const { status, body } = await ask('/mixture?last=5');
    assert.deepEqual([status, (body['rateChanges'] as unknown[]).length], [200, 1]);
  });

  for (const [what, path, body, status, code] of [
    ['an unknown route', '/nothing', undefined, 404, 'MESSAGE_INVALID'],
    ['a path that is no URL', '//', undefined, 404, 'MESSAGE_INVALID'],
    ['a path with a host that is none', '//x:y', undefined, 404, 'MESSAGE_INVALID'],
    ['a body that is not JSON', '/mixture/rates', '{', 400, 'MESSAGE_INVALID'],
    ['a body that is no request', '/mixture/rates', '{"rates":{"mnli":-1}}', 400, 'CONFIG_INVALID'],
    ['no body', '/mixture/rates', '', 400, 'CONFIG_INVALID'],
    ['a body above the bound', '/mixture/rates', ' '.repeat(70_000), 400, 'MESSAGE_TOO_LARGE'],
    ['an unknown task', '/mixture/rates', '{"rates":{"x":1}}', 400, 'NAME_UNKNOWN'],
    ['more steps than are kept', '/mixture?last=1001', undefined, 400, 'CONFIG_INVALID'],
  ] as const)
    test(`${what} is answered with status ${status} and ${code}`, async (context) => {
      const { ask, journal } = await listen(context);
      const answer = await ask(path, body);
      assert.deepEqual([answer.status, answer.body['code']], [status, code]);
      assert.deepEqual(await recordsOf(journal, 'rates-changed'), []);
    });

  test('before the run trains it is 409, without the token 401', async (context) => {
    const { ask } = await listen(context, false);
    assert.deepEqual((await ask('/mixture')).body['code'], 'RUN_NOT_TRAINING');
    assert.equal((await ask('/mixture/rates', '{"rates":{}}')).status, 409);
    assert.equal((await ask('/mixture/rates', '{"rates":{"mnli":1}}', 'another token of it')).status, 401);
  });
});

async function recordsOf(journal: Journal, kind: string): Promise<object[]> {
  const found: object[] = [];
  await replayJournal(journal.path, { onRecord: (record) => (record.kind === kind ? found.push(record) : 0) });
  return found;
}
