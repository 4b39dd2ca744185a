/** The run's token in the `Authorization` header, compared in constant time whatever its length. */
import { createHash, timingSafeEqual } from 'node:crypto';

const PREFIX = 'Bearer ';

export function formatBearer(token: string): string {
  return PREFIX + token;
}

/** @returns a check of Authorization header values against the token */
export function createBearerCheck(token: string): (header: string | undefined) => boolean {
  const expected = digest(token);
  return (header) => {
    // Hash in any case, so that the time does not depend on what is wrong with the header.
    const found = digest(header?.startsWith(PREFIX) === true ? header.slice(PREFIX.length) : '');
    return timingSafeEqual(found, expected) && token !== '' && header !== undefined;
  };
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest();
}
