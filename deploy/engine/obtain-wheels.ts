/** Opens and checks the wheels of an engine: the given ones, or those that pip downloads. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { EngineFlavour } from '../../shared/installed-engine.ts';
import { downloadWheels, pipDownload } from './download-wheels.ts';
import { formatElapsed } from './format-bytes.ts';
import { requireFreeSpace, type DiskSpace } from './free-space.ts';
import type { Host } from './host.ts';
import type { Tools } from './prerequisites.ts';
import { Wheel } from './wheel.ts';
import { checkWheels, missingCuda, tensorflowPackage } from './wheel-selection.ts';

/** Space for the wheels and the unpacked files of TensorFlow 2.21 together (1.1 and 8.4 GiB), rounded up. */
const DOWNLOAD_BYTES: Readonly<Record<EngineFlavour, number>> = { cpu: 1.5 * 2 ** 30, cuda: 10 * 2 ** 30 };

export interface ObtainInit {
  readonly flavour: EngineFlavour;
  readonly version: string;
  /** Open wheels; the caller closes them. */
  readonly given: readonly Wheel[];
  readonly tools: Tools;
}

export interface ObtainComponents extends DiskSpace {
  readonly host: Host;
  readonly environment: NodeJS.ProcessEnv;
  readonly onLine: (text: string) => void;
  readonly onProgress: (text: string) => void;
  readonly signal: AbortSignal;
}

/** @throws PATH_UNUSABLE, WHEEL_INVALID; then all wheels are closed */
export async function openWheels(paths: readonly string[]): Promise<Wheel[]> {
  const wheels: Wheel[] = [];
  try {
    for (const path of paths) wheels.push(await Wheel.open(path));
    return wheels;
  } catch (error) {
    for (const wheel of wheels) wheel.close();
    throw error;
  }
}

/**
 * @param partial the folder of the installation; downloads are written to `download` in it
 * @returns the wheels, TensorFlow's first; the caller closes them
 * @throws WHEEL_INVALID, ENGINE_INSTALL_FAILED, DISK_FULL, PATH_UNUSABLE, ABORTED
 */
export async function obtainWheels(partial: string, init: ObtainInit, components: ObtainComponents): Promise<Wheel[]> {
  const { given, flavour, version, tools } = init;
  const { host } = components;
  if (given.length > 0) {
    checkWheels(given, version, host);
    refuseMissingCuda(missingCuda(flavour, given));
    return [...given];
  }
  if (tools.pip === undefined) throw new TrainerError('INTERNAL', 'no wheels are given and pip was not searched');
  const { pip } = tools;
  await requireFreeSpace(components, partial, DOWNLOAD_BYTES[flavour], 'to download and unpack the wheels');
  const opened: Wheel[] = [];
  const download = async (name: string, requirements: readonly string[]): Promise<void> => {
    const folder = join(partial, 'download', name);
    const temporaryFolder = join(partial, 'download', `${name}-temporary`);
    await makeFolders([folder, temporaryFolder]);
    const startMs = performance.now();
    const wheels = await openWheels(
      await downloadWheels({ ...components, pip, requirements, folder, temporaryFolder }),
    );
    opened.push(...wheels);
    components.onLine(`downloaded ${requirements.join(' ')} in ${formatElapsed(performance.now() - startMs)}`);
  };
  try {
    await download('tensorflow', [`${tensorflowPackage(flavour, host)}==${version}`]);
    checkWheels(opened, version, host);
    const requirements = missingCuda(flavour, opened);
    if (requirements.length > 0) await download('cuda', requirements);
    checkWheels(opened, version, host);
    refuseMissingCuda(missingCuda(flavour, opened));
    return opened;
  } catch (error) {
    for (const wheel of opened) wheel.close();
    throw error;
  }
}

function refuseMissingCuda(requirements: readonly string[]): void {
  if (requirements.length === 0) return;
  throw new TrainerError(
    'WHEEL_INVALID',
    `flavour cuda needs ${requirements.length} more wheels, each given with --wheel; download them with\n` +
      `  ${pipDownload(requirements)}\nor install --flavour cpu`,
  );
}

async function makeFolders(paths: readonly string[]): Promise<void> {
  for (const path of paths)
    try {
      await mkdir(path, { recursive: true });
    } catch (error) {
      throw toStorageError(error, 'create', path);
    }
}
