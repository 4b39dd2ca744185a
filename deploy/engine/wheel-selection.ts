/** Chooses the packages of an engine, and checks that given wheels are those packages, for this machine. Pure. */
import { basename } from 'node:path';
import { TrainerError } from '../../shared/errors.ts';
import type { EngineFlavour } from '../../shared/installed-engine.ts';
import { wheelMachine, type Host } from './host.ts';
import { parsePlatform, requirementName, type WheelMetadata } from './wheel-metadata.ts';

export interface WheelFacts {
  readonly path: string;
  readonly metadata: WheelMetadata;
  readonly tags: readonly string[];
}

const TENSORFLOW_PACKAGES = ['tensorflow', 'tensorflow-cpu'];

/** @throws ENGINE_UNAVAILABLE if TensorFlow has no wheel for this machine */
export function checkHost({ platform, arch, glibcMinor }: Host): void {
  const machine = wheelMachine(arch);
  if (platform === 'linux' && machine !== undefined && glibcMinor !== undefined) return;
  const here = `${platform} on ${arch}${platform === 'linux' && glibcMinor === undefined ? ' without glibc' : ''}`;
  throw new TrainerError(
    'ENGINE_UNAVAILABLE',
    `the native engine runs on Linux with glibc on x86-64 or arm64, this is ${here}; use --engine wasm here`,
  );
}

/**
 * Resolves `auto`: given wheels decide; else cuda if an NVIDIA driver is loaded on x86-64; else cpu.
 * @throws ENGINE_UNAVAILABLE for cuda on arm64, where TensorFlow's wheels are for the CPU only
 */
export function resolveFlavour(
  asked: EngineFlavour | 'auto',
  host: Host,
  wheels: readonly WheelFacts[],
): { readonly flavour: EngineFlavour; readonly reason: string } {
  const canHaveCuda = host.arch === 'x64';
  if (asked === 'cuda' && !canHaveCuda)
    throw new TrainerError(
      'ENGINE_UNAVAILABLE',
      `TensorFlow has CUDA wheels for x86-64 only, this is ${host.arch}; install --flavour cpu`,
    );
  if (asked !== 'auto') return { flavour: asked, reason: 'requested' };
  const given = wheels.map(({ metadata }) => metadata.name).find((name) => TENSORFLOW_PACKAGES.includes(name));
  if (given !== undefined) {
    const isCuda = given === 'tensorflow' && canHaveCuda;
    return { flavour: isCuda ? 'cuda' : 'cpu', reason: `the given wheel is ${given}` };
  }
  if (host.hasNvidiaDriver && canHaveCuda) return { flavour: 'cuda', reason: 'an NVIDIA driver is loaded' };
  if (host.hasNvidiaDriver) return { flavour: 'cpu', reason: 'TensorFlow has no CUDA wheels for arm64' };
  return { flavour: 'cpu', reason: 'no NVIDIA driver is loaded' };
}

/** The package of TensorFlow. On arm64, `tensorflow` is for the CPU and `tensorflow-cpu` has no wheel. */
export function tensorflowPackage(flavour: EngineFlavour, host: Host): string {
  return flavour === 'cpu' && host.arch === 'x64' ? 'tensorflow-cpu' : 'tensorflow';
}

/** Finds the wheel of TensorFlow. @throws WHEEL_INVALID if there is none, or several */
function findTensorflow<W extends WheelFacts>(wheels: readonly W[]): W {
  const found = wheels.filter(({ metadata }) => TENSORFLOW_PACKAGES.includes(metadata.name));
  if (found.length === 1) return found[0]!;
  const names = wheels.map(({ metadata }) => `${metadata.name} ${metadata.version}`).join(', ');
  throw new TrainerError(
    'WHEEL_INVALID',
    `expected one wheel of ${TENSORFLOW_PACKAGES.join(' or ')}, got ${found.length} (given: ${names})`,
  );
}

/** @throws WHEEL_INVALID for a wheel of another platform, machine or a newer C library, or of another version */
export function checkWheels(wheels: readonly WheelFacts[], version: string, host: Host): void {
  for (const wheel of wheels) checkPlatform(wheel, host);
  const { metadata, path } = findTensorflow(wheels);
  if (metadata.version !== version)
    throw new TrainerError(
      'WHEEL_INVALID',
      `${basename(path)}: expected TensorFlow ${version}, got ${metadata.version}; ` +
        `to install that one: --version ${metadata.version}`,
    );
}

/**
 * @returns the CUDA requirements in TensorFlow's metadata that the wheels do not satisfy, such as `nvidia-cudnn-cu12<10.0,>=9.3.0.75`;
 * empty for cpu
 */
export function missingCuda(flavour: EngineFlavour, wheels: readonly WheelFacts[]): string[] {
  if (flavour === 'cpu') return [];
  const names = new Set(wheels.map(({ metadata }) => metadata.name));
  return findTensorflow(wheels).metadata.cudaRequirements.filter((line) => !names.has(requirementName(line)));
}

function checkPlatform({ path, tags }: WheelFacts, host: Host): void {
  const platforms = tags.map(parsePlatform);
  const machine = wheelMachine(host.arch);
  const glibcMinor = host.glibcMinor ?? 0;
  const isOurs = platforms.filter((p) => p.system === 'any' || (p.system === 'linux' && p.machine === machine));
  if (isOurs.some((p) => p.glibcMinor <= glibcMinor)) return;
  const needed = isOurs[0];
  const expected =
    needed === undefined ? `a wheel for Linux on ${machine ?? host.arch}` : `glibc 2.${needed.glibcMinor}`;
  const found =
    needed === undefined ? `one for ${tags.join(', ') || 'nothing'}` : `glibc 2.${glibcMinor} on this machine`;
  throw new TrainerError('WHEEL_INVALID', `${basename(path)}: expected ${expected}, got ${found}`);
}
