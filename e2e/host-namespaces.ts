/** Two hosts on one machine, for tests of addresses: network namespaces with a link between them. Linux, and its owner must be root. */
import { spawnSync } from 'node:child_process';
import { after } from 'node:test';
import { assertInvariant } from '../shared/errors.ts';

/** Addresses of the hosts, from the range for tests of networks (RFC 2544). */
const ADDRESSES = ['198.18.77.1', '198.18.77.2'] as const;

export interface NetworkHost {
  readonly address: string;
  /** Runs the rest of a command line on this host. */
  readonly prefix: readonly string[];
  /** This host cannot send to that port of the other one any more. @returns a way to undo it */
  cutOff(address: string, port: number): () => void;
}

/** @returns two hosts that reach each other, removed at the end of the test file; a sentence where this machine cannot have them */
export function createTwoHosts(): readonly [NetworkHost, NetworkHost] | string {
  const names = [1, 2].map((number) => `exmix-${process.pid}-${number}`);
  const links = names.map((_, index) => `ex${process.pid}-${index}`);
  const ip = (...args: string[]): string | undefined => {
    const { status, stderr, error } = spawnSync('ip', args, { encoding: 'utf8' });
    return status === 0 ? undefined : `ip ${args.join(' ')}: ${error?.message ?? stderr.trim()}`;
  };
  after(() => {
    for (const name of names) ip('netns', 'del', name);
  });
  const commands = [
    ...names.map((name) => ['netns', 'add', name]),
    ['link', 'add', links[0]!, 'netns', names[0]!, 'type', 'veth', 'peer', 'name', links[1]!, 'netns', names[1]!],
    ...names.flatMap((name, index) => [
      ['-n', name, 'addr', 'add', `${ADDRESSES[index]!}/24`, 'dev', links[index]!],
      ['-n', name, 'link', 'set', links[index]!, 'up'],
      ['-n', name, 'link', 'set', 'lo', 'up'],
    ]),
  ];
  for (const command of commands) {
    const failure = ip(...command);
    if (failure !== undefined) return `needs two network namespaces, which this machine does not allow (${failure})`;
  }
  const [first, second] = names.map((name, index) => ({
    address: ADDRESSES[index]!,
    prefix: ['ip', 'netns', 'exec', name],
    cutOff: (to: string, port: number): (() => void) => {
      const change = (verb: 'add' | 'del'): void => {
        const failure = ip('-n', name, 'rule', verb, 'to', to, 'dport', String(port), 'blackhole');
        assertInvariant(failure === undefined, String(failure));
      };
      change('add');
      return () => change('del');
    },
  }));
  return [first!, second!];
}
