/**
 * Compares an engine with reference numbers. A fixture is a folder with a T5 (`model.safetensors`, `config.json` or `config.classic.json`) and
 * its expected results (`case.safetensors`; optionally `packed.safetensors`, `zloss.safetensors`), in the form of golden/t5-tiny-*.
 * golden/README.md describes the files and the sources of the tolerances.
 */
import { createSearch, decodeBatch } from '../../evaluation/decoding/decode-batch.ts';
import { parseDecodingSettings } from '../../evaluation/decoding/settings.ts';
import { join } from 'node:path';
import { TrainerError } from '../../shared/errors.ts';
import { fromHuggingFace } from '../../shared/model-config.ts';
import { asFloat32, asInt32, readSafetensors, type SafeTensor } from '../../shared/safetensors.ts';
import { readIfThere } from '../../shared/small-file.ts';
import { createEngine, type CreatedEngine, type EngineInit } from './create-engine.ts';
import type { Batch, Engine, StepOutput } from '../engine/engine.ts';
import { largestDifference, relativeNorm } from '../engine/array-differences.ts';

/** float32; golden/README.md states them with the measured noise. */
const FIXTURE_TOLERANCES = {
  activations: 2e-5,
  loss: 3e-6,
  /** Of a gradient tensor, relative to its largest entry. */
  gradient: 2e-5,
  /** Of all gradients together, relative L2. */
  gradients: 1e-5,
} as const;

/** The coefficient that zloss.safetensors was made with. */
const FIXTURE_Z_LOSS = 1e-4;

export interface FixtureCheck {
  readonly name: string;
  /** The largest difference; not a number where the engine gave none. */
  readonly difference: number;
  readonly tolerance: number;
  readonly passed: boolean;
  /** Where the largest difference is; absent when one tensor is compared. */
  readonly where?: string;
}

export interface FixtureReport {
  readonly folder: string;
  readonly engine: string;
  /** The device in words. */
  readonly device: string;
  /** Equal fingerprints give equal bits. */
  readonly fingerprint: string;
  /** Why this engine. */
  readonly reason: string;
  /** Warnings about it. */
  readonly notes: readonly string[];
  readonly checks: readonly FixtureCheck[];
  readonly passed: boolean;
}

/** Device, threads, precision; by default those of createEngine. */
export type EngineSettings = Omit<EngineInit, 'name' | 'config' | 'zLoss'>;

type Tensors = ReadonlyMap<string, SafeTensor>;

interface Fixture {
  readonly folder: string;
  readonly weights: Tensors;
  readonly config: unknown;
  readonly reference: Tensors;
  readonly packed: Tensors | undefined;
  readonly zLoss: Tensors | undefined;
}

/**
 * Runs every check that the folder has files for.
 * @throws PATH_UNUSABLE, SAFETENSORS_INVALID, CONFIG_INVALID, CHECKPOINT_MISMATCH for a folder that is not a fixture; what createEngine throws
 */
export async function runFixture(
  folder: string,
  engineName: string,
  settings: EngineSettings = {},
): Promise<FixtureReport> {
  const fixture = await readFixture(folder);
  const { engine, reason, notes } = await openEngine(fixture, { ...settings, name: engineName }, 0);
  const { description } = engine;
  const checks: FixtureCheck[] = [];
  try {
    checks.push(...(await checkCase(engine, fixture.reference)));
    if (fixture.packed !== undefined) checks.push(...(await checkPacked(engine, fixture.reference, fixture.packed)));
  } finally {
    await engine.dispose();
  }
  if (fixture.zLoss !== undefined) {
    const { engine: withZLoss } = await openEngine(fixture, { ...settings, name: engineName }, FIXTURE_Z_LOSS);
    try {
      checks.push(...(await checkZLoss(withZLoss, fixture.reference, fixture.zLoss)));
    } finally {
      await withZLoss.dispose();
    }
  }
  return {
    folder,
    engine: description.name,
    device: description.device,
    fingerprint: description.fingerprint,
    reason,
    notes,
    checks,
    passed: checks.every(({ passed }) => passed),
  };
}

async function readFixture(folder: string): Promise<Fixture> {
  const read = async (name: string): Promise<Tensors> => (await readSafetensors(join(folder, name))).tensors;
  const readOptional = (name: string) =>
    read(name).catch((error: unknown) => {
      if (error instanceof TrainerError && error.code === 'PATH_UNUSABLE') return undefined;
      throw error;
    });
  const weights = await read('model.safetensors');
  const reference = await read('case.safetensors');
  const [packed, zLoss] = [await readOptional('packed.safetensors'), await readOptional('zloss.safetensors')];
  return { folder, weights, config: await readConfig(folder), reference, packed, zLoss };
}

async function readConfig(folder: string): Promise<unknown> {
  for (const name of ['config.json', 'config.classic.json']) {
    const text = await readIfThere(join(folder, name)).catch(() => undefined);
    if (text === undefined) continue;
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new TrainerError('CONFIG_INVALID', `${join(folder, name)} is not JSON`, { cause: error });
    }
  }
  throw new TrainerError('PATH_UNUSABLE', `${folder}: expected config.json or config.classic.json, found neither`);
}

async function openEngine(
  fixture: Fixture,
  settings: EngineSettings & { readonly name: string },
  zLoss: number,
): Promise<CreatedEngine> {
  const config = fromHuggingFace(fixture.config, fixture.weights.has('lm_head.weight'));
  const opened = await createEngine({ ...settings, config, zLoss });
  await opened.engine.load(new Map([...fixture.weights].map(([key, tensor]) => [key, asFloat32(tensor)])), 'zero');
  return opened;
}

async function checkCase(engine: Engine, reference: Tensors): Promise<FixtureCheck[]> {
  const batch = caseBatch(reference);
  const checks = [
    ...(await checkForward(engine, batch, reference, '')),
    ...(await checkLossAndGradients(engine, batch, reference, get(reference, 'loss'), '')),
  ];
  const inputIds = get(reference, 'generate.input_ids');
  const outputIds = get(reference, 'generate.output_ids');
  const [numRows, inputsLength] = inputIds.shape as [number, number];
  const decoding = await engine.startDecoding({
    numRows,
    inputsLength,
    encoderInputIds: asInt32(inputIds),
    encoderSegmentIds: asInt32(get(reference, 'generate.attention_mask')),
  });
  const length = outputIds.shape[1]!;
  const settings = parseDecodingSettings({ method: 'greedy', maxNewTokens: length - 1 });
  const searches = Array.from({ length: numRows }, (_, row) => createSearch(settings, row, decoding.vocabSize));
  const generated = await decodeBatch(decoding, searches);
  decoding.dispose();
  // The file has the start token first, and 0 after EOS.
  const wanted = asInt32(outputIds);
  const numWrong = wanted.reduce((sum, id, i) => {
    const found = i % length === 0 ? 0 : (generated[Math.floor(i / length)]![0]!.ids[(i % length) - 1] ?? 0);
    return sum + (found === id ? 0 : 1);
  }, 0);
  return [...checks, check('greedy ids that differ', numWrong, 0)];
}

/** Packed rows must give the unpacked gradients. */
async function checkPacked(engine: Engine, reference: Tensors, packed: Tensors): Promise<FixtureCheck[]> {
  const batch = packedBatch(packed);
  return [
    ...(await checkForward(engine, batch, packed, 'packed ')),
    ...(await checkLossAndGradients(engine, batch, reference, get(packed, 'loss'), 'packed ')),
  ];
}

async function checkZLoss(engine: Engine, reference: Tensors, zLoss: Tensors): Promise<FixtureCheck[]> {
  const batch = caseBatch(reference);
  const checks = await checkLossAndGradients(engine, batch, zLoss, get(zLoss, 'loss'), 'z-loss ');
  const numTargets = batch.labels.filter((label) => label >= 0).length;
  const { zLoss: terms } = await engine.step(batch, () => undefined);
  const expected = asFloat32(get(zLoss, 'loss'))[0]! - asFloat32(get(zLoss, 'ce_loss'))[0]!;
  const difference = Math.abs(terms.reduce((sum, term) => sum + term, 0) / numTargets - expected);
  return [...checks, check('z-loss alone', difference, FIXTURE_TOLERANCES.loss)];
}

async function checkForward(engine: Engine, batch: Batch, reference: Tensors, prefix: string): Promise<FixtureCheck[]> {
  const { encoderOutput, logits } = await engine.forward(batch);
  const { activations } = FIXTURE_TOLERANCES;
  const isToken = (i: number) => batch.encoderSegmentIds[i]! > 0;
  const isTarget = (i: number) => batch.decoderSegmentIds[i]! > 0 && batch.labels[i]! >= 0;
  const encoderDifference = largestDifference(encoderOutput, asFloat32(get(reference, 'encoder_output')), {
    numRows: batch.encoderSegmentIds.length,
    isCompared: isToken,
  });
  const logitsDifference = largestDifference(logits, asFloat32(get(reference, 'logits')), {
    numRows: batch.labels.length,
    isCompared: isTarget,
  });
  return [
    check(`${prefix}encoder output`, encoderDifference, activations),
    check(`${prefix}logits`, logitsDifference, activations),
  ];
}

/** @param reference holds `grad.*` of the mean loss, for some or all parameters, and perhaps their norms in `grad_l2` */
async function checkLossAndGradients(
  engine: Engine,
  batch: Batch,
  reference: Tensors,
  loss: SafeTensor,
  prefix: string,
): Promise<FixtureCheck[]> {
  const numTargets = batch.labels.filter((label, i) => label >= 0 && batch.decoderSegmentIds[i]! > 0).length;
  const compared: { name: string; found: Float32Array; expected: Float32Array }[] = [];
  const output = await engine.step(batch, (parameter, gradient) => {
    const { name } = engine.parameters[parameter]!;
    const expected = reference.get(`grad.${name}`);
    if (expected === undefined) return;
    compared.push({ name, found: gradient.map((value) => value / numTargets), expected: asFloat32(expected) });
  });
  const worst = compared
    .map(({ name, found, expected }) => {
      const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      return { name, difference: largestDifference(found, expected) / largest };
    })
    // Not `>`: NaN must win.
    .reduce((most, one) => (one.difference <= most.difference ? most : one), { name: 'none', difference: 0 });
  const numExpected = [...reference.keys()].filter((name) => name.startsWith('grad.')).length;
  return [
    check(`${prefix}loss`, Math.abs(meanLoss(output, numTargets) - asFloat32(loss)[0]!), FIXTURE_TOLERANCES.loss),
    check(`${prefix}gradients missing`, numExpected - compared.length, 0),
    check(
      `${prefix}worst gradient, relative to its largest entry`,
      worst.difference,
      FIXTURE_TOLERANCES.gradient,
      worst.name,
    ),
    check(`${prefix}all gradients, relative L2`, relativeNorm(compared), FIXTURE_TOLERANCES.gradients),
  ];
}

/** The mean loss of a target token, z-loss included. */
function meanLoss(output: StepOutput, numTargets: number): number {
  const sum = (values: Float32Array) => values.reduce((total, value) => total + value, 0);
  return (sum(output.crossEntropy) + sum(output.zLoss)) / numTargets;
}

/** The unpacked batch: one example a row. */
function caseBatch(reference: Tensors): Batch {
  const labels = get(reference, 'labels');
  return batchOf(reference, {
    encoderSegmentIds: asInt32(get(reference, 'attention_mask')),
    decoderSegmentIds: asInt32(labels).map(() => 1),
  });
}

function packedBatch(packed: Tensors): Batch {
  return batchOf(packed, {
    encoderSegmentIds: asInt32(get(packed, 'encoder_segment_ids')),
    decoderSegmentIds: asInt32(get(packed, 'decoder_segment_ids')),
  });
}

function batchOf(tensors: Tensors, segments: Pick<Batch, 'encoderSegmentIds' | 'decoderSegmentIds'>): Batch {
  const [numRows, inputsLength] = get(tensors, 'input_ids').shape as [number, number];
  return {
    numRows,
    inputsLength,
    targetsLength: get(tensors, 'labels').shape[1]!,
    encoderInputIds: asInt32(get(tensors, 'input_ids')),
    decoderInputIds: asInt32(get(tensors, 'decoder_input_ids')),
    labels: asInt32(get(tensors, 'labels')),
    ...segments,
  };
}

function check(name: string, difference: number, tolerance: number, where?: string): FixtureCheck {
  // Not `difference > tolerance`: NaN must fail.
  const passed = difference <= tolerance;
  return { name, difference, tolerance, passed, ...(where === undefined ? {} : { where }) };
}

function get(tensors: Tensors, name: string): SafeTensor {
  const tensor = tensors.get(name);
  if (tensor === undefined)
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `the fixture has no tensor ${name}; see golden/README.md for its form`,
    );
  return tensor;
}
