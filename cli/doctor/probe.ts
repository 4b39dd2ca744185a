/** Interface of a probe of `exmix doctor`, and its runner: each probe has a deadline, and a failed probe gives a finding. */
import { withDeadline } from '../../shared/abort.ts';
import { systemClock } from '../../shared/clock.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { Finding } from './finding.ts';

export interface DoctorContext {
  /** Root of the file system that describes the machine: `/`, except in tests. */
  readonly root: string;
  /** Folder for run folders; the disk probes write there. */
  readonly folder: string;
  /** exmix's home: installed engines, prepared mixtures. */
  readonly home: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface Probe {
  readonly check: string;
  readonly deadlineMs: number;
  /** @param signal is aborted at the deadline */
  readonly run: (context: DoctorContext, signal: AbortSignal) => Promise<readonly Finding[]>;
}

/** Never rejects. */
export async function runProbe(probe: Probe, context: DoctorContext): Promise<readonly Finding[]> {
  const { check, deadlineMs } = probe;
  const late: Finding = {
    check,
    status: 'fail',
    detail: `no answer within ${deadlineMs / 1000} s`,
    advice: 'a file system or a driver hangs, or the machine is overloaded',
  };
  const isLate = new TrainerError('ABORTED', late.detail);
  try {
    return await withDeadline((signal) => probe.run(context, signal), {
      clock: systemClock,
      ms: deadlineMs,
      onLate: () => isLate,
      doing: check,
    });
  } catch (thrown) {
    if (thrown === isLate) return [late];
    const { code, message } = toTrainerError(thrown);
    return [{ check, status: 'fail', detail: `${code}: ${message}` }];
  }
}
