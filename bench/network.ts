/**
 * Creates a network for benches on one Linux host: a name space for each rank, with its sending rate limited by `tc tbf` and each packet
 * delayed by netem. If the kernel has no netem, `delay_relay.py` delays packets, which takes CPU time from all contenders. Needs root, `ip`
 * and `tc`.
 *
 * The name spaces are removed when the process ends, also by a signal. The next process removes those of a killed one.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface Network {
  /** Addresses, by rank. */
  readonly hosts: readonly string[];
  /** Description for a person. */
  readonly description: string;
  /** @returns the command that runs `command` in the rank's name space */
  inside(rank: number, command: readonly string[]): readonly [string, ...string[]];
  remove(): void;
}

export interface NetworkSpec {
  /** In the syntax of `tc`: `1gbit`; null: no limit. */
  readonly rate: string | null;
  /** Delay of one direction. */
  readonly delayMs: number;
}

/** The device of each rank. */
export const NETWORK_DEVICE = 'net0';
const PREFIX = 'exmix-bench';
/** Length of the limited queue, like that of a router. */
const QUEUE_MS = 100;
/** Larger than the largest packet, so that no packet is split. */
const BURST_BYTES = 256 << 10;

/** Minimum, default and maximum bytes of a socket's buffer, as on a host for long distances. */
const SOCKET_BYTES = `4096 131072 ${64 << 20}`;

/** @param text `RATE,DELAYms`, as in `10gbit,20ms`, or `0` for no limit */
export function parseNetworkSpec(text: string): NetworkSpec {
  const found = /^(0|\d+[mg]bit),(\d+(?:\.\d+)?)ms$/.exec(text);
  if (found === null) throw new Error(`--network: expected RATE,DELAYms as in 10gbit,20ms, got ${text}`);
  return { rate: found[1] === '0' ? null : found[1]!, delayMs: Number(found[2]) };
}

/** @param python for the relay */
export async function createNetwork(worldSize: number, spec: NetworkSpec, python: string): Promise<Network> {
  removeAbandoned();
  const names = Array.from({ length: worldSize }, (_, rank) => `${PREFIX}-${process.pid}-${rank}`);
  const hub = `${PREFIX}-${process.pid}-hub`;
  const ends: (() => void)[] = [];
  const remove = (): void => {
    process.off('exit', remove);
    for (const end of ends.splice(0)) end();
  };
  process.on('exit', remove);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));
  const addNameSpace = (name: string): void => {
    run('ip', 'netns', 'add', name);
    ends.push(() => run('ip', 'netns', 'del', name));
    run('ip', '-n', name, 'link', 'set', 'lo', 'up');
  };
  for (const name of names) addNameSpace(name);
  const byRelay = spec.delayMs > 0 && !hasNetem(names[0]!);
  if (byRelay) ends.unshift(await startRelay(python, spec.delayMs, names));
  else {
    addNameSpace(hub);
    connectToHub(hub, names);
  }
  for (const [rank, name] of names.entries()) {
    run('ip', '-n', name, 'address', 'add', `10.77.0.${rank + 1}/24`, 'dev', NETWORK_DEVICE);
    run('ip', '-n', name, 'link', 'set', NETWORK_DEVICE, 'txqueuelen', '2000', 'up');
    run(
      'ip',
      'netns',
      'exec',
      name,
      'sysctl',
      '-qw',
      `net.ipv4.tcp_rmem=${SOCKET_BYTES}`,
      `net.ipv4.tcp_wmem=${SOCKET_BYTES}`,
    );
    shape(name, spec, byRelay);
  }
  const delay = spec.delayMs === 0 ? 'no delay' : `${spec.delayMs} ms one way by ${byRelay ? 'the relay' : 'netem'}`;
  return {
    hosts: names.map((_, rank) => `10.77.0.${rank + 1}`),
    description: `${spec.rate ?? 'no rate limit'}, ${delay}`,
    inside: (rank, command) => ['ip', 'netns', 'exec', names[rank]!, ...command],
    remove,
  };
}

function connectToHub(hub: string, names: readonly string[]): void {
  run('ip', '-n', hub, 'link', 'add', 'bridge', 'type', 'bridge');
  run('ip', '-n', hub, 'link', 'set', 'bridge', 'up');
  for (const [rank, name] of names.entries()) {
    const port = `port${rank}`;
    run('ip', '-n', hub, 'link', 'add', port, 'type', 'veth', 'peer', 'name', NETWORK_DEVICE, 'netns', name);
    run('ip', '-n', hub, 'link', 'set', port, 'master', 'bridge', 'up');
  }
}

/** @returns a function that ends the relay and its devices */
async function startRelay(python: string, delayMs: number, names: readonly string[]): Promise<() => void> {
  const devices = names.map((_, rank) => `tun${process.pid}-${rank}`);
  const script = fileURLToPath(new URL('delay_relay.py', import.meta.url));
  const relay = spawn(python, [script, String(delayMs), ...devices], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(relay.stdout, 'data');
  for (const [rank, name] of names.entries())
    run('ip', 'link', 'set', devices[rank]!, 'netns', name, 'name', NETWORK_DEVICE);
  return () => relay.kill();
}

function shape(name: string, { rate, delayMs }: NetworkSpec, byRelay: boolean): void {
  const onDevice = ['tc', '-n', name, 'qdisc', 'add', 'dev', NETWORK_DEVICE, 'root'] as const;
  const limited = ['rate', rate ?? '', 'burst', String(BURST_BYTES), 'latency', `${QUEUE_MS}ms`];
  if (byRelay || delayMs === 0) {
    if (rate !== null) run(...onDevice, 'tbf', ...limited);
    return;
  }
  run(...onDevice, 'handle', '1:', 'netem', 'delay', `${delayMs}ms`, 'limit', '100000');
  if (rate !== null)
    run('tc', '-n', name, 'qdisc', 'add', 'dev', NETWORK_DEVICE, 'parent', '1:', 'handle', '2:', 'tbf', ...limited);
}

function hasNetem(name: string): boolean {
  const tried = spawnSync('tc', ['-n', name, 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms']);
  if (tried.status === 0) run('tc', '-n', name, 'qdisc', 'del', 'dev', 'lo', 'root');
  return tried.status === 0;
}

function removeAbandoned(): void {
  for (const line of run('ip', 'netns', 'list').split('\n')) {
    const found = new RegExp(`^${PREFIX}-(\\d+)-\\w+`).exec(line);
    if (found !== null && !isAlive(Number(found[1]))) run('ip', 'netns', 'del', found[0]);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function run(command: string, ...args: readonly string[]): string {
  return execFileSync(command, args, { encoding: 'utf8' });
}
