/** Runs all probes in order, one at a time, because concurrent measurements would disturb each other. */
import { availableParallelism } from 'node:os';
import type { InitSettings, RunConfig } from '../../shared/config/schema.ts';
import { clockProbe } from './clock-probe.ts';
import { diskProbes } from './disk-probes.ts';
import { engineProbe } from './engine-probe.ts';
import type { EngineProbeRequest, EngineReport } from './engine-report.ts';
import type { Finding } from './finding.ts';
import { gpuProbe } from './gpu-probe.ts';
import { hostProbes } from './host-probes.ts';
import { installedEngineProbe } from './installed-engine-probe.ts';
import { loopbackProbe } from './loopback-probe.ts';
import { modelProbe } from './model-probe.ts';
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
  /** The run to predict, and its number of workers on this host. */
  readonly planned?: { readonly config: RunConfig; readonly numWorkers: number };
  /** The folder that the run begins with, if it is to be checked. */
  readonly init?: { readonly folder: string; readonly optimizer: InitSettings['optimizer'] };
  /** Called with the findings of each probe when it ends. */
  readonly onFindings: (findings: readonly Finding[]) => Promise<void>;
}

/** @returns all findings, in the order of the probes */
export async function runDoctor({ context, engine, planned, init, onFindings }: DoctorRequest): Promise<Finding[]> {
  const all: Finding[] = [];
  const report = async (findings: readonly Finding[]): Promise<void> => {
    all.push(...findings);
    await onFindings(findings);
  };
  for (const probe of MACHINE_PROBES) await report(await runProbe(probe, context));
  if (init !== undefined) await report(await runProbe(modelProbe(init.folder, init.optimizer), context));
  let engineReport: EngineReport | undefined;
  await report(
    await runProbe(
      engineProbe(engine, (found) => (engineReport = found)),
      context,
    ),
  );
  if (planned !== undefined) await report(predict(planned, engineReport, all));
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
        detail: `${config.name}: no prediction, because measurements above failed`,
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
