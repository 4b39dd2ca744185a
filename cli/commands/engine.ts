/** `exmix engine`: installs, lists and removes the native engine (TensorFlow). */
import type { Argv, CommandModule } from 'yargs';
import { addonRecipes, hashRecipes } from '../../deploy/engine/build-addon.ts';
import { formatBytes } from '../../deploy/engine/format-bytes.ts';
import { freeBytes } from '../../deploy/engine/free-space.ts';
import { readHost } from '../../deploy/engine/host.ts';
import { installEngine, type InstallOutcome } from '../../deploy/engine/install-engine.ts';
import { ProgressLine } from '../../deploy/engine/progress-line.ts';
import { removeEngine } from '../../deploy/engine/remove-engine.ts';
import { systemClock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';
import { exmixHome } from '../../shared/exmix-home.ts';
import {
  ENGINE_FLAVOURS,
  listInstalledEngines,
  preferredEngine,
  type EngineFlavour,
  type EngineFolder,
} from '../../shared/installed-engine.ts';
import { nodeCommand } from '../../shared/package-files.ts';
import { standardOutput } from '../../shared/standard-streams.ts';
import type { CommandBody } from '../command-body.ts';
import { EXIT_DATA } from '../exit-codes.ts';
import { formatTable } from '../text-table.ts';
import { untilInterrupted } from '../process-signals.ts';

/** The TensorFlow version that exmix is tested with. */
const TENSORFLOW_VERSION = '2.21.0';
const PROBE = 'worker/engine/native/addon/probe-addon.ts';

interface InstallArguments {
  flavour: EngineFlavour | 'auto';
  wheel: string[];
  'tensorflow-version'?: string | undefined;
}

const installCommand: CommandModule<object, InstallArguments> = {
  command: 'install',
  describe: 'Obtains TensorFlow, builds the addon and tests it; leaves nothing behind on failure',
  builder: (parser) =>
    parser
      .version(false) // here --version is the version of TensorFlow
      .option('flavour', {
        choices: ['auto', ...ENGINE_FLAVOURS] as const,
        default: 'auto' as const,
        describe: 'auto: cuda if an NVIDIA driver is loaded, else cpu',
      })
      .option('wheel', {
        type: 'string',
        array: true,
        default: [] as string[],
        describe: 'Wheel of TensorFlow to use instead of a download; for cuda also the nvidia wheels',
      })
      .option('tensorflow-version', {
        alias: 'version',
        type: 'string',
        describe: `Version of TensorFlow; default: ${TENSORFLOW_VERSION}`,
      })
      .example('$0 engine install', 'downloads the wheels for this machine with pip')
      .example('$0 engine install --wheel tensorflow_cpu-*.whl', 'without a network'),
  handler: async (args) => {
    const version = checkVersion(args['tensorflow-version'] ?? TENSORFLOW_VERSION);
    const progress = new ProgressLine(standardOutput, () => performance.now());
    try {
      const outcome = await untilInterrupted((signal) =>
        installEngine(
          { home: exmixHome(), flavour: args.flavour, version, wheels: args.wheel },
          {
            host: readHost(),
            freeBytes,
            environment: process.env,
            probe: nodeCommand(PROBE),
            now: () => new Date(systemClock.wallMs()).toISOString(),
            onLine: (text) => progress.line(text),
            onProgress: (text) => progress.progress(text),
            signal,
          },
        ),
      );
      progress.line(describeOutcome(outcome));
    } finally {
      progress.end();
    }
  },
};

interface ListArguments {
  json: boolean;
  verify: boolean;
}

const listCommand: CommandModule<object, ListArguments> = {
  command: 'list',
  aliases: ['ls'],
  describe: 'Lists the installed engines; checks names and sizes of their files',
  builder: (parser) =>
    parser
      .option('json', { type: 'boolean', default: false, describe: 'Print a JSON array' })
      .option('verify', {
        type: 'boolean',
        default: false,
        describe: 'Read every byte; exit status 3 if an engine is damaged',
      })
      .example('$0 engine list --verify', 'compares the files with the installed ones'),
  handler: async ({ json, verify }) => {
    const folders = await listInstalledEngines(exmixHome(), verify ? 'hashes' : 'sizes');
    const defaultId = preferredEngine(folders)?.id;
    const recipe = await hashRecipes(addonRecipes());
    const listed = folders.map((folder) => describeEngine(folder, defaultId, recipe));
    await standardOutput.print(json ? `${JSON.stringify(listed, null, 2)}\n` : toTable(listed));
    if (verify && folders.some(({ problems }) => problems.length > 0)) process.exitCode = EXIT_DATA;
  },
};

const removeCommand: CommandModule<object, { id: string }> = {
  command: 'remove <id>',
  aliases: ['rm'],
  describe: 'Removes an installed engine',
  builder: (parser: Argv<object>) =>
    parser
      .positional('id', { type: 'string', demandOption: true, describe: 'Id from exmix engine list' })
      .example('$0 engine remove cpu-2.21.0-3f29c0a1b2d4', 'frees its disk space'),
  handler: async ({ id }) => {
    const bytes = await removeEngine(exmixHome(), id);
    standardOutput.write(`removed ${id}, ${formatBytes(bytes)}\n`);
  },
};

export const engineCommand: CommandBody = {
  builder: (parser) =>
    parser
      .command(installCommand)
      .command(listCommand)
      .command(removeCommand)
      .demandCommand(1, 'expected install, list or remove')
      .example('$0 engine install', 'TensorFlow for this machine')
      .example('$0 engine list', 'installed engines and their state'),
  handler: () => undefined, // yargs demands a subcommand
};

function checkVersion(version: string): string {
  if (/^\d+\.\d+\.\d+(?:rc\d+)?$/u.test(version)) return version;
  throw new TrainerError(
    'CONFIG_INVALID',
    `--version: expected a version of TensorFlow such as ${TENSORFLOW_VERSION}, got ${version}`,
  );
}

function describeOutcome({ engine, selfTest }: InstallOutcome): string {
  const what = `engine ${engine.id} (TensorFlow ${engine.tensorflowVersion}, ${engine.flavour}) in ${engine.folder}`;
  if (selfTest === undefined) return `already installed: ${what}`;
  const sound = `loads and multiplies correctly (error ${selfTest.worstError.toExponential(1)})`;
  if (engine.flavour === 'cpu') return `installed ${what}: ${sound}`;
  if (selfTest.isUsingGpu) return `installed ${what}: ${sound}, on the GPU`;
  const why = selfTest.gpuProblems.map((line) => `\n  ${line}`).join('');
  return (
    `installed ${what}: ${sound}\n` +
    `WARNING TensorFlow can use no GPU here: this engine computes on the CPU until it can.${why}`
  );
}

/** One engine in the list; fields are null if its manifest cannot be read. */
interface ListedEngine {
  readonly id: string;
  readonly folder: string;
  readonly flavour: EngineFlavour | null;
  readonly tensorflowVersion: string | null;
  readonly bytes: number | null;
  readonly installedAt: string | null;
  /** Whether `--engine auto` chooses it. */
  readonly isDefault: boolean;
  /** Whether its addons were built from the sources of this exmix. */
  readonly isCurrent: boolean;
  readonly problems: readonly string[];
  readonly isOutdated: boolean;
}

function describeEngine(
  { id, folder, engine, problems, isOutdated }: EngineFolder,
  defaultId: string | undefined,
  recipe: string,
): ListedEngine {
  return {
    id,
    folder,
    flavour: engine?.flavour ?? null,
    tensorflowVersion: engine?.tensorflowVersion ?? null,
    bytes: engine?.manifest.files.reduce((sum, { bytes }) => sum + bytes, 0) ?? null,
    installedAt: engine?.manifest.installedAt ?? null,
    isDefault: id === defaultId,
    isCurrent: engine?.manifest.recipe === recipe,
    problems,
    isOutdated,
  };
}

function toTable(engines: readonly ListedEngine[]): string {
  if (engines.length === 0) return 'no engines; install one with: exmix engine install\n';
  const rows = engines.map((engine) => [
    engine.id,
    engine.flavour ?? '?',
    engine.tensorflowVersion ?? '?',
    engine.bytes === null ? '?' : formatBytes(engine.bytes),
    engine.installedAt?.slice(0, 10) ?? '?',
    stateOf(engine),
  ]);
  return formatTable(['ID', 'FLAVOUR', 'TENSORFLOW', 'SIZE', 'INSTALLED', 'STATE'], rows);
}

function stateOf({ isDefault, isCurrent, problems, isOutdated }: ListedEngine): string {
  if (isOutdated) return `outdated: ${problems.join('; ')}`;
  if (problems.length > 0) return `damaged: ${problems.join('; ')}`;
  const age = isCurrent ? '' : ', addons of another exmix: exmix engine install rebuilds them';
  return `sound${isDefault ? ', the default' : ''}${age}`;
}
