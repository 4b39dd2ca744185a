/**
 * Measures an engine in a child process (`exmix doctor --probe-engine`): a library that does not fit the CPU may crash the process, and one
 * process can load the native engine with only one set of options.
 */
import { z } from 'zod';
import { modelConfigSchema } from '../../shared/model-config.ts';
import { packageFile } from '../../shared/package-files.ts';

/** Reference numbers of Transformers. */
export const SELF_TEST = packageFile('golden/t5-tiny-v1_1');
/** Side of the square matrices whose product compares machines. */
const SQUARE = 1024;
/** Default shapes, for T5 v1.1 small. */
const DEFAULT_SHAPE = { numRows: 4, inputsLength: 512, targetsLength: 114 };

const batchShapeSchema = z.object({ numRows: z.int(), inputsLength: z.int(), targetsLength: z.int() });

/** The request; passed as JSON on the command line. */
export const engineRequestSchema = z.object({
  engine: z.string(),
  device: z.enum(['auto', 'cpu', 'gpu']),
  numThreads: z.int().positive(),
  precision: z.enum(['float32', 'bfloat16']),
  xla: z.boolean(),
  allowTf32: z.boolean(),
  /** The kernels are timed in the shapes of this model. */
  model: modelConfigSchema.optional(),
  shape: batchShapeSchema.optional(),
});
export type EngineProbeRequest = z.output<typeof engineRequestSchema>;

export const engineReportSchema = z.object({
  engine: z.string(),
  device: z.string(),
  fingerprint: z.string(),
  reason: z.string(),
  notes: z.array(z.string()),
  numChecks: z.int(),
  /** Names of the reference checks beyond tolerance. */
  failedChecks: z.array(z.string()),
  /** Speed of a product of two matrices of 1024 by 1024. */
  squareFlopsPerSecond: z.number(),
  /** Speed of copying float32 values to the engine's device and back. */
  copyBytesPerSecond: z.number(),
  /** Memory limit of its device; null if the machine's memory is the limit. */
  engineLimitBytes: z.number().nullable(),
  rates: z.object({ flopsPerSecond: z.number(), elementsPerSecond: z.number(), operationSeconds: z.number() }),
});
export type EngineReport = z.output<typeof engineReportSchema>;

/** @throws NAME_UNKNOWN, ENGINE_UNAVAILABLE */
export async function reportEngine(request: EngineProbeRequest): Promise<EngineReport> {
  const { engine: name, model = modelConfigSchema.parse({}), shape = DEFAULT_SHAPE, ...settings } = request;
  // Loaded here: the rest of the doctor needs no engine.
  const { runFixture } = await import('../../worker/engine-choice/fixture.ts');
  const { timeCopy, timeKernels, timeSquareProduct } = await import('../../worker/engine/time-kernels.ts');
  const { WASM_MEMORY_BYTES } = await import('../../worker/engine/engine.ts');
  const { engine, device, fingerprint, reason, notes, checks } = await runFixture(SELF_TEST, name, settings);
  return {
    ...{ engine, device, fingerprint, reason, notes: [...notes] },
    numChecks: checks.length,
    failedChecks: checks.filter(({ passed }) => !passed).map(({ name }) => name),
    squareFlopsPerSecond: timeSquareProduct(SQUARE),
    copyBytesPerSecond: timeCopy(),
    engineLimitBytes: engine === 'wasm' ? WASM_MEMORY_BYTES : null,
    rates: timeKernels(model, shape),
  };
}
