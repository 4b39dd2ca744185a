/**
 * Resolves the source of each task and splits it into units, before any row is read. One error reports all problems.
 */
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { resolveSource } from '../sources/resolve-source.ts';
import type { ResolvedSource, SourceUnit } from '../sources/resolved-source.ts';
import type { SourceAccess } from '../sources/source-access.ts';
import { splitSource } from '../sources/split-source.ts';
import type { FeatureLengths, SourceSpec } from '../tasks/task.ts';
import { createIdentity, hashIdentity, type TaskIdentity } from './manifest.ts';
import { isRemote, readPlan, writePlan, type SourcePlan } from './plan-file.ts';
import { hashPreprocessor, preprocessorIdentity, type PreparableTask } from './preparable-task.ts';
import { FORMAT_VERSION, sha256Of } from './prepared-format.ts';

/** Number of tasks whose sources are resolved at the same time. */
const MAX_CONCURRENT = 8;

export interface PlanInit {
  readonly outDir: string;
  readonly access: SourceAccess;
  /** SHA-256 of the tokenizer. */
  readonly tokenizerHash: string;
  readonly featureLengths: FeatureLengths;
  readonly unitBytes: number;
  readonly shardBytes: number;
  /** Resolves remote sources again, also if a preparation has begun. */
  readonly refresh: boolean;
  /** Stores plans of remote sources for those who continue. False for a dry run. */
  readonly keepPlans: boolean;
  readonly signal?: AbortSignal;
}

export interface TaskPlan {
  readonly name: string;
  readonly preparable: PreparableTask;
  readonly source: ResolvedSource;
  readonly units: readonly SourceUnit[];
  readonly identity: TaskIdentity;
  /** Hash of name and identity, which its units hold. */
  readonly identityHash: string;
  /** Hash of the declaration in the mixture. */
  readonly declared: string;
  /** Hash of the preprocessor's identity. */
  readonly preprocessor: string;
}

/** @throws SOURCE_UNREADABLE and other codes, with all problems of all tasks; ABORTED */
export async function planTasks(preparables: readonly PreparableTask[], init: PlanInit): Promise<TaskPlan[]> {
  const plans: TaskPlan[] = [];
  const problems: { readonly at: number; readonly error: TrainerError }[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < preparables.length; at = next++) {
      try {
        plans[at] = await planTask(preparables[at]!, init);
      } catch (thrown) {
        const error = toTrainerError(thrown);
        if (error.code === 'ABORTED' || error.code === 'DISK_FULL' || error.code === 'PATH_UNUSABLE') throw error;
        problems.push({ at, error });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(MAX_CONCURRENT, preparables.length) }, work));
  if (problems.length > 0) throw describeProblems(preparables, problems);
  return plans;
}

/** Hash of the declaration of a task. Equal hashes and equal files give equal units. */
export function hashDeclared(
  preparable: PreparableTask,
  {
    tokenizerHash,
    featureLengths,
    unitBytes,
    shardBytes,
  }: Pick<PlanInit, 'tokenizerHash' | 'featureLengths' | 'unitBytes' | 'shardBytes'>,
): string {
  const { inputs, targets } = featureLengths;
  const source = withoutLocations(preparable.task.source);
  const rules = [preprocessorIdentity(preparable), tokenizerHash, inputs, targets, unitBytes, shardBytes];
  return sha256Of(JSON.stringify([FORMAT_VERSION, preparable.task.name, preparable.kind, source, rules]));
}

async function planTask(preparable: PreparableTask, init: PlanInit): Promise<TaskPlan> {
  const { name } = preparable.task;
  const declared = hashDeclared(preparable, init);
  const { source, units } = await planSource(preparable, declared, init);
  const { format, quotes, files, origin } = source;
  const { inputs, targets } = init.featureLengths;
  const identity = createIdentity({
    kind: preparable.kind,
    source: {
      format,
      quotes,
      files: files.map(({ name: file, bytes, version }) => ({ name: file, bytes, version })),
      ...(origin === undefined ? {} : { origin: { ...origin } }),
    },
    unitBytes: init.unitBytes,
    preprocessor: preprocessorIdentity(preparable),
    tokenizer: init.tokenizerHash,
    featureLengths: { inputs, targets },
    shardBytes: init.shardBytes,
  });
  const preprocessor = hashPreprocessor(preparable);
  return {
    name,
    preparable,
    source,
    units,
    identity,
    identityHash: hashIdentity(name, identity),
    declared,
    preprocessor,
  };
}

async function planSource(preparable: PreparableTask, declared: string, init: PlanInit): Promise<SourcePlan> {
  const { outDir, access, unitBytes, signal } = init;
  const { name, source: spec } = preparable.task;
  const remote = isRemote(spec);
  const key = sha256Of(JSON.stringify([declared, spec.kind === 'hub' ? access.hubUrl : '']));
  const begun = remote && !init.refresh ? await readPlan(outDir, name, spec, key) : undefined;
  if (begun !== undefined) return begun;
  const source = await resolveSource(spec, access, signal);
  const plan = { source, units: await splitSource(source, unitBytes, access, signal) };
  if (remote && init.keepPlans) await writePlan(outDir, name, spec, key, plan);
  return plan;
}

/** What a source declares, without the places of its files. */
export function withoutLocations(spec: SourceSpec): unknown {
  return spec.kind === 'hub' ? spec : { ...spec, files: spec.files.map(({ name }) => name) };
}

function describeProblems(
  preparables: readonly PreparableTask[],
  problems: { readonly at: number; readonly error: TrainerError }[],
): TrainerError {
  const sorted = [...problems].sort((a, b) => a.at - b.at);
  const { code, retryable } = sorted[0]!.error;
  const lines = sorted.map(({ at, error }) => `task ${preparables[at]!.task.name}: ${error.message}`);
  return new TrainerError(
    code,
    `${lines.length} task(s) cannot be prepared:\n  ${lines.join('\n  ')}\nNothing was prepared; correct them, or select other tasks with --tasks`,
    { retryable, cause: sorted.map(({ error }) => error) },
  );
}
