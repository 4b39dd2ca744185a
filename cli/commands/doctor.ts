/** `exmix doctor`: checks whether this machine can train and how fast, and with `--init` whether a model can be loaded. `--fixture` compares an engine with the reference. */
import { resolve } from 'node:path';
import {
  checkConfig,
  loadConfig,
  loadTree,
  overrideTree,
  parseSetting,
  type ConfigOverride,
  type Tree,
} from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { exmixHome } from '../../shared/exmix-home.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { formatFindings } from '../doctor/finding.ts';
import { finetuneTree } from '../finetune/finetune-config.ts';
import { readSourceOfModel } from '../finetune/source-of-model.ts';
import { fillModel } from '../init/fill-model.ts';
import { mixtureFile } from '../mixture-options.ts';
import { findModelFolder } from '../model-folder.ts';
import { presetFile, presetNames } from '../presets.ts';

const DEVICES = ['auto', 'cpu', 'gpu'] as const;

interface DoctorArguments {
  fixture?: string | undefined;
  preset?: string | undefined;
  init?: string | undefined;
  set: string[];
  workers: number;
  engine?: string | undefined;
  device?: (typeof DEVICES)[number] | undefined;
  json: boolean;
  'probe-engine'?: string | undefined;
}

export const doctorCommand: CommandBody<DoctorArguments> = {
  builder: (parser) =>
    parser
      .option('preset', {
        type: 'string',
        describe: `Predict step time, memory and checkpoint time of a preset: ${presetNames().join(', ')}`,
      })
      .option('init', {
        type: 'string',
        describe:
          'Check a run folder, a checkpoint or a T5 of Hugging Face, and predict its fine-tuning, or --preset with it',
      })
      .option('set', {
        type: 'string',
        array: true,
        default: [] as string[],
        describe: 'Overrides a setting of the predicted run',
      })
      .option('workers', { type: 'number', default: 2, describe: 'Worker processes of the predicted run' })
      .option('engine', { type: 'string', describe: "Engine to check; default: the preset's, or auto" })
      .option('device', { choices: DEVICES, describe: "Device to check; default: the preset's, or auto" })
      .option('fixture', {
        type: 'string',
        describe: 'Folder with reference numbers of a T5, such as golden/t5-tiny-v1_1; exit status 1 beyond tolerance',
      })
      .option('json', { type: 'boolean', default: false, describe: 'Print JSON' })
      .option('probe-engine', { type: 'string', hidden: true })
      .conflicts('fixture', ['preset', 'init'])
      .example('$0 doctor', 'is this machine fit to train?')
      .example('$0 doctor --preset ext5-base --workers 8', 'how long would a step take here?')
      .example(
        '$0 doctor --init google-flan-folder --set optimizer.kind=adamw',
        'can it be loaded and fine-tuned here?',
      )
      .example('$0 doctor --fixture golden/t5-tiny-v1_0 --engine cpu', 'largest differences from Transformers'),
  handler: async (args) => {
    const { fixture, workers, engine, device, json } = args;
    if (args['probe-engine'] !== undefined) return probeEngine(args['probe-engine']);
    if (fixture !== undefined)
      return checkFixture(fixture, { engine: engine ?? 'auto', device: device ?? 'auto', json });
    if (!Number.isInteger(workers) || workers < 1)
      throw new TrainerError('CONFIG_INVALID', `--workers: expected a whole number of at least 1, got ${workers}`);
    const config = await plannedConfig(args);
    const init = config?.init;
    const { runDoctor } = await import('../doctor/run-doctor.ts');
    const findings = await runDoctor({
      context: { root: '/', folder: process.cwd(), home: exmixHome(), environment: process.env },
      engine: engineRequest(config, engine, device),
      ...(init === undefined ? {} : { init: { folder: init.from, optimizer: init.optimizer } }),
      ...(config === undefined ? {} : { planned: { config, numWorkers: workers } }),
      onFindings: async (found) => {
        if (!json) await standardOutput.print(formatFindings(found));
      },
    });
    if (json) await standardOutput.print(`${JSON.stringify(findings)}\n`);
    if (findings.some(({ status }) => status === 'fail')) process.exitCode = 1;
  },
};

/**
 * The run to predict; undefined: none was asked for. `--init` alone means fine-tuning by T5's recipe, as `exmix finetune` would do it.
 * @throws the errors of fillModel for a folder without a model; CONFIG_INVALID
 */
async function plannedConfig({ preset, init, set }: DoctorArguments): Promise<RunConfig | undefined> {
  const settings = set.map(parseSetting);
  if (init === undefined) return preset === undefined ? undefined : loadConfig(presetFile(preset), settings);
  const folder = resolve(await findModelFolder(init, (note) => standardError.write(`${note}\n`)));
  const begin: ConfigOverride[] = [
    { path: ['init', 'from'], value: folder, origin: '--init' },
    { path: ['model'], value: undefined, origin: '--init' },
  ];
  if (preset !== undefined)
    return checkConfig(await fillModel(await loadTree(presetFile(preset), [...begin, ...settings])), preset);
  const { config: origin } = await readSourceOfModel(init);
  const recipe = finetuneTree({ from: folder, name: 'finetune', origin, file: undefined, tasks: [] });
  // A prediction reads no data.
  const tree = overrideTree(
    { ...recipe, mixture: { path: mixtureFile('demo'), ...(recipe['mixture'] as Tree) } },
    settings,
  );
  return checkConfig(await fillModel(tree), '--init');
}

function engineRequest(config: RunConfig | undefined, engine?: string, device?: (typeof DEVICES)[number]) {
  const { compute, model, training, featureLengths } = config ?? {};
  return {
    engine: engine ?? compute?.engine ?? 'auto',
    device: device ?? compute?.device ?? ('auto' as const),
    numThreads: Math.max(1, compute?.threads ?? 1),
    precision: compute?.precision ?? ('float32' as const),
    xla: compute?.xla ?? false,
    allowTf32: compute?.allowTf32 ?? false,
    ...(model === undefined || training === undefined || featureLengths === undefined
      ? {}
      : {
          model,
          shape: {
            numRows: training.microbatchRows,
            inputsLength: featureLengths.inputs,
            targetsLength: featureLengths.targets,
          },
        }),
  };
}

/** Runs in a child process of `exmix doctor`. */
async function probeEngine(request: string): Promise<void> {
  const { engineRequestSchema, reportEngine } = await import('../doctor/engine-report.ts');
  const report = await reportEngine(engineRequestSchema.parse(JSON.parse(request)));
  await standardOutput.print(`${JSON.stringify(report)}\n`);
}

async function checkFixture(
  folder: string,
  { engine, device, json }: { engine: string; device: (typeof DEVICES)[number]; json: boolean },
): Promise<void> {
  const { formatFixtureReport, runDoctorFixture } = await import('./doctor-fixture.ts');
  const report = await runDoctorFixture(folder, engine, { device });
  await standardOutput.print(json ? `${JSON.stringify(report)}\n` : formatFixtureReport(report));
  if (!report.passed) process.exitCode = 1;
}
