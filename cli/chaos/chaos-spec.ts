/**
 * Parses the argument of `--chaos`. Pure.
 *
 *   spec = rule {"," rule}
 *   rule = fault "=" probability    after each committed step with this probability, above 0 and at most 1
 *        | fault "@" step           after the commit of this step; may be given for several steps
 *   fault = kill | stop | leave | join | coordinator-kill
 */
import { TrainerError } from '../../shared/errors.ts';
import { nearestHint } from '../../shared/nearest-names.ts';

/** In the order in which faults of one step are injected. The coordinator comes last: `join` needs one that answers. */
export const FAULTS = ['kill', 'stop', 'leave', 'join', 'coordinator-kill'] as const;
export type FaultName = (typeof FAULTS)[number];

/** More rules are rejected as a mistake. */
const MAX_RULES = 1_024;

export interface ChaosSpec {
  readonly probabilities: ReadonlyMap<FaultName, number>;
  /** By step. */
  readonly scheduled: ReadonlyMap<number, readonly FaultName[]>;
}

/** @throws CONFIG_INVALID naming the rule, with what was expected and the nearest fault */
export function parseChaosSpec(text: string): ChaosSpec {
  const probabilities = new Map<FaultName, number>();
  const scheduled = new Map<number, FaultName[]>();
  const rules = text.split(',').map((rule) => rule.trim());
  if (rules.length > MAX_RULES) throw invalid(`expected at most ${MAX_RULES} rules, got ${rules.length}`);
  for (const rule of rules) {
    const [, name, sign, value] = /^([^=@]*)([=@])(.*)$/u.exec(rule) ?? [];
    if (name === undefined || sign === undefined || value === undefined)
      throw invalid(`expected fault=probability or fault@step, e.g. kill=0.02 or join@20, got ${JSON.stringify(rule)}`);
    const fault = checkFault(name.trim());
    if (sign === '@') {
      const step = checkStep(rule, value.trim());
      scheduled.set(step, [...(scheduled.get(step) ?? []), fault]);
    } else {
      if (probabilities.has(fault)) throw invalid(`${fault} has two probabilities; give it one`);
      probabilities.set(fault, checkProbability(rule, value.trim()));
    }
  }
  return { probabilities, scheduled };
}

function checkFault(name: string): FaultName {
  const fault = FAULTS.find((known) => known === name);
  if (fault !== undefined) return fault;
  const known = `expected ${FAULTS.join(', ')}`;
  throw invalid(`no fault is called ${JSON.stringify(name)}; ${nearestHint(name, FAULTS, known)}`);
}

function checkProbability(rule: string, text: string): number {
  const value = Number(text);
  if (text !== '' && value > 0 && value <= 1) return value;
  throw invalid(`${rule}: expected a probability above 0 and at most 1, got ${JSON.stringify(text)}`);
}

function checkStep(rule: string, text: string): number {
  const value = Number(text);
  if (/^\d+$/u.test(text) && value >= 1 && Number.isSafeInteger(value)) return value;
  throw invalid(`${rule}: expected a step, a whole number of at least 1, got ${JSON.stringify(text)}`);
}

function invalid(what: string): TrainerError {
  return new TrainerError('CONFIG_INVALID', `--chaos: ${what}`);
}
