/**
 * Reference updates of optimizers (golden/optimizers): six steps of four tensors, by the code that an engine's `apply` runs: eager tfjs on wasm and
 * cpu, a recorded graph with fused blocks on native. Clip factors and schedules are compared too.
 */
import { TrainerError } from '../../shared/errors.ts';
import { learningRate, scheduleSchema } from '../../shared/learning-rate.ts';
import { clipFactor, optimizerSchema, type OptimizerSettings } from '../../shared/optimizer.ts';
import { asFloat32, readSafetensors } from '../../shared/safetensors.ts';
import { chooseEngine } from '../../worker/engine-choice/choose-engine.ts';
import { readEngineFacts } from '../../worker/engine-choice/read-engine-facts.ts';
import { openUpdated } from '../../worker/engine/native/updated-parameters.fixture.ts';
import type { GoldenCase } from './metric-cases.ts';

/** Of the largest entry of a tensor. */
export const OPTIMIZER_TOLERANCE = 1e-6;
const SCHEDULE_TOLERANCE = 1e-12;
const TENSORS = ['a', 'b', 'c', 'd'] as const;

interface OptimizerCase {
  readonly rule: string;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weight_decay: number;
  readonly decays: readonly string[];
  readonly max_grad_norm: number | null;
  readonly grad_norm: readonly number[];
  readonly clip_factor: readonly number[];
}

export interface OptimizerReport {
  numCases: number;
  /** Of the updates, relative to the largest entry of a tensor. */
  worst: number;
  readonly failures: string[];
}

export function isOptimizerFile(content: GoldenCase): boolean {
  return typeof content['cases'] === 'object' && typeof content['schedules'] === 'object' && 'learning_rates' in content;
}

/** @param change replaces our settings of a case: tests plant errors */
export async function checkOptimizerFile(
  content: GoldenCase,
  tensorFile: string,
  engineName: string,
  change: (settings: OptimizerSettings) => OptimizerSettings = (settings) => settings,
): Promise<OptimizerReport> {
  const report: OptimizerReport = { numCases: 0, worst: 0, failures: [] };
  const { tensors } = await readSafetensors(tensorFile);
  const valuesOf = (name: string): Float32Array => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new TrainerError('SAFETENSORS_INVALID', `${tensorFile} has no tensor ${name}`);
    return asFloat32(tensor);
  };
  const rates = content['learning_rates'] as readonly number[];
  for (const [name, one] of Object.entries(content['cases'] as Readonly<Record<string, OptimizerCase>>)) {
    report.numCases++;
    const settings = change(settingsOf(one));
    // Decay goes by names: a tensor without it is called a bias here.
    const named = TENSORS.map((tensor) => (one.decays.includes(tensor) ? tensor : `${tensor}.bias`));
    const specs = TENSORS.map((tensor, i) => ({
      name: named[i]!,
      shape: tensors.get(`param.0.${tensor}`)!.shape,
      initializer: { kind: 'ones' } as const,
    }));
    const start = TENSORS.map((tensor) => valuesOf(`param.0.${tensor}`).slice());
    const { engine } = chooseEngine({ name: engineName, device: 'cpu' }, await readEngineFacts());
    const subject = await openUpdated(engine, settings, specs, start);
    const compare = (what: string, found: Float32Array, expected: Float32Array) => {
      const largest = largestOf(expected);
      const difference = largestOf(found.map((value, i) => value - expected[i]!));
      report.worst = Math.max(report.worst, difference / largest);
      if (!(difference <= OPTIMIZER_TOLERANCE * largest))
        report.failures.push(`${name} ${what}: off by ${difference}, the largest entry is ${largest}`);
    };
    for (const [step, rate] of rates.entries()) {
      const gradients = TENSORS.map((tensor) => valuesOf(`grad.${step}.${tensor}`));
      const norm = Math.sqrt(gradients.reduce((sum, values) => sum + values.reduce((all, x) => all + x * x, 0), 0));
      const clip = clipFactor(settings, norm);
      for (const [what, found, expected] of [
        ['norm', norm, one.grad_norm[step]!],
        ['clip factor', clip, one.clip_factor[step]!],
      ] as const)
        if (!(Math.abs(found - expected) <= OPTIMIZER_TOLERANCE * expected))
          report.failures.push(`${name} step ${step}: ${what} ${found}, reference ${expected}`);
      subject.apply(gradients, { step, learningRate: rate, gradientScale: clip });
      const { parameters } = subject.read();
      for (const [i, tensor] of TENSORS.entries())
        compare(`step ${step} ${tensor}`, parameters[i]!, valuesOf(`${name}.param.${step + 1}.${tensor}`));
    }
    const { slots } = subject.read();
    for (const [i, tensor] of TENSORS.entries())
      for (const [j, kind] of (['m', 'v'] as const).entries())
        compare(`${kind} of ${tensor}`, slots[2 * i + j]!, valuesOf(`${name}.${kind}.${rates.length}.${tensor}`));
    subject.close();
  }
  checkSchedules(content['schedules'] as GoldenCase, report);
  return report;
}

function settingsOf(one: OptimizerCase): OptimizerSettings {
  const { rule: kind, beta1, beta2, eps: epsilon, weight_decay: weightDecay, max_grad_norm: largest } = one;
  const maxGradNorm = largest ?? undefined;
  return optimizerSchema.parse({ kind, beta1, beta2, epsilon, weightDecay, maxGradNorm });
}

function largestOf(values: Float32Array): number {
  return values.reduce((most, value) => (Math.abs(value) > most || Number.isNaN(value) ? Math.abs(value) : most), 0);
}

function checkSchedules(schedules: GoldenCase, report: OptimizerReport): void {
  const { t: steps, ...kinds } = schedules as { t: readonly number[] } & Record<string, Record<string, unknown>>;
  for (const [name, { warmup: warmupSteps, total: totalSteps, peak, floor, values }] of Object.entries(kinds)) {
    report.numCases++;
    const settings = name === 'inverse_square_root' ? {} : { totalSteps, peak, floor };
    const schedule = scheduleSchema.parse({ kind: name.replaceAll('_', '-'), warmupSteps, ...settings });
    for (const [i, step] of steps.entries()) {
      const expected = (values as readonly number[])[i]!;
      const found = learningRate(schedule, step);
      if (!(Math.abs(found - expected) <= SCHEDULE_TOLERANCE * expected))
        report.failures.push(`${name} step ${step}: ${found}, reference ${expected}`);
    }
  }
}
