/** The engine that a run would take: tried against the reference, timed, and, where it computes on a GPU, compared with the CPU. */
import { describeEnd, outputTail, runProgram } from '../../deploy/engine/run-program.ts';
import { TrainerError } from '../../shared/errors.ts';
import { EXMIX_ENTRY, nodeCommand } from '../../shared/package-files.ts';
import { SELF_TEST, engineReportSchema, type EngineProbeRequest, type EngineReport } from './engine-report.ts';
import type { Finding } from './finding.ts';
import type { Probe } from './probe.ts';

/** CUDA's libraries from a cold file system, the reference, the graphs. */
const PROBE_DEADLINE_MS = 180_000;
/** Faster than any memory: the engine works on the caller's. B/s. */
const NOTHING_COPIED = 1e12;
/** A GPU that is not clearly faster than the CPU is not what computes. */
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
    advice: 'it is not what computes, or it is throttled or shared: nvidia-smi, exmix engine list',
  };
}

/** Runs the request in another process. @throws ENGINE_UNAVAILABLE with what that process said; ABORTED */
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
    const crash = outcome.endedBy === 'SIGILL' ? ': TensorFlow needs a CPU instruction (AVX) that is not here' : '';
    const said = outputTail(outcome, 3)
      .trim()
      .replace(/^exmix: (?:ENGINE_UNAVAILABLE: )?/u, '');
    const how = outcome.status === undefined ? `${describeEnd(outcome)}${crash}; ` : '';
    throw new TrainerError('ENGINE_UNAVAILABLE', `${how}${said}`);
  }
  return engineReportSchema.parse(JSON.parse(outcome.stdout.trimEnd().split('\n').at(-1)!));
}

/** The probe of one engine; tells the report to whoever predicts by it. */
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
