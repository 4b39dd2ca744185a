/** The clocks: whether the wall clock runs as fast as the monotonic one, and whether something keeps it right. Deadlines use the monotonic clock only; names, logs and leases of other hosts the wall clock. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { runProgram } from '../../deploy/engine/run-program.ts';
import type { Finding } from './finding.ts';
import type { Probe } from './probe.ts';

/** Between the first and the last reading, ms. */
const SPAN_MS = 300;
/** A step of the wall clock within the span, or its slew (NTP slews by at most 0.5 ms a second), ms. */
const LARGEST_DRIFT_MS = 5;
/** Some virtual machines fall back to these: a reading costs microseconds. */
const SLOW_SOURCES = ['hpet', 'acpi_pm', 'jiffies'];

export interface ClockFacts {
  /** Wall time minus monotonic time gained during the span, ms. */
  readonly driftMs: number;
  /** Undefined where nobody tells. */
  readonly isSynchronized: boolean | undefined;
  /** Of the kernel, such as tsc; empty where it does not tell. */
  readonly source: string;
}

export function judgeClock({ driftMs, isSynchronized, source }: ClockFacts): Finding {
  const sync =
    isSynchronized === undefined ? 'synchronization not known' : isSynchronized ? 'synchronized' : 'not synchronized';
  const detail = `wall clock gained ${driftMs.toFixed(2)} ms in ${SPAN_MS} ms, ${sync}${source === '' ? '' : `, source ${source}`}`;
  const finding = { check: 'clock', detail, figures: { driftMs } };
  if (Math.abs(driftMs) > LARGEST_DRIFT_MS)
    return {
      ...finding,
      status: 'warn',
      advice: 'something sets the clock; leases of run folders and times in logs will be wrong',
    };
  if (SLOW_SOURCES.includes(source))
    return { ...finding, status: 'warn', advice: 'reading this clock is slow: boot with clocksource=tsc or kvm-clock' };
  if (isSynchronized === false)
    return {
      ...finding,
      status: 'warn',
      advice: 'timedatectl set-ntp true; on several hosts times in logs will not agree',
    };
  return { ...finding, status: 'ok' };
}

/** @param text of `timedatectl show`: `NTPSynchronized=yes` @returns undefined where it does not tell */
export function parseTimedatectl(text: string): boolean | undefined {
  const value = /^NTPSynchronized=(yes|no)$/mu.exec(text)?.[1];
  return value === undefined ? undefined : value === 'yes';
}

async function findSynchronized(root: string, signal: AbortSignal): Promise<boolean | undefined> {
  const mark = await stat(join(root, 'run/systemd/timesync/synchronized')).catch(() => undefined);
  if (mark !== undefined) return true;
  // Where no systemd runs, timedatectl fails.
  const command = ['timedatectl', 'show', '--property=NTPSynchronized'];
  const { status, stdout } = await runProgram({ command, environment: process.env, deadlineMs: 5_000, signal });
  return status === 0 ? parseTimedatectl(stdout) : undefined;
}

async function measureDrift(signal: AbortSignal): Promise<number> {
  const offset = () => Date.now() - performance.now();
  const before = offset();
  await setTimeout(SPAN_MS, undefined, { signal });
  return offset() - before;
}

export const clockProbe: Probe = {
  check: 'clock',
  deadlineMs: 10_000,
  run: async ({ root }, signal) => {
    const file = join(root, 'sys/devices/system/clocksource/clocksource0/current_clocksource');
    const source = (await readFile(file, 'utf8').catch(() => '')).trim();
    const isSynchronized = await findSynchronized(root, signal);
    return [judgeClock({ driftMs: await measureDrift(signal), isSynchronized, source })];
  },
};
