/**
 * The settings of a run as a program gives them. Each may be left out where a preset, a file or a default has it.
 *
 * Made of shared/config/schema.ts by `node --import tsx api/write-run-settings.ts`; do not edit.
 */

export interface RunSettings {
  /** Names the run and its folder. */
  readonly name?: string;
  /** Every random choice of the run follows from it. Default: 1. */
  readonly seed?: number;
  /** The shape of a T5 model; the defaults are T5 v1.1 small. */
  readonly model?: {
    /** Rows of the embedding table: token ids are below this. Default: 32128. */
    readonly vocabSize?: number;
    /** Width of the hidden states (d_model). Default: 512. */
    readonly dModel?: number;
    /** Width of one attention head (d_kv). Default: 64. */
    readonly dKv?: number;
    /** Width of the feed-forward layer (d_ff). Default: 1024. */
    readonly dFf?: number;
    /** Encoder blocks. Default: 8. */
    readonly numLayers?: number;
    /** Decoder blocks. Default: 8. */
    readonly numDecoderLayers?: number;
    /** Attention heads; numHeads × dKv need not be dModel. Default: 6. */
    readonly numHeads?: number;
    /** gated-gelu: T5 v1.1 and ExT5. relu: T5 v1.0. Default: "gated-gelu". */
    readonly feedForward?: 'gated-gelu' | 'relu';
    /** true (T5 v1.0): the output layer is the embedding table and its input is scaled by dModel^-0.5. Default: false. */
    readonly tieEmbeddings?: boolean;
    /** Buckets of relative distance in self-attention. Default: 32. */
    readonly relativeAttentionNumBuckets?: number;
    /** Distances from here on share the last bucket, in tokens. Default: 128. */
    readonly relativeAttentionMaxDistance?: number;
    /** Added to the mean square in RMSNorm. Default: 0.000001. */
    readonly layerNormEpsilon?: number;
  };
  /** Parameters to begin with; left out: from the seed. Without `model`, the model is that of the folder. */
  readonly init?: {
    /** Run folder (its newest checkpoint), checkpoint or T5 of Hugging Face whose parameters the run begins with. */
    readonly from?: string;
    /** fresh: empty optimizer state; keep: that of the checkpoint, with its count of updates. Default: "fresh". */
    readonly optimizer?: 'fresh' | 'keep';
    /** Filled in: the folder with the parameters that `from` meant when the run began. */
    readonly folder?: string;
    /** Filled in: digest of the first parameters. One that is given must be that of the folder. */
    readonly paramDigest?: string;
    /** Filled in with `keep`: digest of the optimizer's first state. */
    readonly optimizerDigest?: string;
    /** Filled in with `keep`: updates behind the optimizer's first state. */
    readonly optimizerStep?: number;
  };
  /** Tokens of a packed row, EOS included. */
  readonly featureLengths?: {
    /** Default: 512. */
    readonly inputs?: number;
    /** Default: 114. */
    readonly targets?: number;
  };
  readonly mixture?: {
    /** The mixture.yaml; in a config file relative to that file. */
    readonly path?: string;
    /** A SentencePiece model, or bytes (the vocabulary of ByT5), in place of that of the mixture file. */
    readonly tokenizer?: string;
    /** Folder with the files of sets that have no home on a hub, in place of that of the mixture file. */
    readonly given?: string;
    /** Only these tasks of the mixture file, names and globs: ['squad_v1', 'glue_*']. */
    readonly tasks?: readonly string[];
    /** Folder or http(s) or s3 URL of the prepared mixture; by default in the cache of exmix, named by identity. */
    readonly prepared?: string;
    /** R: denoising examples for each supervised example (ExT5: 2). Default: 2. */
    readonly denoisingRatio?: number;
    /** How denoising text becomes examples: 'ul2', or a list of denoisers with name, kind, rate and prefix; default: T5's span corruption. */
    readonly denoising?: 'ul2' | readonly ({
      readonly kind?: 'span-corruption';
      readonly name?: string;
      /** Default: 1. */
      readonly rate?: number;
      /** Default: "". */
      readonly prefix?: string;
      readonly prefixIds?: readonly number[];
      /** Default: 0.15. */
      readonly noiseDensity?: number;
      /** Default: 3. */
      readonly meanSpanLength?: number;
    } | {
      readonly kind?: 'prefix-lm';
      readonly name?: string;
      /** Default: 1. */
      readonly rate?: number;
      /** Default: "". */
      readonly prefix?: string;
      readonly prefixIds?: readonly number[];
    })[];
    /** K: a task counts at most this many examples in its rate (ExT5: 3e5). Default: 300000. */
    readonly rateCap?: number;
    /** Rates are raised to 1/temperature before they are normalised. Default: 1. */
    readonly temperature?: number;
    /** Rates that override the computed ones, per task. Default: {}. */
    readonly rates?: Readonly<Record<string, number>>;
    /** Draws shuffled and packed together; larger packs tighter, and changed rates wait for the next one. Default: 8192. */
    readonly windowDraws?: number;
  };
  readonly training?: {
    /** Optimizer updates of the whole run. */
    readonly steps?: number;
    /** Packed rows of the global batch. Default: 2048. */
    readonly rowsPerStep?: number;
    /** Fixed slices of the global batch, a power of two: the most workers that can share a step. Default: 64. */
    readonly numLanes?: number;
    /** Rows of one forward and backward pass. Default: 8. */
    readonly microbatchRows?: number;
    /** Each lane's gradient and each sum of them is rounded to it; bfloat16 halves what workers send. Default: "float32". */
    readonly gradientPrecision?: 'float32' | 'bfloat16';
    /** Coefficient of log²Z per target token. Default: 0.0001. */
    readonly zLoss?: number;
    readonly dropout?: {
      /** Share of values that a training step drops, where T5 does; T5 fine-tunes with 0.1. 0: no dropout. Default: 0. */
      readonly rate?: number;
      /** One mask for all positions of a row, as T5X draws it; false: each value has its own. Default: false. */
      readonly broadcastLength?: boolean;
    };
    /** All workers prove after each n-th step that they hold the same parameters; 0: never. Default: 100. */
    readonly proveEverySteps?: number;
    /** A gradient that is not finite ends the run, is skipped with its examples, or is computed once more. Default: "end". */
    readonly onNonFinite?: 'end' | 'skip' | 'retry';
  };
  readonly schedule?: {
    readonly kind?: 'inverse-square-root';
    /** inverse-square-root: constant until this step, then falls as step^-0.5. linear, cosine: rises until it. Default: 10000. */
    readonly warmupSteps?: number;
    /** Factor on 1/sqrt(max(step, warmupSteps)). Default: 1. */
    readonly scale?: number;
  } | {
    readonly kind?: 'constant';
    /** The rate. Default: 0.001. */
    readonly value?: number;
  } | {
    readonly kind?: 'linear';
    /** inverse-square-root: constant until this step, then falls as step^-0.5. linear, cosine: rises until it. Default: 10000. */
    readonly warmupSteps?: number;
    /** linear, cosine: share of the peak at step 0; nanoT5's is 0.5. Default: 0. */
    readonly warmupFrom?: number;
    /** linear, cosine: the floor is reached at this step and kept. */
    readonly totalSteps?: number;
    /** linear, cosine: the rate at the end of the warm-up. */
    readonly peak?: number;
    /** linear, cosine: the lowest rate. Default: 0. */
    readonly floor?: number;
  } | {
    readonly kind?: 'cosine';
    /** inverse-square-root: constant until this step, then falls as step^-0.5. linear, cosine: rises until it. Default: 10000. */
    readonly warmupSteps?: number;
    /** linear, cosine: share of the peak at step 0; nanoT5's is 0.5. Default: 0. */
    readonly warmupFrom?: number;
    /** linear, cosine: the floor is reached at this step and kept. */
    readonly totalSteps?: number;
    /** linear, cosine: the rate at the end of the warm-up. */
    readonly peak?: number;
    /** linear, cosine: the lowest rate. Default: 0. */
    readonly floor?: number;
  };
  /** Default: {"kind":"adafactor"}. */
  readonly optimizer?: {
    /** Default: "adafactor". */
    readonly kind?: 'adafactor';
    /** Clips the gradient: a larger L2 norm over all parameters is scaled to this. nanoT5's is 1. */
    readonly maxGradNorm?: number;
  } | {
    readonly kind?: 'adamw';
    /** AdamW: decay of the mean of gradients. Default: 0.9. */
    readonly beta1?: number;
    /** AdamW: decay of the mean of their squares. Default: 0.999. */
    readonly beta2?: number;
    /** AdamW: added to the root of that mean; by default 1e-8 with adamw and 1e-6 with adamw-rms. */
    readonly epsilon?: number;
    /** AdamW, decoupled: each step takes learning rate × weightDecay of a parameter; not of norms and biases. Default: 0. */
    readonly weightDecay?: number;
    /** Clips the gradient: a larger L2 norm over all parameters is scaled to this. nanoT5's is 1. */
    readonly maxGradNorm?: number;
  } | {
    readonly kind?: 'adamw-rms';
    /** AdamW: decay of the mean of gradients. Default: 0.9. */
    readonly beta1?: number;
    /** AdamW: decay of the mean of their squares. Default: 0.999. */
    readonly beta2?: number;
    /** AdamW: added to the root of that mean; by default 1e-8 with adamw and 1e-6 with adamw-rms. */
    readonly epsilon?: number;
    /** AdamW, decoupled: each step takes learning rate × weightDecay of a parameter; not of norms and biases. Default: 0. */
    readonly weightDecay?: number;
    /** Clips the gradient: a larger L2 norm over all parameters is scaled to this. nanoT5's is 1. */
    readonly maxGradNorm?: number;
  };
  readonly compute?: {
    /** auto (native where it is installed, else wasm), native, wasm or cpu (plain JavaScript). Default: "auto". */
    readonly engine?: string;
    /** gpu: an error where there is none; auto: a GPU where the native engine can use one. Default: "auto". */
    readonly device?: 'auto' | 'cpu' | 'gpu';
    /** CPU threads of one native engine; other bits with another number. 0: cores by workers, then fixed. Default: 1. */
    readonly threads?: number;
    /** Of the factors of matrix products; sums and all else stay float32. Native engine. Default: "float32". */
    readonly precision?: 'float32' | 'bfloat16';
    /** Compile the step by XLA. Native engine. Default: false. */
    readonly xla?: boolean;
    /** Matrix products of a GPU in TF32: faster, 10 bits of mantissa. Native engine. Default: false. */
    readonly allowTf32?: boolean;
  };
  readonly cluster?: {
    /** Address the coordinator binds. Default: "127.0.0.1". */
    readonly listenHost?: string;
    /** Name or address at which other hosts reach the coordinator; by default found from listenHost. */
    readonly advertiseHost?: string;
    /** Port the coordinator binds; 0 takes a free one. Default: 0. */
    readonly listenPort?: number;
    /** The fewest workers that train; with fewer the run waits for more. Default: 1. */
    readonly minWorkers?: number;
    /** Workers to wait for before the first step; by default minWorkers. */
    readonly startWorkers?: number;
    /** The most workers that train; more wait in reserve. By default one a lane. */
    readonly maxWorkers?: number;
    /** How long to wait for enough workers. Default: 600000. */
    readonly rendezvousTimeoutMs?: number;
    /** Pause between two signs of life of a worker. Default: 1000. */
    readonly heartbeatIntervalMs?: number;
    /** A peer silent for this long counts as lost. Default: 4500. */
    readonly heartbeatTimeoutMs?: number;
    /** Time for a worker to connect with the others, and the longest pause while it copies their state. Default: 10000. */
    readonly connectTimeoutMs?: number;
    /** The longest deadline of a step, a checkpoint or a new generation; workers that miss it are left out. Default: 600000. */
    readonly stepTimeoutMs?: number;
    /** Time for which workers keep their state and dial again when the coordinator is gone. Default: 300000. */
    readonly coordinatorGraceMs?: number;
    /** The longest stay of a worker that was told to leave and whose state is not saved yet. Default: 300000. */
    readonly drainGraceMs?: number;
    /** Steps dealt before the oldest one is committed. Default: 3. */
    readonly plansAhead?: number;
    /** Deal lanes by the measured speed of the workers, where a step gets shorter; the bits stay. Default: false. */
    readonly rebalance?: boolean;
  };
  readonly feed?: {
    /** A prepared mixture in remote storage that does not answer for this long ends the run. Default: 600000. */
    readonly sourceTimeoutMs?: number;
  };
  readonly collective?: {
    /** direct: payloads received in place; message: stock ws. Default: "direct". */
    readonly link?: 'direct' | 'message';
    /** auto: workers of one host use local sockets; tcp: always the data port. Default: "auto". */
    readonly socket?: 'auto' | 'tcp';
    /** Gradients reduced together. Default: 26214400. */
    readonly bucketBytes?: number;
    /** Payload of one tensor frame. Default: 524288. */
    readonly frameBytes?: number;
    /** Frames of one peer that may be under way for one chunk, where the way is short. Default: 2. */
    readonly windowFrames?: number;
    /** Memory for frames of all peers under way, where the round trip asks for more than windowFrames. Default: 67108864. */
    readonly maxWindowBytes?: number;
  };
  readonly checkpoint?: {
    /** Save after each n-th step. */
    readonly everySteps?: number;
    /** Save when this long has passed since the last one. */
    readonly everyMinutes?: number;
    /** The newest k checkpoints stay. Default: 3. */
    readonly keepLast?: number;
    /** Checkpoints of each n-th step stay for good. */
    readonly keepEverySteps?: number;
    readonly keepBest?: {
      /** mean (T5: over tasks of the mean of their scores), gem, loss, TASK, TASK/METRIC or TASK/METRIC/SCORE. Default: "mean". */
      readonly metric?: string;
      /** The best n checkpoints by a validation metric stay; none: by age alone. */
      readonly count?: number;
    };
    /** Tensors of one checkpoint shard. Default: 1073741824. */
    readonly maxShardBytes?: number;
  };
  readonly evaluation?: {
    /** Save and evaluate after each n-th step and after the last one; none: never. */
    readonly everySteps?: number;
    /** Sets that are evaluated. Default: "validation". */
    readonly split?: 'validation' | 'test';
    /** Only these tasks of the mixture, names and globs. */
    readonly tasks?: readonly string[];
    /** The first n examples of each set are evaluated. Default: 256. */
    readonly maxExamples?: number;
    /** Losses of the given targets alone: nothing is decoded, no metric is computed. Default: false. */
    readonly lossOnly?: boolean;
    /** Only these metrics of the tasks; a task without one of them is scored by loss alone. */
    readonly metrics?: readonly string[];
    /** Settings of decoding, e.g. {method: beam, numBeams: 4}; greedy, targets' length without. Default: {}. */
    readonly decoding?: Readonly<Record<string, undefined>>;
    readonly stopWhen?: {
      /** As checkpoint.keepBest.metric; checked before the run begins. Default: "mean". */
      readonly metric?: string;
      /** End the run after n validations at everySteps without a better score; none: train all steps. */
      readonly patience?: number;
    };
  };
}
