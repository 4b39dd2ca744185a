/** `exmix prepare`: turns the sources of a mixture into token shards. Can be stopped and resumed, and runs on any number of hosts. */
import type { ShardReport } from '../../mixture/prepare/prepare-mixture.ts';
import { BAD_ROW_THRESHOLD, UNIT_BYTES, type PrepareInit } from '../../mixture/prepare/prepare-options.ts';
import { parseShard } from '../../mixture/prepare/unit-queue.ts';
import { createSourceAccess } from '../../mixture/sources/source-access.ts';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { addMixtureOptions, chooseMixture, type MixtureArguments } from '../mixture-options.ts';
import { describeTask, describeTotals, formatBytes, formatOutlook, PrepareView } from '../prepare-view.ts';
import { formatNumber } from '../text-table.ts';
import { untilInterrupted } from '../process-signals.ts';

/** Missing units that are listed for one task. */
const MAX_NAMED_UNITS = 8;

interface PrepareArguments extends MixtureArguments {
  processes?: number | undefined;
  shard?: string | undefined;
  merge: boolean;
  refresh: boolean;
  'hub-url'?: string | undefined;
  'unit-bytes': number;
  'bad-row-threshold': number;
  'dry-run': boolean;
  json: boolean;
}

export const prepareCommand: CommandBody<PrepareArguments> = {
  builder: (parser) =>
    addMixtureOptions(parser)
      .option('processes', {
        type: 'number',
        describe: 'Processes that make units at the same time; default: one per core, fewer for little work',
      })
      .option('shard', {
        type: 'string',
        describe: 'i/n: makes only the units of member i of a job array of n; the last member merges',
      })
      .option('merge', {
        type: 'boolean',
        default: false,
        describe: 'Makes no units: checks all units and merges them',
      })
      .option('refresh', {
        type: 'boolean',
        default: false,
        describe: 'Looks up the newest revisions of remote sources, even if preparation has begun',
      })
      .option('hub-url', { type: 'string', describe: 'Hugging Face hub or a mirror; default: $HF_ENDPOINT or the hub' })
      .option('unit-bytes', {
        type: 'number',
        default: UNIT_BYTES,
        describe: 'Approximate source bytes per unit; another size gives another prepared mixture',
      })
      .option('bad-row-threshold', {
        type: 'number',
        default: BAD_ROW_THRESHOLD,
        describe: 'Largest accepted share of malformed rows of a task, 0 to 1',
      })
      .option('dry-run', {
        type: 'boolean',
        default: false,
        describe: 'Prints what would be done and the disk space that it needs',
      })
      .option('json', {
        type: 'boolean',
        default: false,
        describe: 'Prints JSON at the end; other output goes to standard error',
      })
      .example(
        '$0 prepare --mixture exmix.yaml --out /data/exmix',
        'all tasks, with 512 input and 114 target tokens per row',
      )
      .example('$0 prepare --out /data/exmix --shard 3/64', 'member 3 of 64 of a job array'),
  handler: async (args) => {
    if (args.merge && args.shard !== undefined)
      throw new TrainerError('CONFIG_INVALID', '--merge and --shard: expected one of them; --merge makes no units');
    const { mixture, featureLengths, folder } = chooseMixture(args);
    const init: PrepareInit = {
      mixture,
      featureLengths,
      outDir: folder,
      badRowThreshold: args['bad-row-threshold'],
      unitBytes: args['unit-bytes'],
      access: createSourceAccess(args['hub-url'] === undefined ? {} : { hubUrl: args['hub-url'] }),
      processes: args.processes ?? 'auto',
      units: args.shard === undefined ? (args.merge ? 'none' : 'all') : parseShard(args.shard),
      refresh: args.refresh,
    };
    if (args['dry-run']) {
      const { estimatePreparation } = await import('../../mixture/prepare/prepare-outlook.ts');
      const outlook = await estimatePreparation(init);
      await standardOutput.print(args.json ? `${JSON.stringify(outlook)}\n` : formatOutlook(outlook));
      if (outlook.roomBytes > outlook.freeBytes)
        throw new TrainerError(
          'DISK_FULL',
          `${folder}: needs about ${formatBytes(outlook.roomBytes)}, ${formatBytes(outlook.freeBytes)} are free; free space, or give another --out`,
        );
      return;
    }
    const { inputs, targets } = featureLengths;
    const title = `preparing ${mixture.name} (inputs ${inputs}, targets ${targets} tokens) in ${folder}\n`;
    const report = await prepareWithView(init, title, args.json);
    if (args.json) await standardOutput.print(`${JSON.stringify(report)}\n`);
    if (args.merge && report.finished === undefined)
      throw new TrainerError('PATH_UNUSABLE', `${folder}: cannot be merged: ${describeMissing(report)}`);
  },
};

/** Prepares and shows the progress. SIGINT and SIGTERM stop it. */
async function prepareWithView(init: PrepareInit, title: string, json: boolean): Promise<ShardReport> {
  // Permanent lines go to standard output, the live table to standard error. A terminal shows both.
  const lasting = json ? standardError : standardOutput;
  const isTerminal = standardError.isTTY && lasting.isTTY;
  const nowMs = (): number => systemClock.monotonicMs();
  const view = new PrepareView({ write: (text) => standardError.write(text), isTerminal, nowMs });
  const print = (text: string): void => {
    view.clear();
    lasting.write(text);
  };
  print(title);
  try {
    const { prepareShard } = await import('../../mixture/prepare/prepare-mixture.ts');
    const report = await untilInterrupted((signal) =>
      prepareShard({
        ...init,
        signal,
        onTask: (task) => print(describeTask(task)),
        onNote: (line) => {
          view.line(`  ${line}\n`);
        },
        onProgress: (snapshot) => view.progress(snapshot),
      }),
    );
    if (report.finished === undefined)
      print(
        `made ${formatNumber(report.unitsMade)} units in ${report.folder}\nnot merged: ${describeMissing(report)}\n`,
      );
    else print(`${describeTotals(report.finished)}prepared ${report.folder}\nhash ${report.finished.hash}\n`);
    return report;
  } finally {
    view.clear();
  }
}

function describeMissing({ missing }: ShardReport): string {
  const rows = missing.map(({ task, units, numUnits }) => {
    const named = units.slice(0, MAX_NAMED_UNITS).join(', ');
    const more = units.length > MAX_NAMED_UNITS ? ', …' : '';
    return `\n  ${task}: ${formatNumber(units.length)} of ${formatNumber(numUnits)} (${named}${more})`;
  });
  return `missing units:${rows.join('')}`;
}
