/** `exmix checkpoint`: lists, shows and verifies the checkpoints of a run, exports one for Transformers. */
import { join } from 'node:path';
import type { Argv, CommandModule } from 'yargs';
import { formatBytes } from '../../deploy/engine/format-bytes.ts';
import { CONFIG_FILE, MANIFEST_FILE } from '../../shared/checkpoint/layout.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { readRunRecord } from '../../shared/checkpoint/read.ts';
import { summariseCheckpoints, type CheckpointSummary } from '../../shared/checkpoint/summary.ts';
import { toCorruptError, verifyCheckpoint } from '../../shared/checkpoint/verify.ts';
import { statIfThere } from '../../shared/atomic-file.ts';
import { readModel } from '../../worker/model/read-model.ts';
import { systemClock } from '../../shared/clock.ts';
import { visibleText } from '../../shared/visible-text.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import { EXPORT_DTYPES, exportModel, parseByteSize, type ExportDtype } from '../checkpoint/export-model.ts';
import { findModelFolder } from '../model-folder.ts';
import { untilInterrupted } from '../process-signals.ts';
import type { CommandBody } from '../command-body.ts';

interface PathArguments {
  path: string;
}

interface ListArguments extends PathArguments {
  json: boolean;
}

const withPath = (describe: string) => (parser: Argv<object>) =>
  parser.positional('path', { type: 'string', demandOption: true, describe });

const listCommand: CommandModule<object, ListArguments> = {
  command: 'ls <path>',
  aliases: ['list'],
  describe: 'Lists the checkpoints of a run; checks names and sizes, not hashes',
  builder: (parser) =>
    withPath('Run folder, or the checkpoints folder in it')(parser)
      .option('json', { type: 'boolean', default: false, describe: 'Print a JSON array' })
      .example('$0 checkpoint ls runs/base-20261123-050548', 'step, size, age, digest and state of each')
      .example("$0 checkpoint ls runs/base-20261123-050548 --json | jq '.[-1].path'", 'path of the newest one'),
  handler: async ({ path, json }) => {
    const summaries = await summariseCheckpoints(path);
    await standardOutput.print(
      json ? `${JSON.stringify(summaries, null, 2)}\n` : formatTable(summaries, systemClock.wallMs()),
    );
  },
};

const showCommand: CommandModule<object, PathArguments> = {
  command: 'show <path>',
  describe: 'Prints the record of a checkpoint: step, cursor, seeds, configuration, digests',
  builder: (parser) =>
    withPath('Checkpoint, or T5 of Hugging Face: its shape and digest')(parser).example(
      '$0 checkpoint show runs/base-20261123-050548/checkpoints/step-1000',
      'run.json and the files of a checkpoint',
    ),
  handler: async ({ path }) => {
    const isModel = (await statIfThere(join(path, MANIFEST_FILE))) === undefined;
    if (isModel && (await statIfThere(join(path, CONFIG_FILE))) !== undefined) {
      const { config, parameters } = await readModel(path);
      const numParameters = [...parameters.values()].reduce((sum, { length }) => sum + length, 0);
      const model = { path, paramDigest: parameterDigest(parameters), numParameters, model: config };
      await standardOutput.print(`${visibleText(JSON.stringify(model, null, 2))}\n`);
      return;
    }
    const report = await verifyCheckpoint(path, { depth: 'size' });
    if (report.problems.length > 0) throw toCorruptError(report);
    const record = { path, bytes: report.bytes, files: report.manifest?.files, run: await readRunRecord(path) };
    await standardOutput.print(`${visibleText(JSON.stringify(record, null, 2))}\n`);
  },
};

const verifyCommand: CommandModule<object, PathArguments> = {
  command: 'verify <path>',
  describe: 'Reads every byte of a checkpoint and compares it with the manifest; lists all problems',
  builder: (parser) =>
    withPath('Checkpoint folder')(parser).example(
      '$0 checkpoint verify runs/base-20261123-050548/checkpoints/step-1000',
      'exit status 3 if a file is missing, extra, truncated or changed',
    ),
  handler: async ({ path }) => {
    const report = await verifyCheckpoint(path);
    if (report.problems.length > 0) throw toCorruptError(report);
    const numFiles = report.manifest?.files.length ?? 0;
    await standardOutput.print(`${path}: whole, ${numFiles} files and the manifest, ${report.bytes} B\n`);
  },
};

interface ExportArguments extends PathArguments {
  out: string;
  dtype: ExportDtype;
  'max-shard-size': string;
}

const exportCommand: CommandModule<object, ExportArguments> = {
  command: 'export <path>',
  describe: 'Writes a model for Transformers: weights, config and tokenizer, without the state of the training',
  builder: (parser) =>
    withPath('Run folder (its newest checkpoint), checkpoint or T5 of Hugging Face')(parser)
      .option('out', { type: 'string', demandOption: true, describe: 'New or empty folder' })
      .option('dtype', {
        choices: Object.keys(EXPORT_DTYPES) as ExportDtype[],
        default: 'float32' as const,
        describe: 'Precision of the weights; rounded to the nearest, ties to even',
      })
      .option('max-shard-size', {
        type: 'string',
        default: '5GB',
        describe: 'Most bytes of a file, e.g. 5GB or 200MiB',
      })
      .example(
        '$0 checkpoint export runs/base-20261123-050548 --out base-bf16 --dtype bfloat16',
        'half of the bytes, for Transformers',
      ),
  handler: ({ path, out, dtype, 'max-shard-size': size }) =>
    untilInterrupted(async (signal) => {
      const maxShardBytes = parseByteSize('--max-shard-size', size);
      const folder = await findModelFolder(path, (note) => standardError.write(`${note}\n`), signal);
      const model = await exportModel({ folder, out, dtype, maxShardBytes, signal });
      if (!model.hasTokenizer) standardError.write(`${folder} has no tokenizer: ${model.out} has none either\n`);
      await standardOutput.print(
        `${model.out}: ${folder} in ${dtype}, ${model.files.length} files, ${formatBytes(model.bytes)} of weights\n` +
          `parameters ${model.paramDigest} → ${model.exportedDigest}\n`,
      );
    }),
};

export const checkpointCommand: CommandBody = {
  builder: (parser) =>
    parser
      .command(listCommand)
      .command(showCommand)
      .command(verifyCommand)
      .command(exportCommand)
      .demandCommand(1, 'expected ls, show or verify, or export')
      .example('$0 checkpoint ls runs/base-20261123-050548', 'the checkpoints of a run')
      .example('$0 checkpoint verify runs/base-20261123-050548/checkpoints/step-1000', 'checks one of them'),
  handler: () => undefined, // yargs demands a subcommand
};

function formatTable(summaries: readonly CheckpointSummary[], nowMs: number): string {
  if (summaries.length === 0) return 'no checkpoints\n';
  const rows = summaries.map(({ step, bytes, savedAt, paramDigest, problems }) => [
    String(step),
    formatBytes(bytes),
    savedAt === null ? '?' : formatAge(nowMs - Date.parse(savedAt)),
    paramDigest?.slice(0, 12) ?? '?',
    problems.length === 0 ? 'whole' : `damaged: ${problems.join('; ')}`,
  ]);
  const table = [['STEP', 'SIZE', 'AGE', 'DIGEST', 'STATE'], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  const format = (row: readonly string[]) =>
    row.map((cell, i) => (i < 3 ? cell.padStart(widths[i]!) : i === 3 ? cell.padEnd(widths[i]!) : cell)).join('  ');
  return `${visibleText(table.map(format).join('\n'))}\n`;
}

/** `45 s`, `12 min`, `3 h`, `9 d`. */
function formatAge(ageMs: number): string {
  const seconds = Math.max(0, Math.round(ageMs / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
