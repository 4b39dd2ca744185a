/** `exmix prepare`: turns the sources of a mixture into token shards. Can be stopped and resumed, and runs on any number of hosts. */
import { parseSplits, type AbsentSet } from '../../mixture/evaluation-sets/declared-sets.ts';
import { MAX_SUPERVISED_EXAMPLES, MAX_TEXT_EXAMPLES } from '../../mixture/evaluation-sets/prepare-evaluation-sets.ts';
import type { EvaluationSetInfo } from '../../mixture/evaluation-sets/set-record.ts';
import { SPLITS, type SplitName } from '../../mixture/tasks/task.ts';
import type { ShardReport } from '../../mixture/prepare/prepare-mixture.ts';
import { BAD_ROW_THRESHOLD, UNIT_BYTES, type PrepareInit } from '../../mixture/prepare/prepare-options.ts';
import { parseShard } from '../../mixture/prepare/unit-queue.ts';
import { createSourceAccess } from '../../mixture/sources/source-access.ts';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { addMixtureOptions, chooseMixture, type MixtureArguments } from '../mixture-options.ts';
import {
  describeAbsent,
  describeSet,
  describeTask,
  describeTotals,
  formatBytes,
  formatOutlook,
  PrepareView,
} from '../prepare-view.ts';
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
  splits: string[];
  'max-set-examples'?: number | undefined;
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
      .option('splits', {
        type: 'string',
        array: true,
        nargs: 1,
        default: [SPLITS.join(',')],
        describe: 'Splits whose evaluation sets are made beside the shards: validation, test, or none',
      })
      .option('max-set-examples', {
        type: 'number',
        describe:
          `Largest evaluation set, examples; a larger split gives a sample; default: ${MAX_SUPERVISED_EXAMPLES}, ` +
          `${MAX_TEXT_EXAMPLES} for text`,
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
    const splits = splitsOf(args.splits);
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
    const sets: SetsWanted = { splits, maxExamples: args['max-set-examples'] };
    const report = await prepareWithView(init, sets, title, args.json);
    if (args.json) await standardOutput.print(`${JSON.stringify(report)}\n`);
    if (args.merge && report.finished === undefined)
      throw new TrainerError('PATH_UNUSABLE', `${folder}: cannot be merged: ${describeMissing(report)}`);
  },
};

interface SetsWanted {
  readonly splits: readonly SplitName[];
  readonly maxExamples: number | undefined;
}

interface FullReport extends ShardReport {
  /** Undefined unless the mixture is finished: its last member makes the sets. */
  readonly evaluationSets?: readonly EvaluationSetInfo[];
  readonly absentSets?: readonly AbsentSet[];
}

/** @throws CONFIG_INVALID */
function splitsOf(given: readonly string[]): SplitName[] {
  const names = given.flatMap((list) => list.split(/[\s,]+/u).filter((name) => name !== ''));
  return names.length === 1 && names[0] === 'none' ? [] : parseSplits(names);
}

/** Prepares and shows the progress. SIGINT and SIGTERM stop it. */
async function prepareWithView(
  init: PrepareInit,
  { splits, maxExamples }: SetsWanted,
  title: string,
  json: boolean,
): Promise<FullReport> {
  // Permanent lines go to standard output, the live table to standard error. A terminal shows both.
  const lasting = json ? standardError : standardOutput;
  const isTerminal = standardError.isTTY && lasting.isTTY;
  const nowMs = (): number => systemClock.monotonicMs();
  const view = new PrepareView({ write: (text) => standardError.write(text), isTerminal, nowMs });
  const print = (text: string): void => {
    view.clear();
    lasting.write(text);
  };
  const onNote = (line: string): void => {
    view.line(`  ${line}\n`);
  };
  print(title);
  try {
    const { prepareShard } = await import('../../mixture/prepare/prepare-mixture.ts');
    const { prepareEvaluationSets } = await import('../../mixture/evaluation-sets/prepare-evaluation-sets.ts');
    return await untilInterrupted(async (signal) => {
      const report = await prepareShard({
        ...init,
        signal,
        onTask: (task) => print(describeTask(task)),
        onNote,
        onProgress: (snapshot) => view.progress(snapshot),
      });
      if (report.finished === undefined) {
        print(
          `made ${formatNumber(report.unitsMade)} units in ${report.folder}\nnot merged: ${describeMissing(report)}\n`,
        );
        return report;
      }
      const absentSets: AbsentSet[] = [];
      const { mixture, featureLengths, outDir, access, badRowThreshold } = init;
      const evaluationSets = await prepareEvaluationSets({
        ...{ mixture, featureLengths, outDir, splits, signal, onNote },
        ...(access === undefined ? {} : { access }),
        ...(badRowThreshold === undefined ? {} : { badRowThreshold }),
        ...(maxExamples === undefined ? {} : { maxExamples }),
        onSet: (set) => print(`  ${describeSet(set)}\n`),
        onAbsent: (set) => {
          absentSets.push(set);
          print(`  ${describeAbsent(set)}\n`);
        },
      });
      const setExamples = evaluationSets.reduce((sum, { numExamples }) => sum + numExamples, 0);
      const setsLine = `${formatNumber(evaluationSets.length)} evaluation sets, ${formatNumber(setExamples)} examples\n`;
      print(
        `${describeTotals(report.finished)}${splits.length === 0 ? '' : setsLine}prepared ${report.folder}\nhash ${report.finished.hash}\n`,
      );
      return { ...report, evaluationSets, absentSets };
    });
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
