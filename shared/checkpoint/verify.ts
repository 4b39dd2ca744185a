/**
 * Verifies that a folder is a whole checkpoint: the manifest is valid, every file agrees with it, there is no other file.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFile, systemCode, toStorageError } from '../atomic-file.ts';
import { throwIfAborted } from '../abort.ts';
import { TrainerError } from '../errors.ts';
import { readSmallFile } from '../small-file.ts';
import { MANIFEST_FILE, stepOfFolder } from './layout.ts';
import { decodeManifest, type FileEntry, type Manifest } from './manifest.ts';

export interface CheckpointProblem {
  readonly file: string;
  readonly kind: 'missing' | 'extra' | 'size' | 'hash' | 'manifest' | 'step';
  readonly expected: string;
  readonly found: string;
}

export interface CheckpointReport {
  readonly path: string;
  /** Undefined if the manifest cannot be read. */
  readonly manifest?: Manifest;
  /** Of all files in the manifest. */
  readonly bytes: number;
  /** Empty for a whole checkpoint. */
  readonly problems: readonly CheckpointProblem[];
}

export interface VerifyOptions {
  /** `size` compares names and sizes only (fast, for lists); `hash` reads every byte (the default). */
  readonly depth?: 'size' | 'hash';
  readonly signal?: AbortSignal;
}

/**
 * Checks every file and lists all problems; a damaged checkpoint is a report, not an error.
 * @throws PATH_UNUSABLE if the folder cannot be read; ABORTED
 */
export async function verifyCheckpoint(path: string, options: VerifyOptions = {}): Promise<CheckpointReport> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    throw toStorageError(error, 'read the checkpoint', path);
  }
  const manifest = await readManifest(path, names);
  if ('kind' in manifest) return { path, bytes: 0, problems: [manifest] };

  const problems: CheckpointProblem[] = [];
  const step = stepOfFolder(path);
  if (step !== manifest.step)
    problems.push({ file: MANIFEST_FILE, kind: 'step', expected: `step-${manifest.step} as folder name`, found: path });
  for (const entry of manifest.files) {
    throwIfAborted(options.signal, `verifying ${path}`);
    const problem = await verifyFile(path, entry, options);
    if (problem !== undefined) problems.push(problem);
  }
  const known = new Set([MANIFEST_FILE, ...manifest.files.map(({ file }) => file)]);
  for (const file of names.filter((name) => !known.has(name)).sort())
    problems.push({ file, kind: 'extra', expected: 'no such file', found: 'a file that the manifest does not name' });
  return { path, manifest, bytes: manifest.files.reduce((sum, { bytes }) => sum + bytes, 0), problems };
}

/** The problems as one error. */
export function toCorruptError({ path, problems }: CheckpointReport): TrainerError {
  const lines = problems.map(describeProblem).join('\n  ');
  const advice = 'resume from another checkpoint, or restore the files from a copy';
  return new TrainerError('CHECKPOINT_CORRUPT', `${path} is not a whole checkpoint:\n  ${lines}\n${advice}`);
}

/** `model.safetensors: expected 12 B, found 11 B`. */
export function describeProblem({ file, expected, found }: CheckpointProblem): string {
  return `${file}: expected ${expected}, found ${found}`;
}

async function readManifest(path: string, names: readonly string[]): Promise<Manifest | CheckpointProblem> {
  const problem = { file: MANIFEST_FILE, kind: 'manifest', expected: 'a valid manifest' } as const;
  if (!names.includes(MANIFEST_FILE)) return { ...problem, found: 'none: the checkpoint was never published' };
  try {
    // latin1 keeps each byte apart; a manifest is ASCII, so a flipped byte cannot decode to the same text.
    const bytes = await readSmallFile(join(path, MANIFEST_FILE));
    return decodeManifest(bytes.toString('latin1'), join(path, MANIFEST_FILE));
  } catch (error) {
    if (error instanceof TrainerError) return { ...problem, found: error.message };
    throw toStorageError(error, 'read', join(path, MANIFEST_FILE));
  }
}

async function verifyFile(
  path: string,
  { file, bytes, sha256 }: FileEntry,
  { depth = 'hash', signal }: VerifyOptions,
): Promise<CheckpointProblem | undefined> {
  const place = join(path, file);
  try {
    const found = await stat(place);
    if (!found.isFile()) return { file, kind: 'missing', expected: 'a file', found: 'something else' };
    if (found.size !== bytes) return { file, kind: 'size', expected: `${bytes} B`, found: `${found.size} B` };
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return { file, kind: 'missing', expected: `${bytes} B`, found: 'no such file' };
    throw toStorageError(error, 'read', place);
  }
  if (depth === 'size') return undefined;
  const found = await hashFile(place, signal);
  if (found.sha256 === sha256) return undefined;
  return { file, kind: 'hash', expected: `SHA-256 ${sha256}`, found: found.sha256 };
}
