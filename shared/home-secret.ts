/**
 * A secret of the user's exmix, made when it is first needed: `<home>/secret`, readable by the user only. A seal made with it shows later that
 * a record was written by exmix of the same user, and does not come from a stranger's folder.
 */
import { createHmac, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import { link, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode, toStorageError, writeNewFile } from './atomic-file.ts';
import { exmixHome } from './exmix-home.ts';
import { readIfThere } from './small-file.ts';

const SECRET_BYTES = 32;

/** HMAC-SHA-256 (hex) of the parts. @throws PATH_UNUSABLE, DISK_FULL if the secret cannot be read or made */
export async function sealOf(parts: readonly string[], home = exmixHome()): Promise<string> {
  const secret = (await readSecret(home)) ?? (await makeSecret(home));
  return createHmac('sha256', secret).update(JSON.stringify(parts)).digest('hex');
}

/** Whether `sealOf` gave this seal for these parts. @throws PATH_UNUSABLE if the secret cannot be read */
export async function isSealOf(seal: string, parts: readonly string[], home = exmixHome()): Promise<boolean> {
  const secret = await readSecret(home);
  if (secret === undefined) return false;
  const expected = Buffer.from(createHmac('sha256', secret).update(JSON.stringify(parts)).digest('hex'));
  const found = Buffer.from(seal);
  return expected.length === found.length && timingSafeEqual(expected, found);
}

function readSecret(home: string): Promise<string | undefined> {
  return readIfThere(join(home, 'secret'));
}

/** Of several processes that make it at the same time, the first one wins. */
async function makeSecret(home: string): Promise<string> {
  const path = join(home, 'secret');
  const own = `${path}.new-${randomUUID()}`;
  const secret = randomBytes(SECRET_BYTES).toString('hex');
  try {
    await mkdir(home, { recursive: true });
    await writeNewFile(own, secret, 0o600);
    await link(own, path);
    return secret;
  } catch (error) {
    const winner = systemCode(error) === 'EEXIST' ? await readSecret(home) : undefined;
    if (winner !== undefined) return winner;
    throw toStorageError(error, 'make', path);
  } finally {
    await rm(own, { force: true });
  }
}
