/**
 * Downloads wheels from a package index with pip. The platform is passed to pip, so any pip on any Python works. The user's own pip
 * configuration determines index, mirrors and proxies.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TrainerError } from '../../shared/errors.ts';
import { formatBytes } from './format-bytes.ts';
import { wheelMachine, type Host } from './host.ts';
import { describeEnd, outputTail, runProgram, type ProgramOutcome } from './run-program.ts';

/** Limit of one download; a slow connection takes an hour for the 3 GB of CUDA. */
const DOWNLOAD_DEADLINE_MS = 14_400_000;
/** pip is killed after so long without a byte and without output. */
const SILENCE_MS = 180_000;
const POLL_MS = 500;
/** The wheels of this Python version are downloaded. Only their C libraries and headers are used, which do not depend on it. */
const PYTHON_VERSION = '3.12';
const OLDEST_GLIBC_MINOR = 5;

const NETWORK_SIGNS =
  /NewConnectionError|name resolution|Connection refused|ConnectTimeout|Read timed out|ProxyError|Network is unreachable|SSLError|Max retries/u;
const DISK_SIGNS = /No space left on device|Errno 28|Disk quota exceeded/u;

export interface DownloadInit {
  readonly pip: readonly string[];
  /** Such as `tensorflow-cpu==2.21.0`. */
  readonly requirements: readonly string[];
  readonly host: Host;
  /** Exists and is empty. The wheels are written here, and pip's temporary files to `temporaryFolder`. */
  readonly folder: string;
  readonly temporaryFolder: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** Gets the current file and the bytes so far, on one line. */
  readonly onProgress: (text: string) => void;
}

/** @returns the paths of the wheels @throws ENGINE_INSTALL_FAILED with the last output of pip; DISK_FULL, ABORTED */
export async function downloadWheels(init: DownloadInit): Promise<string[]> {
  const { folder, temporaryFolder } = init;
  const stop = new AbortController();
  let current = '';
  let bytes = 0;
  let lastSignMs = performance.now();
  const poll = async (): Promise<void> => {
    const now = (await folderBytes(folder)) + (await folderBytes(temporaryFolder));
    if (now !== bytes) lastSignMs = performance.now();
    bytes = now;
    const silentMs = performance.now() - lastSignMs;
    if (silentMs > SILENCE_MS) stop.abort(`no byte for ${SILENCE_MS / 1000} s`);
    init.onProgress(`${current === '' ? 'asking the package index' : current} · ${formatBytes(bytes)} here`);
  };
  const timer = setInterval(() => void poll(), POLL_MS);
  let outcome: ProgramOutcome;
  try {
    outcome = await runProgram({
      command: pipCommand(init),
      // pip downloads to TMPDIR first. It is beside the engine, so that its bytes are counted and it is removed with the engine.
      environment: { ...init.environment, TMPDIR: temporaryFolder, PYTHONUNBUFFERED: '1' },
      deadlineMs: DOWNLOAD_DEADLINE_MS,
      signal: init.signal,
      stop: stop.signal,
      onOutput: (text) => {
        lastSignMs = performance.now();
        const lines = [...text.matchAll(/^\s*(?:Downloading|Using cached) (\S+)(?: \(([^)]*)\))?/gmu)];
        const last = lines.at(-1);
        if (last !== undefined)
          current = `${last[1]!.split('/').at(-1)!}${last[2] === undefined ? '' : ` (${last[2]})`}`;
      },
    });
  } finally {
    clearInterval(timer);
  }
  if (outcome.status !== 0) throw pipFailure(init, outcome);
  return (await readdir(folder))
    .filter((name) => name.endsWith('.whl'))
    .sort()
    .map((name) => join(folder, name));
}

/** pip's command line for wheels of this host. */
function pipCommand({ pip, requirements, host, folder }: Omit<DownloadInit, 'environment' | 'signal'>): string[] {
  const platforms = platformTags(host).flatMap((tag) => ['--platform', tag]);
  const quiet = ['--no-input', '--disable-pip-version-check', '--progress-bar', 'off'];
  const what = ['--no-deps', '--only-binary=:all:', '--python-version', PYTHON_VERSION, '--implementation', 'cp'];
  return [...pip, 'download', ...quiet, ...what, ...platforms, '--dest', folder, ...requirements];
}

/** The command with which the user can download the wheels on another machine of this kind. */
export function pipDownload(requirements: readonly string[]): string {
  return `pip download --no-deps ${requirements.map((line) => (/[<>]/u.test(line) ? `'${line}'` : line)).join(' ')}`;
}

/** Every platform tag whose wheels run here, newest first: pip accepts only the tags that it is given. */
export function platformTags({ arch, glibcMinor = 0 }: Host): string[] {
  const machine = wheelMachine(arch) ?? arch;
  const minors = Array.from({ length: Math.max(0, glibcMinor - OLDEST_GLIBC_MINOR + 1) }, (_, i) => glibcMinor - i);
  const legacy = [
    ['manylinux2014', 17],
    ['manylinux2010', 12],
    ['manylinux1', 5],
  ] as const;
  return [
    ...minors.map((minor) => `manylinux_2_${minor}_${machine}`),
    ...legacy.filter(([, minor]) => minor <= glibcMinor).map(([name]) => `${name}_${machine}`),
  ];
}

function pipFailure(init: DownloadInit, outcome: ProgramOutcome): TrainerError {
  const output = `${outcome.stdout}\n${outcome.stderr}`;
  const wanted = init.requirements.join(' ');
  const tail = `output of pip:\n${outputTail(outcome)}`;
  if (DISK_SIGNS.test(output))
    return new TrainerError(
      'DISK_FULL',
      `no free space for the download of ${wanted} in ${init.temporaryFolder}; ${tail}`,
    );
  const isNetwork = outcome.stopped !== undefined || NETWORK_SIGNS.test(output);
  const advice = isNetwork
    ? 'The package index was not reached: check network and proxy, or download the wheel on another machine ' +
      `(${pipDownload(init.requirements)}) and give it with --wheel FILE`
    : 'Check the version, or give a local wheel with --wheel FILE';
  return new TrainerError(
    'ENGINE_INSTALL_FAILED',
    `pip could not download ${wanted} (${describeEnd(outcome)}); ${tail}\n${advice}`,
    { retryable: isNetwork },
  );
}

/** Total bytes of all files below; files that vanish meanwhile are not counted. */
async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  try {
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
      if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  } catch {
    return bytes; // pip moves files meanwhile
  }
  return bytes;
}
