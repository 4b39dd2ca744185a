/** A finding of a probe of `exmix doctor`, and its printing. Pure. */

export type Status = 'ok' | 'warn' | 'fail';

export interface Finding {
  /** What was checked, such as `memory`. */
  readonly check: string;
  readonly status: Status;
  /** The measured facts in words. */
  readonly detail: string;
  /** What to do; only if the status is not ok. */
  readonly advice?: string;
  /** The measured numbers for programs, with units in their names. */
  readonly figures?: Readonly<Record<string, number>>;
}

/** Length of the longest check name. Fixed, because findings are printed one by one. */
const CHECK_WIDTH = 10;

/** One line per finding, with its advice on the next line. */
export function formatFindings(findings: readonly Finding[]): string {
  const lines = findings.flatMap(({ check, status, detail, advice }) => [
    `${status.padEnd(4)}  ${check.padEnd(CHECK_WIDTH)}  ${detail}`,
    ...(advice === undefined ? [] : [`${' '.repeat(CHECK_WIDTH + 8)}→ ${advice}`]),
  ]);
  return lines.map((line) => `${line}\n`).join('');
}

/** 1610612736 → `1.5 GiB`, 734003200 → `700 MiB`. */
export function formatBytes(bytes: number): string {
  const gib = bytes / 2 ** 30;
  if (gib >= 1) return `${gib.toFixed(1)} GiB`;
  return `${Math.floor(bytes / 2 ** 20)} MiB`;
}

/** 0.0042 → `4.2 ms`, 12.3 → `12.3 s`, 150 → `2.5 min`, 7200 → `2.0 h`. */
export function formatDuration(seconds: number): string {
  if (seconds < 1) return `${(1000 * seconds).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 6000) return `${(seconds / 60).toFixed(1)} min`;
  if (seconds < 2 * 86_400) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86_400).toFixed(1)} days`;
}
