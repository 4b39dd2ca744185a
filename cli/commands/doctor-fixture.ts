/**
 * `exmix doctor --fixture DIR`: compares an engine on this machine with Transformers (worker/engine/fixture.ts) and formats the report.
 * The caller prints it, as text or as `JSON.stringify(report)`, and exits with 1 if a check failed.
 */
import {
  runFixture,
  type EngineSettings,
  type FixtureCheck,
  type FixtureReport,
} from '../../worker/engine-choice/fixture.ts';

export type { FixtureReport } from '../../worker/engine-choice/fixture.ts';

/**
 * @param dir a folder with the layout of golden/t5-tiny-v1_1
 * @param engineName auto, wasm, cpu, …
 * @throws PATH_UNUSABLE, SAFETENSORS_INVALID, CONFIG_INVALID, CHECKPOINT_MISMATCH, NAME_UNKNOWN, ENGINE_UNAVAILABLE
 */
export function runDoctorFixture(
  dir: string,
  engineName: string,
  settings: EngineSettings = {},
): Promise<FixtureReport> {
  return runFixture(dir, engineName, settings);
}

/** Formats the report for a terminal. */
export function formatFixtureReport(report: FixtureReport): string {
  const width = Math.max(...report.checks.map(({ name }) => name.length));
  const failures = report.checks.filter(({ passed }) => !passed).length;
  const lines = [
    `fixture ${report.folder}`,
    `${report.reason} (${report.fingerprint})`,
    ...report.notes.map((note) => `warning: ${note}`),
    ...report.checks.map((check) => formatCheck(check, width)),
    failures === 0
      ? `passed: all ${report.checks.length} checks within tolerance`
      : `FAILED: ${failures} of ${report.checks.length} checks beyond tolerance; do not train with this engine on this machine`,
  ];
  return lines.map((line) => `${line}\n`).join('');
}

function formatCheck({ name, difference, tolerance, passed, where }: FixtureCheck, width: number): string {
  const numbers = `${formatNumber(difference).padStart(8)}  (tolerance ${formatNumber(tolerance)})`;
  return `  ${passed ? 'ok  ' : 'FAIL'}  ${name.padEnd(width)}  ${numbers}${where === undefined ? '' : `  ${where}`}`;
}

function formatNumber(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toExponential(1);
}
