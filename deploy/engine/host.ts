/** The facts of this machine that determine which wheels fit it. */
import { existsSync } from 'node:fs';
import { z } from 'zod';

export interface Host {
  readonly platform: string;
  /** Node's name: `x64`, `arm64`. */
  readonly arch: string;
  /** x of glibc 2.x; undefined for another C library (musl) or an unknown one. */
  readonly glibcMinor: number | undefined;
  /** Whether an NVIDIA driver is loaded here. */
  readonly hasNvidiaDriver: boolean;
}

/** Files of a loaded GPU driver, on Linux and on Linux under Windows (WSL). */
const DRIVER_FILES = ['/proc/driver/nvidia/version', '/dev/nvidiactl', '/dev/dxg'];

const reportSchema = z.object({ header: z.object({ glibcVersionRuntime: z.string().optional() }) });

export function readHost(): Host {
  const report = reportSchema.safeParse(process.report.getReport());
  const glibc = report.data?.header.glibcVersionRuntime;
  const minor = /^2\.(\d+)/u.exec(glibc ?? '')?.[1];
  return {
    platform: process.platform,
    arch: process.arch,
    glibcMinor: minor === undefined ? undefined : Number(minor),
    hasNvidiaDriver: DRIVER_FILES.some((path) => existsSync(path)),
  };
}

/** The machine in wheel tags; undefined if TensorFlow has no wheel for it. */
export function wheelMachine(arch: string): string | undefined {
  return { x64: 'x86_64', arm64: 'aarch64' }[arch];
}
