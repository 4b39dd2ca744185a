/** Probes the engine that a run would use: checks it against the reference, times it, and compares a GPU with the CPU. */
import { describeEnd, outputTail, runProgram } from '../../deploy/engine/run-program.ts';
import { TrainerError } from '../../shared/errors.ts';
import { EXMIX_ENTRY, nodeCommand } from '../../shared/package-files.ts';
import { SELF_TEST, engineReportSchema, type EngineProbeRequest, type EngineReport } from './engine-report.ts';
import type { Finding } from './finding.ts';
import type { Probe } from './probe.ts';

/** Covers loading CUDA's libraries from a cold file system, the reference check and the graphs. */
const PROBE_DEADLINE_MS = 180_000;
/** Faster than any memory, so the engine works on the caller's memory without a copy. B/s. */
const NOTHING_COPIED = 1e12;
/** With a smaller gain over the CPU, the engine probably does not compute on the GPU. */
const LEAST_GAIN_OF_GPU = 2;

export function judgeEngine(report: EngineReport): Finding[] {
  const { engine, device, fingerprint, reason, notes, numChecks, failedChecks } = report;
  const { squareFlopsPerSecond, copyBytesPerSecond, rates } = report;
  const passed = failedChecks.length === 0;
  const selfTest: Finding = passed
    ? { check: 'self-test', status: 'ok', detail: `${numChecks} reference checks passed by ${engine} (${fingerprint})` }
    : {
        check: 'self-test',
        status: 'fail',
        detail: `${engine}: beyond tolerance in ${failedChecks.join(', ')} (${fingerprint})`,
        advice: `do not train with this engine on this machine; exmix doctor --fixture ${SELF_TEST} says more`,
      };
  const copied =
    copyBytesPerSecond > NOTHING_COPIED
      ? 'nothing copied in or out'
      : `${(copyBytesPerSecond / 1e9).toFixed(1)} GB/s copied in and out`;
  const speed =
    `${(squareFlopsPerSecond / 1e9).toFixed(1)} GFLOP/s in a product of 1024 × 1024, ` +
    `${((12 * rates.elementsPerSecond) / 1e9).toFixed(1)} GB/s in additions, ${copied} (${device})`;
  const figures = { squareFlopsPerSecond, copyBytesPerSecond, ...rates };
  return [
    { check: 'engine', status: 'ok', detail: reason },
    ...notes.map((detail): Finding => ({ check: 'engine', status: 'warn', detail })),
    selfTest,
    { check: 'speed', status: 'ok', detail: speed, figures },
  ];
}

export function judgeGpuGain(onGpu: EngineReport, onCpu: EngineReport): Finding {
  const gain = onGpu.squareFlopsPerSecond / onCpu.squareFlopsPerSecond;
  const detail = `the GPU multiplies matrices ${gain.toFixed(1)} times as fast as this CPU with ${onCpu.device}`;
  const finding = { check: 'gpu use', detail, figures: { gain } };
  if (gain >= LEAST_GAIN_OF_GPU) return { ...finding, status: 'ok' };
  return {
    ...finding,
    status: 'fail',
    advice: 'the engine does not use it, or it is throttled or shared: nvidia-smi, exmix engine list',
  };
}

/** Runs the request in a child process. @throws ENGINE_UNAVAILABLE with the output of that process; ABORTED */
export async function askEngine(
  request: EngineProbeRequest,
  environment: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<EngineReport> {
  const outcome = await runProgram({
    command: [...nodeCommand(EXMIX_ENTRY), 'doctor', '--probe-engine', JSON.stringify(request)],
    environment: { ...environment },
    deadlineMs: PROBE_DEADLINE_MS,
    signal,
  });
  if (outcome.status !== 0) {
    const crash = outcome.endedBy === 'SIGILL' ? ': TensorFlow needs AVX, which this CPU lacks' : '';
    const output = outputTail(outcome, 3)
      .trim()
      .replace(/^exmix: (?:ENGINE_UNAVAILABLE: )?/u, '');
    const how = outcome.status === undefined ? `${describeEnd(outcome)}${crash}; ` : '';
    throw new TrainerError('ENGINE_UNAVAILABLE', `${how}${output}`);
  }
  return engineReportSchema.parse(JSON.parse(outcome.stdout.trimEnd().split('\n').at(-1)!));
}

/** The probe of one engine. Passes its report to `onReport`, for the prediction. */
export function engineProbe(request: EngineProbeRequest, onReport: (report: EngineReport) => void): Probe {
  return {
    check: 'engine',
    deadlineMs: 3 * PROBE_DEADLINE_MS,
    run: async ({ environment }, signal) => {
      const report = await askEngine(request, environment, signal);
      onReport(report);
      const findings = judgeEngine(report);
      if (!report.device.includes('GPU')) return findings;
      const onCpu = await askEngine({ ...request, device: 'cpu' }, environment, signal);
      return [...findings, judgeGpuGain(report, onCpu)];
    },
  };
}
