/** Parses a location: its scheme, and its path if it is on this machine. Opens nothing. */
import { fileURLToPath } from 'node:url';
import { TrainerError } from '../errors.ts';

/** `https:`, `s3:`, …: at least two letters, so that a drive letter is a path. */
const SCHEME = /^([a-z][a-z0-9+.-]+):\/\//iu;

/** The scheme in lower case; undefined for a path. */
export function schemeOf(location: string): string | undefined {
  return SCHEME.exec(location)?.[1]?.toLowerCase();
}

/**
 * The path of a location on this machine, a path or a file: URL; undefined for any other URL.
 * @throws CONFIG_INVALID for a file: URL that has no path here
 */
export function localPathOf(location: string): string | undefined {
  const scheme = schemeOf(location);
  if (scheme === undefined) return location;
  if (scheme !== 'file') return undefined;
  try {
    return fileURLToPath(location);
  } catch (error) {
    throw new TrainerError(
      'CONFIG_INVALID',
      `${nameLocation(location)}: expected a file: URL of this machine, file:///path`,
      {
        cause: error,
      },
    );
  }
}

/**
 * A location as messages and logs name it: of a URL without login, query and fragment, which may be secrets. A path stays as it is.
 * Text that only looks like a URL loses all before its last `@` and all from its first `?` or `#`.
 */
export function nameLocation(location: string | URL): string {
  const text = String(location);
  if (!text.includes('://')) return text;
  if (!URL.canParse(text)) return text.replace(/:\/\/.*@/u, '://').replace(/[?#].*$/su, '');
  const { protocol, host, pathname } = new URL(text);
  return `${protocol}//${host}${pathname === '/' ? '' : pathname}`;
}

/** Whether a URL has a user name or a password. */
export function hasLogin(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { username, password } = new URL(url);
  return username !== '' || password !== '';
}

/** Whether a location is on this machine: a path or a file: URL. @throws as localPathOf */
export function isLocalLocation(location: string): boolean {
  return localPathOf(location) !== undefined;
}
