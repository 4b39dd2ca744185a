/** Unpacks the files of an engine from wheels, and checks each against its wheel's RECORD. */
import { join } from 'node:path';
import { syncFolder } from '../../shared/atomic-file.ts';
import type { EngineManifest } from '../../shared/installed-engine.ts';
import { checkPaths, modeInEngine, pathInEngine } from './engine-layout.ts';
import { formatBytes, formatElapsed } from './format-bytes.ts';
import { requireFreeSpace, type DiskSpace } from './free-space.ts';
import type { Wheel, WheelFile } from './wheel.ts';

/** Space for the addons, the manifest and the compiler's temporary files. */
const BUILD_BYTES = 64 * 2 ** 20;
/** Progress is reported after so many more bytes. */
const PROGRESS_BYTES = 16 * 2 ** 20;

interface UnpackComponents extends DiskSpace {
  readonly onLine: (text: string) => void;
  readonly onProgress: (text: string) => void;
  readonly signal: AbortSignal;
}

interface SourceFile {
  readonly wheel: Wheel;
  readonly file: WheelFile;
}

/**
 * @param folder of the engine
 * @returns the written files, for the manifest
 * @throws WHEEL_INVALID, DISK_FULL (also before it starts, by the sizes in the wheels), PATH_UNUSABLE, ABORTED
 */
export async function unpackWheels(
  wheels: readonly Wheel[],
  folder: string,
  components: UnpackComponents,
): Promise<EngineManifest['files']> {
  const { onLine, onProgress, signal } = components;
  /** By path within the engine. */
  const sources = new Map<string, SourceFile>();
  for (const wheel of wheels)
    for (const file of wheel.files((path) => pathInEngine(path) !== undefined)) {
      const path = pathInEngine(file.path);
      // Several nvidia wheels have the same empty __init__ files and licences; none of these has a path in the engine.
      if (path !== undefined) sources.set(path, { wheel, file });
    }
  checkPaths(new Set(sources.keys()), wheels.map(({ path }) => path).join(', '));
  const totalBytes = [...sources.values()].reduce((sum, { file }) => sum + file.bytes, 0);
  await requireFreeSpace(components, folder, totalBytes + BUILD_BYTES, 'to unpack the libraries');

  const startMs = performance.now();
  let bytes = 0;
  let reportedBytes = 0;
  const onBytes = (more: number): void => {
    bytes += more;
    if (bytes - reportedBytes < PROGRESS_BYTES) return;
    reportedBytes = bytes;
    onProgress(`unpacking ${formatBytes(bytes)} of ${formatBytes(totalBytes)}`);
  };
  for (const [path, { wheel, file }] of sources)
    await wheel.extract(file, join(folder, path), { mode: modeInEngine(path), onBytes, signal });
  for (const parent of new Set([...sources.keys()].map((path) => join(folder, path, '..')))) await syncFolder(parent);
  onLine(
    `unpacked ${sources.size} files, ${formatBytes(totalBytes)}, each checked against its wheel's RECORD, ` +
      `in ${formatElapsed(performance.now() - startMs)}`,
  );
  return [...sources].map(([path, { file }]) => ({ path, bytes: file.bytes, sha256: file.sha256 }));
}
