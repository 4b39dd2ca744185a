/**
 * Records of `chaos.jsonl` and the final report on the faults of a run. Pure.
 *
 * Definition: the cost of a fault is the time from its injection to the first commit in the journal of a step that was never committed
 * before. So it includes steps that are trained again from a checkpoint. It is small if a step was nearly done. Faults with no new step
 * between them share the time.
 */
import { formatNumber, formatTable } from '../text-table.ts';
import type { Fault } from './decide-faults.ts';
import { FAULTS, type FaultName } from './chaos-spec.ts';

/** A line of `chaos.jsonl`. */
export interface InjectedFault extends Fault {
  readonly kind: 'injected';
  /** Position in the run, from 1. */
  readonly number: number;
  /** ISO 8601, UTC. */
  readonly time: string;
  /** The committed step after which it was injected. */
  readonly step: number;
  /** Why it could not be injected; null if it was injected. */
  readonly notInjected: string | null;
}

/** A line of `chaos.jsonl`: the run committed a new step after a fault. */
export interface Recovery {
  readonly kind: 'recovered';
  readonly number: number;
  /** The first new step after the fault. */
  readonly step: number;
  readonly costMs: number;
}

/** The last line of `chaos.jsonl`. */
export interface ChaosVerdict {
  readonly kind: 'ended';
  /** Exit status of the run; null if the user's signal ended it. */
  readonly exitStatus: number | null;
  readonly step: number;
  readonly paramDigest: string | null;
  /** Parameter digest of the run without faults; null if there was none. */
  readonly undisturbedDigest: string | null;
  /** Violations that the audit of the ledger found; null if it failed. */
  readonly numViolations: number | null;
}

export type ChaosRecord = InjectedFault | Recovery | ChaosVerdict;

/** Number of injected faults by name. */
export function countFaults(faults: readonly InjectedFault[]): ReadonlyMap<FaultName, number> {
  const names = faults.filter(({ notInjected }) => notInjected === null).map(({ fault }) => fault);
  return new Map(FAULTS.map((fault) => [fault, names.filter((name) => name === fault).length]));
}

export function formatChaosReport(records: readonly ChaosRecord[]): string {
  const faults = records.filter((record) => record.kind === 'injected');
  const costs = new Map(
    records.filter((record) => record.kind === 'recovered').map(({ number, costMs }) => [number, costMs]),
  );
  const table = formatTable(
    ['fault', 'after step', 'worker', 'lasts', 'cost'],
    faults.map(({ number, fault, step, workerId, forMs, notInjected }) => {
      const costMs = costs.get(number);
      const cost = notInjected ?? (costMs === undefined ? 'no step after it' : formatSeconds(costMs));
      return [fault, step, workerId ?? '-', forMs === 0 ? '-' : formatSeconds(forMs), cost];
    }),
  );
  const counts = [...countFaults(faults)].filter(([, count]) => count > 0).map(([name, count]) => `${count} ${name}`);
  const verdict = records.find((record) => record.kind === 'ended');
  const total = counts.length === 0 ? 'no faults' : counts.join(', ');
  return `\nchaos: ${total}\n\n${faults.length === 0 ? '' : `${table}\n`}${verdict === undefined ? '' : formatVerdict(verdict)}`;
}

function formatVerdict({ step, paramDigest, undisturbedDigest, numViolations }: ChaosVerdict): string {
  const rows = [
    ['step', formatNumber(step)],
    ['parameters', paramDigest ?? 'not saved'],
    ['undisturbed', formatComparison(paramDigest, undisturbedDigest)],
    ['ledger', formatAudit(numViolations)],
  ];
  return rows.map(([name, value]) => `  ${name!.padEnd(11)}  ${value!}\n`).join('');
}

function formatComparison(paramDigest: string | null, undisturbed: string | null): string {
  if (undisturbed === null) return 'not compared; --chaos-verify trains it as well';
  return paramDigest === undisturbed ? 'the same bits' : `OTHER BITS: ${undisturbed}`;
}

function formatAudit(numViolations: number | null): string {
  if (numViolations === null) return 'not audited';
  if (numViolations === 0) return 'clean: each example exactly once';
  return `NOT clean: ${numViolations} violations; exmix ledger audit RUN`;
}

function formatSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
