/** A probe of `exmix doctor`, and how it is run: every one with a deadline, and a failure of a probe is a finding as well. */
import { withDeadline } from '../../shared/abort.ts';
import { systemClock } from '../../shared/clock.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { Finding } from './finding.ts';

export interface DoctorContext {
  /** Root of the file system that describes the machine; `/` but in tests. */
  readonly root: string;
  /** Where run folders go: what is written lies there. */
  readonly folder: string;
  /** exmix's home: installed engines, prepared mixtures. */
  readonly home: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface Probe {
  readonly check: string;
  readonly deadlineMs: number;
  /** The signal fires at the deadline, and when the command is interrupted. */
  readonly run: (context: DoctorContext, signal: AbortSignal) => Promise<readonly Finding[]>;
}

/** Never rejects. */
export async function runProbe(probe: Probe, context: DoctorContext): Promise<readonly Finding[]> {
  const { check, deadlineMs } = probe;
  const late: Finding = {
    check,
    status: 'fail',
    detail: `no answer within ${deadlineMs / 1000} s`,
    advice: 'what it looks at hangs (a file system, a driver), or the machine is overloaded',
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
