/**
 * Which proxy a request goes through, by the variables that curl and most tools read. Pure.
 *
 * Definition. `http_proxy` is for http: URLs, `https_proxy` for https: URLs; names in small letters come first. `no_proxy` lists hosts
 * that are reached without a proxy, separated by commas or spaces: `example.org` and `.example.org` mean the host and all below it,
 * `example.org:8080` only that port, `10.0.0.0/8` addresses, `*` every host.
 */
import { BlockList, isIP, isIPv6 } from 'node:net';
import { TrainerError } from '../errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface Proxy {
  /** May contain a login: never put it in a message. */
  readonly url: URL;
  /** For messages: `proxy.example.org:3128, from HTTPS_PROXY`. */
  readonly name: string;
}

/** @throws CONFIG_INVALID if the variable does not hold the URL of an HTTP proxy */
export function chooseProxy(target: URL, environment: Environment): Proxy | undefined {
  const found = firstOf(environment, target.protocol === 'https:' ? 'https_proxy' : 'http_proxy');
  if (found === undefined || isExempt(target, firstOf(environment, 'no_proxy')?.value ?? '')) return undefined;
  const { variable, value } = found;
  const text = value.includes('://') ? value : `http://${value}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.hostname === '')
    throw new TrainerError(
      'CONFIG_INVALID',
      `${variable}: expected the URL of an HTTP proxy, like http://proxy.example.org:3128 or http://user:password@proxy.example.org:3128` +
        (url === undefined ? '' : `, found one of ${url.protocol}`),
    );
  return { url, name: `${url.host}, from ${variable}` };
}

function firstOf(environment: Environment, name: string): { variable: string; value: string } | undefined {
  for (const variable of [name, name.toUpperCase()]) {
    const value = environment[variable]?.trim();
    if (value !== undefined && value !== '') return { variable, value };
  }
  return undefined;
}

function isExempt(target: URL, list: string): boolean {
  const host = bare(target.hostname);
  const port = target.port === '' ? (target.protocol === 'https:' ? '443' : '80') : target.port;
  return list
    .split(/[\s,]+/u)
    .filter((entry) => entry !== '')
    .some((entry) => entry === '*' || isListed(host, port, entry));
}

function isListed(host: string, port: string, entry: string): boolean {
  const [, network, bits] = /^([0-9a-f.:]+)\/(\d{1,3})$/iu.exec(entry) ?? [];
  if (network !== undefined && bits !== undefined) return isInNetwork(host, network, Number(bits));
  // An IPv6 address with a port has brackets; without them its colons separate no port.
  const [, withPort, onlyPort] = isIPv6(entry) ? [] : (/^(.*):(\d+)$/u.exec(entry) ?? []);
  if (onlyPort !== undefined && onlyPort !== port) return false;
  const name = bare((withPort ?? entry).replace(/^\*?\./u, ''));
  return name !== '' && (host === name || (isIP(host) === 0 && host.endsWith(`.${name}`)));
}

function isInNetwork(address: string, network: string, bits: number): boolean {
  const family = isIP(network);
  if (family === 0 || family !== isIP(address) || bits > (family === 4 ? 32 : 128)) return false;
  const name = family === 4 ? 'ipv4' : 'ipv6';
  const networks = new BlockList();
  networks.addSubnet(network, bits, name);
  return networks.check(address, name);
}

/** Without the brackets of an IPv6 address and the last dot of a full name, in small letters. */
function bare(host: string): string {
  return host
    .toLowerCase()
    .replace(/^\[(.*)\]$/u, '$1')
    .replace(/\.$/u, '');
}
