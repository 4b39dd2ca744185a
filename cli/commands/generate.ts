/** `exmix generate`: the outputs of a model for lines of text or JSONL. */
import { createInterface } from 'node:readline/promises';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import { ENGINE_NAMES } from '../../worker/engine-choice/choose-engine.ts';
import { TextModel, type GenerateInit } from '../../worker/inference/text-model.ts';
import type { CommandBody } from '../command-body.ts';
import {
  readGenerationConfig,
  resolveDecoding,
  withDecodingFlags,
  type DecodingFlags,
} from '../generate/decoding-flags.ts';
import { OutputFile } from '../generate/output-file.ts';
import { formatOf, readInputs } from '../generate/read-inputs.ts';
import { runGenerate } from '../generate/run-generate.ts';
import { findModelFolder } from '../model-folder.ts';
import { untilInterrupted } from '../process-signals.ts';

interface GenerateArguments extends DecodingFlags {
  folder: string;
  input?: string | undefined;
  format?: 'text' | 'jsonl' | undefined;
  field: string;
  output?: string | undefined;
  tokenizer?: string | undefined;
  engine: string;
  threads: number;
  'batch-tokens': number;
  'max-input-tokens': number;
  interactive: boolean;
}

export const generateCommand: CommandBody<GenerateArguments> = {
  builder: (parser) =>
    withDecodingFlags(
      parser
        .positional('folder', {
          type: 'string',
          demandOption: true,
          describe: 'Run folder (its newest checkpoint), checkpoint, or a T5 of Hugging Face',
        })
        .option('input', { type: 'string', describe: 'File of inputs, also .gz and .zst; default standard input' })
        .option('format', {
          choices: ['text', 'jsonl'] as const,
          describe: 'Of the input; default by its name, else text',
        })
        .option('field', { type: 'string', default: 'inputs', describe: 'Field of a JSONL line that has the input' })
        .option('output', { type: 'string', describe: 'File of the outputs; a stopped command continues it' })
        .option('tokenizer', { type: 'string', describe: 'spiece.model, tokenizer.json or bytes; default that of the folder' })
        .option('engine', { choices: ENGINE_NAMES, default: 'auto', describe: 'Engine' })
        .option('threads', { type: 'number', default: 1, describe: 'CPU threads of the native engine' })
        .option('batch-tokens', {
          type: 'number',
          default: 8_192,
          describe: 'Most input tokens that are decoded together',
        })
        .option('max-input-tokens', { type: 'number', default: 512, describe: 'Longer inputs are cut, and counted' })
        .option('interactive', { type: 'boolean', default: false, describe: 'Answers each line on the terminal' }),
    )
      .example(
        "echo 'translate English to Spanish: In the beginning' | $0 generate runs/demo-20261130-120000",
        'one line',
      )
      .example(
        '$0 generate flan-t5-small --input questions.jsonl --output answers.jsonl --num-beams 4',
        'a file, resumable',
      ),
  handler: (args) =>
    untilInterrupted(async (signal) => {
      checkPositive('--batch-tokens', args.batchTokens);
      checkPositive('--max-input-tokens', args.maxInputTokens);
      const folder = await findModelFolder(args.folder, (note) => standardError.write(`${note}\n`), signal);
      const settings = resolveDecoding(args, await readGenerationConfig(folder));
      const model = await TextModel.open({
        ...{ folder, tokenizerFile: args.tokenizer, name: args.engine, numThreads: args.threads },
        onWarning: (sentence) => standardError.write(`${sentence}\n`),
      });
      for (const note of model.notes) standardError.write(`${note}\n`);
      standardError.write(`${folder}: ${JSON.stringify(settings)}\n`);
      const limits = { batchTokens: args.batchTokens, maxInputTokens: args.maxInputTokens, settings, signal };
      try {
        await (args.interactive ? converse(model, limits) : generateAll(args, model, limits));
      } finally {
        await model.dispose();
      }
    }),
};

/** @throws CONFIG_INVALID */
function checkPositive(flag: string, value: number): void {
  if (Number.isInteger(value) && value > 0) return;
  throw new TrainerError('CONFIG_INVALID', `${flag}: expected a whole number above 0, got ${value}`);
}

type Limits = Omit<GenerateInit, 'firstExample'>;

async function generateAll(
  args: GenerateArguments & { readonly maxInputTokens: number },
  model: TextModel,
  limits: Limits,
): Promise<void> {
  const { settings, maxInputTokens } = limits;
  const key = { paramDigest: model.paramDigest, tokenizer: model.tokenizer.hash, maxInputTokens, decoding: settings };
  const output = args.output === undefined ? undefined : await OutputFile.open(args.output, key);
  const summary = await runGenerate({
    ...limits,
    model,
    output,
    inputs: readInputs({ file: args.input, format: args.format ?? formatOf(args.input), field: args.field }),
    print: (lines) => standardOutput.print(lines),
    onProgress: (sentence) => standardError.write(`${sentence}\n`),
    clock: systemClock,
  });
  const { numGenerated, numEarlier, numCut } = summary;
  const before = numEarlier === 0 ? '' : `, ${numEarlier} were there`;
  const cut = numCut === 0 ? '' : `; ${numCut} inputs were cut to ${maxInputTokens} tokens`;
  standardError.write(`${numGenerated} outputs${before}${cut}\n`);
}

/** Answers lines until the terminal ends the input. */
async function converse(model: TextModel, limits: Limits): Promise<void> {
  const terminal = createInterface({
    input: process.stdin,
    terminal: process.stdin.isTTY,
    signal: limits.signal,
  });
  standardError.write('one input a line; Ctrl-D ends\n');
  let firstExample = 0;
  for await (const line of terminal) {
    const [result] = await model.generate([line], { ...limits, firstExample: firstExample++ });
    for (const { text, score } of result!.hypotheses) await standardOutput.print(`${text}\t${score.toFixed(3)}\n`);
  }
}
