/** Opens the sets that a run evaluates while it trains: those of its prepared mixture that the config names. */
import { parseDecodingSettings, type DecodingSettings } from '../../evaluation/decoding/settings.ts';
import { listEvaluationSets, readEvaluationSet } from '../../mixture/evaluation-sets/read-evaluation-sets.ts';
import type { EvaluationSetInfo } from '../../mixture/evaluation-sets/set-record.ts';
import { leakedExamples, readOverlap } from '../../mixture/overlap/overlap-record.ts';
import { createNameSelection } from '../../mixture/tasks/name-patterns.ts';
import type { Mixture } from '../../mixture/tasks/task.ts';
import { loadTokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { nearestHint } from '../../shared/nearest-names.ts';
import { nameLocation } from '../../shared/storage/location.ts';
import { isMetricName, METRIC_NAMES, type TaskEvaluation } from '../../shared/task-evaluation.ts';
import { findMetricProblem } from './early-stop.ts';
import { createValidationSets, type NamedSet, type ValidationSets } from './validation-sets.ts';

export interface OpenValidationInit {
  readonly config: Pick<RunConfig, 'evaluation' | 'featureLengths'>;
  readonly mixture: Pick<Mixture, 'name' | 'tasks' | 'denoising' | 'tokenizerPath'>;
  /** A folder, or an http:, https: or s3: URL. */
  readonly preparedFolder: string;
  readonly signal: AbortSignal;
}

/**
 * @returns undefined where the config asks for no validation
 * @throws NAME_UNKNOWN for a task that the mixture does not have; CONFIG_INVALID for an unknown metric, a split without sets, a metric to stop by
 *   that no set has, or settings of decoding that do not fit; as readEvaluationSet and loadTokenizer
 */
export async function openValidationSets(init: OpenValidationInit): Promise<ValidationSets | undefined> {
  const { config, mixture, preparedFolder, signal } = init;
  const { evaluation } = config;
  if (evaluation.everySteps === undefined) return undefined;
  const { split, maxExamples } = evaluation;
  const infos = await listEvaluationSets(preparedFolder, { signal });
  const chosen = chooseSets(infos, init);
  const sets: NamedSet[] = [];
  for (const info of chosen) {
    const all = await readEvaluationSet(preparedFolder, info, { signal });
    const isAlone = chosen.filter(({ task }) => task === info.task).length === 1;
    const judged = evaluationOf(info.task, init);
    const overlap = await readOverlap(preparedFolder, info, { signal });
    sets.push({
      name: isAlone ? info.task : `${info.task}.${info.name}`,
      info,
      examples: all.slice(0, maxExamples),
      ...(judged === undefined ? {} : { evaluation: judged }),
      ...(overlap === undefined ? {} : { leaked: leakedExamples(overlap) }),
    });
  }
  const { metric, patience } = evaluation.stopWhen;
  const problem = patience === undefined ? undefined : findMetricProblem(metric, sets);
  if (problem !== undefined) throw new TrainerError('CONFIG_INVALID', `evaluation.stopWhen.metric: ${problem}`);
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  return createValidationSets({ split, sets, decoding: decodingOf(config), maxExamples, tokenizer });
}

/** By name. @throws NAME_UNKNOWN, CONFIG_INVALID */
function chooseSets(
  infos: readonly EvaluationSetInfo[],
  { config, mixture, preparedFolder }: OpenValidationInit,
): EvaluationSetInfo[] {
  const { split, tasks } = config.evaluation;
  const { denoising } = mixture;
  const names = [...mixture.tasks.map(({ name }) => name), ...(denoising === undefined ? [] : [denoising.name])];
  const isChosen = createNameSelection(tasks ?? ['*'], names);
  const chosen = infos.filter((info) => info.split === split && names.includes(info.task) && isChosen(info.task));
  const numExamples = chosen.reduce((sum, info) => sum + info.numExamples, 0);
  if (numExamples > 0) return chosen.filter((info) => info.numExamples > 0);
  const wanted = tasks === undefined ? mixture.name : tasks.join(', ');
  throw new TrainerError(
    'CONFIG_INVALID',
    `evaluation: expected ${split} sets of ${wanted} in ${nameLocation(preparedFolder)}, found none; ` +
      'make them with exmix prepare, or leave evaluation.everySteps out',
  );
}

/** How outputs of a task are judged; undefined where its targets are scored alone. @throws CONFIG_INVALID for an unknown metric */
function evaluationOf(task: string, { config, mixture }: OpenValidationInit): TaskEvaluation | undefined {
  const { lossOnly, metrics: wanted } = config.evaluation;
  for (const metric of wanted ?? [])
    if (!isMetricName(metric)) {
      const hint = nearestHint(metric, METRIC_NAMES, `known here: ${METRIC_NAMES.join(', ')}`);
      throw new TrainerError('CONFIG_INVALID', `evaluation.metrics: unknown metric "${metric}"; ${hint}`);
    }
  const declared = mixture.tasks.find(({ name }) => name === task)?.evaluation;
  if (lossOnly || declared === undefined) return undefined;
  const { postprocess, metrics } = declared;
  const kept = metrics.filter((metric) => wanted === undefined || wanted.includes(metric));
  return kept.length === 0 ? undefined : { postprocess, metrics: kept };
}

/** Greedy, with outputs as long as a row of targets, where the config says nothing else. @throws CONFIG_INVALID */
function decodingOf({ evaluation, featureLengths }: OpenValidationInit['config']): DecodingSettings {
  const given = { method: 'greedy', maxNewTokens: featureLengths.targets, ...evaluation.decoding };
  return parseDecodingSettings(given as Parameters<typeof parseDecodingSettings>[0]); // a config holds any value
}
