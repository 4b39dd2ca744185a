/** Inputs through workers to lines, with progress. The output may be a file that a stopped command continues. */
import type { WorkerHost } from '../../coordinator/membership/worker-host.ts';
import type { DecodingSettings } from '../../evaluation/decoding/settings.ts';
import type { Tokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { abortable } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { formatSeconds } from '../console-reporter.ts';
import type { EvaluatedModel } from '../evaluate/evaluated-model.ts';
import { computeBatches } from '../launch/compute-batches.ts';
import { windowsOf } from './input-windows.ts';
import type { OutputFile } from './output-file.ts';
import { Inputs, type InputPlace } from './read-inputs.ts';
import { WindowPlan, type GenerateSummary } from './window-plan.ts';

/** Pause between two lines of progress, ms. */
const PROGRESS_MS = 5_000;

export interface RunGenerateInit {
  readonly model: EvaluatedModel;
  readonly tokenizer: Tokenizer;
  readonly place: InputPlace;
  readonly decoding: DecodingSettings;
  readonly batchTokens: number;
  readonly maxInputTokens: number;
  /** Undefined: lines go to `print`. */
  readonly output: OutputFile | undefined;
  /** @returns false if nobody reads any more */
  readonly print: (lines: string) => Promise<boolean>;
  readonly config: EvaluationConfig;
  readonly workerHost: WorkerHost;
  readonly token: string | undefined;
  /** For the log and the files of the workers. */
  readonly folder: string;
  /** Whether a line tells how workers of other hosts join. */
  readonly isOpen: boolean;
  readonly onLine: (line: string) => void;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** @throws CONFIG_INVALID if the inputs are not those of the earlier lines; ABORTED; what inputs, output and computeBatches throw */
export async function runGenerate(init: RunGenerateInit): Promise<GenerateSummary> {
  const { model, tokenizer, place, decoding, batchTokens, maxInputTokens, output, print } = init;
  const stop = new AbortController();
  const signal = AbortSignal.any([init.signal, stop.signal]);
  const inputs = new Inputs(place, signal);
  const closed = new AbortController();
  const plan = new WindowPlan({
    ...{ tokenizer, decoding, batchTokens, maxInputTokens, signal },
    windows: windowsOf(inputs.read()),
    earlier: output?.earlier ?? noLines(),
    trainedTokens: model.trained?.config.featureLengths.inputs,
    onEngine: async (fingerprint) => {
      await output?.begin(fingerprint);
      progress.start();
    },
    write: async (lines) => {
      if (output !== undefined) await output.append(lines);
      else if (!(await print(lines.map((line) => `${line}\n`).join('')))) {
        closed.abort();
        throw new TrainerError('ABORTED', 'the reader of the output is gone');
      }
      progress.tellFirst();
    },
    onWriteFailed: (error) => stop.abort(error),
  });
  const progress = new GenerateProgress(plan, inputs, init);
  try {
    if (await plan.open())
      await computeBatches({ ...init, plan, results: plan, logFile: 'generate.jsonl', onResult: () => progress.onResult(), signal }); // prettier-ignore
    await abortable(plan.flushed(), signal, 'writing the output');
  } catch (thrown) {
    if (closed.signal.aborted) return plan.summary;
    if (!signal.aborted) await abortable(plan.flushed(), signal, 'writing the output');
    const error = toTrainerError(stop.signal.aborted ? stop.signal.reason : thrown);
    if (output === undefined) throw error;
    const numLines = plan.summary.numEarlier + plan.summary.numGenerated;
    throw new TrainerError(error.code, `${error.message}; ${numLines} outputs are there; the same command goes on`, { cause: error }); // prettier-ignore
  } finally {
    stop.abort(); // the input is closed
  }
  return plan.summary;
}

async function* noLines(): AsyncGenerator<string> {
  // Nothing was written before.
}

class GenerateProgress {
  readonly #plan: WindowPlan;
  readonly #inputs: Inputs;
  readonly #init: Pick<RunGenerateInit, 'clock' | 'onLine'>;
  #startMs = 0;
  #toldMs = 0;

  constructor(plan: WindowPlan, inputs: Inputs, init: Pick<RunGenerateInit, 'clock' | 'onLine'>) {
    this.#plan = plan;
    this.#inputs = inputs;
    this.#init = init;
  }

  /** A worker is ready. */
  start(): void {
    this.#startMs = this.#init.clock.monotonicMs();
    this.#toldMs = this.#startMs;
  }

  /** The first lines are written. */
  tellFirst(): void {
    if (this.#toldMs === this.#startMs) this.#tell();
  }

  /** There is a result. A line is told every PROGRESS_MS. */
  onResult(): void {
    if (this.#init.clock.monotonicMs() - this.#toldMs >= PROGRESS_MS) this.#tell();
  }

  #tell(): void {
    const { clock, onLine } = this.#init;
    const nowMs = clock.monotonicMs();
    this.#toldMs = nowMs;
    const { numComputed, summary } = this.#plan;
    const numDone = summary.numEarlier + numComputed;
    const perSecond = (1000 * numComputed) / Math.max(1, nowMs - this.#startMs);
    const rate = `${perSecond.toFixed(1)} examples/s`;
    const { total } = this.#inputs;
    if (total === undefined) {
      onLine(`${numDone} examples, ${rate}`);
      return;
    }
    const count = `${total.isKnown ? '' : 'about '}${total.count}`;
    const eta = formatSeconds(Math.max(0, total.count - numDone) / perSecond);
    onLine(`${numDone} of ${count} examples, ${rate}, ETA ${eta}`);
  }
}
