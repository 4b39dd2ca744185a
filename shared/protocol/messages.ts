/**
 * The control messages between the coordinator and its workers, one zod schema each. docs/protocol.md has their order and meaning.
 * Messages of a generation carry its epoch (incarnation of the coordinator) and number (version of the membership).
 */
import { z } from 'zod';
import { SECRET_BYTES } from '../transport/mutual-proof.ts';

/** Raised with every change that an older peer would misinterpret. */
export const PROTOCOL_VERSION = 3;

const uint32 = z.int().min(0).max(0xffff_ffff);
const count = z.int().nonnegative();
const hexDigest = z.string().regex(/^[0-9a-f]{64}$/u);
const milliseconds = z.number().nonnegative();
const shortText = z.string().max(256);
const longText = z.string().max(16_384);

/** Examples of one batch of an evaluation. */
export const MAX_BATCH_EXAMPLES = 256;
/** Outputs of one batch of an evaluation. */
const MAX_BATCH_OUTPUTS = 16_384;

const errorRecordSchema = z.object({ code: shortText, message: longText });

/** The part of its step that a worker is in; for heartbeats and the status. */
export const workerPhaseSchema = z.enum([
  'starting',
  'waiting',
  'feed',
  'compute',
  'communicate',
  'update',
  'evaluate',
  'save',
]);
export type WorkerPhase = z.output<typeof workerPhaseSchema>;

/** Loss and token sums of one task in one lane; sums are over target tokens, in nats. */
const taskSumsSchema = z.object({ task: count, loss: z.number(), targetTokens: count });

/** Sums over one lane of a step. */
export const laneSumsSchema = z.object({
  lane: count,
  tasks: z.array(taskSumsSchema).max(65_536),
  zLoss: z.number(),
  inputTokens: count,
});
export type LaneSums = z.output<typeof laneSumsSchema>;

export const stepTimesSchema = z.object({
  feed: milliseconds,
  compute: milliseconds,
  communicate: milliseconds,
  update: milliseconds,
  total: milliseconds,
});
export type StepTimes = z.output<typeof stepTimesSchema>;

/** A worker's expectations of itself, from a short measurement of its engine. */
const predictedSchema = z.object({
  /** Forward and backward pass of one microbatch. */
  microbatchMs: milliseconds,
  updateMs: milliseconds,
  /** Memory of the process in training. */
  workerBytes: count,
});

const checkpointFileSchema = z.object({ file: shortText, bytes: count, sha256: hexDigest });

/** Lanes [first, end) of a rank. */
const laneRunSchema = z.object({ first: count, end: count });

const memberSchema = z.object({
  workerId: shortText,
  rank: count,
  host: shortText,
  dataUrl: shortText,
  lanes: laneRunSchema,
});
export type Member = z.output<typeof memberSchema>;

/** Worker at the other end of a link that is tried beside the run. */
const probePeerSchema = z.object({ workerId: shortText, rank: count, dataUrl: shortText });

/** A training state in the memory of a worker: of this run and epoch, after `step` updates. */
const heldStateSchema = z.object({ runId: shortText, epoch: uint32, step: count });
export type HeldState = z.output<typeof heldStateSchema>;

/** The source of a member's state when a generation is formed. */
const stateSourceSchema = z.discriminatedUnion('kind', [
  /** The worker holds it, after `step` updates; the steps from there to the first of the generation were skipped. */
  z.object({ kind: z.literal('held'), step: count }),
  /** A checkpoint folder; null: the beginning, by `init` of the config, else from the seed. */
  z.object({ kind: z.literal('start'), checkpoint: z.string().max(4096).nullable() }),
  /** These ranks hold it and send it over the data links. */
  z.object({ kind: z.literal('peers'), ranks: z.array(count).min(1).max(65_536) }),
]);
export type StateSource = z.output<typeof stateSourceSchema>;

/** What a worker has found out about a batch of examples. */
const evaluatedSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('decode'),
    /** Token ids of all outputs, example by example, best first; as token-rows.ts encodes them. */
    ids: z.instanceof(Uint8Array),
    /** Outputs of each example. */
    numOutputs: z.array(count).max(MAX_BATCH_EXAMPLES),
    /** Of each output. */
    scores: z.array(z.number()).max(MAX_BATCH_OUTPUTS),
  }),
  z.object({
    kind: z.literal('score'),
    /** Cross-entropy of each example, summed over its target tokens, nats. */
    losses: z.array(z.number()).max(MAX_BATCH_EXAMPLES),
    /** Target tokens of each example that are the likeliest ones. */
    numRight: z.array(count).max(MAX_BATCH_EXAMPLES),
  }),
  z.object({ kind: z.literal('failed'), error: errorRecordSchema }),
]);

/** Worker → coordinator. */
export const workerMessageSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('join'),
    protocolVersion: count,
    version: shortText,
    workerId: shortText,
    host: shortText,
    pid: count,
    /** Drawn at random by each process: two containers with the same host name may use the same pid. */
    processId: shortText,
    dataUrl: shortText,
  }),
  /** The engine is up, the mixture open, no step under way: the worker can be a member of a generation. */
  z.object({
    kind: z.literal('ready'),
    epoch: uint32,
    held: heldStateSchema.nullable(),
    engine: shortText,
    engineFingerprint: shortText,
    /** Warnings of the worker about its engine; for the log. */
    engineNotes: z.array(longText).max(16).optional(),
    predicted: predictedSchema.optional(),
    mixtureHash: hexDigest,
    numParameters: count,
    /** The text in the `probe.path` of the welcome, and the file beside it into which this worker has written the same. */
    probe: z.object({ text: shortText, file: shortText }).optional(),
  }),
  /** The data links of the generation are up and the state is complete; with the digest if `form` asked for it. */
  z.object({ kind: z.literal('formed'), epoch: uint32, generation: uint32, paramDigest: hexDigest.optional() }),
  z.object({
    kind: z.literal('report'),
    epoch: uint32,
    generation: uint32,
    step: count,
    gradDigest: uint32,
    /** Sum of squares of the summed gradient, before it is divided by the target tokens. */
    gradSumOfSquares: z.number().nonnegative(),
    lanes: z.array(laneSumsSchema).max(65_536),
    ms: stepTimesSchema,
    /** Of the parameters after the step, if the deal asked for it. */
    paramDigest: hexDigest.optional(),
  }),
  /** Nothing was applied: the summed gradient is not finite, which every rank reports, or an own loss is not. */
  z.object({
    kind: z.literal('not-finite'),
    epoch: uint32,
    generation: uint32,
    step: count,
    reason: longText,
    /** Own lanes whose loss is not finite; task null: the z-loss. */
    losses: z.array(z.object({ lane: count, task: count.nullable(), loss: shortText })).max(65_536),
    /** Present only with such a loss. */
    isGradientFinite: z.literal(true).optional(),
  }),
  z.object({
    kind: z.literal('saved'),
    epoch: uint32,
    generation: uint32,
    step: count,
    files: z.array(checkpointFileSchema).max(65_536),
    paramDigest: hexDigest,
  }),
  /** Answer to `abort`: nothing of the generation is under way, `step` updates are applied; null: the state is lost. */
  z.object({ kind: z.literal('aborted'), epoch: uint32, generation: uint32, step: count.nullable() }),
  z.object({
    kind: z.literal('heartbeat'),
    progress: count,
    phase: workerPhaseSchema,
    step: count,
    residentBytes: count.optional(),
    /** Its source of data does not answer; `forMs` so far. */
    stall: z.object({ reason: longText, forMs: milliseconds }).optional(),
  }),
  /** Answer to `probe-links`: the links that do not work; without `error` all work. */
  z.object({ kind: z.literal('links-probed'), epoch: uint32, trial: uint32, error: errorRecordSchema.optional() }),
  /** Answer to `welcome-evaluation`: the engine has the parameters, and batches may come. */
  z.object({
    kind: z.literal('evaluation-ready'),
    epoch: uint32,
    engine: shortText,
    engineFingerprint: shortText,
    /** Warnings of the worker about its engine; for the log. */
    engineNotes: z.array(longText).max(16).optional(),
    numParameters: count,
  }),
  /** Answer to `evaluate`. */
  z.object({
    kind: z.literal('evaluated'),
    epoch: uint32,
    generation: uint32,
    batch: count,
    result: evaluatedSchema,
  }),
  /** The worker was told to leave. It stays a member until `finish`; sent again after each welcome. */
  z.object({ kind: z.literal('drain'), reason: longText }),
  /** The worker cannot continue with the generation (0: it could not become ready). */
  z.object({
    kind: z.literal('failed'),
    epoch: uint32,
    generation: uint32,
    error: errorRecordSchema,
    /** Ranks at the other end of broken links. */
    peers: z.array(count).max(65_536).optional(),
    /** It continues, but could not write its shards of the checkpoint of this step. */
    unsavedStep: count.optional(),
  }),
]);
export type WorkerMessage = z.output<typeof workerMessageSchema>;
/** A heartbeat's report of a source of data that does not answer. */
export type WorkerStall = NonNullable<MessageOf<'heartbeat', WorkerMessage>['stall']>;

/** The rows of one lane, as mixture/plan encodes them. */
const dealtLaneSchema = z.object({ lane: count, rows: z.instanceof(Uint8Array) });

/** A file that the worker is to read before it says `ready`; it is to write one beside it. */
const probeRequestSchema = z.object({
  path: z.string().max(4096),
  /** A checkpoint outside the run folder, which it may have to load. */
  checkpoint: z.string().max(4096).optional(),
});

const secretSchema = z.instanceof(Uint8Array).refine(({ byteLength }) => byteLength === SECRET_BYTES, 'expected 32 B');

/** A batch of examples to evaluate; rows of tokens are as token-rows.ts encodes them. */
const evaluationWorkSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('decode'),
    /** The DecodingSettings; checked again by the worker. */
    decoding: z.unknown(),
    /** Number of each example in its set: random numbers depend on it. */
    examples: z.array(count).max(MAX_BATCH_EXAMPLES),
    inputs: z.instanceof(Uint8Array),
    /** Length of each row of inputs, padding included. */
    inputsLength: z.int().positive(),
  }),
  z.object({
    kind: z.literal('score'),
    inputs: z.instanceof(Uint8Array),
    targets: z.instanceof(Uint8Array),
    inputsLength: z.int().positive(),
    targetsLength: z.int().positive(),
    /** Rows of the batch, those without an example included. */
    numRows: z.int().positive(),
  }),
]);
export type EvaluationWork = z.output<typeof evaluationWorkSchema>;

/** Coordinator → worker. */
export const coordinatorMessageSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('welcome'),
    epoch: uint32,
    runId: shortText,
    /** The resolved RunConfig; checked again by the worker. */
    config: z.unknown(),
    preparedFolder: z.string().max(4096),
    mixtureHash: hexDigest,
    /** Steps up to this one are in the journal; the worker sends reports of later ones again. */
    committedStep: count,
    /** Left out where coordinator and workers share no files: in tests. */
    probe: probeRequestSchema.optional(),
  }),
  /** In place of `welcome`: the worker is to evaluate a model, and joins no generation. */
  z.object({
    kind: z.literal('welcome-evaluation'),
    epoch: uint32,
    runId: shortText,
    /** The EvaluationConfig; checked again by the worker. */
    config: z.unknown(),
    /** Folder of the model: a checkpoint, or a T5 of Transformers. */
    model: z.string().max(4096),
    /** Digest of its parameters. */
    paramDigest: hexDigest,
  }),
  z.object({
    kind: z.literal('form'),
    epoch: uint32,
    generation: uint32,
    rank: count,
    members: z.array(memberSchema).min(1).max(65_536),
    firstStep: count,
    state: stateSourceSchema,
    /** Random bytes that the data connections of this generation prove; nobody else gets them. */
    secret: secretSchema,
    /** Ranks that copy the state from this one. */
    receivers: z.array(count).max(65_536),
    /** `formed` is to have the digest of the parameters. */
    proveState: z.boolean(),
  }),
  z.object({
    kind: z.literal('deal'),
    epoch: uint32,
    generation: uint32,
    step: count,
    learningRate: z.number().nonnegative(),
    /** Target tokens of the whole step, over all lanes: the divisor of the gradient. */
    targetTokens: z.int().positive(),
    lanes: z.array(dealtLaneSchema).max(65_536),
    /** `report` is to have the digest of the parameters after this step. */
    proveState: z.boolean(),
  }),
  /** Save the state after `step`, the last one dealt so far; writers are ordered, shard i belongs to writer i mod numWriters. */
  z.object({
    kind: z.literal('save'),
    epoch: uint32,
    generation: uint32,
    step: count,
    /** A state from this step on is the same, because the steps between were skipped. */
    stateStep: count,
    folder: z.string().max(4096),
    writer: count,
    numWriters: z.int().positive(),
  }),
  /** Try the links to these workers beside the run; a generation goes on. A newer trial ends an older one. */
  z.object({
    kind: z.literal('probe-links'),
    epoch: uint32,
    trial: uint32,
    /** Number of the receiver in the trial; 0: the worker whose links are tried. */
    rank: count,
    peers: z.array(probePeerSchema).min(1).max(65_536),
    /** Random bytes that the connections of this trial prove. */
    secret: secretSchema,
  }),
  /** A batch of an evaluation. In a run it comes between two deals; generation 0: after `welcome-evaluation`. */
  z.object({
    kind: z.literal('evaluate'),
    epoch: uint32,
    generation: uint32,
    /** Number of the batch in the plan of the evaluation. */
    batch: count,
    work: evaluationWorkSchema,
  }),
  /** Drop the step under way, close the data links, answer `aborted`. */
  z.object({ kind: z.literal('abort'), epoch: uint32, generation: uint32, reason: longText }),
  /** The run needs the worker no more. `interrupted`: the run, or this worker alone, continues when it is started again. */
  z.object({ kind: z.literal('finish'), outcome: z.enum(['finished', 'interrupted', 'failed']), reason: longText }),
  z.object({ kind: z.literal('heartbeat') }),
]);
export type CoordinatorMessage = z.output<typeof coordinatorMessageSchema>;

/** The control message of a kind; of `heartbeat`, which both sides send, MessageOf<'heartbeat', WorkerMessage> is the worker's. */
export type MessageOf<
  Kind extends Sender['kind'],
  Sender extends WorkerMessage | CoordinatorMessage = WorkerMessage | CoordinatorMessage,
> = Extract<Sender, { kind: Kind }>;

export type SavedMessage = MessageOf<'saved'>;

export type FailedMessage = MessageOf<'failed'>;

export type StepReport = MessageOf<'report'>;

export type ReadyMessage = MessageOf<'ready'>;

export type EvaluatedMessage = MessageOf<'evaluated'>;
