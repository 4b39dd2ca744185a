/** `exmix doctor`: whether this machine can train, and with `--fixture` whether an engine computes what the reference does. */
import { statfs } from 'node:fs/promises';
import { freemem } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { CommandModule } from 'yargs';
import { toTrainerError } from '../../shared/errors.ts';
import { exmixHome } from '../../shared/exmix-home.ts';

const GIB = 2 ** 30;
const MIN_FREE_MEMORY_BYTES = GIB;
const MIN_FREE_DISK_BYTES = GIB;
const SELF_TEST = fileURLToPath(new URL('../../golden/t5-tiny-v1_1', import.meta.url));

interface DoctorArguments {
  fixture?: string | undefined;
  engine: string;
  json: boolean;
}

interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'warn' | 'fail';
  /** What was found and, unless it is fine, what to do. */
  readonly detail: string;
}

export const doctorCommand: CommandModule<object, DoctorArguments> = {
  command: 'doctor',
  describe: 'Checks this machine and the engine',
  builder: (parser) =>
    parser
      .option('fixture', {
        type: 'string',
        describe: 'Folder with reference numbers of a T5, as golden/t5-tiny-v1_1; exit 1 beyond tolerance',
      })
      .option('engine', { type: 'string', default: 'auto', describe: 'Engine to check' })
      .option('json', { type: 'boolean', default: false, describe: 'Print JSON' })
      .example('$0 doctor', 'is this machine fit to train?')
      .example('$0 doctor --fixture golden/t5-tiny-v1_0 --engine cpu', 'largest differences from Transformers'),
  handler: async ({ fixture, engine, json }) => {
    if (fixture !== undefined) {
      const { formatFixtureReport, runDoctorFixture } = await import('./doctor-fixture.ts');
      const report = await runDoctorFixture(fixture, engine);
      process.stdout.write(json ? `${JSON.stringify(report)}\n` : formatFixtureReport(report));
      if (!report.passed) process.exitCode = 1;
      return;
    }
    const findings = [checkNode(), checkMemory(), await checkDisk(process.cwd()), await checkEngine(engine)];
    process.stdout.write(json ? `${JSON.stringify(findings)}\n` : format(findings));
    if (findings.some(({ status }) => status === 'fail')) process.exitCode = 1;
  },
};

function checkNode(): Finding {
  const { node } = process.versions;
  const [major = 0, minor = 0] = node.split('.').map(Number);
  const isFit = major > 20 || (major === 20 && minor >= 19);
  return {
    check: 'node',
    status: isFit ? 'ok' : 'fail',
    detail: isFit ? node : `${node}: install Node 20.19 or later`,
  };
}

function checkMemory(): Finding {
  const free = freemem();
  const detail = `${(free / GIB).toFixed(1)} GiB free`;
  const isEnough = free >= MIN_FREE_MEMORY_BYTES;
  return {
    check: 'memory',
    status: isEnough ? 'ok' : 'warn',
    detail: isEnough ? detail : `${detail}: end other programs or take a smaller preset`,
  };
}

async function checkDisk(folder: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(folder);
  const detail = `${((bavail * bsize) / GIB).toFixed(1)} GiB free in ${folder}; prepared mixtures go to ${exmixHome()}`;
  const isEnough = bavail * bsize >= MIN_FREE_DISK_BYTES;
  return {
    check: 'disk',
    status: isEnough ? 'ok' : 'warn',
    detail: isEnough ? detail : `${detail}: free some, or set --run-dir and $EXMIX_HOME`,
  };
}

/** Runs the reference model that ships with exmix. */
async function checkEngine(engine: string): Promise<Finding> {
  try {
    const { runDoctorFixture } = await import('./doctor-fixture.ts');
    const report = await runDoctorFixture(SELF_TEST, engine);
    const failed = report.checks.filter(({ passed }) => !passed).map(({ name }) => name);
    if (failed.length === 0)
      return {
        check: 'engine',
        status: 'ok',
        detail: `${report.engine}: ${report.checks.length} reference checks passed`,
      };
    return {
      check: 'engine',
      status: 'fail',
      detail: `${report.engine}: beyond tolerance in ${failed.join(', ')}; do not train with it`,
    };
  } catch (thrown) {
    const { code, message } = toTrainerError(thrown);
    return { check: 'engine', status: 'fail', detail: `${code}: ${message}` };
  }
}

function format(findings: readonly Finding[]): string {
  return findings.map(({ check, status, detail }) => `${status.padEnd(5)}${check.padEnd(8)}${detail}\n`).join('');
}
