/**
 * Parses the files in a wheel's `.dist-info` folder. Pure.
 * Source: PEP 427 (wheel), PEP 376 (RECORD), the core metadata specification, PEP 600 (manylinux tags).
 */
import { TrainerError } from '../../shared/errors.ts';

/** One file in RECORD. */
export interface RecordRow {
  /** SHA-256 in hex. */
  readonly sha256: string;
  readonly bytes: number;
}

export interface WheelMetadata {
  /** Normalised: lower case, `-` between words. */
  readonly name: string;
  readonly version: string;
  /** The requirements under `extra == "and-cuda"`, without the marker: `nvidia-cublas-cu12<13.0,>=12.5.3.2`. */
  readonly cudaRequirements: readonly string[];
}

/** The extra of TensorFlow that requires CUDA. */
const CUDA_EXTRA = /extra\s*==\s*['"]and[-_]cuda['"]/u;

/** Parses METADATA. @throws WHEEL_INVALID */
export function parseMetadata(text: string, where: string): WheelMetadata {
  // Headers as in mail, up to the first blank line; the description follows.
  const headers = text.split(/\r?\n\r?\n/u, 1)[0]!.split(/\r?\n/u);
  const valuesOf = (name: string): string[] =>
    headers.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2).trim());
  const [name] = valuesOf('Name');
  const [version] = valuesOf('Version');
  if (name === undefined || version === undefined)
    throw new TrainerError(
      'WHEEL_INVALID',
      `${where}: expected METADATA with Name and Version, got ${headers[0] ?? ''}`,
    );
  const cudaRequirements = valuesOf('Requires-Dist')
    .filter((line) => CUDA_EXTRA.test(line))
    .map((line) => line.split(';', 1)[0]!.replaceAll(/[\s()]/gu, ''));
  return { name: normaliseName(name), version, cudaRequirements };
}

/** `nvidia_cublas.cu12` → `nvidia-cublas-cu12` (PEP 503). */
function normaliseName(name: string): string {
  return name.toLowerCase().replaceAll(/[-_.]+/gu, '-');
}

/** The name of a requirement such as `nvidia-cublas-cu12<13.0,>=12.5.3.2`, normalised. */
export function requirementName(requirement: string): string {
  return normaliseName(/^[A-Za-z0-9._-]+/u.exec(requirement)?.[0] ?? requirement);
}

/** The `Tag:` lines of WHEEL, such as `cp312-cp312-manylinux_2_27_x86_64`. */
export function parseTags(text: string): string[] {
  return [...text.matchAll(/^Tag:\s*(\S+)\s*$/gmu)].map((match) => match[1]!);
}

/** Parses RECORD: one row for each file with a SHA-256 (RECORD itself has none). @throws WHEEL_INVALID */
export function parseRecord(text: string, where: string): Map<string, RecordRow> {
  const rows = new Map<string, RecordRow>();
  for (const line of text.split(/\r?\n/u)) {
    // A path with a comma is quoted; hash and size have no comma.
    const match = /^(?:"((?:[^"]|"")*)"|([^,]*)),sha256=([A-Za-z0-9_-]{43})=?,(\d+)$/u.exec(line);
    if (match === null) continue;
    const path = match[1]?.replaceAll('""', '"') ?? match[2]!;
    rows.set(path, { sha256: Buffer.from(match[3]!, 'base64url').toString('hex'), bytes: Number(match[4]) });
  }
  if (rows.size === 0)
    throw new TrainerError('WHEEL_INVALID', `${where}: expected a RECORD with the SHA-256 of each file, got none`);
  return rows;
}

export interface WheelPlatform {
  /** `linux`, `macosx`, `win`, or `any`. */
  readonly system: string;
  /** Python's name: `x86_64`, `aarch64`; empty for `any`. */
  readonly machine: string;
  /** x of the oldest glibc 2.x that works; 0 if the tag has none. */
  readonly glibcMinor: number;
}

const LEGACY_GLIBC: Readonly<Record<string, number>> = { manylinux1: 5, manylinux2010: 12, manylinux2014: 17 };

/** The platform of a tag such as `cp312-cp312-manylinux_2_27_x86_64`. */
export function parsePlatform(tag: string): WheelPlatform {
  const text = tag.split('-').at(-1)!.split('.', 1)[0]!;
  const modern = /^manylinux_2_(\d+)_(.+)$/u.exec(text);
  if (modern !== null) return { system: 'linux', machine: modern[2]!, glibcMinor: Number(modern[1]) };
  const legacy = /^(manylinux(?:1|2010|2014))_(.+)$/u.exec(text);
  if (legacy !== null) return { system: 'linux', machine: legacy[2]!, glibcMinor: LEGACY_GLIBC[legacy[1]!]! };
  const other = /^(linux|macosx|win|musllinux)(?:_[\d_]*)?_?(.*)$/u.exec(text);
  return other === null
    ? { system: text, machine: '', glibcMinor: 0 }
    : { system: other[1]!, machine: other[2]!, glibcMinor: 0 };
}
