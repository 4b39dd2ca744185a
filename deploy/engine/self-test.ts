/**
 * Tests a new engine in a child process, because a library that does not fit this CPU may crash it: it must load, have the expected version
 * and multiply matrices correctly.
 */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import type { EngineFlavour } from '../../shared/installed-engine.ts';
import { describeEnd, outputTail, runProgram, type ProgramOutcome } from './run-program.ts';

/** Covers loading 1.3 GB of CUDA's libraries from a cold file system. */
const SELF_TEST_DEADLINE_MS = 300_000;

/** The last line of the output of `probe-addon.ts`. */
export const probeResultSchema = z.strictObject({
  version: z.string(),
  isUsingGpu: z.boolean(),
  /** Largest |difference| of a product's element from plain JavaScript's, over the largest element; null if one is NaN. */
  worstError: z.number().nullable(),
});

export interface SelfTestInit {
  readonly addonPath: string;
  readonly sessionAddonPath: string;
  readonly flavour: EngineFlavour;
  readonly expectedVersion: string;
  /** The command that runs `worker/engine/native/addon/probe-addon.ts`, without its argument. */
  readonly probe: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

export interface SelfTestResult {
  readonly version: string;
  readonly isUsingGpu: boolean;
  readonly worstError: number;
  /** TensorFlow's first messages about unusable GPUs. */
  readonly gpuProblems: readonly string[];
}

/** The error of float32 sums of 64 products is far smaller in any order. */
const MAX_ERROR = 1e-5;
/** The first messages about GPUs name the cause. */
const MAX_GPU_LINES = 6;
const GPU_SIGNS =
  /cuInit|CUDA_ERROR|cannot dlopen|Could not load dynamic|libcud|libcublas|nvidia|driver version|compute capability/iu;

/** @throws ENGINE_INSTALL_FAILED if the engine does not load, crashes, has another version or computes wrong values; ABORTED */
export async function selfTest(init: SelfTestInit): Promise<SelfTestResult> {
  const { addonPath, sessionAddonPath } = init;
  const device = init.flavour === 'cuda' ? 'gpu' : 'cpu';
  const outcome = await runProgram({
    command: [...init.probe, JSON.stringify({ addonPath, sessionAddonPath, device })],
    environment: { ...init.environment, TF_CPP_MIN_LOG_LEVEL: '0' },
    deadlineMs: SELF_TEST_DEADLINE_MS,
    signal: init.signal,
  });
  if (outcome.status !== 0) throw failed(`it ended with ${describeEnd(outcome)}${whyCrashed(outcome)}`, outcome);
  const result = probeResultSchema.safeParse(parseLastLine(outcome.stdout));
  if (!result.success) throw failed('it printed no result', outcome);
  const { version, isUsingGpu, worstError } = result.data;
  if (version !== init.expectedVersion)
    throw failed(`expected TensorFlow ${init.expectedVersion}, the library is ${version}`, outcome);
  if (worstError === null || worstError > MAX_ERROR)
    throw failed(
      `a matrix product is off by ${worstError ?? NaN}, allowed ${MAX_ERROR} of its largest element`,
      outcome,
    );
  const gpuProblems = isUsingGpu
    ? []
    : outcome.stderr
        .split('\n')
        .filter((line) => GPU_SIGNS.test(line))
        .slice(0, MAX_GPU_LINES);
  return { version, isUsingGpu, worstError, gpuProblems };
}

function whyCrashed({ endedBy, stderr }: ProgramOutcome): string {
  if (endedBy === 'SIGILL' || /compiled to use .* instructions/u.test(stderr))
    return ": this CPU lacks instructions that TensorFlow's wheels are compiled for (AVX); use --engine wasm here";
  if (endedBy === 'SIGBUS') return ': a library is truncated, or its disk cannot be read';
  return endedBy === 'SIGKILL' ? ': the system may have run out of memory' : '';
}

function failed(why: string, outcome: ProgramOutcome): TrainerError {
  const message = `the self-test of the engine failed: ${why}; no engine was installed. Its output:\n${outputTail(outcome)}`;
  return new TrainerError('ENGINE_INSTALL_FAILED', message);
}

function parseLastLine(text: string): unknown {
  try {
    return JSON.parse(text.trimEnd().split('\n').at(-1) ?? '');
  } catch {
    return undefined;
  }
}
