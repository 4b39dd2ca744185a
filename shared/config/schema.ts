/**
 * The configuration of a run as one typed tree: each field with its unit, its default, its reason, and whether it decides bits (bits.ts).
 * A YAML file, `--set a.b=value` and flags all end here (load-config.ts); the resolved tree is written into the run folder.
 */
import { z } from 'zod';
import { isWildcard, urlHost } from '../addresses.ts';
import { denoisersSchema, listDenoisers, type Denoiser } from '../denoisers.ts';
import { MAX_LANES } from '../lane-tree.ts';
import { findScheduleProblems, scheduleSchema } from '../learning-rate.ts';
import { modelConfigSchema } from '../model-config.ts';
import { optimizerSchema } from '../optimizer.ts';
import { BITS_BY_ENGINE, BITS_BY_MIXTURE, DECIDES_BITS, DECIDES_BITS_IF_SET, KEEPS_BITS } from './bits.ts';

const count = z.int().positive();
const milliseconds = z.int().positive();

const mixtureSchema = z.strictObject({
  path: z
    .string({ error: 'expected the path of a mixture.yaml: --set mixture.path=FILE' })
    .min(1)
    .describe('The mixture.yaml; in a config file relative to that file.')
    .meta(BITS_BY_MIXTURE),
  tokenizer: z
    .string()
    .min(1)
    .optional()
    .describe('A SentencePiece model, or bytes (the vocabulary of ByT5), in place of that of the mixture file.')
    .meta(BITS_BY_MIXTURE),
  given: z
    .string()
    .min(1)
    .optional()
    .describe('Folder with the files of sets that have no home on a hub, in place of that of the mixture file.')
    .meta(BITS_BY_MIXTURE),
  tasks: z
    .array(z.string().min(1))
    .optional()
    .describe("Only these tasks of the mixture file, names and globs: ['squad_v1', 'glue_*'].")
    .meta(BITS_BY_MIXTURE),
  prepared: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Folder or http(s) or s3 URL of the prepared mixture; by default in the cache of exmix, named by identity.',
    )
    .meta(BITS_BY_MIXTURE),
  denoisingRatio: z
    .number()
    .nonnegative()
    .default(2)
    .describe('R: denoising examples for each supervised example (ExT5: 2).')
    .meta(DECIDES_BITS),
  denoising: denoisersSchema
    .optional()
    .describe(
      "How denoising text becomes examples: 'ul2', or a list of denoisers with name, kind, rate and prefix; default: T5's span corruption.",
    ),
  rateCap: count
    .default(300_000)
    .describe('K: a task counts at most this many examples in its rate (ExT5: 3e5).')
    .meta(DECIDES_BITS),
  temperature: z
    .number()
    .positive()
    .default(1)
    .describe('Rates are raised to 1/temperature before they are normalised.')
    .meta(DECIDES_BITS),
  rates: z
    .record(z.string(), z.number().nonnegative())
    .default({})
    .describe('Rates that override the computed ones, per task.')
    .meta(DECIDES_BITS),
  windowDraws: count
    .default(8192)
    .describe('Draws shuffled and packed together; larger packs tighter, and changed rates wait for the next one.')
    .meta(DECIDES_BITS),
});

const trainingSchema = z.strictObject({
  steps: count.describe('Optimizer updates of the whole run.').meta(KEEPS_BITS),
  rowsPerStep: count.default(2048).describe('Packed rows of the global batch.').meta(DECIDES_BITS),
  numLanes: count
    .max(MAX_LANES)
    .default(64)
    .describe('Fixed slices of the global batch, a power of two: the most workers that can share a step.')
    .meta(DECIDES_BITS),
  microbatchRows: count.default(8).describe('Rows of one forward and backward pass.').meta(DECIDES_BITS),
  gradientPrecision: z
    .enum(['float32', 'bfloat16'])
    .default('float32')
    .describe("Each lane's gradient and each sum of them is rounded to it; bfloat16 halves what workers send.")
    .meta(DECIDES_BITS),
  zLoss: z.number().nonnegative().default(1e-4).describe('Coefficient of log²Z per target token.').meta(DECIDES_BITS),
  dropout: z
    .strictObject({
      rate: z
        .number()
        .nonnegative()
        .max(0.95)
        .default(0)
        .describe('Share of values that a training step drops, where T5 does; T5 fine-tunes with 0.1. 0: no dropout.')
        .meta(DECIDES_BITS_IF_SET),
      broadcastLength: z
        .boolean()
        .default(false)
        .describe('One mask for all positions of a row, as T5X draws it; false: each value has its own.')
        .meta(DECIDES_BITS_IF_SET),
    })
    .prefault({}),
  proveEverySteps: z
    .int()
    .nonnegative()
    .default(100)
    .describe('All workers prove after each n-th step that they hold the same parameters; 0: never.')
    .meta(KEEPS_BITS),
  // It acts only on a step whose gradient is not finite, and the journal records what became of that step.
  onNonFinite: z
    .enum(['end', 'skip', 'retry'])
    .default('end')
    .describe('A gradient that is not finite ends the run, is skipped with its examples, or is computed once more.')
    .meta(KEEPS_BITS),
});

export const computeSchema = z.strictObject({
  engine: z
    .string()
    .default('auto')
    .describe('auto (native where it is installed, else wasm), native, wasm or cpu (plain JavaScript).')
    .meta(BITS_BY_ENGINE),
  device: z
    .enum(['auto', 'cpu', 'gpu'])
    .default('auto')
    .describe('gpu: an error where there is none; auto: a GPU where the native engine can use one.')
    .meta(BITS_BY_ENGINE),
  threads: z
    .int()
    .nonnegative()
    .max(4096)
    .default(1)
    .describe('CPU threads of one native engine; other bits with another number. 0: cores by workers, then fixed.')
    .meta(BITS_BY_ENGINE),
  precision: z
    .enum(['float32', 'bfloat16'])
    .default('float32')
    .describe('Of the factors of matrix products; sums and all else stay float32. Native engine.')
    .meta(BITS_BY_ENGINE),
  xla: z.boolean().default(false).describe('Compile the step by XLA. Native engine.').meta(BITS_BY_ENGINE),
  allowTf32: z
    .boolean()
    .default(false)
    .describe('Matrix products of a GPU in TF32: faster, 10 bits of mantissa. Native engine.')
    .meta(BITS_BY_ENGINE),
});

export const clusterSchema = z.strictObject({
  listenHost: z.string().default('127.0.0.1').describe('Address the coordinator binds.').meta(KEEPS_BITS),
  advertiseHost: z
    .string()
    .optional()
    .describe('Name or address at which other hosts reach the coordinator; by default found from listenHost.')
    .meta(KEEPS_BITS),
  listenPort: z
    .int()
    .min(0)
    .max(65_535)
    .default(0)
    .describe('Port the coordinator binds; 0 takes a free one.')
    .meta(KEEPS_BITS),
  minWorkers: count
    .default(1)
    .describe('The fewest workers that train; with fewer the run waits for more.')
    .meta(KEEPS_BITS),
  startWorkers: count
    .optional()
    .describe('Workers to wait for before the first step; by default minWorkers.')
    .meta(KEEPS_BITS),
  maxWorkers: count
    .optional()
    .describe('The most workers that train; more wait in reserve. By default one a lane.')
    .meta(KEEPS_BITS),
  rendezvousTimeoutMs: milliseconds.default(600_000).describe('How long to wait for enough workers.').meta(KEEPS_BITS),
  heartbeatIntervalMs: milliseconds
    .default(1_000)
    .describe('Pause between two signs of life of a worker.')
    .meta(KEEPS_BITS),
  heartbeatTimeoutMs: milliseconds
    .default(4_500)
    .describe('A peer silent for this long counts as lost.')
    .meta(KEEPS_BITS),
  connectTimeoutMs: milliseconds
    .default(10_000)
    .describe('Time for a worker to connect with the others, and the longest pause while it copies their state.')
    .meta(KEEPS_BITS),
  stepTimeoutMs: milliseconds
    .default(600_000)
    .describe('The longest deadline of a step, a checkpoint or a new generation; workers that miss it are left out.')
    .meta(KEEPS_BITS),
  coordinatorGraceMs: milliseconds
    .default(300_000)
    .describe('Time for which workers keep their state and dial again when the coordinator is gone.')
    .meta(KEEPS_BITS),
  drainGraceMs: milliseconds
    .default(300_000)
    .describe('The longest stay of a worker that was told to leave and whose state is not saved yet.')
    .meta(KEEPS_BITS),
  plansAhead: count.default(3).describe('Steps dealt before the oldest one is committed.').meta(KEEPS_BITS),
  rebalance: z
    .boolean()
    .default(false)
    .describe('Deal lanes by the measured speed of the workers, where a step gets shorter; the bits stay.')
    .meta(KEEPS_BITS),
});

const feedSchema = z.strictObject({
  sourceTimeoutMs: milliseconds
    .default(600_000)
    .describe('A prepared mixture in remote storage that does not answer for this long ends the run.')
    .meta(KEEPS_BITS),
});

const collectiveSchema = z.strictObject({
  link: z
    .enum(['direct', 'message'])
    .default('direct')
    .describe('direct: payloads received in place; message: stock ws.')
    .meta(KEEPS_BITS),
  socket: z
    .enum(['auto', 'tcp'])
    .default('auto')
    .describe('auto: workers of one host use local sockets; tcp: always the data port.')
    .meta(KEEPS_BITS),
  bucketBytes: count
    .min(64)
    .default(25 * 1024 * 1024)
    .describe('Gradients reduced together.')
    .meta(KEEPS_BITS),
  frameBytes: count
    .multipleOf(64)
    .default(512 * 1024)
    .describe('Payload of one tensor frame.')
    .meta(KEEPS_BITS),
  windowFrames: count
    .default(2)
    .describe('Frames of one peer that may be under way for one chunk, where the way is short.')
    .meta(KEEPS_BITS),
  maxWindowBytes: count
    .default(64 * 1024 * 1024)
    .describe('Memory for frames of all peers under way, where the round trip asks for more than windowFrames.')
    .meta(KEEPS_BITS),
});

const checkpointSchema = z.strictObject({
  everySteps: count.optional().describe('Save after each n-th step.').meta(KEEPS_BITS),
  everyMinutes: z
    .number()
    .positive()
    .optional()
    .describe('Save when this long has passed since the last one.')
    .meta(KEEPS_BITS),
  keepLast: count.default(3).describe('The newest k checkpoints stay.').meta(KEEPS_BITS),
  keepEverySteps: count.optional().describe('Checkpoints of each n-th step stay for good.').meta(KEEPS_BITS),
  keepBest: z
    .strictObject({
      metric: z
        .string()
        .min(1)
        .default('mean')
        .describe(
          'mean (T5: over tasks of the mean of their scores), gem, loss, TASK, TASK/METRIC or TASK/METRIC/SCORE.',
        )
        .meta(KEEPS_BITS),
      count: count
        .optional()
        .describe('The best n checkpoints by a validation metric stay; none: by age alone.')
        .meta(KEEPS_BITS),
    })
    .prefault({}),
  maxShardBytes: count
    .default(1024 * 1024 * 1024)
    .describe('Tensors of one checkpoint shard.')
    .meta(KEEPS_BITS),
});

const hexDigest = z.string().regex(/^[0-9a-f]{64}$/u, { error: 'expected 64 lower-case hex digits' });

/** The user gives `from` and `optimizer`; the start of the run fills in the other fields (cli/init/resolve-init.ts). */
export const initSchema = z.strictObject({
  from: z
    .string({ error: 'expected a folder: --init FOLDER' })
    .min(1)
    .describe(
      'Run folder (its newest checkpoint), checkpoint or T5 of Hugging Face whose parameters the run begins with.',
    )
    .meta(KEEPS_BITS),
  optimizer: z
    .enum(['fresh', 'keep'])
    .default('fresh')
    .describe('fresh: empty optimizer state; keep: that of the checkpoint, with its count of updates.')
    .meta(DECIDES_BITS),
  folder: z
    .string()
    .min(1)
    .optional()
    .describe('Filled in: the folder with the parameters that `from` meant when the run began.')
    .meta(KEEPS_BITS),
  paramDigest: hexDigest
    .optional()
    .describe('Filled in: digest of the first parameters. One that is given must be that of the folder.')
    .meta(DECIDES_BITS),
  optimizerDigest: hexDigest
    .optional()
    .describe("Filled in with `keep`: digest of the optimizer's first state.")
    .meta(DECIDES_BITS),
  optimizerStep: z
    .int()
    .nonnegative()
    .optional()
    .describe("Filled in with `keep`: updates behind the optimizer's first state.")
    .meta(DECIDES_BITS),
});

export type InitSettings = z.output<typeof initSchema>;

const evaluationSchema = z.strictObject({
  everySteps: count
    .optional()
    .describe('Save and evaluate after each n-th step and after the last one; none: never.')
    .meta(KEEPS_BITS),
  split: z.enum(['validation', 'test']).default('validation').describe('Sets that are evaluated.').meta(KEEPS_BITS),
  tasks: z
    .array(z.string().min(1))
    .optional()
    .describe('Only these tasks of the mixture, names and globs.')
    .meta(KEEPS_BITS),
  maxExamples: count.default(256).describe('The first n examples of each set are evaluated.').meta(KEEPS_BITS),
  lossOnly: z
    .boolean()
    .default(false)
    .describe('Losses of the given targets alone: nothing is decoded, no metric is computed.')
    .meta(KEEPS_BITS),
  metrics: z
    .array(z.string().min(1))
    .optional()
    .describe('Only these metrics of the tasks; a task without one of them is scored by loss alone.')
    .meta(KEEPS_BITS),
  decoding: z
    .record(z.string(), z.json())
    .default({})
    .describe("Settings of decoding, e.g. {method: beam, numBeams: 4}; greedy, targets' length without.")
    .meta(KEEPS_BITS),
  // As `training.steps`, it decides which step is the last one, and not what a step computes.
  stopWhen: z
    .strictObject({
      metric: z
        .string()
        .min(1)
        .default('mean')
        .describe('As checkpoint.keepBest.metric; checked before the run begins.')
        .meta(KEEPS_BITS),
      patience: count
        .optional()
        .describe('End the run after n validations at everySteps without a better score; none: train all steps.')
        .meta(KEEPS_BITS),
    })
    .prefault({}),
});

const treeSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]*$/u, { error: 'expected lower-case letters, digits, ".", "_" or "-"' })
    .describe('Names the run and its folder.')
    .meta(KEEPS_BITS),
  seed: z.int().nonnegative().default(1).describe('Every random choice of the run follows from it.').meta(DECIDES_BITS),
  model: modelConfigSchema,
  init: initSchema
    .optional()
    .describe('Parameters to begin with; left out: from the seed. Without `model`, the model is that of the folder.'),
  featureLengths: z
    .strictObject({
      inputs: count.max(65_535).default(512).meta(DECIDES_BITS),
      targets: count.max(65_535).default(114).meta(DECIDES_BITS),
    })
    .prefault({})
    .describe('Tokens of a packed row, EOS included.'),
  mixture: mixtureSchema,
  training: trainingSchema,
  schedule: scheduleSchema,
  optimizer: optimizerSchema,
  compute: computeSchema.prefault({}),
  cluster: clusterSchema.prefault({}),
  feed: feedSchema.prefault({}),
  collective: collectiveSchema.prefault({}),
  checkpoint: checkpointSchema.prefault({}),
  evaluation: evaluationSchema.prefault({}),
});

/** Relations between fields; each names the field to change. */
export const runConfigSchema = treeSchema.superRefine((config, context) => {
  const { numLanes, rowsPerStep, microbatchRows } = config.training;
  const problem = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
  if (!Number.isInteger(Math.log2(numLanes)))
    problem(['training', 'numLanes'], `expected a power of two, got ${numLanes}`);
  if (rowsPerStep % numLanes !== 0)
    problem(['training', 'rowsPerStep'], `expected a multiple of numLanes (${numLanes}), got ${rowsPerStep}`);
  else if ((rowsPerStep / numLanes) % microbatchRows !== 0)
    problem(
      ['training', 'microbatchRows'],
      `expected a divisor of the rows of a lane (${rowsPerStep / numLanes}), got ${microbatchRows}`,
    );
  for (const found of findScheduleProblems(config.schedule)) problem(['schedule', found.setting], found.problem);
  const { minWorkers, startWorkers = minWorkers, maxWorkers = numLanes } = config.cluster;
  for (const [field, workers] of Object.entries({ minWorkers, startWorkers, maxWorkers }))
    if (workers > numLanes) problem(['cluster', field], `expected at most numLanes (${numLanes}), got ${workers}`);
  if (startWorkers < minWorkers)
    problem(['cluster', 'startWorkers'], `expected at least minWorkers (${minWorkers}), got ${startWorkers}`);
  if (config.cluster.maxWorkers !== undefined && maxWorkers < startWorkers)
    problem(
      ['cluster', 'maxWorkers'],
      `expected at least the workers of the start (${startWorkers}), got ${maxWorkers}`,
    );
  const { keepBest } = config.checkpoint;
  if (keepBest.count !== undefined) {
    if (config.evaluation.everySteps === undefined)
      problem(['checkpoint', 'keepBest'], 'expected evaluation.everySteps beside it: the best are known by validation');
    if (config.evaluation.split === 'test')
      problem(['checkpoint', 'keepBest'], 'expected evaluation.split validation, got test: no choice is made by test');
  }
  const { stopWhen, everySteps, split } = config.evaluation;
  if (stopWhen.patience !== undefined) {
    if (everySteps === undefined)
      problem(['evaluation', 'stopWhen'], 'expected evaluation.everySteps beside it: it compares validations');
    if (split === 'test')
      problem(['evaluation', 'stopWhen'], 'expected evaluation.split validation, got test: no choice is made by test');
  }
  const { advertiseHost } = config.cluster;
  if (advertiseHost !== undefined && (isWildcard(advertiseHost) || !URL.canParse(`ws://${urlHost(advertiseHost)}:1`)))
    problem(['cluster', 'advertiseHost'], `expected one host name or address, got ${JSON.stringify(advertiseHost)}`);
  if (config.cluster.heartbeatTimeoutMs < 2 * config.cluster.heartbeatIntervalMs)
    problem(['cluster', 'heartbeatTimeoutMs'], 'expected at least twice heartbeatIntervalMs');
});

export type RunConfig = z.output<typeof runConfigSchema>;

/** The run's denoisers; undefined: T5's span corruption alone. */
export function denoisersOf({ mixture: { denoising } }: Pick<RunConfig, 'mixture'>): readonly Denoiser[] | undefined {
  return denoising === undefined ? undefined : listDenoisers(denoising);
}
