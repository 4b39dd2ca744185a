/** The environment variables of TensorFlow and CUDA, as a pure function of the settings. */

export interface AddonSettings {
  /** Threads of one operation, and operations at a time. Part of "same engine": another number may give other bits. */
  readonly numThreads: number;
  /** `cpu` hides every GPU from TensorFlow; `gpu` lets it use the first that CUDA_VISIBLE_DEVICES shows. */
  readonly device: 'cpu' | 'gpu';
  /** Whether float32 products on a GPU may round their inputs to TF32 (10 bits of mantissa). */
  readonly allowTf32: boolean;
  /** Whether TensorFlow compiles clusters of operations with XLA. */
  readonly xla: boolean;
}

/** Errors only: TensorFlow's banner about CPU flags and absent GPUs does not matter here. */
const LOG_ERRORS_ONLY = '2';
const XLA_FLAGS = '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit';

/**
 * The variables to set before the addon is loaded: threads, devices and precision always as the settings say; the log level, the
 * growth of the allocator on a GPU and oneDNN as the user has set them, else our defaults. The result decides bits.
 * @param given the environment as it is
 */
export function addonEnvironment(
  settings: AddonSettings,
  given: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const { numThreads, device, allowTf32, xla } = settings;
  const threads = String(numThreads);
  return {
    TF_CPP_MIN_LOG_LEVEL: given['TF_CPP_MIN_LOG_LEVEL'] ?? LOG_ERRORS_ONLY,
    TF_FORCE_GPU_ALLOW_GROWTH: given['TF_FORCE_GPU_ALLOW_GROWTH'] ?? 'true',
    TF_NUM_INTRAOP_THREADS: threads,
    TF_NUM_INTEROP_THREADS: threads,
    TF_DETERMINISTIC_OPS: '1',
    TF_ENABLE_ONEDNN_OPTS: given['TF_ENABLE_ONEDNN_OPTS'] ?? '1',
    ...(allowTf32 ? {} : { NVIDIA_TF32_OVERRIDE: '0' }),
    ...(xla ? { TF_XLA_FLAGS: join(given['TF_XLA_FLAGS'], XLA_FLAGS) } : {}),
    ...(device === 'cpu' ? { CUDA_VISIBLE_DEVICES: '-1' } : {}),
  };
}

function join(given: string | undefined, ours: string): string {
  return given === undefined || given === '' ? ours : `${given} ${ours}`;
}
