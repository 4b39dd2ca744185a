/** All probes in their order, one after the other: each measures, so none runs beside another. */
import { availableParallelism } from 'node:os';
import type { RunConfig } from '../../shared/config/schema.ts';
import { clockProbe } from './clock-probe.ts';
import { diskProbes } from './disk-probes.ts';
import { engineProbe } from './engine-probe.ts';
import type { EngineProbeRequest, EngineReport } from './engine-report.ts';
import type { Finding } from './finding.ts';
import { gpuProbe } from './gpu-probe.ts';
import { hostProbes } from './host-probes.ts';
import { installedEngineProbe } from './installed-engine-probe.ts';
import { loopbackProbe } from './loopback-probe.ts';
import { judgePrediction, type HostFigures } from './predict-run.ts';
import { runProbe, type DoctorContext, type Probe } from './probe.ts';

const MACHINE_PROBES: readonly Probe[] = [
  ...hostProbes,
  ...diskProbes,
  loopbackProbe,
  clockProbe,
  gpuProbe,
  installedEngineProbe,
];

export interface DoctorRequest {
  readonly context: DoctorContext;
  readonly engine: EngineProbeRequest;
  /** A run to predict, and with how many workers on this host. */
  readonly planned?: { readonly config: RunConfig; readonly numWorkers: number };
  /** Each finding, as soon as it is there. */
  readonly onFindings: (findings: readonly Finding[]) => void;
}

/** @returns all findings, in the order in which they were told */
export async function runDoctor({ context, engine, planned, onFindings }: DoctorRequest): Promise<Finding[]> {
  const all: Finding[] = [];
  const tell = (findings: readonly Finding[]): void => {
    all.push(...findings);
    onFindings(findings);
  };
  for (const probe of MACHINE_PROBES) tell(await runProbe(probe, context));
  let report: EngineReport | undefined;
  tell(
    await runProbe(
      engineProbe(engine, (found) => (report = found)),
      context,
    ),
  );
  if (planned !== undefined) tell(predict(planned, report, all));
  return all;
}

function predict(
  { config, numWorkers }: NonNullable<DoctorRequest['planned']>,
  report: EngineReport | undefined,
  findings: readonly Finding[],
): Finding[] {
  const figure = (check: string, name: string): number | undefined =>
    findings.find((finding) => finding.check === check && finding.figures?.[name] !== undefined)?.figures?.[name];
  const availableBytes = figure('memory', 'availableBytes');
  const diskBytesPerSecond = figure('disk speed', 'bytesPerSecond');
  const loopbackBytesPerSecond = figure('loopback', 'bytesPerSecond');
  if (report === undefined || availableBytes === undefined || !diskBytesPerSecond || !loopbackBytesPerSecond)
    return [
      {
        check: 'step',
        status: 'fail',
        detail: `${config.name}: no prediction without the measurements that failed above`,
      },
    ];
  const isNative = report.engine === 'native';
  const host: HostFigures = {
    rates: report.rates,
    retention: isNative ? 'recorded' : 'eager',
    numWorkers,
    numThreads: numWorkers * (isNative ? Math.max(1, config.compute.threads) : 1),
    numCores: availableParallelism(),
    availableBytes,
    engineLimitBytes: report.engineLimitBytes ?? undefined,
    diskBytesPerSecond,
    loopbackBytesPerSecond,
  };
  return judgePrediction(config, host);
}
