/** The report of an audit as text. */
import type { AuditReport } from '../../coordinator/ledger/audit.ts';
import { formatNumber, formatTable } from '../text-table.ts';

export function formatAudit(report: AuditReport): string {
  const { from, to, sessions, tasks, violations, numViolations, numExamples, numSegments, bitmapBytes } = report;
  const ofSessions = formatTable(
    ['epoch', 'starts after', 'committed to', 'kept to'],
    sessions.map(({ epoch, startStep, lastStep, keptStep }) => [epoch, startStep, lastStep, keptStep]),
  );
  const ofTasks = formatTable(
    ['task', 'size', 'examples', 'complete epochs', 'epochs under way'],
    tasks.map(({ name, numExamples: size, numDraws, completeEpochs, openEpochs }) => [
      name,
      size,
      numDraws,
      completeEpochs,
      openEpochs,
    ]),
  );
  const head =
    `steps ${from} to ${to}: ${formatNumber(numExamples)} examples of ${tasks.length} tasks, ` +
    `${numSegments} segments, ${formatNumber(bitmapBytes)} B of bitmaps\n\n`;
  return `${head}${ofSessions}\n${ofTasks}\n${formatVerdict(violations, numViolations)}`;
}

function formatVerdict(violations: AuditReport['violations'], count: number): string {
  if (count === 0)
    return 'clean: every example exactly once in each complete epoch of its task, at most once in those under way; ledger and journal agree\n';
  const lines = violations.map(({ kind, what }) => `  ${kind.padEnd(15)}  ${what}\n`);
  const rest = count > violations.length ? `  and ${formatNumber(count - violations.length)} more\n` : '';
  return `NOT clean: ${formatNumber(count)} ${count === 1 ? 'violation' : 'violations'}\n${lines.join('')}${rest}`;
}
