/** `exmix tokenizer`: encodes and decodes line by line, and trains a vocabulary. */
import { createReadStream } from 'node:fs';
import { addAbortSignal, Writable } from 'node:stream';
import type { ArgumentsCamelCase, Argv, CommandModule } from 'yargs';
import { TrainerError } from '../../shared/errors.ts';
import { decodeContent, withLineFeeds } from '../../mixture/sources/decode-content.ts';
import { untilInterrupted } from '../process-signals.ts';
import { parseJsonLine, readLines, transformLines } from '../../mixture/tokenizer/line-stream.ts';
import { loadNmtNfkc } from '../../mixture/tokenizer/nmt-nfkc.ts';
import { writeSentencePieceModel } from '../../mixture/tokenizer/sentencepiece-file.ts';
import { loadTokenizer, type Tokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { trainFromWords } from '../../mixture/tokenizer/training/train-unigram.ts';
import { WordCounter } from '../../mixture/tokenizer/training/word-counts.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';

interface ModelArguments {
  model: string;
  'extra-ids': number;
}

interface TrainArguments {
  input: string[];
  'vocab-size': number;
  output: string;
  'character-coverage': number;
}

const isString = (value: unknown): value is string => typeof value === 'string';
const isIds = (value: unknown): value is number[] => Array.isArray(value) && value.every(Number.isSafeInteger);

function withModelOptions(parser: Argv): Argv<ModelArguments> {
  return parser
    .option('model', {
      type: 'string',
      demandOption: true,
      describe: 'spiece.model, tokenizer.json of a Unigram model, or bytes (ByT5)',
    })
    .option('extra-ids', { type: 'number', default: 100, describe: 'Number of <extra_id_N> ids after the pieces' });
}

/** Loads the model and writes the result of `transform` for each line of standard input. */
async function transformStdin(
  args: ArgumentsCamelCase<ModelArguments>,
  transform: (tokenizer: Tokenizer, line: string, lineNumber: number) => string,
): Promise<void> {
  const tokenizer = await loadTokenizer(args.model, { numExtraIds: args.extraIds });
  await untilInterrupted((signal) => {
    const input = addAbortSignal(signal, process.stdin);
    return transformLines(input, resultStream(), (line, lineNumber) => transform(tokenizer, line, lineNumber), {
      where: 'standard input',
      signal,
    });
  });
}

/** Standard output as a stream that fails with EPIPE if its reader is gone. */
function resultStream(): Writable {
  const gone = Object.assign(new Error('the reader of standard output is gone'), { code: 'EPIPE' });
  return new Writable({
    decodeStrings: false,
    write(text: string, _encoding, done) {
      standardOutput.print(text).then((isRead) => done(isRead ? null : gone), done);
    },
  });
}

const encodeCommand: CommandModule<object, ModelArguments> = {
  command: 'encode',
  describe: 'Reads one JSON string per line, writes one JSON array of ids per line (no EOS)',
  builder: (parser) =>
    withModelOptions(parser).example(
      'jq -c .text data.jsonl | $0 tokenizer encode --model spiece.model',
      'ids of the texts of a JSONL file',
    ),
  handler: (args) =>
    transformStdin(args, (tokenizer, line, lineNumber) =>
      JSON.stringify(tokenizer.encode(parseJsonLine(line, lineNumber, 'a JSON string', isString))),
    ),
};

const decodeCommand: CommandModule<object, ModelArguments> = {
  command: 'decode',
  describe: 'Reads one JSON array of ids per line, writes one JSON string per line',
  builder: (parser) =>
    withModelOptions(parser).example(
      "echo '[3,56,12,8,74]' | $0 tokenizer decode --model spiece.model",
      'text of some ids',
    ),
  handler: (args) =>
    transformStdin(args, (tokenizer, line, lineNumber) =>
      JSON.stringify(tokenizer.decode(parseJsonLine(line, lineNumber, 'a JSON array of integers', isIds))),
    ),
};

const trainCommand: CommandModule<object, TrainArguments> = {
  command: 'train',
  describe:
    'Trains a Unigram vocabulary (pad 0, EOS 1, unk 2, nmt_nfkc) on plain text, one sentence or paragraph per line',
  builder: (parser) =>
    parser
      .option('input', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'Text files, UTF-8; also gzip, zstd, UTF-16',
      })
      .option('vocab-size', {
        type: 'number',
        demandOption: true,
        describe: 'Number of pieces, including the three special ones',
      })
      .option('output', { type: 'string', demandOption: true, describe: 'Path of the spiece.model to write' })
      .option('character-coverage', {
        type: 'number',
        default: 0.9995,
        describe: 'Share of the characters that must be in the vocabulary, in (0, 1]',
      })
      .example(
        '$0 tokenizer train --input a.txt b.txt --vocab-size 7900 --output spiece.model',
        'with 100 extra ids it fits an embedding of 8,064 rows, a multiple of 128',
      ),
  handler: async (args) => {
    const normalizer = loadNmtNfkc();
    const counter = new WordCounter(normalizer);
    for (const path of args.input) await countFile(counter, path);
    const model = trainFromWords(counter, {
      vocabSize: args.vocabSize,
      characterCoverage: args.characterCoverage,
      normalizer,
      onPass: ({ numPieces, loss }) => {
        standardError.write(`${numPieces} pieces, ${loss.toFixed(4)} nats per word\n`);
      },
    });
    await writeSentencePieceModel(args.output, model);
    standardOutput.write(`${args.output}: ${model.pieces.length} pieces\n`);
  },
};

async function countFile(counter: WordCounter, path: string): Promise<void> {
  try {
    const { layout, chunks } = await decodeContent(createReadStream(path), path, 'text');
    const text = layout === 'cr-lines' ? withLineFeeds(chunks) : chunks;
    for await (const line of readLines(text, path)) counter.add(line);
  } catch (cause) {
    if (cause instanceof TrainerError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new TrainerError('SOURCE_UNREADABLE', `cannot read the text ${path}: ${message}`, { cause });
  }
}

export const tokenizerCommand: CommandBody = {
  builder: (parser) =>
    parser
      .command(encodeCommand)
      .command(decodeCommand)
      .command(trainCommand)
      .demandCommand(1, 'expected encode, decode or train')
      .example('$0 tokenizer encode --help', 'flags of a subcommand'),
  handler: () => undefined, // yargs calls a subcommand
};
