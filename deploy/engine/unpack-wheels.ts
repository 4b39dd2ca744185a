/** Takes out of wheels what an engine needs, each file checked against its wheel's RECORD. */
import { join } from 'node:path';
import { syncFolder } from '../../shared/atomic-file.ts';
import type { EngineManifest } from '../../shared/installed-engine.ts';
import { requireRoom, type DiskRoom } from './disk-room.ts';
import { checkPlaces, modeInEngine, placeInEngine } from './engine-layout.ts';
import { formatBytes, formatElapsed } from './format-bytes.ts';
import type { Wheel, WheelFile } from './wheel.ts';

/** For the addons, the manifest and the compiler's temporary files. */
const ROOM_TO_BUILD_BYTES = 64 * 2 ** 20;
/** Progress is told about each time this much more is there. */
const PROGRESS_BYTES = 16 * 2 ** 20;

interface UnpackComponents extends DiskRoom {
  readonly onLine: (text: string) => void;
  readonly onProgress: (text: string) => void;
  readonly signal: AbortSignal;
}

interface Placed {
  readonly wheel: Wheel;
  readonly file: WheelFile;
  readonly place: string;
}

/**
 * @param folder of the engine
 * @returns the files written, for the manifest
 * @throws WHEEL_INVALID, DISK_FULL (up front, by the sizes in the wheels), PATH_UNUSABLE, ABORTED
 */
export async function unpackWheels(
  wheels: readonly Wheel[],
  folder: string,
  components: UnpackComponents,
): Promise<EngineManifest['files']> {
  const { onLine, onProgress, signal } = components;
  const placed = new Map<string, Placed>();
  for (const wheel of wheels)
    for (const file of wheel.files((path) => placeInEngine(path) !== undefined)) {
      const place = placeInEngine(file.path);
      // Several nvidia wheels hold the same empty __init__ files and licences; none of those is placed.
      if (place !== undefined) placed.set(place, { wheel, file, place });
    }
  checkPlaces(new Set(placed.keys()), wheels.map(({ path }) => path).join(', '));
  const totalBytes = [...placed.values()].reduce((sum, { file }) => sum + file.bytes, 0);
  await requireRoom(components, folder, totalBytes + ROOM_TO_BUILD_BYTES, 'to unpack the libraries');

  const startMs = performance.now();
  let bytes = 0;
  let toldBytes = 0;
  const onBytes = (more: number): void => {
    bytes += more;
    if (bytes - toldBytes < PROGRESS_BYTES) return;
    toldBytes = bytes;
    onProgress(`unpacking ${formatBytes(bytes)} of ${formatBytes(totalBytes)}`);
  };
  for (const { wheel, file, place } of placed.values())
    await wheel.extract(file, join(folder, place), { mode: modeInEngine(place), onBytes, signal });
  for (const path of new Set([...placed.keys()].map((place) => join(folder, place, '..')))) await syncFolder(path);
  onLine(
    `unpacked ${placed.size} files, ${formatBytes(totalBytes)}, each as its wheel's RECORD says, ` +
      `in ${formatElapsed(performance.now() - startMs)}`,
  );
  return [...placed.values()].map(({ file, place }) => ({ path: place, bytes: file.bytes, sha256: file.sha256 }));
}
