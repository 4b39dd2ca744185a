/**
 * Probes the clocks: does the wall clock run as fast as the monotonic clock, and is it synchronized? Deadlines use only the monotonic clock;
 * names, logs and leases of other hosts use the wall clock.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { runProgram } from '../../deploy/engine/run-program.ts';
import type { Finding } from './finding.ts';
import type { Probe } from './probe.ts';

/** Between the two readings, ms. */
const SPAN_MS = 300;
/** Larger drift means that the wall clock was set: NTP slews by at most 0.5 ms per second. */
const LARGEST_DRIFT_MS = 5;
/** Fallback sources of some virtual machines; a reading costs microseconds. */
const SLOW_SOURCES = ['hpet', 'acpi_pm', 'jiffies'];

export interface ClockFacts {
  /** Change of wall time minus monotonic time during the span, ms. */
  readonly driftMs: number;
  /** Undefined if unknown. */
  readonly isSynchronized: boolean | undefined;
  /** Clock source of the kernel, such as tsc; empty if unknown. */
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
      advice: 'timedatectl set-ntp true; otherwise times in the logs of several hosts do not agree',
    };
  return { ...finding, status: 'ok' };
}

/** @param text of `timedatectl show`: `NTPSynchronized=yes` @returns undefined if it has no such line */
export function parseTimedatectl(text: string): boolean | undefined {
  const value = /^NTPSynchronized=(yes|no)$/mu.exec(text)?.[1];
  return value === undefined ? undefined : value === 'yes';
}

async function findSynchronized(root: string, signal: AbortSignal): Promise<boolean | undefined> {
  const mark = await stat(join(root, 'run/systemd/timesync/synchronized')).catch(() => undefined);
  if (mark !== undefined) return true;
  // Without systemd, timedatectl fails.
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
