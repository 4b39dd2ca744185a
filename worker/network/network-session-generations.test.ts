/** One generation after the other over real sessions, however the one before has ended. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Member, MessageOf } from '../../shared/protocol/messages.ts';
import type { ScriptedPeer } from '../scripted-coordinator.fixture.ts';
import {
  abort,
  EPOCH,
  form,
  formAll,
  formOf,
  ids,
  laneSum,
  nobody,
  open,
  RAW_CONFIG,
  SECRET,
  welcome,
  welcomeAll,
  type Opened,
} from '../network/network-session.fixture.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';

/** All compute a step, and all get the canonical sum. */
async function trainStep({ subjects, peers }: Opened, step: number): Promise<void> {
  await Promise.all(subjects.map((subject) => subject.computeStep(step)));
  await Promise.all(subjects.map((subject) => subject.report(step)));
  const expected = Buffer.from(laneSum(step).buffer);
  for (const [rank, subject] of subjects.entries()) {
    assert.deepEqual(await subject.reduced(), expected, `rank ${rank} step ${step}`);
    assert.equal((await peers[rank]!.receive('report')).step, step);
  }
}

/** Calls a generation off, and lets every compute thread answer. */
async function abortAll({ subjects, peers }: Opened, generation: number): Promise<void> {
  for (const peer of peers) peer.send({ ...abort, generation });
  for (const [rank, subject] of subjects.entries()) {
    await subject.emitted('abort', (event) => event.generation === generation);
    subject.session.handleRequest({ kind: 'aborted', ...ids, generation, step: 0 });
    await peers[rank]!.receive('aborted');
  }
}

const failures = ({ received }: ScriptedPeer) => received.filter(({ kind }) => kind === 'failed');

describe('generations', { timeout: 240_000 }, () => {
  test('at a boundary the next generation is formed while the one before is up, and trains on', async (t) => {
    const opened = await open(t, 3);
    const members = await form(opened.peers);
    await trainStep(opened, 1);
    await formAll(opened.peers, members, { generation: 3, firstStep: 2 });
    await trainStep(opened, 2);
    await trainStep(opened, 3);
    for (const subject of opened.subjects)
      assert.deepEqual(
        subject.all('generation-failed').filter(({ generation }) => generation === 3),
        [],
      );
  });

  test('links to another worker are tried in the middle of a step, and the generation trains on', async (t) => {
    const { subjects, peers } = await open(t, 3);
    // Longer than any test.
    const config = { ...RAW_CONFIG, cluster: { ...RAW_CONFIG.cluster, connectTimeoutMs: 120_000 } };
    const members = await welcomeAll(peers.slice(0, 2), welcome(EPOCH, { config }));
    const [newcomer] = await welcomeAll(peers.slice(2), welcome(EPOCH, { config }));
    await formAll(peers.slice(0, 2), members);
    await subjects[0]!.computeStep(1);
    const views = [newcomer!, ...members].map(({ workerId, dataUrl }, rank) => ({ workerId, dataUrl, rank }));
    for (const [i, rank] of [1, 2, 0].entries()) {
      const others = rank === 0 ? views.slice(1) : views.slice(0, 1);
      peers[i]!.send({ kind: 'probe-links', epoch: EPOCH, trial: 1, rank, peers: others, secret: SECRET });
    }
    for (const peer of peers)
      assert.deepEqual(await peer.receive('links-probed'), { kind: 'links-probed', epoch: EPOCH, trial: 1 });
    await subjects[1]!.computeStep(1);
    for (const [rank, subject] of subjects.slice(0, 2).entries()) {
      await subject.report(1);
      assert.equal((await peers[rank]!.receive('report')).step, 1);
      assert.deepEqual(await subject.reduced(), Buffer.from(laneSum(1).buffer));
      assert.deepEqual(failures(peers[rank]!), []);
    }
  });

  test('a newer link trial and a welcome end the one under way: neither is answered', async (t) => {
    const clock = new ManualClock();
    const { peer, coordinator } = await open(t, 1, clock);
    await welcomeAll([peer]);
    const { workerId, dataUrl } = nobody;
    const trial: MessageOf<'probe-links'> = {
      ...{ kind: 'probe-links', epoch: EPOCH, trial: 1, rank: 0, secret: SECRET },
      peers: [{ workerId, dataUrl, rank: 1 }],
    };
    peer.send(trial);
    peer.send({ ...trial, trial: 2, peers: [{ workerId, dataUrl: 'no address', rank: 1 }] });
    const answer = await peer.receive('links-probed');
    assert.equal(answer.trial, 2);
    assert.match(answer.error?.message ?? '', /^no link to x at /u);
    peer.send({ ...trial, trial: 3 });
    peer.close('CONNECTION_LOST', 'the link broke');
    const again = await clock.during(coordinator.peer());
    await welcomeAll([again]);
    again.send({ ...trial, trial: 4, peers: [{ workerId, dataUrl: 'no address', rank: 1 }] });
    assert.equal((await again.receive('links-probed')).trial, 4);
    assert.deepEqual(
      peer.received.filter(({ kind }) => kind === 'links-probed'),
      [answer],
    );
  });

  test('after an abort in the middle of a step the next generation does the step again, with the same sum', async (t) => {
    const opened = await open(t, 2);
    const members = await form(opened.peers);
    await opened.subjects[1]!.computeStep(1); // its parts are on their way
    await abortAll(opened, 2);
    await formAll(opened.peers, members, { generation: 3 });
    await trainStep(opened, 1);
  });

  test('fewer and more members, and other lanes, have the same sum', async (t) => {
    const opened = await open(t, 3);
    const members = await form(opened.peers);
    await trainStep(opened, 1);
    await abortAll(opened, 2);
    const two = { ...opened, subjects: opened.subjects.slice(1), peers: opened.peers.slice(1) };
    const ofTwo = members.slice(1).map((member, rank): Member => {
      const lanes = rank === 0 ? { first: 0, end: 1 } : { first: 1, end: 4 };
      return { ...member, rank, lanes };
    });
    await formAll(two.peers, ofTwo, { generation: 3, firstStep: 2 });
    await trainStep(two, 2);
    await formAll(opened.peers, members, { generation: 4, firstStep: 3 });
    await trainStep(opened, 3);
  });

  test('an abort ends the step under way as the coordinator wants it: it is not reported as a failure', async (t) => {
    const opened = await open(t, 2);
    await form(opened.peers);
    await opened.subjects[0]!.computeStep(1);
    await abortAll(opened, 2);
    // Rank 1 may see the links of rank 0 go before it is told itself.
    assert.deepEqual(opened.subject.kinds(), ['welcome', 'form', 'formed', 'abort']);
    assert.deepEqual(failures(opened.peer), []);
  });

  test('an abort of a generation that is over, or was replaced, changes nothing', async (t) => {
    const opened = await open(t, 2);
    const members = await form(opened.peers);
    await abortAll(opened, 2);
    for (const peer of opened.peers) peer.send({ ...abort, generation: 2 });
    await formAll(opened.peers, members, { generation: 3 });
    for (const peer of opened.peers) peer.send({ ...abort, generation: 2 });
    await trainStep(opened, 1);
    assert.equal(opened.subject.all('abort').length, 1);
    assert.deepEqual(failures(opened.peer), []);
  });

  test('requests for an aborted generation are dropped', async (t) => {
    const opened = await open(t);
    await form(opened.peers);
    await abortAll(opened, 2);
    const { session } = opened.subject;
    session.handleRequest({ kind: 'begin-step', step: 1 });
    session.handleRequest({ kind: 'bucket-ready', bucket: 0 });
    session.handleRequest({ kind: 'state-in-place', generation: 2 });
    session.handleRequest({
      kind: 'offer-state',
      step: 0,
      tensors: { parameters: new Map(), optimizerSlots: new Map() },
    });
    session.handleRequest({
      kind: 'copy-state',
      step: 0,
      tensors: { parameters: new Map(), optimizerSlots: new Map() },
    });
    assert.deepEqual(opened.subject.kinds(), ['welcome', 'form', 'formed', 'abort']);
  });

  test('a state in place of an earlier generation does not count for the next one', async (t) => {
    const opened = await open(t);
    const { subject, peer, peers } = opened;
    subject.holdsState = false;
    const members = await welcomeAll(peers);
    peer.send(formOf(members, 0));
    peer.send(formOf(members, 0, { generation: 3 }));
    await subject.emitted('form', ({ generation }) => generation === 3);
    subject.session.handleRequest({ kind: 'state-in-place', generation: 2, paramDigest: 'ab'.repeat(32) });
    const paramDigest = 'cd'.repeat(32);
    subject.session.handleRequest({ kind: 'state-in-place', generation: 3, paramDigest });
    assert.deepEqual(await peer.receive('formed'), { kind: 'formed', ...ids, generation: 3, paramDigest });
  });

  test('an abort while the links are being made calls that off, and the next generation is formed', async (t) => {
    const clock = new ManualClock();
    const opened = await open(t, 1, clock);
    const { peer, subject } = opened;
    const [member] = await welcomeAll([peer]);
    peer.send(formOf([{ ...member!, lanes: { first: 0, end: 2 } }, nobody], 0));
    await subject.emitted('form');
    await clock.advance(0);
    peer.send(abort);
    await subject.emitted('abort');
    for (let i = 0; i < 20; i++) await clock.advance(100); // past the deadline of the links
    subject.session.handleRequest({ kind: 'aborted', ...ids, step: 0 });
    await peer.receive('aborted');
    assert.deepEqual(subject.kinds(), ['welcome', 'form', 'abort']);
    assert.deepEqual(
      peer.received.map(({ kind }) => kind),
      ['join', 'aborted'],
    );
    await formAll([peer], [member!], { generation: 3 });
    await trainStep(opened, 1);
  });

  test('a form that comes while the one before connects takes its place', async (t) => {
    const opened = await open(t);
    const { peer, subject } = opened;
    const [member] = await welcomeAll([peer]);
    peer.send(formOf([{ ...member!, lanes: { first: 0, end: 2 } }, nobody], 0));
    await formAll([peer], [member!], { generation: 3 });
    await trainStep(opened, 1);
    assert.deepEqual(
      subject.all('formed').map(({ generation }) => generation),
      [3],
    );
    assert.deepEqual(failures(peer), []);
  });

  test('a failure to connect is reported to the coordinator', async (t) => {
    const clock = new ManualClock();
    const { peer, subject } = await open(t, 1, clock);
    const [member] = await welcomeAll([peer]);
    peer.send(formOf([{ ...member!, lanes: { first: 0, end: 2 } }, nobody], 0));
    await subject.emitted('form');
    await clock.advance(0);
    for (let i = 0; i < 12; i++) await clock.advance(100);
    const { error, generation } = await peer.receive('failed');
    assert.deepEqual([error.code, generation], ['CONNECT_FAILED', 2]);
    assert.match(error.message, /could not reach rank 1 at memory:\/\/127\.0\.0\.1:999/u);
    assert.equal(subject.all('generation-failed').length, 1);
  });

  test('every member reports an arena that is too large', async (t) => {
    const { peers } = await open(t, 2);
    const config = { ...RAW_CONFIG, collective: { ...RAW_CONFIG.collective, windowFrames: 10 ** 9 } };
    const members = await welcomeAll(peers, welcome(ids.epoch, { config }));
    for (const [rank, peer] of peers.entries()) peer.send(formOf(members, rank));
    for (const peer of peers) {
      const { error } = await peer.receive('failed');
      assert.equal(error.code, 'CONFIG_INVALID');
      assert.match(error.message, /gradient arena of rank \d: expected at most 4 GiB/u);
    }
  });

  test('a peer that dies in mid-step is reported once, with its rank, to the coordinator and to the compute thread', async (t) => {
    const { peers, subjects } = await open(t, 2);
    await form(peers);
    await subjects[0]!.computeStep(1);
    subjects[1]!.session.handleRequest({ kind: 'leave', reason: 'dies' });
    await subjects[1]!.ended;
    const { error } = await peers[0]!.receive('failed');
    assert.equal(error.code, 'CONNECTION_LOST');
    assert.match(error.message, /rank 1/u);
    subjects[0]!.session.handleRequest({ kind: 'aborted', ...ids, step: 0 });
    await peers[0]!.receive('aborted');
    assert.equal(failures(peers[0]!).length, 1);
    assert.equal(subjects[0]!.all('generation-failed').length, 1);
    assert.ok(!subjects[0]!.kinds().includes('lost'), 'the coordinator decides');
  });

  test('connections of an earlier generation are refused', async (t) => {
    const opened = await open(t, 2);
    const members = await form(opened.peers);
    await formAll(opened.peers, members, { generation: 3 });
    const { transport, subject } = opened;
    const dialInit = { token: 'a token of the test', timeoutMs: 1_000 };
    for (const path of ['/data/5/2/0/1', '/data/5/3/0/1', '/state/5/2/0/1', '/state/5/3/0/1'])
      await assert.rejects(transport.dial(members[0]!.dataUrl + path, dialInit), { code: 'CONNECT_FAILED' });
    assert.equal(subject.refusals.filter(({ code }) => code === 'JOIN_REFUSED').length >= 4, true);
  });

  test('200 generations, ended in every way, take the memory of one', { timeout: 240_000 }, async (t) => {
    const Original = WebAssembly.Memory;
    let numMade = 0;
    WebAssembly.Memory = class extends Original {
      constructor(...args: ConstructorParameters<typeof Original>) {
        super(...args);
        numMade++;
      }
    };
    t.after(() => (WebAssembly.Memory = Original));
    const opened = await open(t, 2);
    const members = await form(opened.peers);
    for (let generation = 3; generation < 203; generation++) {
      if (generation % 4 === 0) await trainStep(opened, generation); // and the next one is formed at the boundary
      if (generation % 4 === 1) await opened.subjects[0]!.computeStep(generation);
      if (generation % 4 !== 0) await abortAll(opened, generation - 1);
      const firstStep = generation + 1;
      if (generation % 4 === 2) {
        // Neither knows where the other is, so they are aborted while they connect.
        const { dataUrl } = nobody;
        const [first, second] = [members[0]!, members[1]!];
        opened.peers[0]!.send(formOf([first, { ...second, dataUrl }], 0, { generation, firstStep }));
        opened.peers[1]!.send(formOf([{ ...first, dataUrl }, second], 1, { generation, firstStep }));
        for (const subject of opened.subjects)
          await subject.emitted('form', (event) => event.generation === generation);
      } else await formAll(opened.peers, members, { generation, firstStep });
    }
    const memories = opened.subjects.flatMap((subject) => subject.all('formed').map(({ memory }) => memory));
    assert.ok(memories.length > 250);
    assert.equal(new Set(memories).size, 2, 'one for each worker');
    assert.equal(numMade, 2);
  });
});
