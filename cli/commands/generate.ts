/** `exmix generate`: the outputs of a model for lines of text, JSONL or parquet. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { acquireRunLock } from '../../coordinator/run-folder/run-lock.ts';
import type { DecodingSettings } from '../../evaluation/decoding/settings.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import { systemClock } from '../../shared/clock.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import { TextModel } from '../../worker/inference/text-model.ts';
import type { CommandBody } from '../command-body.ts';
import { findEvaluatedModel, openTokenizer, type EvaluatedModel } from '../evaluate/evaluated-model.ts';
import {
  readGenerationConfig,
  resolveDecoding,
  withDecodingFlags,
  type DecodingFlags,
} from '../generate/decoding-flags.ts';
import { OutputFile } from '../generate/output-file.ts';
import { formatOf, INPUT_FORMATS } from '../generate/read-inputs.ts';
import { runGenerate } from '../generate/run-generate.ts';
import { checkCount, resolveWorkers, withWorkerFlags, type WorkerFlags } from '../launch/worker-flags.ts';
import { findModelFolder } from '../model-folder.ts';
import { untilInterrupted } from '../process-signals.ts';

interface GenerateArguments extends DecodingFlags, WorkerFlags {
  folder: string;
  input?: string | undefined;
  format?: (typeof INPUT_FORMATS)[number] | undefined;
  field: string;
  output?: string | undefined;
  tokenizer?: string | undefined;
  'max-input-tokens': number;
  interactive: boolean;
}

export const generateCommand: CommandBody<GenerateArguments> = {
  builder: (parser) =>
    withDecodingFlags(
      withWorkerFlags(
        parser
          .positional('folder', {
            type: 'string',
            demandOption: true,
            describe: 'Run folder (its newest checkpoint), checkpoint, or a T5 of Hugging Face',
          })
          .option('input', {
            type: 'string',
            describe: 'File of inputs: text or JSONL, also .gz and .zst, or parquet; default standard input',
          })
          .option('format', { choices: INPUT_FORMATS, describe: 'Of the input; default by its name, else text' })
          .option('field', {
            type: 'string',
            default: 'inputs',
            describe: 'Field of a JSONL line, or column of a parquet file, that has the input',
          })
          .option('output', { type: 'string', describe: 'File of the outputs; a stopped command continues it' })
          .option('tokenizer', {
            type: 'string',
            describe: 'spiece.model, tokenizer.json or bytes; default that of the folder',
          })
          .option('max-input-tokens', { type: 'number', default: 512, describe: 'Longer inputs are cut, and counted' })
          .option('interactive', { type: 'boolean', default: false, describe: 'Answers each line on the terminal' }),
      ),
    )
      .example(
        "echo 'translate English to Spanish: In the beginning' | $0 generate runs/demo-20261130-120000",
        'one line',
      )
      .example(
        '$0 generate flan-t5-small --input questions.jsonl --output answers.jsonl --num-beams 4 --workers 8',
        'a file, resumable',
      ),
  handler: (args) =>
    untilInterrupted((signal) => (args.interactive ? converse(args, signal) : generateAll(args, signal))),
};

function onLine(line: string): void {
  standardError.write(`${line}\n`);
}

async function generateAll(args: GenerateArguments, signal: AbortSignal): Promise<void> {
  const { input, field, output: outputPath, 'max-input-tokens': maxInputTokens } = args;
  checkCount('--max-input-tokens', maxInputTokens, 1);
  const { notes, newWorkerHost, config, token } = await resolveWorkers(args, 'generate');
  const { model } = await findEvaluatedModel(args.folder, signal);
  const decoding = resolveDecoding(args, await readGenerationConfig(model.folder));
  const { tokenizer } = await openTokenizer(model, args.tokenizer);
  notes.forEach(onLine);
  onLine(`${model.folder}: ${JSON.stringify(decoding)}`);
  const { numGenerated, numEarlier, numCut, numLong } = await inWorkFolder(
    outputPath,
    signal,
    async (folder, inside) => {
      const { paramDigest } = model;
      const key = { paramDigest, tokenizer: tokenizer.hash, maxInputTokens, decoding, compute: config.compute };
      return runGenerate({
        ...{
          config,
          token,
          workerHost: newWorkerHost(),
          model,
          tokenizer,
          decoding,
          maxInputTokens,
          folder,
          onLine,
          signal: inside,
        },
        batchTokens: args['batch-tokens'],
        place: { file: input, format: args.format ?? formatOf(input), field },
        output: outputPath === undefined ? undefined : await OutputFile.open(outputPath, key),
        print: (lines) => standardOutput.print(lines),
        isOpen: args.listen !== undefined || args.workers === 0,
        clock: systemClock,
      });
    },
  );
  const before = numEarlier === 0 ? '' : `, ${numEarlier} were there`;
  const cut = numCut === 0 ? '' : `; ${numCut} inputs were cut to ${maxInputTokens} tokens`;
  onLine(`${numGenerated} outputs${before}${cut}`);
  warnOfLongInputs(numLong, model);
}

function warnOfLongInputs(numLong: number, { trained }: EvaluatedModel): void {
  if (trained === undefined || numLong === 0) return;
  const { inputs } = trained.config.featureLengths;
  onLine(`warning: ${numLong} inputs are longer than the ${inputs} tokens that the model was trained with`);
}

/** Runs work with a folder for its log and its workers: beside the output, where one process at a time works, or one that is removed. */
async function inWorkFolder<T>(
  output: string | undefined,
  signal: AbortSignal,
  work: (folder: string, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (output === undefined) {
    const folder = await mkdtemp(join(tmpdir(), 'exmix-generate-')).catch((error: unknown) => {
      throw toStorageError(error, 'create a folder in', tmpdir());
    });
    try {
      return await work(folder, signal);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  const folder = `${output}.work`;
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', folder);
  });
  const onWaiting = ({ reason }: { readonly reason: string }): void => onLine(reason);
  const lock = await acquireRunLock(folder, { clock: systemClock, signal, onWaiting });
  try {
    return await work(folder, AbortSignal.any([signal, lock.lost]));
  } finally {
    await lock.release();
  }
}

/** Answers lines until the terminal ends the input. */
async function converse(args: GenerateArguments, signal: AbortSignal): Promise<void> {
  const { 'max-input-tokens': maxInputTokens, 'batch-tokens': batchTokens } = args;
  checkCount('--max-input-tokens', maxInputTokens, 1);
  const folder = await findModelFolder(args.folder, onLine, signal);
  const settings: DecodingSettings = resolveDecoding(args, await readGenerationConfig(folder));
  const model = await TextModel.open({
    ...{ folder, tokenizerFile: args.tokenizer, name: args.engine, device: args.device, numThreads: args.threads },
    onWarning: onLine,
  });
  try {
    for (const note of model.notes) onLine(note);
    onLine(`${folder}: ${JSON.stringify(settings)}`);
    const terminal = createInterface({ input: process.stdin, terminal: process.stdin.isTTY, signal });
    onLine('one input a line; Ctrl-D ends');
    let firstExample = 0;
    for await (const line of terminal) {
      const [result] = await model.generate([line], { settings, maxInputTokens, batchTokens, signal, firstExample: firstExample++ }); // prettier-ignore
      for (const { text, score } of result!.hypotheses) await standardOutput.print(`${text}\t${score.toFixed(3)}\n`);
    }
  } finally {
    await model.dispose();
  }
}
