/**
 * A freshly built engine tried in a process of its own, which a library that does not fit this CPU may take down: loads, is the version
 * it should be, multiplies matrices right.
 */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import type { EngineFlavour } from '../../shared/installed-engine.ts';
import { describeEnd, outputTail, runProgram, type ProgramOutcome } from './run-program.ts';

/** Loading 1.3 GB of CUDA's libraries from a cold file system takes a while. */
const SELF_TEST_DEADLINE_MS = 300_000;

/** What `probe-addon.ts` prints as the last line. */
export const probeResultSchema = z.strictObject({
  version: z.string(),
  isUsingGpu: z.boolean(),
  /** Largest |difference| of a product's element from plain JavaScript's, over the largest element; null where one is NaN. */
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
  /** What TensorFlow said first about GPUs it could not use, line by line. */
  readonly gpuProblems: readonly string[];
}

/** float32 sums of 64 products in any order stay far below. */
const MAX_ERROR = 1e-5;
/** Of what TensorFlow says about GPUs: the first lines name the cause. */
const MAX_GPU_LINES = 6;
const GPU_SIGNS =
  /cuInit|CUDA_ERROR|cannot dlopen|Could not load dynamic|libcud|libcublas|nvidia|driver version|compute capability/iu;

/** @throws ENGINE_INSTALL_FAILED where the engine does not load, crashes, has another version or computes wrong; ABORTED */
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
    throw failed(`expected TensorFlow ${init.expectedVersion}, the library says ${version}`, outcome);
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
  if (endedBy === 'SIGBUS') return ': a library is shorter than it says it is, or its disk cannot be read';
  return endedBy === 'SIGKILL' ? ': the system may have run out of memory' : '';
}

function failed(why: string, outcome: ProgramOutcome): TrainerError {
  const message = `the self-test of the engine failed: ${why}; nothing was installed. It said:\n${outputTail(outcome)}`;
  return new TrainerError('ENGINE_INSTALL_FAILED', message);
}

function parseLastLine(text: string): unknown {
  try {
    return JSON.parse(text.trimEnd().split('\n').at(-1) ?? '');
  } catch {
    return undefined;
  }
}
