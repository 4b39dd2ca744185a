/** Finds the programs that an installation needs: pip to download wheels, g++ to build the addons. One error lists all missing ones. */
import { TrainerError } from '../../shared/errors.ts';
import { outputTail, runProgram, type ProgramOutcome } from './run-program.ts';

/** A program without an answer to `--version` within this time is treated as missing. */
const VERSION_DEADLINE_MS = 30_000;

const PIP_COMMANDS = [['python3', '-m', 'pip'], ['pip3'], ['pip']] as const;

export interface Tools {
  /** Command of pip; undefined if it is not needed. */
  readonly pip: readonly string[] | undefined;
  readonly compiler: Compiler;
}

export interface Compiler {
  readonly command: string;
  /** First line of its `--version`. */
  readonly version: string;
}

export interface ToolSearch {
  readonly needsPip: boolean;
  readonly environment: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

/** @throws PREREQUISITE_MISSING naming all that is missing and the Debian packages that contain it; ABORTED */
export async function findTools(search: ToolSearch): Promise<Tools> {
  const compilerCommand = search.environment['CXX'] ?? 'g++';
  const compiler = await askVersion([compilerCommand], search);
  const { pip, tried } = search.needsPip ? await findPip(search) : { pip: undefined, tried: [] };

  const missing: { what: string; packages: string }[] = [];
  if (search.needsPip && pip === undefined)
    missing.push({ what: `pip, to download TensorFlow (${tried.join('; ')})`, packages: 'python3-pip' });
  if (compiler.version === undefined)
    missing.push({ what: `a C++ compiler, to build the addon (${compilerCommand}: ${compiler.why})`, packages: 'g++' });
  if (missing.length === 0 && compiler.version !== undefined)
    return { pip, compiler: { command: compilerCommand, version: compiler.version } };

  const list = missing.map(({ what }) => `\n  ${what}`).join('');
  const install = `\nOn Debian or Ubuntu: apt-get install ${missing.map(({ packages }) => packages).join(' ')}`;
  const offline = search.needsPip && pip === undefined ? '\nOr give a local wheel: --wheel FILE' : '';
  const hint = compiler.version === undefined ? '\nThe variable CXX names another compiler than g++.' : '';
  throw new TrainerError(
    'PREREQUISITE_MISSING',
    `the native engine needs programs that are missing:${list}${install}${offline}${hint}`,
  );
}

async function findPip(search: ToolSearch): Promise<{ pip: readonly string[] | undefined; tried: readonly string[] }> {
  const tried: string[] = [];
  for (const command of PIP_COMMANDS) {
    const { version, why } = await askVersion(command, search);
    if (version !== undefined) return { pip: command, tried };
    tried.push(`${command.join(' ')}: ${why}`);
  }
  return { pip: undefined, tried };
}

async function askVersion(
  command: readonly string[],
  { environment, signal }: ToolSearch,
): Promise<{ version: string | undefined; why: string }> {
  const outcome = await runProgram({
    command: [...command, '--version'],
    environment,
    deadlineMs: VERSION_DEADLINE_MS,
    signal,
  });
  const version = outcome.status === 0 ? outcome.stdout.split('\n', 1)[0]!.trim() : undefined;
  return { version, why: whyNot(outcome) };
}

function whyNot(outcome: ProgramOutcome): string {
  return outcome.stopped ?? outputTail(outcome, 1).trim();
}
