/** Fixtures of an installation: wheels (zip files with a RECORD, a few hundred bytes each), and fake tools. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import type { InstallComponents } from './install-engine.ts';

export const VERSION = '2.21.0';
/** This machine in wheel tags. */
export const MACHINE = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
const PLATFORM_TAG = `cp312-cp312-manylinux_2_27_${MACHINE}`;

export interface FakeWheelInit {
  readonly name?: string;
  readonly version?: string;
  readonly tag?: string;
  readonly requires?: readonly string[];
  readonly files?: Readonly<Record<string, string>>;
  /** RECORD gets a wrong hash for this file. */
  readonly wrongHashOf?: string;
}

export const TENSORFLOW_FILES: Readonly<Record<string, string>> = {
  'tensorflow/libtensorflow_cc.so.2': 'the library '.repeat(5_000),
  'tensorflow/libtensorflow_framework.so.2': 'the framework',
  'tensorflow/include/tensorflow/c/c_api.h': '// headers',
  'tensorflow/include/tensorflow/core/framework/tensor.h': '// not needed',
  'tensorflow/__init__.py': 'print("not needed")',
};

/** Writes a wheel into `folder`. @returns its path */
export function writeFakeWheel(folder: string, init: FakeWheelInit = {}): string {
  const { name = 'tensorflow-cpu', version = VERSION, tag = PLATFORM_TAG, requires = [], wrongHashOf } = init;
  const stem = `${name.replaceAll('-', '_')}-${version}`;
  const info = `${stem}.dist-info`;
  const requirements = requires.map((line) => `Requires-Dist: ${line}\n`).join('');
  const files: Record<string, string> = {
    ...(init.files ?? TENSORFLOW_FILES),
    [`${info}/METADATA`]: `Metadata-Version: 2.4\nName: ${name}\nVersion: ${version}\n${requirements}\nDescription`,
    [`${info}/WHEEL`]: `Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: ${tag}\n`,
  };
  const rows = Object.entries(files).map(([path, text]) => {
    const hash = createHash('sha256').update(path === wrongHashOf ? `${text}!` : text);
    return `${path},sha256=${hash.digest('base64url')},${Buffer.byteLength(text)}`;
  });
  files[`${info}/RECORD`] = [...rows, `${info}/RECORD,,`].join('\r\n');
  const path = join(folder, `${stem}-${tag}.whl`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, zip(files));
  return path;
}

/** A deflated zip file (APPNOTE.TXT 4.3). */
function zip(files: Readonly<Record<string, string>>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [path, text] of Object.entries(files)) {
    const name = Buffer.from(path);
    const content = Buffer.from(text);
    const packed = deflateRawSync(content);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0); // version needed
    common.writeUInt16LE(8, 4); // deflate
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\u0003\u0004', 'latin1'), common, name, packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from('PK\u0001\u0002\u0014\u0000', 'latin1'), common, tail, name]));
    parts.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\u0005\u0006', 'latin1');
  end.writeUInt16LE(directory.length, 8);
  end.writeUInt16LE(directory.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}

/** Writes executable sh scripts. @returns an environment with their folder as the only one in PATH */
export function writeTools(folder: string, scripts: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  mkdirSync(folder, { recursive: true });
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return { PATH: folder };
}

/** A compiler that writes its `-o` file. */
export const FAKE_COMPILER = `
if [ "$1" = --version ]; then echo 'g++ (fake) 12.2.0'; exit 0; fi
while [ $# -gt 0 ]; do
  if [ "$1" = -o ]; then echo addon > "$2"; fi
  shift
done`;

/** A pip whose `download` runs the given lines: $dest is the folder for the wheels, $all its arguments. */
export function fakePip(download: string): string {
  return `
if [ "$1" = -m ]; then shift; shift; fi
if [ "$1" = --version ]; then echo 'pip 23.2.1 (fake)'; exit 0; fi
all="$*"
while [ $# -gt 0 ]; do
  if [ "$1" = --dest ]; then dest=$2; fi
  shift
done
${download}`;
}

/** A self-test that prints the given result. */
export function fakeProbe(result: unknown): string[] {
  return [process.execPath, '-e', `console.log(${JSON.stringify(JSON.stringify(result))})`];
}

export function fakeComponents(
  environment: NodeJS.ProcessEnv,
  change: Partial<InstallComponents> = {},
): InstallComponents {
  return {
    host: { platform: process.platform, arch: process.arch, glibcMinor: 36, hasNvidiaDriver: false },
    environment,
    freeBytes: () => Promise.resolve(2 ** 40),
    probe: fakeProbe({ version: VERSION, isUsingGpu: false, worstError: 1e-7 }),
    now: () => '2026-11-23T08:00:00.000Z',
    onLine: () => undefined,
    onProgress: () => undefined,
    signal: new AbortController().signal,
    ...change,
  };
}
