/**
 * Which files of the wheels an engine takes, and where they lie in it (the layout is in shared/installed-engine.ts). Pure.
 *
 * libtensorflow_framework.so.2 of a CUDA wheel has the RUNPATH `$ORIGIN/../nvidia/<package>/lib` (readelf -d), and XLA looks for
 * ptxas and libdevice in `../nvidia/cuda_nvcc` beside it: so the nvidia wheels come to deps/nvidia, beside deps/lib.
 */
import { TrainerError } from '../../shared/errors.ts';

/** What the addon is linked with, below deps/lib. */
export const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'] as const;

/** The C API, and what its headers include (they moved between versions of TensorFlow). */
const HEADERS =
  /^tensorflow\/include\/((?:(?:tensorflow\/c|(?:tensorflow\/|xla\/)?tsl\/c)\/.+|[a-z/]+\/platform\/ctstring[a-z_]*)\.h)$/u;
const CUDA_FILES = /^nvidia\/[^/]+\/(?:lib|bin|nvvm)\//u;
/** Static libraries, and Python beside them. */
const UNUSED = /\.(?:a|py|pyi|pyc)$/u;

/** @returns the place within the engine; undefined for what it does not need */
export function placeInEngine(wheelPath: string): string | undefined {
  const library = LIBRARIES.find((name) => wheelPath === `tensorflow/${name}`);
  if (library !== undefined) return `deps/lib/${library}`;
  const header = HEADERS.exec(wheelPath)?.[1];
  if (header !== undefined) return `deps/include/${header}`;
  return CUDA_FILES.test(wheelPath) && !UNUSED.test(wheelPath) ? `deps/${wheelPath}` : undefined;
}

/** ptxas and the like are run, everything else is read. */
export function modeInEngine(place: string): number {
  return place.includes('/bin/') ? 0o755 : 0o644;
}

/** @throws WHEEL_INVALID where a library that the addon is linked with is not among the places */
export function checkPlaces(places: ReadonlySet<string>, where: string): void {
  const needed = [...LIBRARIES.map((name) => `deps/lib/${name}`), 'deps/include/tensorflow/c/c_api.h'];
  const missing = needed.filter((place) => !places.has(place));
  if (missing.length > 0)
    throw new TrainerError(
      'WHEEL_INVALID',
      `${where}: expected the files of TensorFlow's C API, found no ${missing.join(', ')}; is it a Linux wheel of TensorFlow?`,
    );
}
