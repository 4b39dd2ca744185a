/** Reference files of training steps: golden/dropout (given masks) and golden/finetune (ten steps from a model). */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TrainerError } from '../../shared/errors.ts';
import { fromHuggingFace, type ModelConfig } from '../../shared/model-config.ts';
import { asFloat32, asInt32, readSafetensors, type SafeTensor } from '../../shared/safetensors.ts';
import { createEngine } from '../../worker/engine-choice/create-engine.ts';
import { largestDifference } from '../../worker/engine/array-differences.ts';
import type { Batch, Engine } from '../../worker/engine/engine.ts';
import { stepWithMasks, type GivenMask } from '../../worker/engine/given-masks.ts';
import { findModel } from './golden-model.ts';
import type { GoldenCase } from './metric-cases.ts';

/** golden/README.md states them: absolute, gradients relative to the largest entry of their tensor. */
const DROPOUT_TOLERANCES = { loss: 5e-6, logits: 3e-5, encoder: 2e-5, gradient: 2e-5, normOfGradient: 2e-5 } as const;
const FINETUNE_TOLERANCES = { loss: 5e-6, parameters: 1e-5, changes: 1e-4 } as const;

export interface TrainingReport {
  numCases: number;
  /** The largest share of its tolerance that a difference takes. */
  worst: number;
  readonly failures: string[];
}

type Tensors = ReadonlyMap<string, SafeTensor>;

export function trainingKind(content: GoldenCase): 'dropout' | 'finetune' | undefined {
  if (Array.isArray(content['recipes'])) return 'finetune';
  const [first] = (content['cases'] ?? []) as readonly GoldenCase[];
  return first !== undefined && 'masks' in first && 'rate' in first ? 'dropout' : undefined;
}

/** @param plant changes our numbers: tests plant errors */
export function checkTrainingFile(
  content: GoldenCase,
  file: string,
  engineName: string,
  plant = (value: number): number => value,
): Promise<TrainingReport> {
  return trainingKind(content) === 'dropout'
    ? checkDropoutFile(content, file, engineName, plant)
    : checkFinetuneFile(content, file, engineName, plant);
}

interface DropoutCase {
  readonly file: string;
  readonly model: string;
  readonly rate: number;
  readonly masks: 'none' | 'mesh' | 't5x';
  readonly gradient_l2: Readonly<Record<string, number>>;
}

async function checkDropoutFile(
  content: GoldenCase,
  file: string,
  engineName: string,
  plant: (value: number) => number,
): Promise<TrainingReport> {
  const report: TrainingReport = { numCases: 0, worst: 0, failures: [] };
  for (const one of content['cases'] as readonly DropoutCase[]) {
    const { tensors } = await readSafetensors(join(dirname(file), one.file));
    const { config, parameters } = await readGoldenModel(file, one.model);
    // Opens the backend: masks are given to the passes of its engine, not to the engine.
    const { engine } = await createEngine({ name: engineName, config, zLoss: 0 });
    const { name } = engine.description;
    await engine.dispose();
    const batch = batchAt(tensors);
    const masks = masksOf(tensors);
    const numTargets = batch.labels.filter((label) => label >= 0).length;
    for (const fusesBlocks of name === 'native' ? [false, true] : [false])
      for (const zLoss of [0, 1e-4]) {
        report.numCases++;
        const backend = name === 'native' ? 'tensorflow' : (name as 'wasm' | 'cpu');
        const found = await stepWithMasks(
          { backend, fusesBlocks, config, zLoss, parameters, rate: one.rate, masks },
          batch,
        );
        const check = checker(report, `${one.file}${fusesBlocks ? ' by our kernels' : ''}, z-loss ${zLoss}`);
        if (found.numUsed !== masks.size) report.failures.push(`${one.file}: ${found.numUsed} of ${masks.size} masks used`);
        const loss = plant((sum(found.crossEntropy) + sum(found.zLoss)) / numTargets);
        const wanted = asFloat32(get(tensors, zLoss === 0 ? 'loss' : 'loss_with_zloss_1e-4'))[0]!;
        check('loss', Math.abs(loss - wanted), DROPOUT_TOLERANCES.loss);
        if (zLoss > 0) continue;
        const rows = (length: number, isCompared: (row: number) => boolean) => ({ numRows: length, isCompared });
        check(
          'logits',
          largestDifference(found.logits, asFloat32(get(tensors, 'logits')), rows(batch.labels.length, (i) => batch.labels[i]! >= 0)),
          DROPOUT_TOLERANCES.logits,
        );
        check(
          'encoder output',
          largestDifference(
            found.encoderOutput,
            asFloat32(get(tensors, 'encoder_output')),
            rows(batch.encoderSegmentIds.length, (i) => batch.encoderSegmentIds[i]! > 0),
          ),
          DROPOUT_TOLERANCES.encoder,
        );
        for (const [parameter, norm] of Object.entries(one.gradient_l2)) {
          const gradient = found.gradients.get(parameter)?.map((value) => value / numTargets) ?? new Float32Array();
          const ours = Math.sqrt(gradient.reduce((total, value) => total + value * value, 0));
          check(`norm of the gradient of ${parameter}`, Math.abs(ours - norm) / norm, DROPOUT_TOLERANCES.normOfGradient);
          const expected = tensors.get(`grad.${parameter}`);
          if (expected === undefined) continue;
          const values = asFloat32(expected);
          check(`gradient of ${parameter}`, largestDifference(gradient, values) / largest(values), DROPOUT_TOLERANCES.gradient);
        }
      }
  }
  return report;
}

function masksOf(tensors: Tensors): ReadonlyMap<string, GivenMask> {
  const masks = [...tensors].filter(([name]) => name.startsWith('keep.'));
  return new Map(
    masks.map(([name, { shape, data }]) => [name.slice('keep.'.length), { shape, keep: Float32Array.from(data) }]),
  );
}

interface Recipe {
  readonly model: string;
  readonly batches: string;
  readonly final: string;
  readonly learning_rate: number;
  readonly z_loss: number;
  readonly losses: readonly number[];
  readonly loss_of_first_batch_after_training: number;
}

async function checkFinetuneFile(
  content: GoldenCase,
  file: string,
  engineName: string,
  plant: (value: number) => number,
): Promise<TrainingReport> {
  const report: TrainingReport = { numCases: 0, worst: 0, failures: [] };
  for (const recipe of content['recipes'] as readonly Recipe[]) {
    report.numCases++;
    const read = async (name: string) => (await readSafetensors(join(dirname(file), name))).tensors;
    const [batches, final] = [await read(recipe.batches), await read(recipe.final)];
    const { config, parameters } = await readGoldenModel(file, recipe.model);
    const { engine } = await createEngine({ name: engineName, config, zLoss: recipe.z_loss });
    await engine.load(parameters, 'zero');
    const check = checker(report, recipe.model);
    for (const [step, wanted] of recipe.losses.entries()) {
      const { loss, gradients, numTargets } = await stepOf(engine, batchAt(batches, step));
      check(`loss of step ${step + 1}`, Math.abs(plant(loss) - wanted), FINETUNE_TOLERANCES.loss);
      await engine.apply(gradients, { step, learningRate: recipe.learning_rate, gradientScale: 1 / numTargets });
    }
    const { loss } = await stepOf(engine, batchAt(batches, 0));
    const difference = Math.abs(plant(loss) - recipe.loss_of_first_batch_after_training);
    check('loss of the first batch after training', difference, FINETUNE_TOLERANCES.loss);
    const trained = new Map([...parameters].map(([name, { length }]) => [name, new Float32Array(length)]));
    await engine.readBack(trained, new Map());
    await engine.dispose();
    let [error, change] = [0, 0];
    for (const [name, start] of parameters) {
      const expected = asFloat32(get(final, name));
      const found = trained.get(name)!.map(plant);
      check(`parameter ${name}`, largestDifference(found, expected), FINETUNE_TOLERANCES.parameters);
      for (let i = 0; i < start.length; i++) {
        error += (found[i]! - expected[i]!) ** 2;
        change += (expected[i]! - start[i]!) ** 2;
      }
    }
    check('all changes, relative L2', Math.sqrt(error / change), FINETUNE_TOLERANCES.changes);
  }
  return report;
}

async function stepOf(
  engine: Engine,
  batch: Batch,
): Promise<{ loss: number; gradients: Float32Array[]; numTargets: number }> {
  const gradients: Float32Array[] = [];
  const { crossEntropy, zLoss } = await engine.step(batch, (parameter, gradient) => {
    gradients[parameter] = gradient.slice();
  });
  const numTargets = batch.labels.filter((label) => label >= 0).length;
  return { loss: (sum(crossEntropy) + sum(zLoss)) / numTargets, gradients, numTargets };
}

/** One example a row. @param place of the batch, where the tensors hold several */
function batchAt(tensors: Tensors, place?: number): Batch {
  const part = (name: string) => {
    const tensor = get(tensors, name);
    const [numRows, length] = tensor.shape.slice(place === undefined ? 0 : 1) as [number, number];
    const size = numRows * length;
    const first = (place ?? 0) * size;
    return { numRows, length, values: asInt32(tensor).slice(first, first + size) };
  };
  const [inputs, mask, labels] = [part('input_ids'), part('attention_mask'), part('labels')];
  const { numRows, length: targetsLength } = labels;
  const decoderInputIds = labels.values.map((_, i) =>
    i % targetsLength === 0 ? 0 : Math.max(0, labels.values[i - 1]!),
  );
  return {
    numRows,
    inputsLength: inputs.length,
    targetsLength,
    encoderInputIds: inputs.values,
    encoderSegmentIds: mask.values,
    decoderInputIds,
    decoderSegmentIds: labels.values.map(() => 1),
    labels: labels.values,
  };
}

async function readGoldenModel(
  file: string,
  model: string,
): Promise<{ config: ModelConfig; parameters: ReadonlyMap<string, Float32Array> }> {
  const folder = await findModel(file, model);
  const { tensors } = await readSafetensors(join(folder, 'model.safetensors'));
  const description: unknown = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
  const config = fromHuggingFace(description, tensors.has('lm_head.weight'));
  return { config, parameters: new Map([...tensors].map(([name, tensor]) => [name, asFloat32(tensor)])) };
}

function checker(report: TrainingReport, place: string) {
  return (what: string, difference: number, tolerance: number): void => {
    report.worst = Math.max(report.worst, difference / tolerance);
    // Not `>`: NaN must fail.
    if (!(difference <= tolerance)) report.failures.push(`${place}: ${what} is off by ${difference}, at most ${tolerance}`);
  };
}

const sum = (values: Float32Array) => values.reduce((total, value) => total + value, 0);
const largest = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

function get(tensors: Tensors, name: string): SafeTensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new TrainerError('CHECKPOINT_MISMATCH', `the reference has no tensor ${name}`);
  return tensor;
}
