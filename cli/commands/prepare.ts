/** `exmix prepare`: the sources of a mixture → token shards. Safe to stop and to start again, and to run on any number of hosts. */
import type { ShardReport } from '../../mixture/prepare/prepare-mixture.ts';
import { BAD_ROW_THRESHOLD, UNIT_BYTES, type PrepareInit } from '../../mixture/prepare/prepare-options.ts';
import { parseShard } from '../../mixture/prepare/unit-queue.ts';
import { createSourceAccess } from '../../mixture/sources/source-access.ts';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { CommandBody } from '../command-body.ts';
import { addMixtureOptions, chooseMixture, type MixtureArguments } from '../mixture-options.ts';
import { describeTask, describeTotals, formatOutlook, PrepareView } from '../prepare-view.ts';
import { formatNumber } from '../text-table.ts';
import { untilInterrupted } from '../until-interrupted.ts';

/** Missing units that are named of a task. */
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
        describe:
          'Processes that make units at the same time; default: as many as there are cores and the work is worth',
      })
      .option('shard', {
        type: 'string',
        describe: 'i/n: only the units of member i of a job array of n; the member that ends last merges',
      })
      .option('merge', { type: 'boolean', default: false, describe: 'Makes nothing: checks all units and merges' })
      .option('refresh', {
        type: 'boolean',
        default: false,
        describe: 'Looks for newer revisions of remote sources, also where a preparation has begun',
      })
      .option('hub-url', { type: 'string', describe: 'Hugging Face hub or a mirror; default: $HF_ENDPOINT or the hub' })
      .option('unit-bytes', {
        type: 'number',
        default: UNIT_BYTES,
        describe: 'About how many bytes of a source are made at a time; another size is another prepared mixture',
      })
      .option('bad-row-threshold', {
        type: 'number',
        default: BAD_ROW_THRESHOLD,
        describe: 'Largest share of malformed rows of a task, 0 to 1',
      })
      .option('dry-run', {
        type: 'boolean',
        default: false,
        describe: 'Tells what would be done, and the room it takes',
      })
      .option('json', { type: 'boolean', default: false, describe: 'JSON at the end; all else goes to standard error' })
      .example('$0 prepare --mixture exmix.yaml --out /data/exmix', 'all tasks, for rows of 512 and 114 tokens')
      .example('$0 prepare --out /data/exmix --shard 3/64', 'the third of 64 members of a job array'),
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
      mergeOnly: args.merge,
      refresh: args.refresh,
      ...(args.shard === undefined ? {} : { shard: parseShard(args.shard) }),
    };
    if (args['dry-run']) {
      const { lookAhead } = await import('../../mixture/prepare/prepare-outlook.ts');
      const outlook = await lookAhead(init);
      process.stdout.write(args.json ? `${JSON.stringify(outlook)}\n` : formatOutlook(outlook));
      return;
    }
    const { inputs, targets } = featureLengths;
    const title = `preparing ${mixture.name} (inputs ${inputs}, targets ${targets} tokens) in ${folder}\n`;
    const report = await prepareShown(init, title, args.json);
    if (args.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    if (args.merge && report.finished === undefined)
      throw new TrainerError('PATH_UNUSABLE', `${folder}: cannot be merged: ${describeMissing(report)}`);
  },
};

/** Prepares and shows how far it is; SIGINT and SIGTERM call it off. */
async function prepareShown(init: PrepareInit, title: string, json: boolean): Promise<ShardReport> {
  // What stays goes to standard output, what passes to standard error; on a terminal they are one screen.
  const lasting = json ? process.stderr : process.stdout;
  const isTerminal = process.stderr.isTTY && lasting.isTTY;
  const nowMs = (): number => systemClock.monotonicMs();
  const view = new PrepareView({ write: (text) => process.stderr.write(text), isTerminal, nowMs });
  const say = (text: string): void => {
    view.clear();
    lasting.write(text);
  };
  say(title);
  try {
    const { prepareShard } = await import('../../mixture/prepare/prepare-mixture.ts');
    const report = await untilInterrupted((signal) =>
      prepareShard({
        ...init,
        signal,
        onTask: (task) => say(describeTask(task)),
        onNote: (line) => {
          view.line(`  ${line}\n`);
        },
        onProgress: (snapshot) => view.progress(snapshot),
      }),
    );
    if (report.finished === undefined)
      say(`made ${formatNumber(report.unitsMade)} units in ${report.folder}\nnot merged: ${describeMissing(report)}\n`);
    else say(`${describeTotals(report.finished)}prepared ${report.folder}\nhash ${report.finished.hash}\n`);
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
  return `units that are not there yet:${rows.join('')}`;
}
