/**
 * Maps files of the wheels to their paths in an engine (layout: shared/installed-engine.ts). Pure.
 *
 * libtensorflow_framework.so.2 of a CUDA wheel has the RUNPATH `$ORIGIN/../nvidia/<package>/lib` (readelf -d), and XLA searches
 * ptxas and libdevice in `../nvidia/cuda_nvcc` beside it. So the nvidia wheels are unpacked to deps/nvidia, beside deps/lib.
 */
import { TrainerError } from '../../shared/errors.ts';

/** Libraries with which the addon is linked, in deps/lib. */
export const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'] as const;

/** Headers of the C API and those that they include. They moved between versions of TensorFlow. */
const HEADERS =
  /^tensorflow\/include\/((?:(?:tensorflow\/c|(?:tensorflow\/|xla\/)?tsl\/c)\/.+|[a-z/]+\/platform\/ctstring[a-z_]*)\.h)$/u;
const CUDA_FILES = /^nvidia\/[^/]+\/(?:lib|bin|nvvm)\//u;
/** Static libraries and Python files. */
const UNUSED = /\.(?:a|py|pyi|pyc)$/u;

/** @returns the path within the engine; undefined for a file that it does not need */
export function pathInEngine(wheelPath: string): string | undefined {
  const library = LIBRARIES.find((name) => wheelPath === `tensorflow/${name}`);
  if (library !== undefined) return `deps/lib/${library}`;
  const header = HEADERS.exec(wheelPath)?.[1];
  if (header !== undefined) return `deps/include/${header}`;
  return CUDA_FILES.test(wheelPath) && !UNUSED.test(wheelPath) ? `deps/${wheelPath}` : undefined;
}

/** Programs such as ptxas are executable. */
export function modeInEngine(path: string): number {
  return path.includes('/bin/') ? 0o755 : 0o644;
}

/** @param paths of the files of an engine @throws WHEEL_INVALID if a library or header that the addons need is missing */
export function checkPaths(paths: ReadonlySet<string>, where: string): void {
  const needed = [...LIBRARIES.map((name) => `deps/lib/${name}`), 'deps/include/tensorflow/c/c_api.h'];
  const missing = needed.filter((path) => !paths.has(path));
  if (missing.length > 0)
    throw new TrainerError(
      'WHEEL_INVALID',
      `${where}: expected the files of TensorFlow's C API, found no ${missing.join(', ')}; is it a Linux wheel of TensorFlow?`,
    );
}
